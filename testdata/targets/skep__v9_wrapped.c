// Why: members sink into anonymous structs and unions, several levels deep; named levels disappear or appear.
#include "skep_types.h"
struct skep_point { union { struct { union { s32 x; u32 ux; }; }; u64 both; }; struct { s32 y; }; };
struct skep_base {
	u32 before;
	union { struct { u8 pad; union { u32 id; u8 raw[4]; }; s32 delta; }; u64 other; };
	struct { struct { struct { u64 wide; }; u8 small; }; char name[16]; };
	struct { struct skep_point at; }; union { struct skep_point points[4]; }; struct { u32 grid[3][5]; };
	u32 as_word; u8 as_bytes[4]; u16 inner_b; u16 inner_a; union { struct skep_base *next; void *raw_next; };
	struct { float ratio; bool ready; }; u32 tail[];
};
struct skep_deep { struct { struct { union { struct { struct { u32 pad, value; } c; }; }; } b; } a; };
SAME_BITS; SAME_EITHER; SAME_MODE; SAME_SIGNED; SAME_BIG; SAME_TYPEDEFS;
EMIT_ALL;

// Why: offsets past what an instruction can hold: fine as a number, out of range (ERANGE) for a load or a store.
#include "skep_types.h"
SAME_POINT;
struct skep_base {
	u8 far[40000]; u32 id; s32 delta; u64 wide; u8 small; char name[16]; struct skep_point at; struct skep_point points[4]; u32 grid[3][5];
	union { u32 as_word; u8 as_bytes[4]; }; struct { u16 inner_a; struct { u16 inner_b; }; };
	struct skep_base *next; float ratio; bool ready; u32 tail[];
};
SAME_BITS; SAME_EITHER; SAME_DEEP; SAME_MODE; SAME_SIGNED; SAME_BIG; SAME_TYPEDEFS;
EMIT_ALL;

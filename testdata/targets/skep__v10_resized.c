// Why: arrays shrink, grow and change their element; the flexible array gets a length; ints change width.
#include "skep_types.h"
struct skep_point { s64 x; s16 y; };
struct skep_base {
	u64 id; s64 delta; u32 wide; u64 small; char name[4]; struct skep_point at; struct skep_point points[3]; u64 grid[2][9];
	union { u64 as_word; u8 as_bytes[8]; }; u32 inner_a, inner_b; struct skep_base *next; double ratio; bool ready; u32 tail[4];
};
SAME_BITS; SAME_EITHER; SAME_DEEP; SAME_MODE; SAME_SIGNED; SAME_BIG; SAME_TYPEDEFS;
EMIT_ALL;

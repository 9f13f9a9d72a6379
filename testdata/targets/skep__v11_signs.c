// Why: signed members turn unsigned and the other way round, with the same widths and with others.
#include "skep_types.h"
struct skep_point { u32 x, y; };
struct skep_base {
	s32 id; u32 delta; s64 wide; s16 small; u8 name[16]; struct skep_point at, points[4]; s32 grid[3][5];
	union { s32 as_word; s8 as_bytes[4]; }; struct { s16 inner_a; struct { s16 inner_b; }; };
	struct skep_base *next; float ratio; u8 ready; s32 tail[];
};
struct skep_bits { s32 low : 3, middle : 7; u32 sign : 5; s64 across : 40; s8 whole; };
enum skep_mode { SKEP_IDLE = 0, SKEP_BUSY = 5, SKEP_GONE = -9 };
enum skep_signed { SKEP_MINUS = 8, SKEP_PLUS = 7 };
SAME_EITHER; SAME_DEEP; SAME_BIG; SAME_TYPEDEFS;
EMIT_ALL;

// Why: every member of skep_base is moved and some padding appears; enumerators change their values.
#include "skep_types.h"
struct skep_point { u64 before; s32 y; s32 x; };
struct skep_base {
	struct skep_base *next; u64 gap[3]; u32 grid[3][5]; struct skep_point points[4]; struct skep_point at;
	struct { struct { u16 inner_b; }; u16 gap2; u16 inner_a; };
	bool ready; float ratio; char name[16]; u8 small; u64 wide; s32 delta; u32 id;
	union { u8 as_bytes[4]; u32 as_word; };
	u32 tail[];
};
enum skep_mode { SKEP_GONE = 90, SKEP_BUSY = 50, SKEP_IDLE = 1, SKEP_EXTRA = 2 };
enum skep_signed { SKEP_PLUS = 70, SKEP_MINUS = -70 };
enum skep_big { SKEP_BIG_B = 0x200000004ULL, SKEP_BIG_A = 0x7fffffff0ULL };
SAME_BITS; SAME_EITHER; SAME_DEEP; SAME_TYPEDEFS;
EMIT_ALL;

// Why: the target's own types and enumerators carry flavours, which count as the plain name on both sides.
#include "skep_types.h"
struct skep_point { s32 x, y; };
struct skep_base___kernel { u32 first, id; s32 delta; u64 wide; u8 small; };
enum skep_mode___kernel { SKEP_IDLE___k = 10, SKEP_BUSY___k = 15, SKEP_GONE___k = 19 };
union skep_either___one___two { u32 left; u64 right; };
EMIT(struct skep_base___kernel, base); EMIT(enum skep_mode___kernel, mode); EMIT(union skep_either___one___two, either);
EMIT(struct skep_point, point);

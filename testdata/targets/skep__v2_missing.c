// Why: members and enumerators are gone or renamed, whole types are absent: existence is 0, the rest is poisoned.
#include "skep_types.h"
struct skep_point { s32 x, z; };
struct skep_base { u32 ident; u64 wide; char name[16]; struct skep_point at, points[4]; u16 inner_a; };
enum skep_mode { SKEP_IDLE = 0 };
EMIT(struct skep_base *, base); EMIT(enum skep_mode, mode);

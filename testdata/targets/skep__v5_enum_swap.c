// Why: 32-bit enums become 64-bit ones and the 64-bit one becomes 32-bit; ENUM and ENUM64 are the same kind to a relocation.
#include "skep_types.h"
enum skep_mode { SKEP_IDLE = 0, SKEP_BUSY = 0x500000005ULL, SKEP_GONE = 9 };
enum skep_signed { SKEP_MINUS = -0x700000007LL, SKEP_PLUS = 7 };
enum skep_big { SKEP_BIG_A = 3, SKEP_BIG_B = 4 };
SAME_POINT; SAME_BASE; SAME_BITS; SAME_EITHER; SAME_DEEP; SAME_TYPEDEFS;
EMIT_ALL;

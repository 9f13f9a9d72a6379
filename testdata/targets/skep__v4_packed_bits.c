// Why: packed bitfields that no aligned unit of their own type can hold, so that a wider read is computed.
#include "skep_types.h"
struct skep_bits { u8 pad : 6; u32 low : 3; u32 gap : 20; u32 middle : 7; s32 sign : 5; u64 across : 40; u8 whole; } __attribute__((packed));
SAME_POINT; SAME_BASE; SAME_EITHER; SAME_DEEP; SAME_MODE; SAME_SIGNED; SAME_BIG; SAME_TYPEDEFS;
EMIT_ALL;

// Why: bitfields move, change width and storage type, become whole members, and one straddles its storage unit.
#include "skep_types.h"
struct skep_bits { u64 pad : 29, low : 5; u8 middle; u16 gap : 9, whole : 4; s64 sign : 33; u32 across; };
SAME_POINT; SAME_BASE; SAME_EITHER; SAME_DEEP; SAME_MODE; SAME_SIGNED; SAME_BIG; SAME_TYPEDEFS;
EMIT_ALL;

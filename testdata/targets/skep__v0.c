// Why: the same shapes as the object's own: every relocation leaves its instruction as it is (but for type ids).
#include "skep_types.h"
SAME_POINT; SAME_BASE; SAME_BITS; SAME_EITHER; SAME_DEEP; SAME_MODE; SAME_SIGNED; SAME_BIG; SAME_TYPEDEFS;
EMIT_ALL;

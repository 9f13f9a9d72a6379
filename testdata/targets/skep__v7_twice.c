// Why: two different types of one name: relocations on which they disagree are ambiguous, the others are not.
#include "skep_types.h"
SAME_POINT; SAME_BASE; SAME_BITS; SAME_EITHER; SAME_DEEP; SAME_MODE; SAME_SIGNED; SAME_BIG; SAME_TYPEDEFS;
EMIT_ALL;

void *second(void)
{
	struct skep_base { u32 id; u32 moved; s32 delta; u64 wide; };
	enum skep_mode { SKEP_IDLE = 0, SKEP_BUSY = 6, SKEP_GONE = 9 };
	static struct skep_base emitted_again;
	static enum skep_mode emitted_mode_again;

	return emitted_mode_again ? (void *)&emitted_mode_again : (void *)&emitted_again;
}

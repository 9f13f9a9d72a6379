// Why: two types of one name and one flavour of it that agree on what is asked (offset of id), and differ elsewhere.
#include "skep_types.h"
SAME_POINT; SAME_BASE; SAME_BITS; SAME_EITHER; SAME_DEEP; SAME_MODE; SAME_SIGNED; SAME_BIG; SAME_TYPEDEFS;
struct skep_base___flavour { u32 id; s32 delta; u64 wide; };
EMIT_ALL; EMIT(struct skep_base___flavour, flavour);

void *second(void)
{
	struct skep_base { u32 id; s32 delta; u8 unlike; };
	static struct skep_base emitted_again;

	return &emitted_again;
}

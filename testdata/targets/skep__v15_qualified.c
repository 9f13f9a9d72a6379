// Why: const, volatile and typedefs stand between members and their types; structs and unions trade places inside.
#include "skep_types.h"
typedef const volatile u32 skep_word_t;
typedef skep_word_t skep_words_t[3][5];
struct skep_point { const s32 x; volatile s32 y; };
typedef const struct skep_point skep_fixed_t;
struct skep_base {
	skep_word_t id; const s32 delta; volatile u64 wide; const volatile u8 small; const char name[16];
	skep_fixed_t at; volatile struct skep_point points[4]; skep_words_t grid;
	struct { u32 as_word; u8 as_bytes[4]; }; union { u16 inner_a; union { u16 inner_b; }; };
	struct skep_base *const volatile next; const float ratio; const bool ready; const u32 tail[];
};
SAME_BITS; SAME_EITHER; SAME_DEEP; SAME_MODE; SAME_SIGNED; SAME_BIG; SAME_TYPEDEFS;
EMIT_ALL;

// Why: the names are there but their kinds do not fit (int as struct, struct as pointer, array as int, enum as struct).
#include "skep_types.h"
struct skep_point { struct { s32 v; } x, y; };
struct skep_base {
	struct { u32 v; } id; u32 *delta; float wide; struct skep_point *small; u32 name; u32 at; struct skep_point points; u32 grid[15];
	u32 as_word[4]; u32 as_bytes; struct { u16 v; } inner_a, inner_b; u64 next; u32 ratio; u32 ready; u32 tail;
};
struct skep_mode { int SKEP_BUSY; };
union skep_bits { u32 low; s32 sign; };
struct skep_either { u32 left; u64 right; };
typedef u32 skep_point_t;
typedef struct skep_point skep_callback_t;
EMIT(struct skep_base, base); EMIT(struct skep_mode, mode); EMIT(union skep_bits, bits); EMIT(struct skep_either, either);
EMIT(skep_point_t, point); EMIT(skep_callback_t, callback);

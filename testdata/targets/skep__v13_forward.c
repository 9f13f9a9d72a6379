// Why: some types are only declared: a forward declaration is a kind of its own and no candidate for its struct.
#include "skep_types.h"
struct skep_base; struct skep_bits; union skep_either; struct skep_point { s32 x, y; };
typedef struct skep_point skep_point_t;
typedef int (*skep_callback_t)(struct skep_base *base, u32 flags);
EMIT(struct skep_base *, base); EMIT(struct skep_bits *, bits); EMIT(union skep_either *, either);
EMIT(skep_point_t, point); EMIT(skep_callback_t, callback);

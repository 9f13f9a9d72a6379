// What the target variants share. A target is compiled only for its .BTF, which plays the kernel's: `EMIT` makes a type
// reach it. Each variant says what differs from "version 0", the shapes in ../core_synthetic.c.
#ifndef SKEP_TYPES_H
#define SKEP_TYPES_H
#include "skep_bpf.h"

#define EMIT(type, name) type emitted_##name

#define SAME_POINT struct skep_point { s32 x, y; }
#define SAME_BITS struct skep_bits { u64 head; u32 low : 3, middle : 7; s32 sign : 5; u64 across : 40; u8 whole; }
#define SAME_EITHER union skep_either { u32 left; u64 right; }
#define SAME_DEEP struct skep_deep { struct { struct { struct { u32 value; } c; } b; } a; }
#define SAME_MODE enum skep_mode { SKEP_IDLE = 0, SKEP_BUSY = 5, SKEP_GONE = 9 }
#define SAME_SIGNED enum skep_signed { SKEP_MINUS = -7, SKEP_PLUS = 7 }
#define SAME_BIG enum skep_big { SKEP_BIG_A = 1, SKEP_BIG_B = 0x100000002ULL }
#define SAME_TYPEDEFS \
	typedef struct skep_point skep_point_t; \
	typedef int (*skep_callback_t)(struct skep_base *base, u32 flags)
#define SAME_BASE \
	struct skep_base { \
		u32 id; s32 delta; u64 wide; u8 small; char name[16]; \
		struct skep_point at; struct skep_point points[4]; u32 grid[3][5]; \
		union { u32 as_word; u8 as_bytes[4]; }; \
		struct { u16 inner_a; struct { u16 inner_b; }; }; \
		struct skep_base *next; float ratio; bool ready; u32 tail[]; \
	}
#define EMIT_ALL \
	EMIT(struct skep_base *, base); EMIT(struct skep_bits, bits); EMIT(union skep_either, either); \
	EMIT(struct skep_deep, deep); EMIT(enum skep_mode, mode); EMIT(enum skep_signed, signed); EMIT(enum skep_big, big); \
	EMIT(skep_point_t, point); EMIT(skep_callback_t, callback)
#endif

// Why: all thirteen relocation kinds against types that no kernel has, to be resolved against targets/*.o by tests.
// Every reachable relocation stores to `out`, in source order; the shapes here are "version 0" of the target types.
#include "skep_bpf.h"

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
struct skep_point { s32 x, y; };
struct skep_base {
	u32 id;
	s32 delta;
	u64 wide;
	u8 small;
	char name[16];
	struct skep_point at;
	struct skep_point points[4];
	u32 grid[3][5];
	union { u32 as_word; u8 as_bytes[4]; };
	struct { u16 inner_a; struct { u16 inner_b; }; };
	struct skep_base *next;
	float ratio;
	bool ready;
	u32 tail[];
};
struct skep_bits { u64 head; u32 low : 3, middle : 7; s32 sign : 5; u64 across : 40; u8 whole; };
union skep_either { u32 left; u64 right; };
struct skep_deep { struct { struct { struct { u32 value; } c; } b; } a; };
struct skep_unmatched { u32 first; };
#pragma clang attribute pop
enum skep_mode { SKEP_IDLE = 0, SKEP_BUSY = 5, SKEP_GONE = 9 };
enum skep_signed { SKEP_MINUS = -7, SKEP_PLUS = 7 };
enum skep_big { SKEP_BIG_A = 1, SKEP_BIG_B = 0x100000002ULL };
typedef struct skep_point skep_point_t;
typedef int (*skep_callback_t)(struct skep_base *base, u32 flags);

#define B struct skep_base
#define BITS struct skep_bits
u64 out[32];

SEC("socket")
int offsets(void *ctx)
{
	out[0] = core_offset(core_field(B, id));
	out[1] = core_offset(core_field(B, delta));
	out[2] = core_offset(core_field(B, wide));
	out[3] = core_offset(core_field(B, small));
	out[4] = core_offset(core_field(B, name[5]));
	out[5] = core_offset(core_field(B, at.y));
	out[6] = core_offset(core_field(B, points[2].y));
	out[7] = core_offset(core_field(B, next));
	return 0;
}

SEC("socket")
int arrays(void *ctx)
{
	out[0] = core_offset(core_field(B, grid[1][3]));
	out[1] = core_offset(core_field(B, grid[2]));
	out[2] = core_offset(core_field(B, tail[6]));
	out[3] = core_offset(((B *)0)[1].id);
	out[4] = core_offset(((struct skep_point *)0)[3].y);
	return 0;
}

SEC("socket")
int anonymous(void *ctx)
{
	out[0] = core_offset(core_field(B, as_word));
	out[1] = core_offset(core_field(B, as_bytes[2]));
	out[2] = core_offset(core_field(B, inner_a));
	out[3] = core_offset(core_field(B, inner_b));
	out[4] = core_offset(core_field(struct skep_deep, a.b.c.value));
	out[5] = core_offset(core_field(union skep_either, right));
	return 0;
}

SEC("socket")
int sizes(void *ctx)
{
	out[0] = core_size(core_field(B, id));
	out[1] = core_size(core_field(B, name));
	out[2] = core_size(core_field(B, name[0]));
	out[3] = core_size(core_field(B, grid));
	out[4] = core_size(core_field(B, at));
	out[5] = core_size(core_field(BITS, across));
	return 0;
}

SEC("socket")
int existence(void *ctx)
{
	out[0] = core_exists(core_field(B, id));
	out[1] = core_exists(core_field(B, delta));
	out[2] = core_exists(core_field(B, ready));
	out[3] = core_exists(core_field(B, ratio));
	out[4] = core_exists(core_field(B, grid[2][4]));
	out[5] = core_exists(core_field(B, points[3].x));
	out[6] = core_exists(core_field(B, inner_b));
	out[7] = core_exists(core_field(BITS, middle));
	out[8] = core_exists(core_field(struct skep_unmatched, first));
	return 0;
}

SEC("socket")
int signs(void *ctx)
{
	out[0] = core_signed(core_field(B, delta));
	out[1] = core_signed(core_field(B, id));
	out[2] = core_signed(core_field(BITS, sign));
	out[3] = core_signed(core_field(BITS, low));
	return 0;
}

SEC("socket")
int bits(void *ctx)
{
	out[0] = core_offset(core_field(BITS, low));
	out[1] = core_lshift(core_field(BITS, low));
	out[2] = core_rshift(core_field(BITS, low));
	out[3] = core_offset(core_field(BITS, middle));
	out[4] = core_lshift(core_field(BITS, middle));
	out[5] = core_rshift(core_field(BITS, middle));
	out[6] = core_lshift(core_field(BITS, sign));
	out[7] = core_rshift(core_field(BITS, sign));
	out[8] = core_offset(core_field(BITS, across));
	out[9] = core_lshift(core_field(BITS, across));
	out[10] = core_rshift(core_field(BITS, across));
	out[11] = core_lshift(core_field(BITS, whole));
	return 0;
}

SEC("socket")
int types(void *ctx)
{
	out[0] = core_type_local(B);
	out[1] = core_type_target(B);
	out[2] = core_type_exists(struct skep_point);
	out[3] = core_type_size(B);
	out[4] = core_type_matches(struct skep_point);
	out[5] = core_type_matches(union skep_either);
	out[6] = core_type_exists(skep_point_t);
	out[7] = core_type_exists(skep_callback_t);
	out[8] = core_type_matches(skep_callback_t);
	out[9] = core_type_matches(enum skep_mode);
	out[10] = core_type_matches(B);
	out[11] = core_type_exists(struct skep_unmatched);
	return 0;
}

SEC("socket")
int enums(void *ctx)
{
	out[0] = core_enum_exists(enum skep_mode, SKEP_BUSY);
	out[1] = core_enum_value(enum skep_mode, SKEP_BUSY);
	out[2] = core_enum_exists(enum skep_mode, SKEP_GONE);
	out[3] = core_enum_value(enum skep_signed, SKEP_MINUS);
	out[4] = core_enum_value(enum skep_big, SKEP_BIG_B);
	out[5] = core_enum_value(enum skep_big, SKEP_BIG_A);
	return 0;
}

// Loads and stores through a pointer that is never valid: only their relocation is of interest, not the verifier's view.
SEC("?tp_btf/sched_process_exec")
int accesses(u64 *ctx)
{
	B *base = (void *)ctx[0];

	out[0] = base->id;
	out[1] = base->wide;
	out[2] = base->small;
	out[3] = base->delta;
	out[4] = (u64)base->next;
	base->id = 7;
	base->wide = out[5];
	out[6] = base->grid[1][1];
	return 0;
}

LICENSE("Dual MIT/GPL");

// Why: map values that the kernel understands by their BTF: spin lock, timer, kernel pointers; and a callback into .text.
#include "kernel_types.h"

struct bpf_spin_lock { u32 val; };
struct bpf_timer { u64 opaque[2]; } __attribute__((aligned(8)));
struct guarded { struct bpf_spin_lock lock; u64 total; };
struct timed { struct bpf_timer timer; u64 fired; };
struct holder { struct task_struct __type_tag("kptr_untrusted") * task; };
struct { __uint(type, 1); __uint(max_entries, 4); __type(key, u32); __type(value, struct guarded); } locked SEC(".maps");
struct { __uint(type, 2); __uint(max_entries, 1); __type(key, u32); __type(value, struct timed); } timers SEC(".maps");
struct { __uint(type, 2); __uint(max_entries, 1); __type(key, u32); __type(value, struct holder); } holders SEC(".maps");
static long (*const bpf_spin_lock)(struct bpf_spin_lock *lock) = (void *)93;
static long (*const bpf_spin_unlock)(struct bpf_spin_lock *lock) = (void *)94;
static long (*const bpf_timer_init)(struct bpf_timer *timer, void *map, u64 flags) = (void *)169;
static long (*const bpf_timer_set_callback)(struct bpf_timer *timer, void *callback) = (void *)170;
static long (*const bpf_timer_start)(struct bpf_timer *timer, u64 nsecs, u64 flags) = (void *)171;

static int fire(void *map, u32 *key, struct timed *value)
{
	value->fired += 1;
	return 0;
}

SEC("tc")
int with_lock(struct __sk_buff *skb)
{
	u32 key = 1;
	struct guarded *value = bpf_map_lookup_elem(&locked, &key);

	if (!value)
		return 0;
	bpf_spin_lock(&value->lock);
	value->total += skb->len;
	bpf_spin_unlock(&value->lock);
	return 1;
}

SEC("tc")
int with_timer(struct __sk_buff *skb)
{
	u32 key = 0;
	struct timed *value = bpf_map_lookup_elem(&timers, &key);

	if (!value || bpf_timer_init(&value->timer, &timers, 1))
		return 0;
	bpf_timer_set_callback(&value->timer, fire);
	bpf_timer_start(&value->timer, 1000, 0);
	return 1;
}

SEC("tp_btf/task_newtask")
int keep(u64 *ctx)
{
	u32 key = 0;
	struct holder *value = bpf_map_lookup_elem(&holders, &key);

	if (value)
		value->task = (void *)ctx[0];
	return 0;
}

LICENSE("Dual MIT/GPL");

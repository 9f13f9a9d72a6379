// Why: addresses of sub-programs as arguments (LDIMM64 function form): static and global callbacks, one of them shared.
#include "skep_bpf.h"

struct { __uint(type, 2); __uint(max_entries, 8); __type(key, u32); __type(value, u64); } cells SEC(".maps");
struct sum { u64 total; u32 rounds; };

static long add_index(u64 index, void *ctx)
{
	struct sum *sum = ctx;

	sum->total += index;
	sum->rounds += 1;
	return 0;
}

static long add_cell(void *map, u32 *key, u64 *value, struct sum *sum)
{
	sum->total += *value + *key;
	return *key == 6;
}

static __noinline u64 loop_twice(u32 n)
{
	struct sum sum = {};

	bpf_loop(n, add_index, &sum, 0);
	bpf_loop(n, add_index, &sum, 0);
	return sum.total;
}

SEC("socket")
int over_loop(struct __sk_buff *skb)
{
	struct sum sum = {};

	bpf_loop(10, add_index, &sum, 0);
	return sum.total + sum.rounds;
}

SEC("socket")
int over_map(struct __sk_buff *skb)
{
	struct sum sum = {};

	bpf_for_each_map_elem(&cells, add_cell, &sum, 0);
	return sum.total;
}

SEC("socket")
int through_subprog(struct __sk_buff *skb) { return loop_twice(skb->len & 15); }

LICENSE("Dual MIT/GPL");

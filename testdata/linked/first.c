// Why: half of linked.o: calls a function and uses a map and globals of the other half; brings a weak function that loses.
#include "skep_bpf.h"

extern int shared_sum(u32 a, u32 b);
extern u64 shared_calls;
struct shared_map { __uint(type, 1); __uint(max_entries, 8); __type(key, u32); __type(value, u64); };
extern struct shared_map shared __attribute__((section(".maps")));
static u32 private_number = 11; // the other half has one too
const volatile u32 first_constant = 21;

__weak __noinline int chosen(u32 v) { opaque(v); return v + 1; }
static __noinline u32 private_helper(u32 v) { opaque(v); return v + private_number; }

SEC("socket")
int first_program(struct __sk_buff *skb)
{
	u32 key = 1;
	u64 *value = bpf_map_lookup_elem(&shared, &key);

	private_number += 1;
	shared_calls += 1;
	return (value ? *value : 0) + shared_sum(skb->len, first_constant) + chosen(3) + private_helper(skb->mark);
}

LICENSE("Dual MIT/GPL");

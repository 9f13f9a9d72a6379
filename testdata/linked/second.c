// Why: the other half of linked.o: defines what the first declares, and the strong function that wins.
#include "skep_bpf.h"

struct shared_map { __uint(type, 1); __uint(max_entries, 8); __type(key, u32); __type(value, u64); };
struct shared_map shared SEC(".maps");
u64 shared_calls = 5;
static u32 private_number = 12;
const volatile u32 second_constant = 22;

__noinline int shared_sum(u32 a, u32 b) { opaque(a); return a + b; }
__noinline int chosen(u32 v) { opaque(v); return v + 2; }
static __noinline u32 private_helper(u32 v) { opaque(v); return v ^ private_number; }

SEC("socket")
int second_program(struct __sk_buff *skb)
{
	private_number += 1;
	return private_helper(skb->len) + chosen(second_constant);
}

SEC("tc")
int third_program(struct __sk_buff *skb) { return shared_sum(skb->len, 1) & 1; }

LICENSE("Dual MIT/GPL");

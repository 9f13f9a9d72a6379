// Why: refused by the verifier: a looked-up value is used without a check; the error should point at the marked line.
#include "skep_bpf.h"

struct { __uint(type, 1); __uint(max_entries, 1); __type(key, u32); __type(value, u64); } map SEC(".maps");

SEC("socket")
int no_check(struct __sk_buff *skb)
{
	u32 key = 1;
	u64 *value = bpf_map_lookup_elem(&map, &key);

	*value += skb->len; // here
	return 0;
}

SEC("?socket")
int fine(struct __sk_buff *skb) { return 0; }

LICENSE("Dual MIT/GPL");

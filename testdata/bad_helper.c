// Why: refused by the verifier: a helper that does not exist, one that the program type may not call, wrong arguments.
#include "skep_bpf.h"

struct { __uint(type, 1); __uint(max_entries, 1); __type(key, u64); __type(value, u64); } map SEC(".maps");
static long (*const no_such_helper)(void) = (void *)30000;

SEC("socket")
int unknown(struct __sk_buff *skb) { return no_such_helper(); }

SEC("socket")
int not_allowed(struct __sk_buff *skb) { return bpf_sys_bpf(0, skb, 4); }

SEC("socket")
int short_key(struct __sk_buff *skb)
{
	u32 key = skb->len;

	return bpf_map_delete_elem(&map, &key);
}

LICENSE("Dual MIT/GPL");

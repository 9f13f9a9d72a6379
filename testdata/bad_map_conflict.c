// Why: key_size and the size of the key's type disagree.
#include "skep_bpf.h"

struct { __uint(type, 1); __uint(max_entries, 16); __uint(key_size, 8); __type(key, u32); __type(value, u64); } conflict SEC(".maps");

SEC("socket")
int use(struct __sk_buff *skb) { u32 key = 0; return bpf_map_lookup_elem(&conflict, &key) != NULL; }

LICENSE("Dual MIT/GPL");

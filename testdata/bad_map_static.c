// Why: a static map: its name is not the loader's to use, so it is refused.
#include "skep_bpf.h"

static struct { __uint(type, 1); __uint(max_entries, 16); __type(key, u32); __type(value, u64); } hidden SEC(".maps");

SEC("socket")
int use(struct __sk_buff *skb) { u32 key = 0; return bpf_map_lookup_elem(&hidden, &key) != NULL; }

LICENSE("Dual MIT/GPL");

// Why: a map in the old `maps` section, which libbpf has refused since 1.0.
#include "skep_bpf.h"

struct { u32 type, key_size, value_size, max_entries, flags; } old SEC("maps") = { 1, 4, 8, 16, 0 };

SEC("socket")
int use(struct __sk_buff *skb) { u32 key = 0; return bpf_map_lookup_elem(&old, &key) != NULL; }

LICENSE("Dual MIT/GPL");

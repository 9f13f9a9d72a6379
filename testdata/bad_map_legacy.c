// Why: a number behind the usual ones of a map in the old `maps` section that no loader is known to have given a meaning.
#include "skep_bpf.h"

struct { u32 type, key_size, value_size, max_entries, flags, dummy; } odd SEC("maps") = { 1, 4, 8, 16, 0, 1 };

SEC("socket")
int use(struct __sk_buff *skb) { u32 key = 0; return bpf_map_lookup_elem(&odd, &key) != NULL; }

LICENSE("Dual MIT/GPL");

// Why: a map definition with a field that nobody knows: refused, unless the user asks for relaxed map definitions.
#include "skep_bpf.h"

struct { __uint(type, 1); __uint(max_entries, 16); __type(key, u32); __type(value, u64); __uint(skep_unknown, 3); } strange SEC(".maps");

SEC("socket")
int use(struct __sk_buff *skb) { u32 key = 0; return bpf_map_lookup_elem(&strange, &key) != NULL; }

LICENSE("Dual MIT/GPL");

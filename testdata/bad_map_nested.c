// Why: maps of maps of maps, which no kernel has.
#include "skep_bpf.h"

struct { __uint(type, 12); __uint(max_entries, 4); __type(key, u32);
	__array(values, struct { __uint(type, 12); __uint(max_entries, 1); __type(key, u32);
		__array(values, struct { __uint(type, 2); __uint(max_entries, 1); __type(key, u32); __type(value, u32); });
	});
} outer SEC(".maps");

SEC("socket")
int use(struct __sk_buff *skb) { u32 key = 0; return bpf_map_lookup_elem(&outer, &key) != NULL; }

LICENSE("Dual MIT/GPL");

// Why: maps as the kernel's samples wrote them: an inner map by its position, and a NUMA node.
#include "skep_bpf.h"

struct bpf_map_def { u32 type, key_size, value_size, max_entries, map_flags, inner_map_idx, numa_node; };

struct bpf_map_def SEC("maps") outer = { .type = 12, .key_size = 4, .value_size = 4, .max_entries = 2, .inner_map_idx = 2 };
struct bpf_map_def SEC("maps") on_node = { .type = BPF_MAP_TYPE_HASH, .key_size = 4, .value_size = 8, .max_entries = 4, .map_flags = 4, .numa_node = 0 };
struct bpf_map_def SEC("maps") inner = { .type = BPF_MAP_TYPE_ARRAY, .key_size = 4, .value_size = 8, .max_entries = 1 };

SEC("socket")
int look(struct __sk_buff *skb)
{
	u32 one = 1, zero = 0;
	void *map = bpf_map_lookup_elem(&outer, &one);
	u64 *value = map ? bpf_map_lookup_elem(map, &zero) : NULL;

	bpf_map_delete_elem(&on_node, &zero);
	return value ? *value : 0;
}

LICENSE("Dual MIT/GPL");

// Why: maps of before BTF in a section each, of different lengths; gobpf's have 280 bytes that are zero at the end.
#include "skep_bpf.h"
#include "legacy_maps.h"

struct gobpf_map_def { u32 type, key_size, value_size, max_entries, map_flags, pinning; char namespace[256]; };

struct gobpf_map_def SEC("maps/by_cpu") by_cpu = { .type = BPF_MAP_TYPE_PERCPU_ARRAY, .key_size = 4, .value_size = 8, .max_entries = 3 };
struct bpf_map_def SEC("maps/other") by_number = { .type = BPF_MAP_TYPE_LRU_HASH, .key_size = 4, .value_size = 8, .max_entries = 16 };
// Without flags, as the first of all.
struct { u32 type, key_size, value_size, max_entries; } oldest SEC("maps/oldest") = { BPF_MAP_TYPE_ARRAY, 4, 8, 5 };

SEC("socket")
int count(struct __sk_buff *skb)
{
	u32 zero = 0;
	u64 one = 1, *value = bpf_map_lookup_elem(&oldest, &zero);

	if (value)
		*value += 1;
	value = bpf_map_lookup_elem(&by_cpu, &zero);
	if (value)
		*value += 1;
	return bpf_map_update_elem(&by_number, &zero, &one, 0) == 0 ? 7 : 0;
}

LICENSE("Dual MIT/GPL");

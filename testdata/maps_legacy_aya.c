// Why: maps as aya's macros write them: 28 bytes, wrapped in structs without anything else, pinned by name.
#include "skep_bpf.h"

struct bpf_map_def { u32 type_, key_size, value_size, max_entries, map_flags, id, pinning; };
struct cell { struct bpf_map_def value; };
struct nothing {};
struct hash_map { struct nothing _k; struct cell def; struct nothing _v; };

struct hash_map SEC("maps") SEEN = { .def.value = { BPF_MAP_TYPE_HASH, 4, 8, 32, 0, 0, 0 } };
struct hash_map SEC("maps") skep_pinned = { .def.value = { BPF_MAP_TYPE_ARRAY, 4, 8, 2, 0, 7, LIBBPF_PIN_BY_NAME } };

SEC("xdp")
int count(struct xdp_md *ctx)
{
	u32 zero = 0;
	u64 one = 1, *value = bpf_map_lookup_elem(&skep_pinned, &zero);

	if (value)
		*value += 1;
	bpf_map_update_elem(&SEEN, &zero, &one, 0);
	return XDP_PASS;
}

LICENSE("Dual MIT/GPL");

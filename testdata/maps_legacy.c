// Why: maps of before BTF in section `maps`, in any order and one of them static, with and without key and value types.
#include "skep_bpf.h"
#include "legacy_maps.h"

struct key { u32 a; u16 b, c; };
struct value { u64 count, bytes; };

struct bpf_map_def SEC("maps") counts = { .type = BPF_MAP_TYPE_ARRAY, .key_size = 4, .value_size = 8, .max_entries = 2 };
struct bpf_map_def SEC("maps") flows = { .type = BPF_MAP_TYPE_HASH, .key_size = 8, .value_size = 16, .max_entries = 64, .map_flags = 1 };
KV_PAIR(flows, struct key, struct value);
// Its types are not of its sizes.
struct bpf_map_def SEC("maps") wrong_types = { .type = BPF_MAP_TYPE_HASH, .key_size = 8, .value_size = 4, .max_entries = 8 };
KV_PAIR(wrong_types, struct key, u64);
static struct bpf_map_def SEC("maps") hidden = { .type = BPF_MAP_TYPE_ARRAY, .key_size = 4, .value_size = 8, .max_entries = 1 };
// Nothing uses these. The size of a ring is rounded up to pages.
struct bpf_map_def SEC("maps") ring = { .type = BPF_MAP_TYPE_RINGBUF, .max_entries = 5000 };
struct bpf_map_def SEC("maps") events = { .type = 4, .key_size = 4, .value_size = 4 };

SEC("socket")
int count(struct __sk_buff *skb)
{
	struct key key = { 1, 2, 3 };
	struct value first = { 1, 0 };
	u32 zero = 0, one = 1;
	u64 *all = bpf_map_lookup_elem(&counts, &one), *own = bpf_map_lookup_elem(&hidden, &zero);
	struct value *flow = bpf_map_lookup_elem(&flows, &key);

	if (all)
		*all += 1;
	if (own)
		*own += 10;
	if (flow)
		flow->count += 1;
	else
		bpf_map_update_elem(&flows, &key, &first, 0);
	bpf_map_delete_elem(&wrong_types, &key);
	return all && own ? *all + *own : 0;
}

LICENSE("Dual MIT/GPL");

// Why: half of maps_order.o: maps of maps that come before what they hold, since linking keeps the order of the files; the
// inner definition has flags and a NUMA node.
#include "skep_bpf.h"
#include "maps_order/inner.h"

extern struct inner late_inner __attribute__((section(".maps"))), other_inner __attribute__((section(".maps")));

struct {
	__uint(type, 12);
	__uint(max_entries, 3);
	__type(key, u32);
	__array(values, struct inner);
} outer SEC(".maps") = { .values = { [0] = &late_inner, [2] = &other_inner } };

// What is put in the slot that its mark says answers with 5, an empty one with 4.
SEC("socket")
int look(struct __sk_buff *skb)
{
	u32 slot = skb->mark, zero = 0;
	u64 one = 1;
	void *map = bpf_map_lookup_elem(&outer, &slot);

	return map && bpf_map_update_elem(map, &zero, &one, 0) == 0 ? 5 : 4;
}

LICENSE("Dual MIT/GPL");

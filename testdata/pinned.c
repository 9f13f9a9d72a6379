// Why: maps that ask to be pinned by their name, beside one that says it does not.
#include "skep_bpf.h"

struct { __uint(type, 1); __uint(max_entries, 16); __type(key, u32); __type(value, u64); __uint(pinning, LIBBPF_PIN_BY_NAME); } skep_pinned SEC(".maps");
struct { __uint(type, 2); __uint(max_entries, 1); __type(key, u32); __type(value, u64); __uint(pinning, LIBBPF_PIN_BY_NAME); } skep_pinned_totals SEC(".maps");
struct { __uint(type, 2); __uint(max_entries, 1); __type(key, u32); __type(value, u64); __uint(pinning, 0); } skep_private SEC(".maps");

SEC("socket")
int remember(struct __sk_buff *skb)
{
	u32 zero = 0;
	u64 length = skb->len, *total = bpf_map_lookup_elem(&skep_pinned_totals, &zero), *own = bpf_map_lookup_elem(&skep_private, &zero);

	if (total)
		__sync_fetch_and_add(total, length);
	if (own)
		*own = length;
	bpf_map_update_elem(&skep_pinned, &zero, &length, 0);
	return 0;
}

LICENSE("Dual MIT/GPL");

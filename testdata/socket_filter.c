// Why: the oldest program type, loadable anywhere; returns how many bytes of the packet to keep.
#include "skep_bpf.h"

struct { __uint(type, 2); __uint(max_entries, 4); __type(key, u32); __type(value, u64); } lengths SEC(".maps");

SEC("socket")
int keep_short(struct __sk_buff *skb)
{
	u32 slot = skb->len < 128 ? 0 : skb->len < 1024 ? 1 : 2;
	u64 *sum = bpf_map_lookup_elem(&lengths, &slot);

	if (sum)
		__sync_fetch_and_add(sum, skb->len);
	return slot ? 64 : -1;
}

SEC("socket")
int read_protocol(struct __sk_buff *skb)
{
	u8 protocol = 0;

	if (bpf_skb_load_bytes(skb, 23, &protocol, 1))
		return 0;
	return protocol == 17;
}

LICENSE("Dual MIT/GPL");

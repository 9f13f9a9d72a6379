// Why: the smallest useful XDP object: a per-CPU array and a hash, helper calls with map relocations, packet access.
#include "skep_bpf.h"

struct { __uint(type, 6); __uint(max_entries, 256); __type(key, u32); __type(value, u64); } packets SEC(".maps");
struct flow { u32 ifindex; u32 queue; };
struct totals { u64 packets, bytes; };
struct { __uint(type, 1); __uint(max_entries, 1024); __type(key, struct flow); __type(value, struct totals); } flows SEC(".maps");

SEC("xdp")
int xdp_count(struct xdp_md *ctx)
{
	u8 *data = (u8 *)(long)ctx->data, *end = (u8 *)(long)ctx->data_end;
	struct flow key = { .ifindex = ctx->ingress_ifindex, .queue = ctx->rx_queue_index };
	struct totals *seen, first = { .packets = 1, .bytes = (u64)(end - data) };
	u32 slot = 255;
	u64 *count;

	if (data + 24 <= end)
		slot = data[23]; // the protocol byte of an IPv4 header behind Ethernet
	count = bpf_map_lookup_elem(&packets, &slot);
	if (count)
		*count += 1;
	seen = bpf_map_lookup_elem(&flows, &key);
	if (!seen) {
		bpf_map_update_elem(&flows, &key, &first, 1);
	} else {
		__sync_fetch_and_add(&seen->packets, 1);
		__sync_fetch_and_add(&seen->bytes, first.bytes);
	}
	return 2;
}

LICENSE("Dual MIT/GPL");

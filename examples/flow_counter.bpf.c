// Counts packets and bytes for each flow: addresses, ports and protocol of IPv4. Attach it to a network interface; it lets
// every packet pass.
//
// The loader takes what was counted out of `flows` from time to time (one value per CPU, to be added up). When the table is
// full, the flow that was quiet for longest makes room.
#include "skep_bpf.h"

#define ETHERNET_HEADER 14
#define ETHERTYPE_IPV4 0x0800
#define FRAGMENT_OFFSET 0x1fff
#define TCP 6
#define UDP 17

struct flow {
	u8 source[4];
	u8 destination[4];
	u8 source_port[2]; // in the order of the network
	u8 destination_port[2];
	u8 protocol;
	u8 unused[3];
};

struct count {
	u64 packets;
	u64 bytes;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_PERCPU_HASH); // each CPU counts for itself, so nothing is contended
	__uint(max_entries, 65536);
	__type(key, struct flow);
	__type(value, struct count);
} flows SEC(".maps");

u64 packets_seen;
u64 packets_not_ipv4;

// Fills in the flow of a packet. Each read is behind a check that the packet is long enough, which is what the verifier asks
// for.
__inline int flow_of(struct flow *flow, const u8 *data, const u8 *end)
{
	const u8 *ip = data + ETHERNET_HEADER;
	const u8 *ports;
	u32 header;

	if (ip + 20 > end || (data[12] << 8 | data[13]) != ETHERTYPE_IPV4)
		return -1;
	header = (ip[0] & 0xf) * 4;
	__builtin_memcpy(flow->source, ip + 12, 4);
	__builtin_memcpy(flow->destination, ip + 16, 4);
	flow->protocol = ip[9];
	// Only the first fragment has ports.
	if ((flow->protocol != TCP && flow->protocol != UDP) || ((ip[6] << 8 | ip[7]) & FRAGMENT_OFFSET))
		return 0;
	ports = ip + header;
	if (ports + 4 > end)
		return 0;
	__builtin_memcpy(flow->source_port, ports, 2);
	__builtin_memcpy(flow->destination_port, ports + 2, 2);
	return 0;
}

SEC("xdp")
int count_flows(struct xdp_md *ctx)
{
	const u8 *data = (const u8 *)(long)ctx->data;
	const u8 *end = (const u8 *)(long)ctx->data_end;
	struct flow flow = {};
	struct count first = { 1, end - data };
	struct count *count;

	__sync_fetch_and_add(&packets_seen, 1);
	if (flow_of(&flow, data, end)) {
		__sync_fetch_and_add(&packets_not_ipv4, 1);
		return XDP_PASS;
	}
	count = bpf_map_lookup_elem(&flows, &flow);
	if (count) {
		count->packets += 1;
		count->bytes += end - data;
	} else {
		bpf_map_update_elem(&flows, &flow, &first, 0);
	}
	return XDP_PASS;
}

LICENSE("Dual MIT/GPL");

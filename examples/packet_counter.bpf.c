// Counts packets and bytes for each IP protocol. Attach it to a network interface; it lets every packet pass.
//
// The loader may set `sample_every` before loading, reads `per_protocol` (one value per CPU, to be added up), and finds
// the totals in the globals `packets_seen` and `packets_skipped`.
#include "skep_bpf.h"

#define ETHERNET_HEADER 14
#define ETHERTYPE_IPV4 0x0800
#define ETHERTYPE_IPV6 0x86dd
#define OTHER 255 // the slot of everything that is not IP

struct count {
	u64 packets;
	u64 bytes;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY); // each CPU counts for itself, so nothing is contended
	__uint(max_entries, 256);
	__type(key, u32);
	__type(value, struct count);
} per_protocol SEC(".maps");

// Counts one packet in so many, chosen at random. Read-only for the program, so the verifier takes its value as known:
// set it before loading.
const volatile u32 sample_every = 1;

u64 packets_seen;
u64 packets_skipped;

// The IP protocol number of a packet, or OTHER. Each read is behind a check that the packet is long enough, which is what
// the verifier asks for.
__inline u32 protocol_of(const u8 *data, const u8 *end)
{
	u16 ethertype;

	if (data + ETHERNET_HEADER + 10 > end)
		return OTHER;
	ethertype = data[12] << 8 | data[13];
	if (ethertype == ETHERTYPE_IPV4)
		return data[ETHERNET_HEADER + 9];
	if (ethertype == ETHERTYPE_IPV6)
		return data[ETHERNET_HEADER + 6];
	return OTHER;
}

SEC("xdp")
int count_packets(struct xdp_md *ctx)
{
	const u8 *data = (const u8 *)(long)ctx->data;
	const u8 *end = (const u8 *)(long)ctx->data_end;
	u32 protocol;
	struct count *count;

	__sync_fetch_and_add(&packets_seen, 1);
	if (sample_every > 1 && bpf_get_prandom_u32() % sample_every != 0) {
		__sync_fetch_and_add(&packets_skipped, 1);
		return XDP_PASS;
	}
	protocol = protocol_of(data, end);
	count = bpf_map_lookup_elem(&per_protocol, &protocol);
	if (count) {
		count->packets += 1;
		count->bytes += end - data;
	}
	return XDP_PASS;
}

LICENSE("Dual MIT/GPL");

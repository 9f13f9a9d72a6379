// Drops packets from blocked networks, and counts the packets of every other IPv4 source. Attach it to a network interface.
//
// The loader decides: it takes the counts out of `seen`, puts networks into `blocked`, and hears in `drops` of what was
// dropped, as often as `config` says.
#include "skep_bpf.h"

#define ETHERNET_HEADER 14
#define IPV4_HEADER 20
#define ETHERTYPE_IPV4 0x0800
#define BPF_F_NO_PREALLOC 1

struct config {
	u32 packets_per_round; // how many packets a source may send
	u32 rounds_blocked;    // for how long it is blocked when it sends more
	u32 report_one_in;     // of how many dropped packets one is reported; 0 for none
};

struct count {
	u64 packets;
	u64 bytes;
};

struct prefix {
	u32 bits;
	u8 address[4];
};

struct dropped {
	u8 source[4];
	u32 length;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct config);
} config SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_PERCPU_HASH); // nothing is contended, and a flood of sources does not fill it
	__uint(max_entries, 4096);
	__type(key, u8[4]);
	__type(value, struct count);
} seen SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, 1024);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct prefix);
	__type(value, u64); // the round with which it ends
} blocked SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 64 * 1024);
} drops SEC(".maps");

__inline void report(const struct prefix *source, u32 length)
{
	u32 zero = 0;
	const struct config *wanted = bpf_map_lookup_elem(&config, &zero);
	struct dropped *drop;

	if (!wanted || !wanted->report_one_in || bpf_get_prandom_u32() % wanted->report_one_in != 0)
		return;
	drop = bpf_ringbuf_reserve(&drops, sizeof(*drop), 0);
	if (!drop)
		return; // nobody reads fast enough
	__builtin_memcpy(drop->source, source->address, sizeof(drop->source));
	drop->length = length;
	bpf_ringbuf_submit(drop, 0);
}

SEC("xdp")
int guard(struct xdp_md *ctx)
{
	const u8 *data = (const u8 *)(long)ctx->data;
	const u8 *end = (const u8 *)(long)ctx->data_end;
	struct prefix source = { .bits = 32 };
	struct count *count, first = { .packets = 1 };

	if (data + ETHERNET_HEADER + IPV4_HEADER > end || (data[12] << 8 | data[13]) != ETHERTYPE_IPV4)
		return XDP_PASS;
	__builtin_memcpy(source.address, data + ETHERNET_HEADER + 12, sizeof(source.address));
	if (bpf_map_lookup_elem(&blocked, &source)) {
		report(&source, end - data);
		return XDP_DROP;
	}
	count = bpf_map_lookup_elem(&seen, source.address);
	if (count) {
		count->packets += 1;
		count->bytes += end - data;
	} else {
		first.bytes = end - data;
		bpf_map_update_elem(&seen, source.address, &first, 0);
	}
	return XDP_PASS;
}

LICENSE("Dual MIT/GPL");

// Why: an XDP program that asks the device what it knows of a packet, and one that a device without such functions can have.
#include "skep_bpf.h"

enum xdp_rss_hash_type { XDP_RSS_TYPE_NONE };

extern int bpf_xdp_metadata_rx_timestamp(const struct xdp_md *ctx, u64 *timestamp) __ksym;
extern int bpf_xdp_metadata_rx_hash(const struct xdp_md *ctx, u32 *hash, enum xdp_rss_hash_type *rss_type) __ksym;
extern int bpf_xdp_metadata_rx_vlan_tag(const struct xdp_md *ctx, be16 *vlan_proto, u16 *vlan_tci) __ksym;

u32 runs;
s32 answers[3];
u64 timestamp;
u32 hash;
enum xdp_rss_hash_type rss_type;
be16 vlan_proto;
u16 vlan_tci;

SEC("xdp") int hints(struct xdp_md *ctx)
{
	runs++;
	answers[0] = bpf_xdp_metadata_rx_timestamp(ctx, &timestamp);
	answers[1] = bpf_xdp_metadata_rx_hash(ctx, &hash, &rss_type);
	answers[2] = bpf_xdp_metadata_rx_vlan_tag(ctx, &vlan_proto, &vlan_tci);
	return 2;
}

SEC("?xdp") int passes(struct xdp_md *ctx)
{
	runs++;
	return 2;
}

LICENSE("GPL");

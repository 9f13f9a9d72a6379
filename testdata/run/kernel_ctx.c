// Why: programs that read packets, devices and maps by the kernel's own types: each puts what it saw into `seen`, which is
// the same on any kernel for the same packet.
#include "skep_bpf.h"

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
struct net_device { int ifindex; u32 mtu, flags; u16 type; u8 addr_len; char name[16]; };
struct sock_common { u16 skc_family; volatile u8 skc_state; u32 skc_daddr, skc_rcv_saddr; };
struct sock { struct sock_common __sk_common; u16 sk_type, sk_protocol; u32 sk_mark; };
struct sk_buff {
	u32 len, data_len, mark, priority;
	u16 mac_len, protocol, queue_mapping, tc_index, transport_header, network_header, mac_header;
	u8 pkt_type : 3;
	u8 ip_summed : 2;
	u8 encapsulation : 1;
	int skb_iif;
	u32 end, tail;
	u8 *head, *data;
	struct net_device *dev;
	struct sock *sk;
	char cb[48];
};
struct skb_shared_info { u8 nr_frags; u16 gso_size, gso_segs; };
struct xdp_rxq_info { struct net_device *dev; u32 queue_index, reg_state; };
struct xdp_buff { void *data, *data_end, *data_meta, *data_hard_start; struct xdp_rxq_info *rxq; u32 frame_sz; };
struct nf_hook_state { u8 hook, pf; struct net_device *in, *out; struct sock *sk; };
struct bpf_nf_ctx { const struct nf_hook_state *state; struct sk_buff *skb; };
enum bpf_map_type { SOME_KIND };
struct bpf_map { enum bpf_map_type map_type; u32 key_size, value_size, max_entries, map_flags; };
struct bpf_array { struct bpf_map map; u32 elem_size, index_mask; };
struct atomic { int counter; };
struct bpf_htab { struct bpf_map map; u32 n_buckets, elem_size; };
#pragma clang attribute pop

void *bpf_cast_to_kern_ctx(void *ctx) __ksym;
void *bpf_rdonly_cast(const void *pointer, u32 type) __ksym;

struct bpf_dynptr { u64 opaque[2]; } __attribute__((aligned(8)));
int bpf_dynptr_from_skb(struct __sk_buff *skb, u64 flags, struct bpf_dynptr *to) __ksym;
void *bpf_dynptr_slice(const struct bpf_dynptr *from, u64 at, void *buffer, u64 len) __ksym;

u64 seen[40];

struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 5); __type(key, u32); __type(value, u32); } numbers SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 9); __type(key, u32); __type(value, u64); } table SEC(".maps");

__inline void device(struct net_device *dev, int at)
{
	if (!dev)
		return;
	seen[at] = dev->ifindex;
	seen[at + 1] = dev->type;
	seen[at + 2] = dev->name[0] << 8 | dev->name[1];
	seen[at + 3] = dev->addr_len;
	seen[at + 4] = dev->mtu;
}

__inline void packet(struct sk_buff *skb)
{
	u8 bytes[4] = {};

	seen[0] = skb->len;
	seen[1] = skb->data_len;
	seen[2] = skb->mark;
	seen[3] = skb->priority;
	seen[4] = skb->mac_len;
	seen[5] = skb->protocol;
	seen[6] = skb->pkt_type;
	seen[7] = skb->ip_summed;
	seen[8] = skb->network_header - skb->mac_header;
	seen[9] = skb->data - skb->head - skb->mac_header;
	seen[10] = skb->tail - skb->mac_header;
	seen[11] = skb->tail <= skb->end;
	bpf_probe_read_kernel(bytes, 4, skb->head + skb->network_header);
	seen[12] = bytes[0] << 24 | bytes[1] << 16 | bytes[2] << 8 | bytes[3];
	bpf_probe_read_kernel(bytes, 4, skb->data);
	seen[13] = bytes[0] << 24 | bytes[1] << 16 | bytes[2] << 8 | bytes[3];
	seen[14] = skb->encapsulation;
	device(skb->dev, 15);
}

SEC("tc")
int tc_context(struct __sk_buff *ctx)
{
	struct sk_buff *skb = bpf_cast_to_kern_ctx(ctx);
	struct skb_shared_info *info;
	struct sock *sk;

	packet(skb);
	info = bpf_rdonly_cast(skb->head + skb->end, core_type_target(struct skb_shared_info));
	seen[20] = info->gso_size;
	seen[21] = info->gso_segs;
	sk = skb->sk;
	if (sk) {
		seen[22] = 1;
		seen[23] = sk->__sk_common.skc_family;
	}
	// What a program changes in its context is changed in the kernel's.
	ctx->mark = 77;
	seen[24] = skb->mark;
	ctx->tc_classid = 5;
	seen[25] = *(u16 *)&skb->cb[6];
	return 0;
}

SEC("xdp")
int xdp_context(struct xdp_md *ctx)
{
	struct xdp_buff *xdp = bpf_cast_to_kern_ctx(ctx);

	seen[0] = xdp->data_end - xdp->data;
	seen[1] = xdp->data - xdp->data_meta;
	seen[2] = xdp->data - xdp->data_hard_start;
	seen[3] = xdp->rxq->queue_index;
	device(xdp->rxq->dev, 4);
	return XDP_PASS;
}

SEC("netfilter")
int hook(struct bpf_nf_ctx *ctx)
{
	const struct nf_hook_state *state = ctx->state;
	struct bpf_dynptr bytes;
	u8 buffer[4] = {}, *start;

	packet(ctx->skb);
	seen[20] = state->hook;
	seen[21] = state->pf;
	seen[22] = state->in != NULL;
	seen[23] = state->out != NULL;
	device(state->out, 24);
	if (bpf_dynptr_from_skb((struct __sk_buff *)ctx->skb, 0, &bytes))
		return 1;
	start = bpf_dynptr_slice(&bytes, 0, buffer, sizeof(buffer));
	if (start)
		seen[29] = start[0] << 8 | start[3];
	return 1;
}

SEC("tc")
int maps(struct __sk_buff *ctx)
{
	struct bpf_array *array = (struct bpf_array *)&numbers;
	struct bpf_htab *hash = (struct bpf_htab *)&table;

	seen[0] = array->map.map_type;
	seen[1] = array->map.max_entries;
	seen[2] = array->elem_size;
	seen[3] = array->index_mask;
	seen[4] = hash->map.map_type;
	seen[5] = hash->map.key_size;
	seen[6] = hash->n_buckets;
	seen[7] = hash->elem_size;
	return 0;
}

LICENSE("GPL");

// Why: reads struct sock through nested and anonymous members and a bitfield, as connection tracers do.
#include "kernel_types.h"

struct change { u64 at; u32 from, to; be32 local, remote; u16 local_port, remote_port, family, protocol; u32 reuse; };
struct { __uint(type, 27); __uint(max_entries, 4096); } changes SEC(".maps");

SEC("tp_btf/inet_sock_set_state")
int on_state(u64 *ctx)
{
	struct sock *sk = (void *)ctx[0];
	struct change *out = bpf_ringbuf_reserve(&changes, sizeof(*out), 0);

	if (!out)
		return 0;
	out->at = bpf_ktime_get_ns();
	out->from = ctx[1];
	out->to = ctx[2];
	out->local = sk->__sk_common.skc_rcv_saddr;
	out->remote = sk->__sk_common.skc_daddr;
	out->local_port = sk->__sk_common.skc_num;
	out->remote_port = sk->__sk_common.skc_dport;
	core_read(&out->family, sk->__sk_common.skc_family);
	out->protocol = sk->sk_protocol;
	out->reuse = sk->__sk_common.skc_reuseport;
	bpf_ringbuf_submit(out, 0);
	return 0;
}

SEC("tp_btf/kfree_skb")
int on_drop(u64 *ctx)
{
	struct sk_buff *skb = (void *)ctx[0];

	return skb->len > skb->data_len;
}

LICENSE("Dual MIT/GPL");

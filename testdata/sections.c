// Why: the section table: names of many program types, several programs in a section, optional and unknown sections.
#include "skep_bpf.h"

SEC("xdp")
int xdp_first(struct xdp_md *ctx) { return 2; }
SEC("xdp")
int xdp_second(struct xdp_md *ctx) { return ctx->rx_queue_index ? 1 : 2; }
SEC("xdp")
int xdp_third(struct xdp_md *ctx) { return 1; }
SEC("xdp.frags")
int xdp_frags(struct xdp_md *ctx) { return 2; }
SEC("xdp/devmap")
int xdp_devmap(struct xdp_md *ctx) { return ctx->egress_ifindex ? 2 : 1; }
SEC("xdp/cpumap")
int xdp_cpumap(struct xdp_md *ctx) { return 2; }
SEC("xdp.frags/devmap")
int xdp_frags_devmap(struct xdp_md *ctx) { return 2; }
SEC("?xdp")
int xdp_optional(struct xdp_md *ctx) { return 0; }
SEC("?skep_unknown/with/more")
int unknown_optional(struct xdp_md *ctx) { return 2; }
SEC("lwt_in")
int on_lwt_in(struct __sk_buff *skb) { return 0; }
SEC("lwt_out")
int on_lwt_out(struct __sk_buff *skb) { return 0; }
SEC("lwt_xmit")
int on_lwt_xmit(struct __sk_buff *skb) { return 0; }
SEC("lwt_seg6local")
int on_lwt_seg6local(struct __sk_buff *skb) { return 0; }
SEC("sk_skb/stream_parser")
int stream_parser(struct __sk_buff *skb) { return skb->len; }
SEC("sk_skb/stream_verdict")
int stream_verdict(struct __sk_buff *skb) { return 1; }
SEC("sk_skb/verdict")
int skb_verdict(struct __sk_buff *skb) { return 1; }
SEC("sk_skb")
int on_sk_skb(struct __sk_buff *skb) { return 1; }
SEC("sk_msg")
int on_sk_msg(struct sk_msg_md *msg) { return msg->family == 2; }
SEC("sk_lookup")
int on_sk_lookup(struct bpf_sk_lookup *ctx) { return 1; }
SEC("sk_reuseport")
int reuseport(struct sk_reuseport_md *ctx) { return 1; }
SEC("sk_reuseport/migrate")
int reuseport_migrate(struct sk_reuseport_md *ctx) { return 1; }
SEC("flow_dissector")
int dissect(struct __sk_buff *skb) { return 0; }
SEC("?lirc_mode2")
int lirc(u32 *sample) { return 0; }
SEC("netfilter")
int on_netfilter(void *ctx) { return 1; }
SEC("?tracepoint.s/syscalls/sys_enter_getpid")
int sleepable_tracepoint(void *ctx) { return 0; }
SEC("?raw_tp.s/sys_enter")
int sleepable_raw(struct bpf_raw_tracepoint_args *ctx) { return 0; }
SEC("?freplace/xdp_first")
int replacement(struct xdp_md *ctx) { return 1; }

LICENSE("Dual MIT/GPL");

// Why: the cgroup families: one section name gives both a program type and an attach type.
#include "skep_bpf.h"

SEC("cgroup_skb/ingress")
int packet_in(struct __sk_buff *skb) { return skb->len < 65536; }
SEC("cgroup_skb/egress")
int packet_out(struct __sk_buff *skb) { return 1; }
SEC("cgroup/skb")
int packet_any(struct __sk_buff *skb) { return 1; }
SEC("cgroup/sock_create")
int create(struct bpf_sock *sk) { return sk->family != 40; }
SEC("cgroup/sock_release")
int release(struct bpf_sock *sk) { return 1; }
SEC("cgroup/post_bind4")
int bound(struct bpf_sock *sk) { return 1; }
SEC("cgroup/bind4")
int bind4(struct bpf_sock_addr *ctx) { return ctx->user_port != 0; }
SEC("cgroup/connect4")
int connect4(struct bpf_sock_addr *ctx) { return ctx->user_ip4 != 0x01010101; }
SEC("cgroup/connect6")
int connect6(struct bpf_sock_addr *ctx) { return ctx->user_ip6[3] != 1; }
SEC("cgroup/sendmsg4")
int sendmsg4(struct bpf_sock_addr *ctx) { return 1; }
SEC("cgroup/getpeername4")
int peer4(struct bpf_sock_addr *ctx) { return 1; }
SEC("cgroup/sysctl")
int sysctl(struct bpf_sysctl *ctx) { return !ctx->write; }
SEC("cgroup/getsockopt")
int getsockopt(struct bpf_sockopt *ctx) { ctx->retval = 0; return 1; }
SEC("cgroup/setsockopt")
int setsockopt(struct bpf_sockopt *ctx) { return ctx->optname != 13; }
SEC("cgroup/dev")
int device(struct bpf_cgroup_dev_ctx *ctx) { return ctx->major == 1; }
SEC("sockops")
int sock_ops(struct bpf_sock_ops *ctx) { return ctx->op == 0; }

LICENSE("Dual MIT/GPL");

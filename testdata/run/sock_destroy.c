// Why: iterators over sockets that end those of one port.
#include "skep_bpf.h"

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
struct sock_common { u16 skc_family, skc_num; };
struct sock { struct sock_common __sk_common; };
struct inet_sock { struct sock sk; };
struct udp_sock { struct inet_sock inet; };
struct bpf_iter__tcp { struct bpf_iter_meta *meta; struct sock_common *sk_common; u32 uid; };
struct bpf_iter__udp { struct bpf_iter_meta *meta; struct udp_sock *udp_sk; u32 uid __attribute__((aligned(8))); int bucket; };
#pragma clang attribute pop

extern int bpf_sock_destroy(struct sock_common *sk) __ksym;

u16 port;
u32 ended;
s32 answered;

SEC("iter/tcp") int end_tcp(struct bpf_iter__tcp *ctx)
{
	struct sock_common *sk = ctx->sk_common;
	if (sk && sk->skc_num == port) {
		answered = bpf_sock_destroy(sk);
		ended++;
	}
	return 0;
}

SEC("iter/udp") int end_udp(struct bpf_iter__udp *ctx)
{
	struct udp_sock *udp = ctx->udp_sk;
	if (udp && udp->inet.sk.__sk_common.skc_num == port) {
		answered = bpf_sock_destroy((struct sock_common *)udp);
		ended++;
	}
	return 0;
}

LICENSE("GPL");

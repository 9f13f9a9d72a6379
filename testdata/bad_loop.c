// Why: refused by the verifier after a long log: a loop without an end, an unreachable end of stack, a bad return value.
#include "skep_bpf.h"

SEC("socket")
int endless(struct __sk_buff *skb)
{
	volatile u32 n = skb->len;

	while (n != 7)
		n += 2;
	return n;
}

SEC("cgroup/sock_create")
int bad_return(struct bpf_sock *sk) { return 9; }

SEC("socket")
int deep_stack(struct __sk_buff *skb)
{
	volatile u8 bytes[500];

	bytes[skb->len & 1023] = 1;
	return bytes[3];
}

LICENSE("Dual MIT/GPL");

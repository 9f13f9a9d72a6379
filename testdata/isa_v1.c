// Why: built for the first instruction set: no 32-bit arithmetic or jumps, so another selection of opcodes; byte order and
// legacy packet loads beside it.
#include "skep_bpf.h"

u64 out[8];

SEC("socket")
int arithmetic(struct __sk_buff *skb)
{
	u64 a = skb->len, b = skb->mark | 1;
	s32 c = skb->hash;

	out[0] = a * b + (a << 3) - (b >> 2);
	out[1] = a / b ^ a % b;
	out[2] = c < 7 ? (u64)-c : a & ~b;
	out[3] = __builtin_bswap16(a) | __builtin_bswap32(b) | __builtin_bswap64(a);
	out[4] = (s64)a >> 5;
	__sync_fetch_and_add(&out[5], a);
	return 0;
}

SEC("socket")
int packet_loads(struct __sk_buff *skb)
{
	u64 sum;

	asm volatile("r6 = %[skb]\n\tr0 = *(u8 *)skb[9]\n\tr7 = r0\n\tr0 = *(u16 *)skb[r7]\n\tr7 += r0\n\tr0 = *(u32 *)skb[4]\n\tr7 += r0\n\t%[sum] = r7"
		     : [sum] "=r"(sum) : [skb] "r"(skb) : "r0", "r1", "r2", "r3", "r4", "r5", "r6", "r7");
	return sum;
}

LICENSE("Dual MIT/GPL");

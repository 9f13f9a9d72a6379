// Why: built for the fourth instruction set: sign-extending loads and moves, signed division, byte swaps without an
// order, long jumps, and every atomic with and without the old value.
#include "skep_bpf.h"

s64 wide = -9, cells[4];
s32 word = -8;
s16 half = -7;
s8 byte = -6;
u64 out[16];

SEC("socket")
int sign_extension(struct __sk_buff *skb)
{
	s64 a = skb->len;

	out[0] = byte + half + word + wide;
	out[1] = (s8)a;
	out[2] = (s16)a;
	out[3] = (s32)a;
	out[4] = (u32)(s32)(s8)skb->mark;
	return 0;
}

SEC("socket")
int divide(struct __sk_buff *skb)
{
	s64 a = skb->len, b = wide;
	s32 c = skb->mark, d = word;

	out[0] = a / b;
	out[1] = c / d;
	return 0;
}

SEC("socket")
int modulo(struct __sk_buff *skb)
{
	s64 a = skb->len, b = wide;
	s32 c = skb->mark, d = word;

	out[0] = a % b;
	out[1] = c % d;
	return 0;
}

SEC("socket")
int swaps(struct __sk_buff *skb)
{
	out[0] = __builtin_bswap16(skb->len);
	out[1] = __builtin_bswap32(skb->len);
	out[2] = __builtin_bswap64(skb->len);
	return 0;
}

SEC("socket")
int atomics(struct __sk_buff *skb)
{
	s64 v = skb->len;

	out[0] = __sync_fetch_and_add(&cells[0], v);
	out[1] = __sync_fetch_and_and(&cells[1], v);
	out[2] = __sync_fetch_and_or(&cells[2], v);
	out[3] = __sync_fetch_and_xor(&cells[3], v);
	out[4] = __sync_lock_test_and_set(&cells[0], v);
	out[5] = __sync_val_compare_and_swap(&cells[1], v, v + 1);
	out[6] = __sync_fetch_and_add(&word, 3);
	out[7] = __sync_val_compare_and_swap(&word, 1, 2);
	__sync_fetch_and_or(&cells[2], v);
	__sync_fetch_and_xor(&word, 5);
	return 0;
}

SEC("socket")
int long_jump(struct __sk_buff *skb)
{
	asm volatile goto("if %[n] s> 7 goto +1\n\tgotol %l[there]" ::[n] "r"(skb->len)::there);
	out[0] = 1;
	return 1;
there:
	out[1] = 2;
	return 2;
}

SEC("socket")
int may_go(struct __sk_buff *skb)
{
	asm volatile goto("may_goto %l[done]" ::::done);
	out[2] += 1;
done:
	return 0;
}

LICENSE("Dual MIT/GPL");

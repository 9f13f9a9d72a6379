// Why: indirect jumps through tables that the compiler makes of large switches: two tables in one program, one of them in
// a function that it calls. Needs clang 22.
#include "skep_bpf.h"

u64 seen[16];

__noinline int count(u32 number)
{
	switch (number) {
	case 0: seen[0] += 3; break;
	case 1: seen[7] += 4; break;
	case 2: seen[14] += 5; break;
	case 3: seen[5] += 6; break;
	case 4: seen[12] += 7; break;
	case 5: seen[3] += 8; break;
	case 6: seen[10] += 9; break;
	case 7: seen[1] += 10; break;
	case 8: seen[8] += 11; break;
	case 9: seen[15] += 12; break;
	case 10: seen[6] += 13; break;
	case 11: seen[13] += 14; break;
	case 12: seen[4] += 15; break;
	case 13: seen[11] += 16; break;
	case 14: seen[2] += 17; break;
	case 15: seen[9] += 18; break;
	default: return 1;
	}
	return 2;
}

SEC("tc")
int choose(struct __sk_buff *skb)
{
	switch (skb->mark) {
	case 0: skb->priority = 1; seen[0] ^= skb->len; break;
	case 1: skb->priority = 2; seen[5] ^= skb->len; break;
	case 2: skb->priority = 5; seen[10] ^= skb->len; break;
	case 3: skb->priority = 10; seen[15] ^= skb->len; break;
	case 4: skb->priority = 17; seen[4] ^= skb->len; break;
	case 5: skb->priority = 26; seen[9] ^= skb->len; break;
	case 6: skb->priority = 37; seen[14] ^= skb->len; break;
	case 7: skb->priority = 50; seen[3] ^= skb->len; break;
	case 8: skb->priority = 65; seen[8] ^= skb->len; break;
	case 9: skb->priority = 82; seen[13] ^= skb->len; break;
	case 10: skb->priority = 101; seen[2] ^= skb->len; break;
	case 11: skb->priority = 122; seen[7] ^= skb->len; break;
	case 12: skb->priority = 145; seen[12] ^= skb->len; break;
	case 13: skb->priority = 170; seen[1] ^= skb->len; break;
	case 14: skb->priority = 197; seen[6] ^= skb->len; break;
	default: skb->priority = 1000;
	}
	return count(skb->mark) + skb->priority;
}

SEC("tc")
int only_counts(struct __sk_buff *skb) { return count(skb->mark + 3); }

LICENSE("Dual MIT/GPL");

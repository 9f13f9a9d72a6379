// Why: a program with a global function that another program can take the place of.
#include "skep_bpf.h"

u64 calls;

__noinline int decide(struct __sk_buff *skb)
{
	volatile int verdict = 1; // so that the compiler does not know it

	calls += 1;
	return verdict;
}

SEC("tc")
int target(struct __sk_buff *skb) { return decide(skb) + 10; }

LICENSE("Dual MIT/GPL");

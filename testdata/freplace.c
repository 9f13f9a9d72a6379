// Why: programs whose targets are functions of another program: one that takes a function's place, and one that runs when
// a function is left.
#include "skep_bpf.h"

u64 replaced, left;

SEC("freplace/decide")
int decide_otherwise(struct __sk_buff *skb)
{
	replaced += 1;
	return 32;
}

SEC("?fexit/target")
int after_target(u64 *ctx)
{
	left += 1;
	return 0;
}

LICENSE("Dual MIT/GPL");

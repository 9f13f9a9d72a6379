// Why: the tag that names an exception callback is on a variable, where it says of no program what it does when it throws.
#include "skep_bpf.h"

extern void bpf_throw(u64 cookie) __ksym;

__tag("exception_callback:answer")
u64 seen;

__noinline int answer(u64 cookie) { seen = cookie; return 7; }

SEC("tc")
int throws(struct __sk_buff *skb)
{
	bpf_throw(21);
	return 0;
}

LICENSE("Dual MIT/GPL");

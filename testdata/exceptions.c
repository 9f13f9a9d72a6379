// Why: a program whose exceptions end in a callback that calls a function of its own, and one that has no callback.
#include "skep_bpf.h"

extern void bpf_throw(u64 cookie) __ksym;

u64 seen;

__noinline int twice(int number) { return number * 2; }
__noinline int answer(u64 cookie) { seen = cookie; return twice(cookie); }

SEC("tc")
__tag("exception_callback:answer")
int throws_with_answer(struct __sk_buff *skb)
{
	bpf_throw(21);
	return 0;
}

SEC("tc")
int throws_without_callback(struct __sk_buff *skb)
{
	bpf_throw(9);
	return 0;
}

LICENSE("Dual MIT/GPL");

// Why: declaration tags that loader and verifier act on: argument tags of global functions and an exception callback.
#include "skep_bpf.h"

extern void bpf_throw(u64 cookie) __ksym;

struct pair { u32 a, b; };
u32 total;

__noinline int sum(struct pair *pair __tag("arg:nonnull")) { return pair->a + pair->b; }
__noinline int length(void *ctx __tag("arg:ctx")) { return ((struct __sk_buff *)ctx)->len; }
__noinline int on_throw(u64 cookie) { total += 1; return cookie & 1; }

SEC("tc")
int tagged(struct __sk_buff *skb)
{
	struct pair pair = { skb->mark, 2 };

	return (sum(&pair) + length(skb)) & 1;
}

SEC("tc")
__tag("exception_callback:on_throw")
int throws(struct __sk_buff *skb)
{
	if (skb->len > 70000)
		bpf_throw(1);
	return 0;
}

LICENSE("Dual MIT/GPL");

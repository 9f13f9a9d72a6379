// Why: built without -g: no BTF at all, so no maps, but globals and sub-programs still work.
#include "skep_bpf.h"

u64 counter;
const volatile u32 step = 3;
static __noinline u32 add(u32 v) { opaque(v); return v + step; }

SEC("socket")
int count(struct __sk_buff *skb)
{
	counter += add(skb->len);
	return 0;
}

LICENSE("Dual MIT/GPL");

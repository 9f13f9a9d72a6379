// Why: linking of sub-programs: static and global, nested, shared, weak, hidden, unused, and one in its caller's section.
#include "skep_bpf.h"

u64 calls;

static __noinline u32 leaf(u32 v) { opaque(v); return v * 3 + 1; }
static __noinline u32 middle(u32 v) { opaque(v); return leaf(v + 1) ^ leaf(v); }
__noinline int deep(u32 v) { opaque(v); return middle(v) + leaf(v); }
__noinline int with_context(struct __sk_buff *skb) { calls += 1; return skb->len; }
__noinline int unused_global(u32 v) { opaque(v); return v + 41; }
static __noinline __attribute__((used)) u32 unused_static(u32 v) { opaque(v); return v - 1; }
__weak __noinline int weak_default(u32 v) { opaque(v); return v | 1; }
__hidden __noinline int hidden_global(u32 v) { opaque(v); calls += v; return leaf(v); }

SEC("tc")
int first(struct __sk_buff *skb) { return deep(skb->len) & 1; }

SEC("tc")
int second(struct __sk_buff *skb) { return (with_context(skb) + middle(skb->mark)) & 1; }

SEC("tc")
int third(struct __sk_buff *skb) { return (weak_default(skb->len) + hidden_global(2)) & 3; }

SEC("tc")
int no_calls(struct __sk_buff *skb) { return 0; }

SEC("socket")
int other_section(struct __sk_buff *skb) { return deep(skb->len) + with_context(skb); }

LICENSE("Dual MIT/GPL");

// Why: a static function placed in an entry program's own section; libbpf refuses to open such an object.
#include "skep_bpf.h"

SEC("tc")
static __noinline u32 helper_here(u32 v) { opaque(v); return v + 7; }

SEC("tc")
int caller(struct __sk_buff *skb) { return helper_here(skb->len) & 1; }

LICENSE("Dual MIT/GPL");

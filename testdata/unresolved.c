// Why: an extern variable that no section claims, as left by a link step that was forgotten: opening fails.
#include "skep_bpf.h"

extern u32 skep_elsewhere;

SEC("socket")
int use(struct __sk_buff *skb) { return skep_elsewhere; }

LICENSE("Dual MIT/GPL");

// Why: a function that is declared and nowhere defined, as left by a link step that was forgotten: opening fails.
#include "skep_bpf.h"

extern int skep_elsewhere(int v);

SEC("socket")
int use(struct __sk_buff *skb) { return skep_elsewhere(skb->len); }

LICENSE("Dual MIT/GPL");

// Why: a section name that no table knows, not marked optional: opening must work; loading needs a type from the user.
#include "skep_bpf.h"

SEC("skep/who_knows")
int mystery(struct xdp_md *ctx) { return 2; }

SEC("xdp_old_style_name")
int old_style(struct xdp_md *ctx) { return 2; }

SEC("socket")
int known(struct __sk_buff *skb) { return 0; }

LICENSE("Dual MIT/GPL");

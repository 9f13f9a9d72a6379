// Why: a required kernel function that no kernel has; the load must fail and say its name.
#include "skep_bpf.h"

extern int skep_no_such_kfunc(int v) __ksym;

SEC("tc")
int needs_it(struct __sk_buff *skb) { return skep_no_such_kfunc(1); }

LICENSE("Dual MIT/GPL");

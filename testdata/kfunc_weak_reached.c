// Why: an optional kernel function that is missing and yet called; the verifier stops there and the error should name it.
#include "skep_bpf.h"

extern int skep_no_such_kfunc(int v) __ksym __weak;

SEC("tc")
int calls_it(struct __sk_buff *skb) { return skep_no_such_kfunc(1); }

LICENSE("Dual MIT/GPL");

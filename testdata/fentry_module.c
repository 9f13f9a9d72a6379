// Why: trampolines at a function of a module: named with the module, without it, with another module's name, and with
// what a module's name begins with, which is no module's name.
#include "skep_bpf.h"

u64 named, found;

SEC("fentry/nf_conntrack:nf_conntrack_find_get")
int on_named(u64 *ctx) { __sync_fetch_and_add(&named, 1); return 0; }

SEC("fentry/nf_conntrack_find_get")
int on_found(u64 *ctx) { __sync_fetch_and_add(&found, 1); return 0; }

SEC("?fentry/fou:nf_conntrack_find_get")
int on_other(u64 *ctx) { return 0; }

SEC("?fentry/nf_conn:nf_conntrack_find_get")
int on_prefix(u64 *ctx) { return 0; }

SEC("?fentry/vmlinux:nf_conntrack_find_get")
int on_kernel(u64 *ctx) { return 0; }

LICENSE("GPL");

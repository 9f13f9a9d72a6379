// Why: one type of each kind that kernels learnt over time, so that each can be missing by itself.
#include "skep_bpf.h"

enum wide { WIDE = 1ULL << 40 };
enum signed_small { BELOW = -1, ABOVE = 1 };

int initialised = 7;
const volatile u32 constant = 3;
u64 zeroed;
float ratio;
enum wide wide;
enum signed_small below;
int __tag("declared") tagged;
int __type_tag("user") *typed;
// No data section: its name is one that only declares something optional.
int optional SEC("?.data.optional") = 5;

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16);
	__type(key, u32);
	__type(value, u64);
} counts SEC(".maps");

__noinline int twice(int x)
{
	opaque(x);
	return 2 * x;
}

SEC("xdp")
int kinds(struct xdp_md *ctx)
{
	u32 key = ctx->ingress_ifindex;

	zeroed += constant + initialised;
	return bpf_map_lookup_elem(&counts, &key) ? twice(zeroed) : XDP_PASS;
}

LICENSE("GPL");

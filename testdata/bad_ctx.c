// Why: refused by the verifier: context accesses that the program type does not allow, and a packet read past its check.
#include "skep_bpf.h"

SEC("xdp")
int far_outside(struct xdp_md *ctx) { return *(u32 *)((u8 *)ctx + 200); }

SEC("xdp")
int writes_data(struct xdp_md *ctx) { ctx->data = 0; return 2; }

SEC("xdp")
int unchecked_packet(struct xdp_md *ctx)
{
	u8 *data = (u8 *)(long)ctx->data;

	return data[0];
}

LICENSE("Dual MIT/GPL");

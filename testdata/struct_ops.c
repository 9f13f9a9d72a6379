// Why: a table of programs that becomes kernel functions: a congestion control, as a plain and as a link table.
#include "kernel_types.h"

struct rate_sample;
struct tcp_congestion_ops {
	u32 (*ssthresh)(struct sock *sk);
	void (*cong_avoid)(struct sock *sk, u32 ack, u32 acked);
	u32 (*undo_cwnd)(struct sock *sk);
	char name[16];
	u32 flags;
} core_relocatable;

SEC("struct_ops/ssthresh")
int skep_ssthresh(u64 *ctx) { return 2; }

SEC("struct_ops")
int skep_cong_avoid(u64 *ctx) { return 0; }

SEC("struct_ops")
int skep_undo_cwnd(u64 *ctx) { return 10; }

SEC(".struct_ops")
struct tcp_congestion_ops skep_plain = {
	.ssthresh = (void *)skep_ssthresh, .cong_avoid = (void *)skep_cong_avoid, .undo_cwnd = (void *)skep_undo_cwnd, .name = "skep_plain",
};

SEC(".struct_ops.link")
struct tcp_congestion_ops skep_linked = {
	.ssthresh = (void *)skep_ssthresh, .cong_avoid = (void *)skep_cong_avoid, .undo_cwnd = (void *)skep_undo_cwnd, .name = "skep_linked",
};

LICENSE("Dual MIT/GPL");

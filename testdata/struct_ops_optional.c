// Why: a flavour of a table with members that no kernel has and that stay zero, and a table that is not created unless
// asked for, so that the program which only it names is left out of the load.
#include "kernel_types.h"

struct tcp_congestion_ops___wider {
	u32 (*ssthresh)(struct sock *sk);
	void (*cong_avoid)(struct sock *sk, u32 ack, u32 acked);
	u32 (*undo_cwnd)(struct sock *sk);
	void (*skep_future)(struct sock *sk);
	u64 skep_future_number;
	char name[16];
} core_relocatable;

SEC("struct_ops")
int wider_ssthresh(u64 *ctx) { return 2; }
SEC("struct_ops")
int wider_cong_avoid(u64 *ctx) { return 0; }
SEC("struct_ops")
int wider_undo_cwnd(u64 *ctx) { return 10; }
SEC("?struct_ops")
int unused_table_program(u64 *ctx) { return 10; }

SEC(".struct_ops.link")
struct tcp_congestion_ops___wider skep_wider = {
	.ssthresh = (void *)wider_ssthresh, .cong_avoid = (void *)wider_cong_avoid, .undo_cwnd = (void *)wider_undo_cwnd, .name = "skep_wider",
};

SEC("?.struct_ops.link")
struct tcp_congestion_ops___wider skep_optional = {
	.ssthresh = (void *)unused_table_program, .cong_avoid = (void *)wider_cong_avoid, .undo_cwnd = (void *)wider_undo_cwnd, .name = "skep_optional",
};

LICENSE("Dual MIT/GPL");

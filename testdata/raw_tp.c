// Why: raw tracepoints under both spellings, the writable and the bare form; arguments are plain numbers.
#include "skep_bpf.h"

struct { __uint(type, 1); __uint(max_entries, 512); __type(key, u64); __type(value, u64); } calls SEC(".maps");

SEC("raw_tp/sys_enter")
int on_enter(struct bpf_raw_tracepoint_args *ctx)
{
	u64 number = ctx->args[1], one = 1, *count = bpf_map_lookup_elem(&calls, &number);

	if (count)
		__sync_fetch_and_add(count, 1);
	else
		bpf_map_update_elem(&calls, &number, &one, 1);
	return 0;
}

SEC("raw_tracepoint/sched_switch")
int on_switch(struct bpf_raw_tracepoint_args *ctx)
{
	u64 key = ctx->args[0] ? 1 : 2;

	return bpf_map_delete_elem(&calls, &key) ? 1 : 0;
}

SEC("raw_tp.w/bpf_test_finish")
int on_test_finish(struct bpf_raw_tracepoint_args *ctx) { return ctx->args[0] != 0; }

SEC("raw_tp")
int no_name(struct bpf_raw_tracepoint_args *ctx) { return 0; }

LICENSE("Dual MIT/GPL");

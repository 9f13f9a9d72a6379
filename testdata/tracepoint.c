// Why: classic tracepoints with their context read by fixed offsets, and a perf event array sized by the loader.
#include "skep_bpf.h"

struct { __uint(type, 4); __uint(key_size, 4); __uint(value_size, 4); } events SEC(".maps");
struct exec_args { u64 common; u32 filename_loc; s32 pid, old_pid; };
struct enter_args { u64 common; s64 number; u64 args[6]; };

SEC("tracepoint/sched/sched_process_exec")
int on_exec(struct exec_args *ctx)
{
	s32 pids[2] = { ctx->pid, ctx->old_pid };

	bpf_perf_event_output(ctx, &events, 0xffffffff, pids, sizeof(pids));
	return 0;
}

SEC("tp/syscalls/sys_enter_getpid")
int on_getpid(struct enter_args *ctx)
{
	s64 number = ctx->number;

	bpf_perf_event_output(ctx, &events, 0xffffffff, &number, sizeof(number));
	return 0;
}

LICENSE("Dual MIT/GPL");

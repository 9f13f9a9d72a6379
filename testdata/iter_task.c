// Why: iterators (their target is bpf_iter_NAME); one writes a record for each task to the seq file.
#include "kernel_types.h"

struct row { s32 pid, tgid; char comm[16]; };

SEC("iter/task")
int list_tasks(struct bpf_iter__task *ctx)
{
	struct task_struct *task = ctx->task;
	struct row row = {};

	if (!task)
		return 0;
	row.pid = task->pid;
	row.tgid = task->tgid;
	bpf_probe_read_kernel_str(row.comm, sizeof(row.comm), task->comm);
	bpf_seq_write(ctx->meta->seq, &row, sizeof(row));
	return 0;
}

SEC("iter.s/task")
int list_slowly(struct bpf_iter__task *ctx) { return ctx->task ? 0 : 1; }

LICENSE("Dual MIT/GPL");

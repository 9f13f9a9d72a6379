// Why: relocated loads whose width is adjusted to the kernel's field, and one (signed) that may not be and is poisoned.
#include "kernel_types.h"

struct task_struct___wide { u64 flags; u64 start_time; void *mm; } core_relocatable;
struct task_struct___narrow { u8 flags; u16 start_time; } core_relocatable;
struct task_struct___signed { s64 exit_code; } core_relocatable;
struct sock___wide { u64 sk_protocol; u64 sk_type; } core_relocatable;

u64 out[8];

SEC("tp_btf/sched_process_exec")
int widened(u64 *ctx)
{
	struct task_struct___wide *task = (void *)ctx[0];

	out[0] = task->flags;
	out[1] = task->start_time;
	out[2] = task->mm != NULL;
	return 0;
}

SEC("tp_btf/sched_process_exec")
int narrowed(u64 *ctx)
{
	struct task_struct___narrow *task = (void *)ctx[0];

	out[0] = task->flags;
	out[1] = task->start_time;
	return 0;
}

SEC("?tp_btf/sched_process_exec")
int signed_wide(u64 *ctx)
{
	struct task_struct___signed *task = (void *)ctx[0];

	out[0] = task->exit_code;
	return 0;
}

SEC("tp_btf/inet_sock_set_state")
int sock_fields(u64 *ctx)
{
	struct sock___wide *sk = (void *)ctx[0];

	out[0] = sk->sk_protocol;
	out[1] = sk->sk_type;
	return 0;
}

SEC("tp_btf/sched_process_exec")
int bitfields(u64 *ctx)
{
	struct task_struct *task = (void *)ctx[0];

	out[0] = task->in_execve;
	out[1] = task->sched_reset_on_fork;
	out[2] = task->comm[3];
	out[3] = task->children.next != NULL;
	return 0;
}

LICENSE("Dual MIT/GPL");

// Streams program executions on the machine through a ring buffer: each is a record of its own, which wakes the reader when
// it waits.
//
// Where the reader is too slow the ring fills, and what does not fit is counted in `lost`. Needs Linux 5.8 and kernel BTF.
#include "kernel_types.h"

struct execution {
	u64 at_ns; // since boot
	s32 pid;
	s32 parent_pid;
	u32 uid;
	u32 padding;
	char comm[16];
	char filename[128];
};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 256 << 10); // bytes
} executions SEC(".maps");

u64 lost;

// The arguments of the tracepoint: the task, its pid before, and what is being executed.
SEC("tp_btf/sched_process_exec")
int stream_exec(u64 *ctx)
{
	struct task_struct *task = (struct task_struct *)ctx[0];
	struct linux_binprm *binary = (struct linux_binprm *)ctx[2];
	struct execution *execution = bpf_ringbuf_reserve(&executions, sizeof(*execution), 0);

	if (!execution) {
		__sync_fetch_and_add(&lost, 1);
		return 0;
	}
	execution->at_ns = bpf_ktime_get_ns();
	execution->pid = task->tgid;
	execution->parent_pid = task->real_parent->tgid;
	execution->uid = bpf_get_current_uid_gid();
	execution->padding = 0;
	bpf_probe_read_kernel_str(execution->comm, sizeof(execution->comm), task->comm);
	bpf_probe_read_kernel_str(execution->filename, sizeof(execution->filename), binary->filename);
	bpf_ringbuf_submit(execution, 0);
	return 0;
}

LICENSE("Dual MIT/GPL");

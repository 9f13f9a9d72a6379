// Remembers the latest program executions on the machine: who ran what, and who started them.
//
// Every field is read through a compile-once relocation: the object holds only names and types, and the loader puts in the
// offsets of the kernel at hand. So one object works on many kernels
// (from 5.12 on, where an atomic addition can return what was there before).
//
// The loader reads `recent` (a ring of the last RECENT executions; the newest is at (executions - 1) % RECENT) and `by_name`
// (how often each command was executed).
#include "kernel_types.h"

#define RECENT 64

struct execution {
	u64 at_ns; // since boot
	s32 pid;
	s32 tgid;
	s32 parent_tgid;
	u32 uid;
	char comm[16];
	char filename[128];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, RECENT);
	__type(key, u32);
	__type(value, struct execution);
} recent SEC(".maps");

struct command {
	char comm[16];
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH); // when full, what was not used for long makes room
	__uint(max_entries, 1024);
	__type(key, struct command);
	__type(value, u64);
} by_name SEC(".maps");

// Only executions by this user are counted; the default is everybody.
const volatile u32 only_uid = 0xffffffff;

u64 executions;
u64 ignored;

// The arguments of the tracepoint: the task, its pid before, and what is being executed.
SEC("tp_btf/sched_process_exec")
int watch_exec(u64 *ctx)
{
	struct task_struct *task = (struct task_struct *)ctx[0];
	struct linux_binprm *binary = (struct linux_binprm *)ctx[2];
	u32 uid = bpf_get_current_uid_gid();
	struct command command = {};
	struct execution *slot;
	u64 one = 1, *times;
	u32 index;

	if (only_uid != 0xffffffff && uid != only_uid) {
		__sync_fetch_and_add(&ignored, 1);
		return 0;
	}
	index = __sync_fetch_and_add(&executions, 1) % RECENT;
	slot = bpf_map_lookup_elem(&recent, &index);
	if (!slot)
		return 0;

	slot->at_ns = bpf_ktime_get_ns();
	slot->pid = task->pid;
	slot->tgid = task->tgid;
	slot->parent_tgid = task->real_parent->tgid;
	slot->uid = uid;
	bpf_probe_read_kernel_str(slot->comm, sizeof(slot->comm), task->comm);
	bpf_probe_read_kernel_str(slot->filename, sizeof(slot->filename), binary->filename);

	bpf_probe_read_kernel_str(command.comm, sizeof(command.comm), task->comm);
	times = bpf_map_lookup_elem(&by_name, &command);
	if (times)
		__sync_fetch_and_add(times, 1);
	else
		bpf_map_update_elem(&by_name, &command, &one, 0);
	return 0;
}

LICENSE("Dual MIT/GPL");

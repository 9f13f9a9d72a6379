// Why: a BTF tracepoint that reads task_struct both ways: relocated loads through trusted pointers, and copied reads.
#include "kernel_types.h"

struct event { s32 pid, tgid, parent; u32 uid; u64 started; char comm[16]; char filename[64]; };
struct { __uint(type, 27); __uint(max_entries, 65536); } events SEC(".maps");
struct { __uint(type, 1); __uint(max_entries, 128); __type(key, s32); __type(value, struct event); } last SEC(".maps");
struct event zero;
u64 seen;

SEC("tp_btf/sched_process_exec")
int on_exec(u64 *ctx)
{
	struct task_struct *task = (void *)ctx[0], *parent;
	struct linux_binprm *bprm = (void *)ctx[2];
	s32 key = task->pid;
	struct event *event;
	const char *name;

	__sync_fetch_and_add(&seen, 1);
	bpf_map_update_elem(&last, &key, &zero, 0);
	event = bpf_map_lookup_elem(&last, &key);
	if (!event)
		return 0;
	event->pid = key;
	event->tgid = task->tgid;
	event->parent = task->real_parent->tgid;
	event->started = task->start_time;
	core_read(&parent, task->parent);
	core_read(&event->uid, task->cred->uid.val);
	bpf_probe_read_kernel_str(event->comm, sizeof(event->comm), core(&task->comm));
	core_read(&name, bprm->filename);
	bpf_probe_read_kernel_str(event->filename, sizeof(event->filename), name);
	bpf_ringbuf_output(&events, event, sizeof(*event), 0);
	return 0;
}

SEC("tp_btf/sched_process_exit")
int on_exit(u64 *ctx)
{
	struct task_struct *task = (void *)ctx[0];
	s32 key = task->pid;

	if (task->group_leader->pid == key)
		bpf_map_delete_elem(&last, &key);
	return 0;
}

LICENSE("Dual MIT/GPL");

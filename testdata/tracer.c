// Why: a small but real tracing tool: four BTF tracepoints over task_struct and sock, a hash, a ring buffer, settings and
// counters. It is what time and calls of a whole load are measured with.
#include "kernel_types.h"

enum event_kind { EVENT_EXEC = 1, EVENT_EXIT, EVENT_TCP };
struct event {
	u64 at;
	u32 kind, pid, tgid, parent;
	union {
		struct { u32 uid, exit_code; u64 lived; } process;
		struct { be32 local, remote; u16 local_port, remote_port, family; u8 from, to; } tcp;
	};
	char comm[16];
};
struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 1 << 16); } events SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_LRU_HASH); __uint(max_entries, 4096); __type(key, u32); __type(value, u64); } started SEC(".maps");

const volatile u32 only_tgid = 0;
const volatile bool with_tcp = true;
u64 sent, lost, ignored;

static __noinline struct event *reserve(struct task_struct *task, u32 kind)
{
	struct event *event;

	if (only_tgid && task->tgid != only_tgid) {
		__sync_fetch_and_add(&ignored, 1);
		return NULL;
	}
	event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
	if (!event) {
		__sync_fetch_and_add(&lost, 1);
		return NULL;
	}
	event->at = bpf_ktime_get_ns();
	event->kind = kind;
	event->pid = task->pid;
	event->tgid = task->tgid;
	event->parent = task->real_parent->tgid;
	bpf_probe_read_kernel_str(event->comm, sizeof(event->comm), task->comm);
	return event;
}

__inline int submit(struct event *event)
{
	bpf_ringbuf_submit(event, 0);
	__sync_fetch_and_add(&sent, 1);
	return 0;
}

SEC("tp_btf/sched_process_exec")
int trace_exec(u64 *ctx)
{
	struct task_struct *task = (void *)ctx[0];
	struct event *event = reserve(task, EVENT_EXEC);

	if (!event)
		return 0;
	event->process.uid = task->cred->uid.val;
	event->process.exit_code = 0;
	event->process.lived = 0;
	return submit(event);
}

SEC("tp_btf/sched_process_exit")
int trace_exit(u64 *ctx)
{
	struct task_struct *task = (void *)ctx[0];
	struct event *event = reserve(task, EVENT_EXIT);
	u32 key = task->pid;

	bpf_map_delete_elem(&started, &key);
	if (!event)
		return 0;
	event->process.uid = task->cred->uid.val;
	event->process.exit_code = task->exit_code;
	event->process.lived = event->at - task->start_time;
	return submit(event);
}

SEC("tp_btf/task_newtask")
int trace_fork(u64 *ctx)
{
	struct task_struct *task = (void *)ctx[0];
	u32 key = task->pid;
	u64 now = bpf_ktime_get_ns();

	bpf_map_update_elem(&started, &key, &now, 0);
	return 0;
}

SEC("tp_btf/inet_sock_set_state")
int trace_tcp(u64 *ctx)
{
	struct sock *sk = (void *)ctx[0];
	struct event *event;

	if (!with_tcp || sk->sk_protocol != 6)
		return 0;
	event = reserve(bpf_get_current_task_btf(), EVENT_TCP);
	if (!event)
		return 0;
	event->tcp.local = sk->__sk_common.skc_rcv_saddr;
	event->tcp.remote = sk->__sk_common.skc_daddr;
	event->tcp.local_port = sk->__sk_common.skc_num;
	event->tcp.remote_port = sk->__sk_common.skc_dport;
	event->tcp.family = sk->__sk_common.skc_family;
	event->tcp.from = ctx[1];
	event->tcp.to = ctx[2];
	return submit(event);
}

LICENSE("Dual MIT/GPL");

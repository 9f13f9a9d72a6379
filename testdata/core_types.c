// Why: the type relocations (local id, target id, existence, size, match) over every kind of type that has a name.
#include "kernel_types.h"

struct skep_not_in_any_kernel { int x; };
struct task_struct___local { int pid; char comm[16]; };
struct list_head___wrong { int next; };
struct list_head___right { struct list_head *next, *prev; };
union bpf_iter_link_info { struct { u32 map_fd; } map; };
typedef struct { s32 counter; } atomic64_t___short;
typedef s32 pid_t___alias;
struct pt_regs;
typedef void (*btf_trace_sys_enter)(void *, struct pt_regs *, long);
enum pid_type { PIDTYPE_PID, PIDTYPE_TGID };
enum pid_type___more { PIDTYPE_SKEP };

u64 out[32];

SEC("socket")
int ids(struct __sk_buff *skb)
{
	out[0] = core_type_local(struct task_struct);
	out[1] = core_type_target(struct task_struct);
	out[2] = core_type_target(struct sock);
	out[3] = core_type_target(struct skep_not_in_any_kernel);
	out[4] = core_type_local(u64);
	return 0;
}

SEC("socket")
int existence(struct __sk_buff *skb)
{
	out[0] = core_type_exists(struct task_struct);
	out[1] = core_type_exists(struct skep_not_in_any_kernel);
	out[2] = core_type_exists(struct task_struct___local); // a flavour
	out[3] = core_type_exists(union bpf_iter_link_info);
	out[4] = core_type_exists(enum pid_type);
	out[5] = core_type_exists(pid_t___alias);
	out[6] = core_type_exists(btf_trace_sys_enter);
	return 0;
}

SEC("socket")
int sizes(struct __sk_buff *skb)
{
	out[0] = core_type_size(struct task_struct);
	out[1] = core_type_size(struct list_head);
	out[2] = core_type_size(struct skep_not_in_any_kernel);
	out[3] = core_type_size(enum pid_type);
	out[4] = core_type_size(atomic_t);
	out[5] = core_type_size(struct sk_buff);
	return 0;
}

SEC("socket")
int matches(struct __sk_buff *skb)
{
	out[0] = core_type_matches(struct list_head);
	out[1] = core_type_matches(struct list_head___right);
	out[2] = core_type_matches(struct list_head___wrong);
	out[3] = core_type_matches(struct task_struct___local);
	out[4] = core_type_matches(struct skep_not_in_any_kernel);
	out[5] = core_type_matches(enum pid_type);
	out[6] = core_type_matches(enum pid_type___more);
	out[7] = core_type_matches(atomic_t);
	return 0;
}

LICENSE("Dual MIT/GPL");

// Why: several local shapes of one kernel type; the shape that a kernel lacks stays behind a guard and is never reached.
#include "kernel_types.h"

struct task_struct___before_5_14 { volatile long state; } core_relocatable;
struct task_struct___later { u64 skep_future_field; struct { int deeper; } skep_future_struct; } core_relocatable;
struct task_struct___one___two { int pid; } core_relocatable; // its essential name is task_struct___one
struct sk_buff___ { u32 len; } core_relocatable; // three underscores at the end are part of the name

u64 state, future, doubled, trailing;

SEC("tp_btf/sched_process_exec")
int task_state(u64 *ctx)
{
	struct task_struct *task = (void *)ctx[0];

	if (core_exists(task->__state)) {
		state = task->__state;
	} else {
		struct task_struct___before_5_14 *old = (void *)task;

		state = old->state;
	}
	return 0;
}

SEC("tp_btf/sched_process_exec")
int not_yet(u64 *ctx)
{
	struct task_struct___later *task = (void *)ctx[0];

	if (core_exists(task->skep_future_field))
		future = task->skep_future_field;
	if (core_exists(task->skep_future_struct.deeper))
		core_read((int *)&future, task->skep_future_struct.deeper);
	return 0;
}

SEC("tp_btf/sched_process_exec")
int odd_names(u64 *ctx)
{
	doubled = core_exists(core_field(struct task_struct___one___two, pid));
	trailing = core_type_exists(struct sk_buff___);
	return 0;
}

LICENSE("Dual MIT/GPL");

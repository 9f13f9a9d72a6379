// Why: kernel functions: present ones, an optional one that no kernel has, a flavoured name, and an address comparison.
#include "kernel_types.h"

extern struct task_struct *bpf_task_acquire(struct task_struct *p) __ksym;
extern void bpf_task_release(struct task_struct *p) __ksym;
extern void bpf_rcu_read_lock(void) __ksym __weak;
extern void bpf_rcu_read_unlock(void) __ksym __weak;
extern void bpf_task_release___flavour(struct task_struct *p) __ksym;
extern int skep_no_such_kfunc(int v) __ksym __weak;

u64 pid, missing;

SEC("tp_btf/task_newtask")
int acquire(u64 *ctx)
{
	struct task_struct *task = bpf_task_acquire((void *)ctx[0]);

	if (task) {
		pid = task->pid;
		bpf_task_release(task);
	}
	task = bpf_task_acquire((void *)ctx[0]);
	if (task)
		bpf_task_release___flavour(task);
	return 0;
}

SEC("tp_btf/task_newtask")
int optional(u64 *ctx)
{
	if (skep_no_such_kfunc)
		missing = skep_no_such_kfunc(1);
	else
		missing = 99;
	if (bpf_rcu_read_lock) {
		bpf_rcu_read_lock();
		bpf_rcu_read_unlock();
	}
	return 0;
}

LICENSE("Dual MIT/GPL");

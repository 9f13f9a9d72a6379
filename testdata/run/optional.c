// Why: functions and variables of the kernel that may be missing, each behind the question whether it is there.
#include "skep_bpf.h"

struct rq { u32 nr_running; } core_relocatable;
extern void bpf_rcu_read_lock(void) __ksym __weak;
extern void bpf_rcu_read_unlock(void) __ksym __weak;
extern int skep_no_such_kfunc(int v) __ksym __weak;
extern const struct rq runqueues __ksym __weak;
extern const struct rq skep_no_such_typed __ksym __weak;
static void *(*const bpf_per_cpu_ptr)(const void *per_cpu, u32 cpu) = (void *)153;

u64 seen, place;

SEC("tc")
int functions(struct __sk_buff *skb)
{
	u32 found = 0;

	if (skep_no_such_kfunc)
		found |= skep_no_such_kfunc(1);
	else
		found |= 1;
	if (bpf_rcu_read_lock && bpf_rcu_read_unlock) {
		bpf_rcu_read_lock();
		bpf_rcu_read_unlock();
		found |= 2;
	}
	return found;
}

SEC("raw_tp/sys_enter")
int variables(void *ctx)
{
	seen = &skep_no_such_typed ? 0 : 1;
	if (&runqueues) {
		seen |= 2;
		place = (u64)bpf_per_cpu_ptr(&runqueues, 0);
	}
	return 0;
}

LICENSE("Dual MIT/GPL");

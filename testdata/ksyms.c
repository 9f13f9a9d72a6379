// Why: kernel variables: typed (per-CPU, from BTF), typeless (from kallsyms), and optional ones that do not exist.
#include "skep_bpf.h"

struct rq { u32 nr_running; } core_relocatable;
extern const struct rq runqueues __ksym;
extern const void vfs_read __ksym;
extern const void skep_no_such_symbol __ksym __weak;
extern const struct rq skep_no_such_typed __ksym __weak;
static void *(*const bpf_per_cpu_ptr)(const void *per_cpu, u32 cpu) = (void *)153;

u64 address, running, absent_address, absent_typed;

SEC("raw_tp/sys_enter")
int typed(void *ctx)
{
	const struct rq *rq = bpf_per_cpu_ptr(&runqueues, 0);

	if (rq)
		running = rq->nr_running;
	return 0;
}

SEC("raw_tp/sys_enter")
int typeless(void *ctx)
{
	address = (u64)&vfs_read;
	absent_address = (u64)&skep_no_such_symbol;
	absent_typed = &skep_no_such_typed ? 1 : 2;
	return 0;
}

LICENSE("Dual MIT/GPL");

// Why: what a kernel lacks, behind every kind of test that a verifier decides before it looks further, and behind tests
// that it does not decide.
#include "kernel_types.h"

struct task_struct___later { u64 skep_future; u64 skep_other_future; } core_relocatable;
struct skep_never { int field; } core_relocatable;

extern u32 LINUX_KERNEL_VERSION __kconfig;
extern bool CONFIG_SKEP_NEVER __kconfig __weak;
extern int skep_no_such_kfunc(int v) __ksym __weak;
extern const void skep_no_such_symbol __ksym __weak;

const volatile bool use_future = false;
bool changeable;
u64 out;


SEC("raw_tp/sys_enter")
int by_field(void *ctx)
{
	if (core_exists(core_field(struct task_struct___later, skep_future)))
		out = core_offset(core_field(struct task_struct___later, skep_future));
	return 0;
}

SEC("raw_tp/sys_enter")
int by_type_of_another(void *ctx)
{
	if (core_type_exists(struct skep_never))
		out = core_offset(core_field(struct task_struct___later, skep_future));
	return 0;
}

// The result is kept where the compiler does not see what it is: in a register, over calls.
SEC("raw_tp/sys_enter")
int by_kept_result(void *ctx)
{
	u64 there = core_exists(core_field(struct task_struct___later, skep_future));

	opaque(there);
	out = bpf_ktime_get_ns();
	if (there && bpf_get_prandom_u32() & 1)
		out = core_offset(core_field(struct task_struct___later, skep_future));
	return 0;
}

SEC("raw_tp/sys_enter")
int by_version(void *ctx)
{
	if (LINUX_KERNEL_VERSION >= 0x00ff0000)
		out = core_offset(core_field(struct task_struct___later, skep_future));
	return 0;
}

SEC("raw_tp/sys_enter")
int by_config(void *ctx)
{
	if (CONFIG_SKEP_NEVER)
		out = core_offset(core_field(struct task_struct___later, skep_future));
	return 0;
}

SEC("raw_tp/sys_enter")
int by_constant(void *ctx)
{
	if (use_future)
		out = core_offset(core_field(struct task_struct___later, skep_future));
	return 0;
}

SEC("tc")
int by_kfunc(struct __sk_buff *skb)
{
	if (skep_no_such_kfunc)
		return skep_no_such_kfunc(1);
	return 0;
}

SEC("raw_tp/sys_enter")
int by_symbol(void *ctx)
{
	if (&skep_no_such_symbol)
		out = core_offset(core_field(struct task_struct___later, skep_future));
	return 0;
}

static __noinline u64 choose(u64 there)
{
	if (there)
		return core_offset(core_field(struct task_struct___later, skep_future));
	return 1;
}

SEC("raw_tp/sys_enter")
int by_argument(void *ctx)
{
	u64 there = core_exists(core_field(struct task_struct___later, skep_future));

	opaque(there);
	out = choose(there);
	return 0;
}

static __noinline u64 is_there(void)
{
	u64 there = core_exists(core_field(struct task_struct___later, skep_future));

	opaque(there);
	return there;
}

SEC("raw_tp/sys_enter")
int by_result(void *ctx)
{
	if (is_there())
		out = core_offset(core_field(struct task_struct___later, skep_future));
	return 0;
}

static long in_callback(u32 index, void *ctx)
{
	if (core_exists(core_field(struct task_struct___later, skep_future)))
		out = core_offset(core_field(struct task_struct___later, skep_future));
	return 0;
}

SEC("raw_tp/sys_enter")
int in_guarded_callback(void *ctx)
{
	bpf_loop(4, in_callback, NULL, 0);
	return 0;
}

// None of these is decided before the program runs, so the verifier looks at both sides.
SEC("raw_tp/sys_enter")
int by_variable(void *ctx)
{
	if (changeable)
		out = core_offset(core_field(struct task_struct___later, skep_future));
	return 0;
}

SEC("raw_tp/sys_enter")
int by_chance(void *ctx)
{
	if (bpf_get_prandom_u32() == 7)
		out = core_offset(core_field(struct task_struct___later, skep_future));
	return 0;
}

SEC("raw_tp/sys_enter")
int the_wrong_way(void *ctx)
{
	if (!core_exists(core_field(struct task_struct___later, skep_future)))
		out = core_offset(core_field(struct task_struct___later, skep_other_future));
	return 0;
}

static long in_reached_callback(u32 index, void *ctx)
{
	out = core_offset(core_field(struct task_struct___later, skep_future));
	return 0;
}

SEC("raw_tp/sys_enter")
int in_callback_of_loop(void *ctx)
{
	bpf_loop(4, in_reached_callback, NULL, 0);
	return 0;
}

SEC("raw_tp/sys_enter")
int two_of_them(void *ctx)
{
	struct task_struct___later *task = (void *)bpf_get_current_task();

	core_read(&out, task->skep_future);
	core_read(&out, task->skep_other_future);
	return 0;
}

LICENSE("Dual MIT/GPL");

// Why: programs of every kind of tracing that note what a thread does: it opens a file, sends a signal, calls a function, executes a program.
#include "skep_bpf.h"

static long (*const bpf_probe_read_user_str)(void *to, u32 size, const void *from) = (void *)114;

// What one run saw.
struct record { s64 numbers[4]; char text[32]; };
struct record seen[16];
u32 count;
// Which program noted it, where two share this memory.
u32 by[16];
const volatile u32 me;
// Only what this thread does is noted.
u32 thread;

// The next record to fill, if it is the thread that runs.
__inline struct record *next(void)
{
	u32 at = count;

	if ((u32)bpf_get_current_pid_tgid() != thread || at >= 16)
		return NULL;
	count = at + 1;
	by[at] = me;
	return &seen[at];
}

// Registers, as the kernel keeps them on x86-64.
struct pt_regs { u64 r15, r14, r13, r12, bp, bx, r11, r10, r9, r8, ax, cx, dx, si, di, orig_ax, ip, cs, flags, sp, ss; };

__inline int opened(s64 dfd, const char *path)
{
	struct record *record = next();

	if (!record)
		return 0;
	record->numbers[0] = dfd;
	bpf_probe_read_user_str(record->text, sizeof(record->text), path);
	return 0;
}

__inline int number(s64 value)
{
	struct record *record = next();

	if (record)
		record->numbers[0] = value;
	return 0;
}

SEC("kprobe/do_sys_openat2")
int kprobe_open(struct pt_regs *regs)
{
	return opened((s32)regs->di, (const char *)regs->si);
}

SEC("kretprobe/do_sys_openat2")
int kretprobe_open(struct pt_regs *regs)
{
	return number((s32)regs->ax);
}

SEC("fentry/do_sys_openat2")
int fentry_open(u64 *args)
{
	return opened((s32)args[0], (const char *)args[1]);
}

SEC("fexit/do_sys_openat2")
int fexit_open(u64 *args)
{
	return number((s32)args[3]);
}

struct sys_enter { u64 common; u64 nr; s64 args[6]; };

SEC("tracepoint/syscalls/sys_enter_openat")
int tracepoint_open(struct sys_enter *event)
{
	return opened((s32)event->args[0], (const char *)event->args[1]);
}

SEC("tracepoint/syscalls/sys_exit_openat")
int tracepoint_opened(struct sys_enter *event)
{
	return number(event->args[0]);
}

#define OPENAT 257

SEC("raw_tp/sys_enter")
int raw_tp_open(struct bpf_raw_tracepoint_args *event)
{
	struct pt_regs *regs = (void *)event->args[0];
	u64 dfd = 0, path = 0;

	if (event->args[1] != OPENAT)
		return 0;
	bpf_probe_read_kernel(&dfd, sizeof(dfd), &regs->di);
	bpf_probe_read_kernel(&path, sizeof(path), &regs->si);
	return opened((s32)dfd, (const char *)path);
}

SEC("tp_btf/sys_enter")
int tp_btf_open(u64 *args)
{
	struct pt_regs *regs = (void *)args[0];

	return args[1] == OPENAT ? opened((s32)regs->di, (const char *)regs->si) : 0;
}

__inline int signalled(s64 signal, s64 code, s64 group, s64 result)
{
	struct record *record = next();

	if (!record)
		return 0;
	record->numbers[0] = signal;
	record->numbers[1] = code;
	record->numbers[2] = group;
	record->numbers[3] = result;
	return 0;
}

SEC("raw_tp/signal_generate")
int raw_tp_signal(struct bpf_raw_tracepoint_args *event)
{
	return signalled((s32)event->args[0], 0, (s32)event->args[3], (s32)event->args[4]);
}

SEC("tp_btf/signal_generate")
int tp_btf_signal(u64 *args)
{
	return signalled((s32)args[0], 0, (s32)args[3], (s32)args[4]);
}

struct signal_generate { u64 common; s32 sig, err, code; char comm[16]; s32 pid, group, result; };

SEC("tracepoint/signal/signal_generate")
int tracepoint_signal(struct signal_generate *event)
{
	return signalled(event->sig, event->code, event->group, event->result);
}

SEC("fmod_ret/security_task_kill")
int fmod_ret_kill(u64 *args)
{
	if ((u32)bpf_get_current_pid_tgid() != thread)
		return 0;
	signalled((s32)args[2], 0, 0, (s32)args[4]);
	return -1;
}

SEC("lsm/task_kill")
int lsm_kill(u64 *args)
{
	if ((u32)bpf_get_current_pid_tgid() != thread)
		return 0;
	signalled((s32)args[2], 0, 0, (s32)args[4]);
	return -1;
}

SEC("uprobe")
int uprobe_call(struct pt_regs *regs)
{
	return number((s64)regs->di);
}

SEC("uretprobe")
int uretprobe_call(struct pt_regs *regs)
{
	return number((s64)regs->ax);
}

struct sched_process_exec { u64 common; u32 filename; s32 pid, old_pid; };

// Of any thread: a child executes.
SEC("tracepoint/sched/sched_process_exec")
int tracepoint_exec(struct sched_process_exec *event)
{
	const char expected[] = "/tmp/skep-events";
	struct record *record;
	char text[32] = "";
	u32 at;

	bpf_probe_read_kernel_str(text, sizeof(text), (void *)event + (event->filename & 0xffff));
	for (at = 0; at < sizeof(expected) - 1; at++)
		if (text[at] != expected[at])
			return 0;
	at = count;
	if (at >= 16)
		return 0;
	count = at + 1;
	by[at] = me;
	record = &seen[at];
	record->numbers[0] = event->pid == event->old_pid;
	__builtin_memcpy(record->text, text, sizeof(text));
	return 0;
}

LICENSE("GPL");

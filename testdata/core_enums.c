// Why: enumerator relocations: existence and value, negative, 64-bit, flavoured, and missing ones behind a guard.
#include "kernel_types.h"

enum bpf_prog_type { BPF_PROG_TYPE_UNSPEC = 100, BPF_PROG_TYPE_XDP = 101, BPF_PROG_TYPE_SYSCALL = 102 };
enum perf_event_state { PERF_EVENT_STATE_DEAD = -1, PERF_EVENT_STATE_OFF = -2, PERF_EVENT_STATE_ACTIVE = 3 };
enum perf_callchain_context { PERF_CONTEXT_HV = 1ULL << 40, PERF_CONTEXT_KERNEL = 2 };
enum hrtimer_mode___other { HRTIMER_MODE_PINNED___other = 77, HRTIMER_MODE_SKEP = 78 };
enum skep_no_such_enum { SKEP_NOTHING = 1 };

u64 out[32];

SEC("socket")
int existence(struct __sk_buff *skb)
{
	out[0] = core_enum_exists(enum bpf_prog_type, BPF_PROG_TYPE_XDP);
	out[1] = core_enum_exists(enum bpf_prog_type, BPF_PROG_TYPE_SYSCALL); // from 5.14 on
	out[2] = core_enum_exists(enum skep_no_such_enum, SKEP_NOTHING);
	out[3] = core_enum_exists(enum hrtimer_mode___other, HRTIMER_MODE_SKEP);
	out[4] = core_enum_exists(enum perf_callchain_context, PERF_CONTEXT_HV);
	return 0;
}

SEC("socket")
int values(struct __sk_buff *skb)
{
	out[0] = core_enum_value(enum bpf_prog_type, BPF_PROG_TYPE_XDP);
	out[1] = core_enum_value(enum perf_event_state, PERF_EVENT_STATE_DEAD);
	out[2] = core_enum_value(enum perf_event_state, PERF_EVENT_STATE_OFF);
	out[3] = core_enum_value(enum perf_callchain_context, PERF_CONTEXT_HV);
	out[4] = core_enum_value(enum hrtimer_mode___other, HRTIMER_MODE_PINNED___other);
	return 0;
}

SEC("socket")
int guarded(struct __sk_buff *skb)
{
	out[0] = core_enum_exists(enum skep_no_such_enum, SKEP_NOTHING) ? core_enum_value(enum skep_no_such_enum, SKEP_NOTHING) : 40;
	out[1] = core_enum_exists(enum bpf_prog_type, BPF_PROG_TYPE_SYSCALL) ? core_enum_value(enum bpf_prog_type, BPF_PROG_TYPE_SYSCALL) : 41;
	return 0;
}

LICENSE("Dual MIT/GPL");

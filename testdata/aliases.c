// Why: another name of a program is a program, with the same references and records.
#include "kernel_types.h"

struct { __uint(type, 1); __uint(max_entries, 8); __type(key, u32); __type(value, u64); } seen SEC(".maps");

__noinline u64 twice(u64 value)
{
	opaque(value);
	return value * 2;
}

SEC("socket")
int count(struct __sk_buff *skb)
{
	u32 key = 0;
	u64 one = twice(core_exists(core_field(struct task_struct, pid)));

	bpf_map_update_elem(&seen, &key, &one, 0);
	return one;
}

int count_too(struct __sk_buff *skb) __attribute__((alias("count")));

LICENSE("Dual MIT/GPL");

// Why: a perf event program with a stack trace map: the map kind that takes no key or value type.
#include "skep_bpf.h"

struct { __uint(type, 7); __uint(max_entries, 128); __uint(key_size, 4); __uint(value_size, 127 * 8); } stacks SEC(".maps");
struct { __uint(type, 5); __uint(max_entries, 256); __type(key, u32); __type(value, u64); } samples SEC(".maps");
static long (*const bpf_get_stackid)(void *ctx, void *map, u64 flags) = (void *)27;

SEC("perf_event")
int sample(void *ctx)
{
	u32 stack = bpf_get_stackid(ctx, &stacks, 0);
	u64 one = 1, *count = bpf_map_lookup_elem(&samples, &stack);

	if (count)
		*count += 1;
	else
		bpf_map_update_elem(&samples, &stack, &one, 1);
	return 0;
}

LICENSE("Dual MIT/GPL");

// Why: a record that stays unfinished for a while, with a finished one behind it.
#include "../skep_bpf.h"

struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 4096); } ring SEC(".maps");

static long wait(u32 index, void *ctx)
{
	return 0;
}

SEC("xdp")
int slow(struct xdp_md *ctx)
{
	u64 second = 2, *first = bpf_ringbuf_reserve(&ring, 8, 0);
	if (!first)
		return 28;
	*first = 1;
	bpf_ringbuf_output(&ring, &second, 8, 0);
	bpf_loop(1 << 23, wait, NULL, 0);
	bpf_ringbuf_submit(first, 0);
	return 0;
}

LICENSE("Dual MIT/GPL");

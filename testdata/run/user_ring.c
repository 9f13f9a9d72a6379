// Why: takes the samples of a user ring buffer, and remembers the first word of each and how many there were.
#include "../skep_bpf.h"

struct { __uint(type, 31); __uint(max_entries, 4096); } samples SEC(".maps");

struct { __uint(type, 2); __uint(max_entries, 1024); __type(key, u32); __type(value, u64); } words SEC(".maps");

struct request { u64 flags, most; };

u64 taken; // in all
u64 most; // in one call
long answer;

static long take(void *sample, void *ctx)
{
	u64 word = 0;
	u32 slot = taken & 1023;

	// Shorter ones are told by this.
	if (bpf_dynptr_read(&word, sizeof(word), sample, 0, 0))
		word = ~0ull;
	bpf_map_update_elem(&words, &slot, &word, 0);
	taken++;
	return ++*(u64 *)ctx >= most;
}

SEC("xdp")
int drain(struct xdp_md *ctx)
{
	struct request *request = (struct request *)(long)ctx->data;
	u64 count = 0;

	if ((void *)(request + 1) > (void *)(long)ctx->data_end)
		return 22;
	most = request->most;
	answer = bpf_user_ringbuf_drain(&samples, take, &count, request->flags);
	return answer < 0 ? -answer : 0;
}

LICENSE("Dual MIT/GPL");

// Why: writes records into a ring buffer by request: the packet that the program is run on says what to do.
#include "../skep_bpf.h"

struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 4096); } ring SEC(".maps");

struct scratch { u64 words[2048]; };
struct { __uint(type, 2); __uint(max_entries, 1); __type(key, u32); __type(value, struct scratch); } scratch SEC(".maps");

struct request { u32 what, size; u64 flags, words[3]; };
enum { OUTPUT, NUMBERED, SUBMIT, DISCARD, QUERY };

// The number of the next numbered record, and how many of those did not fit.
u64 next_number, dropped;
u64 answer;

SEC("xdp")
int produce(struct xdp_md *ctx)
{
	struct request *request = (struct request *)(long)ctx->data;
	struct scratch *bytes;
	u64 *record;
	u32 zero = 0;
	long result = 0;

	if ((void *)(request + 1) > (void *)(long)ctx->data_end)
		return 22;
	bytes = bpf_map_lookup_elem(&scratch, &zero);
	if (!bytes)
		return 14;
	switch (request->what) {
	case OUTPUT:
		result = bpf_ringbuf_output(&ring, bytes, request->size & 16383, request->flags);
		break;
	case NUMBERED:
		bytes->words[0] = next_number++;
		result = bpf_ringbuf_output(&ring, bytes, request->size & 16383, request->flags);
		if (result)
			dropped++;
		break;
	case SUBMIT:
	case DISCARD:
		record = bpf_ringbuf_reserve(&ring, 24, 0);
		if (!record)
			return 28;
		record[0] = request->words[0];
		record[1] = request->words[1];
		record[2] = request->words[2];
		if (request->what == SUBMIT)
			bpf_ringbuf_submit(record, request->flags);
		else
			bpf_ringbuf_discard(record, request->flags);
		break;
	case QUERY:
		answer = bpf_ringbuf_query(&ring, request->flags);
		break;
	}
	return -result;
}

LICENSE("Dual MIT/GPL");

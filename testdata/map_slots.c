// Why: elements that a definition initialises, and programs that find them: maps in arrays by their index, in hash tables by
// the index as key, some of them in both, and programs by tail calls; the rest of the elements stay empty.
#include "skep_bpf.h"

struct counters { __uint(type, 2); __uint(max_entries, 1); __type(key, u32); __type(value, u64); };
struct counters first SEC(".maps"), second SEC(".maps"), third SEC(".maps");

struct {
	__uint(type, 12);
	__uint(max_entries, 6);
	__type(key, u32);
	__array(values, struct counters);
} by_index SEC(".maps") = { .values = { [1] = &first, [4] = &second, [5] = &first } };

struct {
	__uint(type, 13);
	__uint(max_entries, 6);
	__type(key, u32);
	__array(values, struct counters);
} by_key SEC(".maps") = { .values = { [0] = &second, [3] = &third } };

int last(struct __sk_buff *skb);
int next(struct __sk_buff *skb);
struct {
	__uint(type, 3);
	__uint(max_entries, 4);
	__uint(key_size, 4);
	__array(values, int(struct __sk_buff *));
} steps SEC(".maps") = { .values = { [1] = &next, [3] = &last } };


SEC("socket")
int last(struct __sk_buff *skb) { return 33; }

SEC("socket")
int next(struct __sk_buff *skb)
{
	bpf_tail_call(skb, &steps, 3);
	return 1;
}

// Counts in the maps of all elements; the low eight bits say in which of by_index, the next in which of by_key.
SEC("socket")
int visit(struct __sk_buff *skb)
{
	int found = 0;

	for (u32 slot = 0; slot < 6; slot++) {
		u32 at = slot, zero = 0;
		void *inner = bpf_map_lookup_elem(&by_index, &at);
		u64 *counter = inner ? bpf_map_lookup_elem(inner, &zero) : NULL;

		if (counter) {
			*counter += 1;
			found |= 1 << slot;
		}
		inner = bpf_map_lookup_elem(&by_key, &at);
		counter = inner ? bpf_map_lookup_elem(inner, &zero) : NULL;
		if (counter) {
			*counter += 1;
			found |= 1 << (slot + 8);
		}
	}
	return found;
}

// Jumps to the second step, which jumps to the last one.
SEC("socket")
int jump(struct __sk_buff *skb)
{
	bpf_tail_call(skb, &steps, 0);
	bpf_tail_call(skb, &steps, 1);
	return 0;
}

LICENSE("GPL");

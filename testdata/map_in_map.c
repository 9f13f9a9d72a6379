// Why: inner map definitions, slots filled at load from initialisers (maps and programs), and both ways to spell them.
#include "skep_bpf.h"

struct inner { __uint(type, 2); __uint(max_entries, 1); __type(key, u32); __type(value, u64); };
struct inner first_inner SEC(".maps"), second_inner SEC(".maps");

struct {
	__uint(type, 12);
	__uint(max_entries, 4);
	__type(key, u32);
	__array(values, struct inner);
} outer_array SEC(".maps") = { .values = { [0] = &first_inner, [2] = &second_inner } };

struct {
	__uint(type, 13);
	__uint(max_entries, 4);
	__type(key, u32);
	__array(values, struct { __uint(type, 1); __uint(max_entries, 8); __uint(key_size, 4); __uint(value_size, 4); });
} outer_hash SEC(".maps");

int on_tail(struct __sk_buff *skb);
int on_other_tail(struct __sk_buff *skb);
struct {
	__uint(type, 3);
	__uint(max_entries, 5);
	__uint(key_size, 4);
	__array(values, int(struct __sk_buff *));
} jumps SEC(".maps") = { .values = { [1] = &on_tail, [4] = &on_other_tail } };
struct { __uint(type, 3); __uint(max_entries, 2); __uint(key_size, 4); __uint(value_size, 4); } empty_jumps SEC(".maps");

SEC("socket")
int on_tail(struct __sk_buff *skb) { return 11; }
SEC("socket")
int on_other_tail(struct __sk_buff *skb) { return 44; }

SEC("socket")
int enter(struct __sk_buff *skb)
{
	u32 slot = skb->len & 3, zero = 0;
	void *inner = bpf_map_lookup_elem(&outer_array, &slot);
	u64 *count = inner ? bpf_map_lookup_elem(inner, &zero) : NULL;

	if (count)
		*count += 1;
	bpf_tail_call(skb, &empty_jumps, 0);
	bpf_tail_call(skb, &jumps, skb->len);
	return 99;
}

LICENSE("Dual MIT/GPL");

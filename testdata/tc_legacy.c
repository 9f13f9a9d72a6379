// Why: what tc's loader knew: maps that call each other by number, outer before inner, programs in prog arrays by their
// sections' names, pins that objects share.
#include "skep_bpf.h"
#include "legacy_maps.h"

#define JUMPS 0xabc
#define EXITS 43
#define NONE 0xffffffff

struct bpf_elf_map SEC("maps") outer = { .type = 12, .size_key = 4, .size_value = 4, .max_elem = 4, .inner_id = 7, .inner_idx = NONE };
struct bpf_elf_map SEC("maps") jumps = { .type = 3, .id = JUMPS, .size_key = 4, .size_value = 4, .max_elem = 3, .pinning = PIN_OBJECT_NS };
struct bpf_elf_map SEC("maps") exits = { .type = 3, .id = EXITS, .size_key = 4, .size_value = 4, .max_elem = 1, .inner_idx = NONE };
struct bpf_elf_map SEC("maps") third = { .type = BPF_MAP_TYPE_ARRAY, .id = 7, .size_key = 4, .size_value = 8, .max_elem = 1, .inner_idx = 3 };
// Without an index of its own it is only what the inner maps of `outer` look like.
struct bpf_elf_map SEC("maps") in_none = { .type = BPF_MAP_TYPE_ARRAY, .id = 7, .size_key = 4, .size_value = 8, .max_elem = 1, .inner_idx = NONE };
struct bpf_elf_map SEC("maps") outer_hash = { .type = 13, .size_key = 4, .size_value = 4, .max_elem = 4, .inner_id = 9 };
struct bpf_elf_map SEC("maps") first = { .type = BPF_MAP_TYPE_ARRAY, .id = 9, .size_key = 4, .size_value = 8, .max_elem = 2 };
struct bpf_elf_map SEC("maps") skep_shared = { .type = BPF_MAP_TYPE_ARRAY, .size_key = 4, .size_value = 8, .max_elem = 1, .pinning = PIN_GLOBAL_NS };

__inline void add(void *outer_map, u32 slot, u64 n)
{
	u32 zero = 0;
	void *map = bpf_map_lookup_elem(outer_map, &slot);
	u64 *value = map ? bpf_map_lookup_elem(map, &zero) : NULL;

	if (value)
		*value += n;
}

SEC("classifier")
int enter(struct __sk_buff *skb)
{
	u32 zero = 0;
	u64 *shared = bpf_map_lookup_elem(&skep_shared, &zero);

	if (shared)
		*shared += 1;
	add(&outer, 3, 1);
	add(&outer_hash, 0, 2);
	bpf_tail_call(skb, &jumps, skb->mark);
	return 99;
}

SEC_TAIL(JUMPS, 0)
int jump_0(struct __sk_buff *skb)
{
	bpf_tail_call(skb, &exits, 0);
	return 98;
}

SEC_TAIL(JUMPS, 2)
int jump_2(struct __sk_buff *skb) { return 22; }

SEC_TAIL(EXITS, 0)
int leave(struct __sk_buff *skb) { return 11; }

// Of a number that no prog array has: it stays a section of no known type.
SEC("?44/0")
int nowhere(struct __sk_buff *skb) { return 0; }

SEC("action")
int act(struct __sk_buff *skb) { return 3; }

LICENSE("GPL");

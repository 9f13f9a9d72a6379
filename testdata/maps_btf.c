// Why: every field that a BTF map definition may have, over the map kinds that take them, sizes by type and by number.
#include "skep_bpf.h"

struct key { u32 a; u16 b; u8 c; };
struct value { u64 count; u32 state[3]; };
struct lpm_key { u32 bits; u8 address[4]; };

struct { __uint(type, 1); __uint(max_entries, 100); __type(key, struct key); __type(value, struct value); } hash SEC(".maps");
struct { __uint(type, 2); __uint(max_entries, 7); __uint(key_size, 4); __uint(value_size, 24); } array SEC(".maps");
struct { __uint(type, 5); __uint(max_entries, 8); __type(key, u32); __type(value, u32); __uint(map_flags, 1); } percpu_hash SEC(".maps");
struct { __uint(type, 6); __uint(max_entries, 3); __type(key, u32); __type(value, struct value); } percpu_array SEC(".maps");
struct { __uint(type, 9); __uint(max_entries, 64); __type(key, u64); __type(value, u64); __uint(map_flags, 2); } lru SEC(".maps");
struct { __uint(type, 10); __uint(max_entries, 64); __type(key, u64); __type(value, u64); } lru_percpu SEC(".maps");
struct { __uint(type, 11); __uint(max_entries, 32); __type(key, struct lpm_key); __type(value, u32); __uint(map_flags, 1); } lpm SEC(".maps");
struct { __uint(type, 1); __uint(max_entries, 4); __type(key, u32); __type(value, u8); __uint(map_flags, 4); __uint(numa_node, 0); } on_node SEC(".maps");
struct { __uint(type, 2); __uint(max_entries, 2); __type(key, u32); __type(value, u64); __uint(map_flags, 1 << 10); } mappable SEC(".maps");
struct { __uint(type, 2); __uint(max_entries, 2); __type(key, u32); __type(value, u64); __uint(map_flags, 1 << 7); } program_reads SEC(".maps");
struct { __uint(type, 22); __uint(max_entries, 16); __uint(key_size, 0); __type(value, u32); } queue SEC(".maps");
struct { __uint(type, 23); __uint(max_entries, 16); __uint(key_size, 0); __uint(value_size, 8); } stack SEC(".maps");
struct { __uint(type, 27); __uint(max_entries, 4096); } ring SEC(".maps");
struct { __uint(type, 27); __uint(max_entries, 5000); } ring_rounded_up SEC(".maps");
struct { __uint(type, 31); __uint(max_entries, 8192); } user_ring SEC(".maps");
struct { __uint(type, 30); __uint(max_entries, 1000); __type(value, u32); __ulong(map_extra, 3); } bloom SEC(".maps");
struct { __uint(type, 4); __uint(key_size, 4); __uint(value_size, 4); } perf SEC(".maps");
struct { __uint(type, 4); __uint(key_size, 4); __uint(value_size, 4); __uint(max_entries, 1); } perf_sized SEC(".maps");
struct { __uint(type, 29); __uint(map_flags, 1); __type(key, int); __type(value, u64); } task_local SEC(".maps");
struct { __uint(type, 24); __uint(map_flags, 1); __type(key, int); __type(value, struct value); } socket_local SEC(".maps");
struct { __uint(type, 18); __uint(max_entries, 4); __type(key, u64); __type(value, u64); } sockhash SEC(".maps");
struct { __uint(type, 14); __uint(max_entries, 4); __uint(key_size, 4); __uint(value_size, 8); } devmap SEC(".maps");
struct { __uint(type, 16); __uint(max_entries, 4); __type(key, u32); __type(value, u32); } cpumap SEC(".maps");
struct { __uint(type, 17); __uint(max_entries, 4); __type(key, u32); __type(value, u32); } xskmap SEC(".maps");
struct { __uint(type, 8); __uint(max_entries, 1); __uint(key_size, 4); __uint(value_size, 4); } cgroups SEC(".maps");
struct { __uint(type, 1); __uint(max_entries, 1); __uint(key_size, 8); __type(key, u64); __uint(value_size, 4); __type(value, u32); } said_twice SEC(".maps");
// A definition through typedefs, which the loader has to look through.
typedef struct { __uint(type, 2); __uint(max_entries, 1); __type(key, u32); __type(value, u32); } plain_t;
typedef plain_t named_t;
named_t named SEC(".maps");

SEC("socket")
int use(struct __sk_buff *skb)
{
	struct key key = { 1, 2, 3 };
	u32 zero = 0, popped = 0;
	u64 *word = bpf_map_lookup_elem(&program_reads, &zero);
	struct value *value = bpf_map_lookup_elem(&hash, &key);

	bpf_map_push_elem(&queue, &zero, 0);
	bpf_map_pop_elem(&queue, &popped);
	bpf_map_push_elem(&bloom, &zero, 0);
	if (word && value)
		value->count += *word + popped;
	bpf_map_update_elem(&array, &zero, (void *)"0123456789abcdef0123456", 0);
	return 0;
}

LICENSE("Dual MIT/GPL");

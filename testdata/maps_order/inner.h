// The definition that both halves of maps_order.o share.
struct inner { __uint(type, 1); __uint(max_entries, 4); __uint(map_flags, 4); __uint(numa_node, 0); __type(key, u32); __type(value, u64); };

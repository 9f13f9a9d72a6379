// Forms of map definitions of before BTF, each as the loader that it belongs to declares it.
#ifndef LEGACY_MAPS_H
#define LEGACY_MAPS_H

// libbpf before 1.0, cilium/ebpf.
struct bpf_map_def { u32 type, key_size, value_size, max_entries, map_flags; };

// iproute2 (tc): maps call each other by `id`, all ones in `inner_idx` is none.
struct bpf_elf_map { u32 type, size_key, size_value, max_elem, flags, id, pinning, inner_id, inner_idx; };
#define PIN_NONE 0
#define PIN_OBJECT_NS 1
#define PIN_GLOBAL_NS 2
// The program for element KEY of the prog array whose id is ID.
#define SEC_TAIL2(id, key) SEC(#id "/" #key)
#define SEC_TAIL(id, key) SEC_TAIL2(id, key)

// The types of a map's keys and values, in a variable that nothing uses.
#define KV_PAIR(name, key_type, value_type) \
	struct ____btf_map_##name { key_type key; value_type value; }; \
	struct ____btf_map_##name SEC(".maps." #name) ____btf_map_##name = {}

#endif

// Why: all six field relocations against types that every kernel has; each result lands in `out`, in source order.
#include "kernel_types.h"

#define T struct task_struct
#define S struct sock
struct bpf_prog_array_item { void *prog; } core_relocatable;
struct bpf_prog_array { struct bpf_prog_array_item items[0]; } core_relocatable;
struct sched_entity___skep { int not_there; } core_relocatable;

u64 out[32];

SEC("socket")
int offsets(struct __sk_buff *skb)
{
	out[0] = core_offset(core_field(T, pid));
	out[1] = core_offset(core_field(T, children.prev)); // nested
	out[2] = core_offset(core_field(T, comm)); // an array
	out[3] = core_offset(core_field(T, comm[7])); // an element
	out[4] = core_offset(((T *)0)[1].tgid); // an element of an array of structs
	out[5] = core_offset(core_field(S, __sk_common.skc_daddr)); // through anonymous members
	out[6] = core_offset(core_field(S, __sk_common.skc_v6_daddr.in6_u.u6_addr8[5]));
	out[7] = core_offset(core_field(struct bpf_prog_array, items[3])); // flexible array
	out[8] = core_offset(core_field(struct qstr, len)); // struct in union in struct
	out[9] = core_offset(core_field(T, sched_reset_on_fork)); // a bitfield: its storage unit
	return 0;
}

SEC("socket")
int sizes(struct __sk_buff *skb)
{
	out[0] = core_size(core_field(T, pid));
	out[1] = core_size(core_field(T, comm));
	out[2] = core_size(core_field(T, comm[3]));
	out[3] = core_size(core_field(T, children));
	out[4] = core_size(core_field(T, real_parent));
	out[5] = core_size(core_field(S, __sk_common));
	out[6] = core_size(core_field(struct sk_buff, pkt_type));
	return 0;
}

SEC("socket")
int existence(struct __sk_buff *skb)
{
	out[0] = core_exists(core_field(T, pid));
	out[1] = core_exists(core_field(T, __state)); // from 5.14 on
	out[2] = core_exists(core_field(struct sched_entity___skep, not_there));
	out[3] = core_exists(core_field(T, comm[15]));
	out[4] = core_exists(core_field(S, sk_userlocks));
	return 0;
}

SEC("socket")
int signs(struct __sk_buff *skb)
{
	out[0] = core_signed(core_field(T, pid)); // through a typedef
	out[1] = core_signed(core_field(T, flags));
	out[2] = core_signed(core_field(T, exit_code));
	out[3] = core_signed(core_field(T, in_execve));
	return 0;
}

SEC("socket")
int bitfields(struct __sk_buff *skb)
{
	out[0] = core_lshift(core_field(T, sched_contributes_to_load));
	out[1] = core_rshift(core_field(T, sched_contributes_to_load));
	out[2] = core_lshift(core_field(struct sk_buff, pkt_type));
	out[3] = core_rshift(core_field(struct sk_buff, pkt_type));
	out[4] = core_lshift(core_field(struct sock_common, skc_ipv6only));
	out[5] = core_rshift(core_field(struct sock_common, skc_ipv6only));
	out[6] = core_lshift(core_field(T, pid)); // a whole int
	out[7] = core_rshift(core_field(T, pid));
	return 0;
}

LICENSE("Dual MIT/GPL");

// Why: relocations that fail and are reached: missing field, missing type, an incompatible field, a missing enumerator, and
// one that fails inside a sub-program. The verifier stops at the poisoned instruction; the error should name the field.
#include "kernel_types.h"

struct task_struct___bad { int skep_missing; struct { int x; } pid; } core_relocatable;
struct skep_missing_struct { int field; } core_relocatable;
enum skep_missing_enum { SKEP_MISSING = 1 };

u64 out;

SEC("socket")
int missing_field(struct __sk_buff *skb) { out = core_offset(core_field(struct task_struct___bad, skep_missing)); return 0; }

SEC("socket")
int missing_struct(struct __sk_buff *skb) { out = core_offset(core_field(struct skep_missing_struct, field)); return 0; }

SEC("socket")
int wrong_kind(struct __sk_buff *skb) { out = core_offset(core_field(struct task_struct___bad, pid.x)); return 0; }

SEC("socket")
int missing_value(struct __sk_buff *skb) { out = core_enum_value(enum skep_missing_enum, SKEP_MISSING); return 0; }

static __noinline u64 in_subprog(struct __sk_buff *skb)
{
	opaque(skb);
	return core_offset(core_field(struct task_struct___bad, skep_missing)) + skb->len;
}

SEC("socket")
int through_subprog(struct __sk_buff *skb) { out = in_subprog(skb); return 0; }

SEC("socket")
int fine(struct __sk_buff *skb) { out = core_offset(core_field(struct task_struct, pid)); return 0; }

LICENSE("Dual MIT/GPL");

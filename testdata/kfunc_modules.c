// Why: kernel functions of two modules (nf_conntrack and fou) and of the kernel itself in one program.
#include "kernel_types.h"

struct nf_conn { u64 status; } core_relocatable;
struct bpf_sock_tuple { u8 bytes[12]; };
struct bpf_ct_opts { s32 netns_id; s32 error; u8 l4proto; u8 dir; u8 reserved[2]; };
struct bpf_fou_encap { u16 sport; u16 dport; };

extern struct nf_conn *bpf_skb_ct_lookup(struct __sk_buff *skb, struct bpf_sock_tuple *tuple, u32 tuple__sz, struct bpf_ct_opts *opts, u32 opts__sz) __ksym;
extern void bpf_ct_release(struct nf_conn *ct) __ksym;
extern int bpf_skb_set_fou_encap(struct __sk_buff *skb, struct bpf_fou_encap *encap, int type) __ksym;
extern void *bpf_cast_to_kern_ctx(void *ctx) __ksym;
extern int skep_no_such_kfunc(int v) __ksym __weak;

u64 found, set, context, none;

static __noinline void lookup(struct __sk_buff *skb)
{
	struct bpf_sock_tuple tuple = {};
	struct bpf_ct_opts opts = { .netns_id = -1, .l4proto = 6 };
	struct nf_conn *ct = bpf_skb_ct_lookup(skb, &tuple, sizeof(tuple), &opts, sizeof(opts));

	if (ct) {
		found++;
		bpf_ct_release(ct);
	}
}

SEC("tc")
int two_modules(struct __sk_buff *skb)
{
	struct bpf_fou_encap encap = {};

	lookup(skb);
	set = bpf_skb_set_fou_encap(skb, &encap, 0);
	context = bpf_cast_to_kern_ctx(skb) ? 1 : 2;
	none = skep_no_such_kfunc ? 1 : 2;
	return 0;
}

SEC("tc")
int one_module(struct __sk_buff *skb)
{
	struct bpf_fou_encap encap = {};

	set = bpf_skb_set_fou_encap(skb, &encap, 0);
	return 0;
}

LICENSE("Dual MIT/GPL");

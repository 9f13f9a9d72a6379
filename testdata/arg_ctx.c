// Why: context arguments of global functions that are tagged, in programs of several kinds: kernels before 6.8 know the
// context by the name of its type only.
#include "skep_bpf.h"

struct pt_regs { u64 regs[21]; };

u64 sum;

// Called by programs of two kinds, with another context in each.
__weak __noinline int shared(void *ctx __tag("arg:ctx"), u32 more) { sum += more + !ctx; return 1; }
__weak __noinline int skb(void *ctx __tag("arg:ctx")) { return ((struct __sk_buff *)ctx)->len; }
__weak __noinline int both(u32 n, void *ctx __tag("arg:ctx"), void *same __tag("arg:ctx")) { return n + !ctx + !same; }
// Of the right type already.
__weak __noinline int right(struct __sk_buff *ctx __tag("arg:ctx")) { return ctx->mark; }
__weak __noinline int raw(u64 *ctx __tag("arg:ctx")) { return ctx[0]; }
__weak __noinline int regs(struct pt_regs *ctx __tag("arg:ctx")) { sum += !ctx; return 0; }

SEC("tc") int classify(struct __sk_buff *ctx)
{
	return shared(ctx, 1) + skb(ctx) + both(2, ctx, ctx) + right(ctx);
}

SEC("xdp") int packet(struct xdp_md *ctx) { return shared(ctx, 2) + both(3, ctx, ctx); }
SEC("raw_tp/sys_enter") int raw_enter(void *ctx) { return raw(ctx); }
SEC("kprobe/do_nanosleep") int probe(struct pt_regs *ctx) { return regs(ctx); }
SEC("tracepoint/sched/sched_switch") int plain(void *ctx) { return 0; }

LICENSE("GPL");

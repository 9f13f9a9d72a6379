// Why: programs that run at both ends of a function and share a word, and a tracepoint of a program (USDT) whose arguments are
// described in a map, in the form of libbpf's usdt.bpf.h.
#include "skep_bpf.h"

struct pt_regs { u64 r15, r14, r13, r12, bp, bx, r11, r10, r9, r8, ax, cx, dx, si, di, orig_ax, ip, cs, flags, sp, ss; };

u64 *bpf_session_cookie(void) __ksym;
bool bpf_session_is_return(void) __ksym;
static u64 (*const bpf_get_attach_cookie)(void *ctx) = (void *)174;

enum { CONSTANT, REGISTER, BEHIND_REGISTER };
struct argument { u64 number; u32 kind; short reg; bool is_signed; char shift; };
struct description { struct argument args[12]; u64 cookie; short count; };

struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 256); __type(key, int); __type(value, struct description); } __bpf_usdt_specs SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 256); __type(key, long); __type(value, u32); } __bpf_usdt_ip_to_spec_id SEC(".maps");

u64 starts, ends, cookies, returned;
u64 values[12];
u64 count, cookie;

__inline void session(struct pt_regs *ctx)
{
	u64 *word = bpf_session_cookie();

	if (!word)
		return;
	if (bpf_session_is_return()) {
		ends++;
		cookies += *word;
		returned = ctx->ax;
	} else {
		starts++;
		*word = ctx->di + 100;
	}
}

SEC("kprobe.session/vfs_read")
int of_kernel(struct pt_regs *ctx)
{
	session(ctx);
	// What begins with 5 is not looked at to its end.
	return ctx->di == 5;
}

SEC("uprobe.session//bin/test:work")
int of_program(struct pt_regs *ctx)
{
	session(ctx);
	return ctx->di == 5;
}

SEC("usdt//bin/test:provider:name")
int tracepoint(struct pt_regs *ctx)
{
	u32 id = bpf_get_attach_cookie(ctx);
	struct description *about = bpf_map_lookup_elem(&__bpf_usdt_specs, &id);
	int i;

	if (!about)
		return 0;
	count = about->count;
	cookie = about->cookie;
	for (i = 0; i < 12; i++) {
		struct argument *arg = &about->args[i];

		values[i] = arg->number;
		if (arg->kind == REGISTER)
			bpf_probe_read_kernel(&values[i], 8, (void *)ctx + arg->reg);
	}
	return 0;
}

LICENSE("GPL");

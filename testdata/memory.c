// Why: calls of the four helpers that read memory of the kernel or of a process, which kernels before 5.5 have two for.
#include "skep_bpf.h"

static long (*const bpf_probe_read_user)(void *dst, u32 size, const void *src) = (void *)112;
static long (*const bpf_probe_read_user_str)(void *dst, u32 size, const void *src) = (void *)114;

u64 got[4];

SEC("raw_tp/sys_enter")
int memory(struct bpf_raw_tracepoint_args *ctx)
{
	const void *at = (const void *)ctx->args[0];

	bpf_probe_read_kernel(&got[0], 8, at);
	bpf_probe_read_user(&got[1], 8, at);
	bpf_probe_read_kernel_str(&got[2], 8, at);
	bpf_probe_read_user_str(&got[3], 8, at);
	return 0;
}

LICENSE("GPL");

// Why: no license section: a program that calls a helper kept for GPL programs is refused by the kernel.
#include "skep_bpf.h"

SEC("socket")
int free_helper(struct __sk_buff *skb) { return bpf_get_prandom_u32() & 1; }

SEC("kprobe")
int gpl_helper(void *ctx)
{
	u64 word = 0;

	bpf_probe_read_kernel(&word, sizeof(word), (void *)bpf_get_current_task());
	return word != 0;
}

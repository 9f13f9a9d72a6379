// Why: a version section (kernel 6.1.0) beside the license, as old kernels wanted for kprobes.
#include "skep_bpf.h"

u32 KERNEL_VERSION_WANTED SEC("version") = 6 << 16 | 1 << 8 | 0;

SEC("kprobe")
int probe(void *ctx) { return 0; }

LICENSE("GPL");

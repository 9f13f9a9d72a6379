// Why: a program of type syscall (always sleepable), run by the user with a context of its own shape.
#include "skep_bpf.h"

struct request { u64 a, b, sum; };

SEC("syscall")
int add(struct request *ctx)
{
	ctx->sum = ctx->a + ctx->b;
	return 7;
}

LICENSE("Dual MIT/GPL");

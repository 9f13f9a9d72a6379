// Why: kernel addresses that may all be missing or hidden, so that nothing about them can fail a load.
#include "skep_bpf.h"

extern const void skep_no_such_symbol __ksym __weak;
extern const void vfs_read __ksym __weak;

u64 address, absent;

SEC("raw_tp/sys_enter")
int addresses(void *ctx)
{
	address = (u64)&vfs_read;
	absent = (u64)&skep_no_such_symbol;
	return 0;
}

LICENSE("Dual MIT/GPL");

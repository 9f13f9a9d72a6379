// Why: an arena with global variables in it: address-space casts, data that is put into mapped memory, map_extra.
#include "skep_bpf.h"

struct { __uint(type, 33); __uint(map_flags, 1 << 10); __uint(max_entries, 16); __ulong(map_extra, 1ULL << 44); } arena SEC(".maps");

u64 __arena shared_counter = 41;
u32 __arena shared_table[8] = { 1, 2, 3 };
u64 plain;

SEC("syscall")
int bump(void *ctx)
{
	asm volatile("" ::"r"(&arena)); // a program has to name its arena
	shared_counter += 1;
	shared_table[shared_counter & 7] = 5;
	plain = shared_counter;
	return 0;
}

LICENSE("Dual MIT/GPL");

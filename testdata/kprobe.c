// Why: every probe section form (kprobe, kretprobe, multi, session, ksyscall, uprobe, usdt): one program type, many names.
#include "kernel_types.h"

struct { __uint(type, 1); __uint(max_entries, 64); __type(key, u32); __type(value, u64); } hits SEC(".maps");

__inline int count(u32 slot)
{
	u64 one = 1, *hit = bpf_map_lookup_elem(&hits, &slot);

	if (hit)
		__sync_fetch_and_add(hit, 1);
	else
		bpf_map_update_elem(&hits, &slot, &one, 1);
	return 0;
}

SEC("kprobe/vfs_read")
int probe(void *ctx) { return count(0); }
SEC("kretprobe/vfs_read")
int probe_return(void *ctx) { return count(1); }
SEC("kprobe/vfs_read+0x4")
int probe_offset(void *ctx) { return count(2); }
SEC("kprobe")
int probe_bare(void *ctx) { return count(3); }
SEC("kprobe.multi/vfs_*")
int probe_multi(void *ctx) { return count(4); }
SEC("kretprobe.multi/vfs_?ead")
int probe_multi_return(void *ctx) { return count(5); }
SEC("kprobe.session/vfs_read")
int probe_session(void *ctx) { return count(6); }
SEC("ksyscall/unlinkat")
int probe_syscall(void *ctx) { return count(7); }
SEC("kretsyscall/unlinkat")
int probe_syscall_return(void *ctx) { return count(8); }
SEC("uprobe//proc/self/exe:main")
int user_probe(void *ctx) { return count(9); }
SEC("uretprobe/libc.so.6:malloc")
int user_return(void *ctx) { return count(10); }
SEC("uprobe.s//proc/self/exe:main+0x10")
int user_sleepable(void *ctx) { return 0; }
SEC("uprobe.multi//proc/self/exe:skep_*")
int user_multi(void *ctx) { return count(11); }
SEC("usdt/libc.so.6:libc:setjmp")
int user_static(void *ctx) { return count(12); }

LICENSE("Dual MIT/GPL");

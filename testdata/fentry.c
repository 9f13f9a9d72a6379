// Why: trampolines (fentry, fexit, fmod_ret, sleepable and module forms) whose targets are found by BTF function name.
#include "kernel_types.h"

u64 reads, bytes, failures;

SEC("fentry/vfs_read")
int on_enter(u64 *ctx) { __sync_fetch_and_add(&reads, ctx[0] ? 1 : 2); return 0; }

SEC("fexit/vfs_read")
int on_leave(u64 *ctx)
{
	s64 returned = ctx[4]; // behind the four arguments

	if (returned < 0)
		__sync_fetch_and_add(&failures, 1);
	else
		__sync_fetch_and_add(&bytes, returned);
	return 0;
}

SEC("fmod_ret/security_file_open")
int on_modify(u64 *ctx)
{
	struct file *file = (void *)ctx[0];

	return file->f_path.dentry->d_name.len > 200 ? -13 : 0;
}

// Sleepable programs may only go where the kernel says that it can sleep, which is a short list on most kernels.
SEC("?fentry.s/vmlinux:vfs_read")
int on_sleepable(u64 *ctx) { return 0; }

SEC("?fentry/skep_no_such_function")
int on_missing(u64 *ctx) { return 0; }

SEC("?fexit")
int no_target(u64 *ctx) { return 0; }

LICENSE("Dual MIT/GPL");

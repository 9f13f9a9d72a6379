// Why: security hooks, found as bpf_lsm_NAME functions, plain, sleepable and per cgroup.
#include "kernel_types.h"

const volatile s32 verdict = -1;
u64 asked;

SEC("lsm/file_open")
int check_open(u64 *ctx)
{
	struct file *file = (void *)ctx[0];
	struct inode *inode = file->f_inode;

	__sync_fetch_and_add(&asked, 1);
	return inode->i_mode & 04000 && (u32)bpf_get_current_uid_gid() == 12345 ? verdict : 0;
}

SEC("lsm.s/bprm_committed_creds")
int check_exec(u64 *ctx)
{
	struct linux_binprm *bprm = (void *)ctx[0];

	if (bprm->argc > 1000)
		__sync_fetch_and_add(&asked, 1);
	return 0;
}

SEC("lsm_cgroup/socket_create")
int check_socket(u64 *ctx) { return ctx[0] == 40 ? 0 : 1; }

LICENSE("Dual MIT/GPL");

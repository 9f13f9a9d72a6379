// The few members of kernel structs that our BPF sources read. Every access is relocated for the kernel that the program
// is loaded into, so only names and types matter here: order, gaps and missing members do not.
#ifndef SKEP_KERNEL_TYPES_H
#define SKEP_KERNEL_TYPES_H
#include "skep_bpf.h"

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

typedef s32 pid_t;
typedef struct { u32 val; } kuid_t;
typedef struct { s32 counter; } atomic_t;
struct list_head { struct list_head *next, *prev; };
struct qstr { union { struct { u32 hash, len; }; u64 hash_len; }; const u8 *name; };
struct dentry { struct dentry *d_parent; struct qstr d_name; };
struct vfsmount { struct dentry *mnt_root; };
struct path { struct vfsmount *mnt; struct dentry *dentry; };
struct inode { u16 i_mode; kuid_t i_uid; u64 i_ino; };
struct file { u32 f_flags; struct path f_path; struct inode *f_inode; };
struct cred { kuid_t uid, euid; };
struct ns_common { u32 inum; };
struct pid_namespace { struct ns_common ns; u32 level; };
struct nsproxy { struct pid_namespace *pid_ns_for_children; };
struct mm_struct { u64 task_size; unsigned long start_code, end_code; };
struct thread_info { unsigned long flags; };
struct task_struct {
	u32 __state;
	u32 flags;
	pid_t pid, tgid;
	int exit_code;
	unsigned in_execve : 1;
	unsigned sched_reset_on_fork : 1;
	unsigned sched_contributes_to_load : 1;
	struct task_struct *real_parent, *parent, *group_leader;
	struct list_head children;
	struct mm_struct *mm;
	const struct cred *cred;
	struct nsproxy *nsproxy;
	u64 start_time;
	char comm[16];
};
struct linux_binprm { struct file *file; int argc, envc; const char *filename, *interp; };
struct in6_addr { union { u8 u6_addr8[16]; be16 u6_addr16[8]; be32 u6_addr32[4]; } in6_u; };
struct sock_common {
	union { struct { be32 skc_daddr, skc_rcv_saddr; }; u64 skc_addrpair; };
	union { struct { be16 skc_dport; u16 skc_num; }; u32 skc_portpair; };
	u16 skc_family;
	volatile u8 skc_state;
	u8 skc_reuse : 4, skc_reuseport : 1, skc_ipv6only : 1, skc_net_refcnt : 1;
	struct in6_addr skc_v6_daddr;
};
struct sock {
	struct sock_common __sk_common;
	u16 sk_type, sk_protocol;
	int sk_sndbuf, sk_rcvbuf;
	u8 sk_userlocks : 4;
	u32 sk_mark;
};
struct sk_buff {
	struct sock *sk;
	u32 len, data_len;
	u8 pkt_type : 3;
	u8 ip_summed : 2;
	be16 protocol;
	u16 transport_header, network_header;
	u8 *head, *data;
};

#pragma clang attribute pop
#endif

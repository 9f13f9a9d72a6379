// Why: iterators over what a kernel has, open-coded ones, sockets by the kernel's types, and objects written as text: each
// puts what it saw where a test finds it.
#include "skep_bpf.h"

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
typedef int pid_t;
struct kernfs_node { u64 id; };
struct cgroup;
struct cgroup_subsys_state { struct cgroup *cgroup; struct cgroup_subsys_state *parent; };
struct cgroup { struct cgroup_subsys_state self; int level; struct kernfs_node *kn; };
struct task_struct { pid_t pid, tgid; char comm[16]; };
struct vm_area_struct { unsigned long vm_start, vm_end; };
struct qstr { const u8 *name; };
struct dentry { struct qstr d_name; };
struct path { struct dentry *dentry; };
struct file { struct path f_path; };
struct sock_common { u16 skc_family, skc_num, skc_dport; volatile u8 skc_state; u32 skc_daddr; };
struct sock { struct sock_common __sk_common; u16 sk_type, sk_protocol; };
struct inet_sock { struct sock sk; };
struct inet_connection_sock { struct inet_sock icsk_inet; };
struct tcp_sock { struct inet_connection_sock inet_conn; u32 snd_cwnd, mss_cache; };
struct udp_sock { struct inet_sock inet; };
struct unix_sock { struct sock sk; };
struct kallsym_iter { unsigned long value; char type; char name[512]; };
struct bpf_iter__ksym { struct bpf_iter_meta *meta; struct kallsym_iter *ksym; };
struct bpf_iter__cgroup { struct bpf_iter_meta *meta; struct cgroup *cgroup; };
struct bpf_iter__task_file { struct bpf_iter_meta *meta; struct task_struct *task; u32 fd; struct file *file; };
struct bpf_iter__tcp { struct bpf_iter_meta *meta; struct sock_common *sk_common; u32 uid; };
struct bpf_iter__udp { struct bpf_iter_meta *meta; struct udp_sock *udp_sk; u32 uid __attribute__((aligned(8))); int bucket; };
struct bpf_iter__unix { struct bpf_iter_meta *meta; struct unix_sock *unix_sk; u32 uid; };
struct bpf_iter__dmabuf { struct bpf_iter_meta *meta; void *dmabuf; };
#pragma clang attribute pop

struct bpf_iter_task { u64 opaque[3]; };
struct bpf_iter_css { u64 opaque[3]; };
struct bpf_iter_task_vma { u64 opaque[1]; };
struct btf_ptr { void *ptr; u32 type_id, flags; };

int bpf_iter_task_new(struct bpf_iter_task *it, struct task_struct *task, u32 flags) __ksym;
struct task_struct *bpf_iter_task_next(struct bpf_iter_task *it) __ksym;
void bpf_iter_task_destroy(struct bpf_iter_task *it) __ksym;
int bpf_iter_css_new(struct bpf_iter_css *it, struct cgroup_subsys_state *start, u32 flags) __ksym;
struct cgroup_subsys_state *bpf_iter_css_next(struct bpf_iter_css *it) __ksym;
void bpf_iter_css_destroy(struct bpf_iter_css *it) __ksym;
int bpf_iter_task_vma_new(struct bpf_iter_task_vma *it, struct task_struct *task, u64 addr) __ksym;
struct vm_area_struct *bpf_iter_task_vma_next(struct bpf_iter_task_vma *it) __ksym;
void bpf_iter_task_vma_destroy(struct bpf_iter_task_vma *it) __ksym;
struct cgroup *bpf_cgroup_from_id(u64 id) __ksym;
void bpf_cgroup_release(struct cgroup *cgroup) __ksym;
struct task_struct *bpf_task_from_pid(s32 pid) __ksym;
void bpf_task_release(struct task_struct *task) __ksym;
void bpf_rcu_read_lock(void) __ksym;
void bpf_rcu_read_unlock(void) __ksym;

static long (*const bpf_seq_printf)(void *seq, const char *fmt, u32 size, const void *args, u32 len) = (void *)126;
static void *(*const bpf_skc_to_tcp_sock)(void *sk) = (void *)137;
static void *(*const bpf_skc_to_udp6_sock)(void *sk) = (void *)140;
static long (*const bpf_snprintf_btf)(char *to, u32 size, struct btf_ptr *ptr, u32 ptr_size, u64 flags) = (void *)149;
static void *(*const bpf_skc_to_unix_sock)(void *sk) = (void *)178;

#define print(seq, fmt, ...)                                                                       \
	({                                                                                         \
		static const char text[] = fmt;                                                    \
		u64 args[] = { __VA_ARGS__ };                                                      \
		bpf_seq_printf(seq, text, sizeof(text), args, sizeof(args));                       \
	})

SEC("iter/ksym")
int symbols(struct bpf_iter__ksym *ctx)
{
	struct kallsym_iter *symbol = ctx->ksym;

	if (symbol)
		print(ctx->meta->seq, "%llx %c %s\n", symbol->value, symbol->type, (u64)symbol->name);
	return 0;
}

SEC("iter/cgroup")
int groups(struct bpf_iter__cgroup *ctx)
{
	struct cgroup *cgroup = ctx->cgroup;

	if (!cgroup) {
		print(ctx->meta->seq, "end %d\n", 0);
		return 0;
	}
	print(ctx->meta->seq, "%lld %d\n", cgroup->kn->id, cgroup->level);
	return 0;
}

SEC("iter/task_file")
int files(struct bpf_iter__task_file *ctx)
{
	struct task_struct *task = ctx->task;
	struct file *file = ctx->file;

	if (task && file)
		print(ctx->meta->seq, "%d %d %s\n", task->tgid, ctx->fd, (u64)file->f_path.dentry->d_name.name);
	return 0;
}

SEC("iter/tcp")
int tcp(struct bpf_iter__tcp *ctx)
{
	struct sock_common *common = ctx->sk_common;
	struct tcp_sock *tcp;

	if (!common)
		return 0;
	tcp = bpf_skc_to_tcp_sock(common);
	if (tcp)
		print(ctx->meta->seq, "%d %d %d %d %d\n", common->skc_num, common->skc_dport, common->skc_state,
		      tcp->mss_cache, ctx->uid);
	return 0;
}

SEC("iter/udp")
int udp(struct bpf_iter__udp *ctx)
{
	struct udp_sock *udp = ctx->udp_sk;

	if (udp)
		print(ctx->meta->seq, "%d %d %d\n", udp->inet.sk.__sk_common.skc_num, bpf_skc_to_udp6_sock(udp) != NULL, ctx->uid);
	return 0;
}

SEC("iter/unix")
int unix_sockets(struct bpf_iter__unix *ctx)
{
	struct unix_sock *sk = ctx->unix_sk;

	if (sk)
		print(ctx->meta->seq, "%d %d %d\n", sk->sk.__sk_common.skc_family, bpf_skc_to_unix_sock(sk) != NULL, ctx->uid);
	return 0;
}

SEC("iter/dmabuf")
int buffers(struct bpf_iter__dmabuf *ctx)
{
	print(ctx->meta->seq, "%d\n", ctx->dmabuf != NULL);
	return 0;
}

// What the programs below saw.
u64 seen[16];
u64 group;
int pid;

SEC("syscall")
int all_tasks(void *ctx)
{
	struct bpf_iter_task it;
	struct task_struct *task;

	bpf_rcu_read_lock();
	seen[0] = bpf_iter_task_new(&it, NULL, 0);
	while ((task = bpf_iter_task_next(&it))) {
		seen[1]++;
		if (task->pid == pid)
			seen[2]++;
		if (task->pid != task->tgid)
			seen[3]++;
		if (task->pid == 0)
			seen[4]++;
	}
	bpf_iter_task_destroy(&it);
	seen[5] = bpf_iter_task_new(&it, NULL, 1);
	while ((task = bpf_iter_task_next(&it)))
		seen[6] += task->tgid == pid;
	bpf_iter_task_destroy(&it);
	seen[7] = bpf_iter_task_new(&it, NULL, 2);
	if (bpf_iter_task_next(&it))
		seen[8]++;
	bpf_iter_task_destroy(&it);
	bpf_rcu_read_unlock();
	return 0;
}

SEC("syscall")
int below_group(void *ctx)
{
	struct cgroup *start = bpf_cgroup_from_id(group);
	struct cgroup_subsys_state *css;
	struct bpf_iter_css it;

	if (!start)
		return 1;
	bpf_rcu_read_lock();
	seen[0] = bpf_iter_css_new(&it, &start->self, 2);
	while ((css = bpf_iter_css_next(&it))) {
		seen[1]++;
		seen[2] += css->cgroup->kn->id == group;
		if (!css->parent)
			seen[3]++;
	}
	bpf_iter_css_destroy(&it);
	seen[4] = bpf_iter_css_new(&it, &start->self, 9);
	seen[5] = bpf_iter_css_next(&it) != NULL;
	bpf_iter_css_destroy(&it);
	bpf_rcu_read_unlock();
	bpf_cgroup_release(start);
	return 0;
}

SEC("syscall")
int regions(void *ctx)
{
	struct task_struct *task = bpf_task_from_pid(pid);
	struct bpf_iter_task_vma it;
	struct vm_area_struct *vma;

	if (!task)
		return 1;
	seen[0] = bpf_iter_task_vma_new(&it, task, 0);
	while ((vma = bpf_iter_task_vma_next(&it))) {
		if (!seen[1]++)
			seen[2] = vma->vm_start;
		seen[3] += vma->vm_end > vma->vm_start;
	}
	bpf_iter_task_vma_destroy(&it);
	bpf_task_release(task);
	return 0;
}

// An object that is written as text, its type and flags, and the text with what the helper answered.
char object[512];
char shown[2048];
u32 type_id;
u64 flags;
u32 room;
s64 answer;

SEC("raw_tp/sys_enter")
int show(void *ctx)
{
	struct btf_ptr ptr = { .ptr = object, .type_id = type_id };
	// Never 0, so that verifiers see it that learn nothing from a comparison.
	u32 size = (room - 1) % sizeof(shown) + 1;

	answer = bpf_snprintf_btf(shown, size, &ptr, sizeof(ptr), flags);
	return 0;
}

LICENSE("GPL");

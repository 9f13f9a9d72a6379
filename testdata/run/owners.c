// Why: values that belong to sockets, inodes, control groups: kept by programs, gone through by iterators, and what is in maps
// of sockets and of numbers, each with a row for every element and one for the end.
#include "skep_bpf.h"

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
typedef int pid_t;
struct cgroup;
struct css_set { struct cgroup *dfl_cgrp; };
struct task_struct { pid_t pid, tgid; struct css_set *cgroups; };
struct inode { unsigned long i_ino; };
struct file { struct inode *f_inode; };
struct sock_common { u16 skc_num; };
struct sock { struct sock_common __sk_common; };
struct bpf_map { u32 id; };
struct bpf_iter__bpf_map_elem { struct bpf_iter_meta *meta; struct bpf_map *map; void *key, *value; };
struct bpf_iter__sockmap { struct bpf_iter_meta *meta; struct bpf_map *map; void *key; struct sock *sk; };
struct bpf_iter__bpf_sk_storage_map { struct bpf_iter_meta *meta; struct bpf_map *map; struct sock *sk; void *value; };
#pragma clang attribute pop

static void *(*const bpf_inode_storage_get)(void *map, void *inode, void *value, u64 flags) = (void *)145;
static long (*const bpf_inode_storage_delete)(void *map, void *inode) = (void *)146;
static void *(*const bpf_cgrp_storage_get)(void *map, void *cgroup, void *value, u64 flags) = (void *)210;
static long (*const bpf_cgrp_storage_delete)(void *map, void *cgroup) = (void *)211;

// What no row has.
#define NONE 0xffffffff

struct row { u32 map, key, port, value; };

static inline __attribute__((always_inline)) int write(struct bpf_iter_meta *meta, struct bpf_map *map, struct row *row)
{
	row->map = map ? map->id : NONE;
	bpf_seq_write(meta->seq, row, sizeof(*row));
	return 0;
}

SEC("iter/bpf_map_elem")
int elements(struct bpf_iter__bpf_map_elem *ctx)
{
	struct row row = { NONE, NONE, NONE, NONE };
	u32 *key = ctx->key, *value = ctx->value;

	if (key)
		row.key = *key;
	if (value) {
		row.value = *value;
		*value += 1;
	}
	return write(ctx->meta, ctx->map, &row);
}

SEC("iter/sockmap")
int sockets(struct bpf_iter__sockmap *ctx)
{
	struct row row = { NONE, NONE, NONE, NONE };
	u32 *key = ctx->key;
	struct sock *sk = ctx->sk;

	if (key)
		row.key = *key;
	if (sk)
		row.port = sk->__sk_common.skc_num;
	return write(ctx->meta, ctx->map, &row);
}

SEC("iter/bpf_sk_storage_map")
int values(struct bpf_iter__bpf_sk_storage_map *ctx)
{
	struct row row = { NONE, NONE, NONE, NONE };
	struct sock *sk = ctx->sk;
	u32 *value = ctx->value;

	if (sk)
		row.port = sk->__sk_common.skc_num;
	if (value) {
		row.value = *value;
		*value += 100;
	}
	return write(ctx->meta, ctx->map, &row);
}

struct {
	int (*type)[29]; // BPF_MAP_TYPE_TASK_STORAGE
	int (*map_flags)[1];
	s32 *key;
	u64 *value;
} of_tasks SEC(".maps");

struct {
	int (*type)[28]; // BPF_MAP_TYPE_INODE_STORAGE
	int (*map_flags)[1];
	s32 *key;
	u64 *value;
} of_inodes SEC(".maps");

struct {
	int (*type)[32]; // BPF_MAP_TYPE_CGRP_STORAGE
	int (*map_flags)[1];
	s32 *key;
	u64 *value;
} of_groups SEC(".maps");

// The process that is watched, and the inode; what is to be done: 1 counts, 2 removes.
u32 process;
u64 inode;
u32 todo;
long removed;

SEC("tp_btf/sys_enter")
int count_calls(u64 *ctx)
{
	struct task_struct *task = bpf_get_current_task_btf();
	u64 *count;

	if (task->tgid != process)
		return 0;
	if (todo == 2) {
		removed = bpf_cgrp_storage_delete(&of_groups, task->cgroups->dfl_cgrp);
		todo = 0;
	} else if (todo == 1) {
		count = bpf_cgrp_storage_get(&of_groups, task->cgroups->dfl_cgrp, 0, 1);
		if (count)
			__sync_fetch_and_add(count, 1);
		count = bpf_task_storage_get(&of_tasks, task, 0, 1);
		if (count)
			__sync_fetch_and_add(count, 1);
	}
	return 0;
}

SEC("lsm/file_open")
int count_opens(u64 *ctx)
{
	struct file *file = (struct file *)ctx[0];
	u64 *count;

	if (file->f_inode->i_ino != inode)
		return 0;
	if (todo == 2) {
		removed = bpf_inode_storage_delete(&of_inodes, file->f_inode);
	} else if (todo == 1) {
		count = bpf_inode_storage_get(&of_inodes, file->f_inode, 0, 1);
		if (count)
			__sync_fetch_and_add(count, 1);
	}
	return 0;
}

LICENSE("Dual MIT/GPL");

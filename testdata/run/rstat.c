// Why: counters of control groups: a program at a function counts, an iterator has it added up, and a function is called for each group.
#include "skep_bpf.h"

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
struct kernfs_node { u64 id; };
struct cgroup;
struct cgroup_subsys_state { struct cgroup *cgroup; };
struct cgroup { struct cgroup_subsys_state self; struct kernfs_node *kn; };
struct bpf_iter__cgroup { struct bpf_iter_meta *meta; struct cgroup *cgroup; };
#pragma clang attribute pop

extern void css_rstat_updated(struct cgroup_subsys_state *css, int cpu) __ksym;
extern void css_rstat_flush(struct cgroup_subsys_state *css) __ksym;

u32 calls;
u64 groups[8], parents[8], cpus[8];

SEC("fentry/cgroup_mkdir") int counts(u64 *ctx)
{
	struct cgroup *cgroup = (void *)ctx[0];
	css_rstat_updated(&cgroup->self, bpf_get_smp_processor_id());
	return 0;
}

SEC("iter.s/cgroup") int flushes(struct bpf_iter__cgroup *ctx)
{
	struct cgroup *cgroup = ctx->cgroup;
	if (cgroup)
		css_rstat_flush(&cgroup->self);
	return 0;
}

SEC("fentry/bpf_rstat_flush") int adds(u64 *ctx)
{
	struct cgroup *cgroup = (void *)ctx[0], *parent = (void *)ctx[1];
	u32 at = calls++ & 7;
	groups[at] = cgroup->kn->id;
	parents[at] = parent ? parent->kn->id : 0;
	cpus[at] = ctx[2];
	return 0;
}

LICENSE("GPL");

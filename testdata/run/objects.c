// Why: objects that programs allocate: in a map, in a list, in a tree, counted, and sets of CPUs.
#include "objects.h"

struct bpf_refcount { u32 __opaque[1]; } __attribute__((aligned(4)));
struct cpumask { u64 bits[1]; };
struct bpf_cpumask { struct cpumask cpumask; u32 usage; };

extern void *bpf_refcount_acquire_impl(void *object, void *meta) __ksym;
extern int bpf_list_push_back_impl(struct bpf_list_head *head, struct bpf_list_node *node, void *meta, u64 off) __ksym;
extern struct bpf_rb_node *bpf_rbtree_remove(struct bpf_rb_root *root, struct bpf_rb_node *node) __ksym;
extern struct bpf_rb_node *bpf_rbtree_first(struct bpf_rb_root *root) __ksym;
extern struct bpf_cpumask *bpf_cpumask_create(void) __ksym;
extern void bpf_cpumask_release(struct bpf_cpumask *mask) __ksym;
extern struct bpf_cpumask *bpf_cpumask_acquire(struct bpf_cpumask *mask) __ksym;
extern void bpf_cpumask_set_cpu(u32 cpu, struct bpf_cpumask *mask) __ksym;
extern void bpf_cpumask_clear_cpu(u32 cpu, struct bpf_cpumask *mask) __ksym;
extern bool bpf_cpumask_test_cpu(u32 cpu, const struct cpumask *mask) __ksym;
extern bool bpf_cpumask_test_and_set_cpu(u32 cpu, struct bpf_cpumask *mask) __ksym;
extern bool bpf_cpumask_test_and_clear_cpu(u32 cpu, struct bpf_cpumask *mask) __ksym;
extern u32 bpf_cpumask_first(const struct cpumask *mask) __ksym;
extern u32 bpf_cpumask_first_zero(const struct cpumask *mask) __ksym;
extern void bpf_cpumask_setall(struct bpf_cpumask *mask) __ksym;
extern void bpf_cpumask_clear(struct bpf_cpumask *mask) __ksym;
extern bool bpf_cpumask_and(struct bpf_cpumask *to, const struct cpumask *a, const struct cpumask *b) __ksym;
extern void bpf_cpumask_or(struct bpf_cpumask *to, const struct cpumask *a, const struct cpumask *b) __ksym;
extern void bpf_cpumask_xor(struct bpf_cpumask *to, const struct cpumask *a, const struct cpumask *b) __ksym;
extern bool bpf_cpumask_equal(const struct cpumask *a, const struct cpumask *b) __ksym;
extern bool bpf_cpumask_intersects(const struct cpumask *a, const struct cpumask *b) __ksym;
extern bool bpf_cpumask_subset(const struct cpumask *a, const struct cpumask *b) __ksym;
extern bool bpf_cpumask_empty(const struct cpumask *mask) __ksym;
extern bool bpf_cpumask_full(const struct cpumask *mask) __ksym;
extern void bpf_cpumask_copy(struct bpf_cpumask *to, const struct cpumask *from) __ksym;
extern u32 bpf_cpumask_weight(const struct cpumask *mask) __ksym;

struct leaf {
	struct bpf_rb_node node;
	u64 number;
	struct bpf_refcount count;
};

struct slot {
	struct plain __kptr *object;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, u32);
	__type(value, struct slot);
	__uint(max_entries, 1);
} slots SEC(".maps");

private(A) struct bpf_spin_lock lock;
private(A) struct bpf_list_head list __contains(item, node);
private(B) struct bpf_spin_lock tree_lock;
private(B) struct bpf_rb_root tree __contains(leaf, node);

u64 noted[32];

SEC("tc")
int keep(struct __sk_buff *skb)
{
	u32 key = 0;
	struct slot *slot = bpf_map_lookup_elem(&slots, &key);
	struct plain *object, *old;

	if (!slot)
		return 1;
	object = new(struct plain);
	if (!object)
		return 2;
	noted[0] = object->number;
	object->number = 41;
	object->other = 7;
	old = kptr_xchg(&slot->object, object);
	noted[1] = old != 0;
	if (old)
		drop(old);
	return 0;
}

SEC("tc")
int take(struct __sk_buff *skb)
{
	u32 key = 0;
	struct slot *slot = bpf_map_lookup_elem(&slots, &key);
	struct plain *object;

	if (!slot)
		return 1;
	object = kptr_xchg(&slot->object, 0);
	noted[2] = object != 0;
	if (object) {
		__sync_fetch_and_add(&object->number, 1);
		noted[3] = object->number;
		noted[4] = object->other;
		drop(object);
	}
	return 0;
}

static __noinline int put(u64 number, bool front)
{
	struct item *item = new(struct item);

	if (!item)
		return 1;
	item->number = number;
	spin_lock(&lock);
	if (front)
		bpf_list_push_front_impl(&list, &item->node, 0, 0);
	else
		bpf_list_push_back_impl(&list, &item->node, 0, 0);
	spin_unlock(&lock);
	return 0;
}

SEC("tc")
int fill_list(struct __sk_buff *skb)
{
	return put(2, false) + put(3, false) + put(1, true) + put(4, false);
}

static __noinline u64 get(bool front)
{
	struct bpf_list_node *node;
	struct item *item;
	u64 number;

	spin_lock(&lock);
	node = front ? bpf_list_pop_front(&list) : bpf_list_pop_back(&list);
	spin_unlock(&lock);
	if (!node)
		return 99;
	item = container_of(node, struct item, node);
	number = item->number;
	drop(item);
	return number;
}

SEC("tc")
int empty_list(struct __sk_buff *skb)
{
	noted[5] = get(true);
	noted[6] = get(false);
	noted[7] = get(true);
	noted[8] = get(true);
	noted[9] = get(true);
	return 0;
}

static bool less(struct bpf_rb_node *a, const struct bpf_rb_node *b)
{
	return container_of(a, struct leaf, node)->number < container_of(b, struct leaf, node)->number;
}

static __noinline int grow(u64 number)
{
	struct leaf *leaf = new(struct leaf);

	if (!leaf)
		return 1;
	leaf->number = number;
	spin_lock(&tree_lock);
	bpf_rbtree_add_impl(&tree, &leaf->node, less, 0, 0);
	spin_unlock(&tree_lock);
	return 0;
}

static __noinline u64 smallest(void)
{
	struct bpf_rb_node *node;
	struct leaf *leaf;
	u64 number;

	spin_lock(&tree_lock);
	node = bpf_rbtree_first(&tree);
	if (!node) {
		spin_unlock(&tree_lock);
		return 99;
	}
	node = bpf_rbtree_remove(&tree, node);
	spin_unlock(&tree_lock);
	if (!node)
		return 98;
	leaf = container_of(node, struct leaf, node);
	number = leaf->number;
	drop(leaf);
	return number;
}

SEC("tc")
int use_tree(struct __sk_buff *skb)
{
	if (grow(5) + grow(1) + grow(9) + grow(3))
		return 1;
	noted[10] = smallest();
	noted[11] = smallest();
	noted[12] = smallest();
	noted[13] = smallest();
	noted[14] = smallest();
	return 0;
}

SEC("tc")
int count(struct __sk_buff *skb)
{
	struct leaf *leaf = new(struct leaf), *again;

	if (!leaf)
		return 1;
	leaf->number = 6;
	again = bpf_refcount_acquire_impl(leaf, 0);
	spin_lock(&tree_lock);
	noted[15] = bpf_rbtree_add_impl(&tree, &leaf->node, less, 0, 0);
	spin_unlock(&tree_lock);
	if (!again)
		return 2;
	noted[16] = again->number;
	/* It is in the tree already. */
	spin_lock(&tree_lock);
	noted[17] = bpf_rbtree_add_impl(&tree, &again->node, less, 0, 0);
	spin_unlock(&tree_lock);
	noted[18] = smallest();
	noted[19] = smallest();
	return 0;
}

SEC("syscall")
int cpus(void *context)
{
	struct bpf_cpumask *a = bpf_cpumask_create(), *b, *c;
	u64 seen = 0;

	if (!a)
		return 1;
	b = bpf_cpumask_create();
	if (!b) {
		bpf_cpumask_release(a);
		return 2;
	}
#define A ((const struct cpumask *)a)
#define B ((const struct cpumask *)b)
#define see(what) (seen = seen << 1 | ((what) & 1))
	see(bpf_cpumask_empty(A));
	bpf_cpumask_set_cpu(0, a);
	see(bpf_cpumask_empty(A));
	see(bpf_cpumask_test_cpu(0, A));
	see(bpf_cpumask_test_cpu(1, A));
	see(bpf_cpumask_test_and_set_cpu(0, a));
	see(bpf_cpumask_test_and_set_cpu(0, b));
	see(bpf_cpumask_equal(A, B));
	see(bpf_cpumask_intersects(A, B));
	see(bpf_cpumask_subset(A, B));
	see(bpf_cpumask_and(a, A, B));
	bpf_cpumask_xor(a, A, B);
	see(bpf_cpumask_empty(A));
	see(bpf_cpumask_test_and_clear_cpu(0, b));
	see(bpf_cpumask_test_and_clear_cpu(0, b));
	bpf_cpumask_setall(a);
	see(bpf_cpumask_full(A));
	see(bpf_cpumask_full(B));
	bpf_cpumask_or(b, A, B);
	see(bpf_cpumask_equal(A, B));
	bpf_cpumask_clear_cpu(0, b);
	see(bpf_cpumask_first(B) == 0);
	see(bpf_cpumask_first_zero(B) == 0);
	bpf_cpumask_clear(b);
	see(bpf_cpumask_weight(B) == 0);
	bpf_cpumask_copy(b, A);
	see(bpf_cpumask_weight(B) == bpf_cpumask_weight(A));
	c = bpf_cpumask_acquire(a);
	see(bpf_cpumask_first((const struct cpumask *)c) == 0);
	bpf_cpumask_release(c);
	bpf_cpumask_release(a);
	bpf_cpumask_release(b);
	noted[20] = seen;
	return 0;
}

LICENSE("GPL");

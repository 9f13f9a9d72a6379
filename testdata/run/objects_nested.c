// Why: objects with a lock and a list in them, objects of which each CPU has its own, and trees that are walked by their nodes.
#include "objects.h"

#define __percpu_kptr __attribute__((btf_type_tag("percpu_kptr")))

extern void *bpf_percpu_obj_new_impl(u64 type_id, void *meta) __ksym;
extern void bpf_percpu_obj_drop_impl(void *object, void *meta) __ksym;
extern struct bpf_rb_node *bpf_rbtree_root(struct bpf_rb_root *root) __ksym;
extern struct bpf_rb_node *bpf_rbtree_left(struct bpf_rb_root *root, struct bpf_rb_node *node) __ksym;
extern struct bpf_rb_node *bpf_rbtree_right(struct bpf_rb_root *root, struct bpf_rb_node *node) __ksym;

static void *(*per_cpu_ptr)(const void *percpu, u32 cpu) = (void *)153;
static void *(*this_cpu_ptr)(const void *percpu) = (void *)154;

struct holder {
	u64 number;
	struct bpf_list_head list __contains(item, node);
	struct bpf_spin_lock lock;
};

struct leaf {
	u64 number;
	struct bpf_rb_node node;
};

struct slot {
	struct holder __kptr *holder;
	struct plain __percpu_kptr *each;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, u32);
	__type(value, struct slot);
	__uint(max_entries, 1);
} slots SEC(".maps");

private(A) struct bpf_spin_lock tree_lock;
private(A) struct bpf_rb_root tree __contains(leaf, node);

u64 noted[32];

static inline __attribute__((always_inline)) int push(struct holder *holder, u64 number)
{
	struct item *item = new(struct item);

	if (!item)
		return 1;
	item->number = number;
	spin_lock(&holder->lock);
	bpf_list_push_front_impl(&holder->list, &item->node, 0, 0);
	spin_unlock(&holder->lock);
	return 0;
}

static inline __attribute__((always_inline)) u64 pop(struct holder *holder)
{
	struct bpf_list_node *node;
	struct item *item;
	u64 number;

	spin_lock(&holder->lock);
	node = bpf_list_pop_back(&holder->list);
	spin_unlock(&holder->lock);
	if (!node)
		return 99;
	item = container_of(node, struct item, node);
	number = item->number;
	drop(item);
	return number;
}

SEC("tc")
int hold(struct __sk_buff *skb)
{
	u32 key = 0;
	struct slot *slot = bpf_map_lookup_elem(&slots, &key);
	struct holder *holder;

	if (!slot)
		return 1;
	holder = new(struct holder);
	if (!holder)
		return 2;
	holder->number = 7;
	noted[0] = pop(holder);
	if (push(holder, 1) || push(holder, 2) || push(holder, 3)) {
		drop(holder);
		return 3;
	}
	noted[1] = pop(holder);
	holder = kptr_xchg(&slot->holder, holder);
	noted[2] = holder != 0;
	if (holder)
		drop(holder);
	return 0;
}

SEC("tc")
int release(struct __sk_buff *skb)
{
	u32 key = 0;
	struct slot *slot = bpf_map_lookup_elem(&slots, &key);
	struct holder *holder;

	if (!slot)
		return 1;
	holder = kptr_xchg(&slot->holder, 0);
	noted[3] = holder != 0;
	if (!holder)
		return 0;
	noted[4] = holder->number;
	noted[5] = pop(holder);
	/* One is left in it. */
	drop(holder);
	return 0;
}

SEC("tc")
int each_cpu(struct __sk_buff *skb)
{
	u32 key = 0;
	struct slot *slot = bpf_map_lookup_elem(&slots, &key);
	struct plain *each, *own;

	if (!slot)
		return 1;
	each = bpf_percpu_obj_new_impl(__builtin_btf_type_id(*(struct plain *)0, 0), 0);
	if (!each)
		return 2;
	each = kptr_xchg(&slot->each, each);
	noted[6] = each != 0;
	if (each)
		bpf_percpu_obj_drop_impl(each, 0);
	each = slot->each;
	if (!each)
		return 3;
	own = this_cpu_ptr(each);
	noted[7] = own->number;
	own = per_cpu_ptr(each, 0);
	if (own) {
		own->number = 4;
		own->other = 5;
	}
	own = per_cpu_ptr(each, 1);
	if (own) {
		noted[8] = own->number;
		own->number = 6;
	}
	own = per_cpu_ptr(each, 0);
	if (own)
		noted[9] = own->number * 10 + own->other;
	own = per_cpu_ptr(each, 1);
	if (own)
		noted[10] = own->number;
	noted[11] = per_cpu_ptr(each, 1000000) != 0;
	return 0;
}

static bool less(struct bpf_rb_node *a, const struct bpf_rb_node *b)
{
	return container_of(a, struct leaf, node)->number < container_of(b, struct leaf, node)->number;
}

SEC("tc")
int walk(struct __sk_buff *skb)
{
	u64 numbers[] = { 50, 20, 80 };
	struct bpf_rb_node *node, *next;
	struct leaf *leaf;
	int i;

	noted[12] = 99;
	spin_lock(&tree_lock);
	node = bpf_rbtree_root(&tree);
	if (node)
		noted[12] = 1;
	spin_unlock(&tree_lock);
	for (i = 0; i < 3; i++) {
		leaf = new(struct leaf);
		if (!leaf)
			return 1;
		leaf->number = numbers[i];
		spin_lock(&tree_lock);
		bpf_rbtree_add_impl(&tree, &leaf->node, less, 0, 0);
		spin_unlock(&tree_lock);
	}
	spin_lock(&tree_lock);
	node = bpf_rbtree_root(&tree);
	if (node) {
		noted[13] = container_of(node, struct leaf, node)->number;
		next = bpf_rbtree_left(&tree, node);
		if (next)
			noted[14] = container_of(next, struct leaf, node)->number;
		next = bpf_rbtree_right(&tree, node);
		if (next) {
			noted[15] = container_of(next, struct leaf, node)->number;
			next = bpf_rbtree_right(&tree, next);
			noted[16] = next ? 1 : 98;
		}
	}
	spin_unlock(&tree_lock);
	return 0;
}

LICENSE("Dual MIT/GPL");

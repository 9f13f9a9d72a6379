// Why: locks that say what would wait for ever (bpf_res_spin_lock): taken, taken twice by one, and given back.
#include "skep_bpf.h"

struct bpf_res_spin_lock { u32 val; };
struct value { struct bpf_res_spin_lock lock; u32 number; };

int bpf_res_spin_lock(struct bpf_res_spin_lock *lock) __ksym;
void bpf_res_spin_unlock(struct bpf_res_spin_lock *lock) __ksym;
int bpf_res_spin_lock_irqsave(struct bpf_res_spin_lock *lock, unsigned long *flags) __ksym;
void bpf_res_spin_unlock_irqrestore(struct bpf_res_spin_lock *lock, unsigned long *flags) __ksym;

struct {
	int (*type)[BPF_MAP_TYPE_ARRAY];
	int (*max_entries)[2];
	u32 *key;
	struct value *value;
} locked SEC(".maps");

u32 keys[2];
long noted[2];

// Takes both locks, which are the same one when both keys are.
SEC("tc")
int take(struct __sk_buff *skb)
{
	u32 first = keys[0], second = keys[1];
	struct value *one = bpf_map_lookup_elem(&locked, &first);
	struct value *two = bpf_map_lookup_elem(&locked, &second);
	int answer;

	if (!one || !two)
		return 1;
	answer = bpf_res_spin_lock(&one->lock);
	if (answer) {
		noted[0] = answer;
		return 2;
	}
	one->number += 1;
	answer = bpf_res_spin_lock(&two->lock);
	if (!answer) {
		two->number += 10;
		bpf_res_spin_unlock(&two->lock);
	}
	bpf_res_spin_unlock(&one->lock);
	noted[0] = 0;
	noted[1] = answer;
	return 0;
}

SEC("tc")
int take_without_interrupts(struct __sk_buff *skb)
{
	u32 first = keys[0], second = keys[1];
	struct value *one = bpf_map_lookup_elem(&locked, &first);
	struct value *two = bpf_map_lookup_elem(&locked, &second);
	unsigned long outer, inner;
	int answer;

	if (!one || !two)
		return 1;
	answer = bpf_res_spin_lock_irqsave(&one->lock, &outer);
	if (answer) {
		noted[0] = answer;
		return 2;
	}
	answer = bpf_res_spin_lock_irqsave(&two->lock, &inner);
	if (!answer)
		bpf_res_spin_unlock_irqrestore(&two->lock, &inner);
	bpf_res_spin_unlock_irqrestore(&one->lock, &outer);
	noted[0] = 0;
	noted[1] = answer;
	return 0;
}

#define MANY 32

struct {
	int (*type)[BPF_MAP_TYPE_ARRAY];
	int (*max_entries)[MANY];
	u32 *key;
	struct value *value;
} many SEC(".maps");

u64 waited;

// Takes many locks, and the last one of them once more: the kernel takes note of 31 that are held.
SEC("tc")
int take_many(struct __sk_buff *skb)
{
	struct bpf_res_spin_lock *locks[MANY + 1] = {};
	int i, answer = 0;
	u64 begin = bpf_ktime_get_ns();

	for (i = 0; i <= MANY; i++) {
		u32 key = i < MANY ? i : MANY - 1;
		struct value *one = bpf_map_lookup_elem(&many, &key);

		if (!one)
			return 1;
		locks[i] = &one->lock;
	}
	for (i = 0; i < MANY; i++) {
		answer = bpf_res_spin_lock(locks[i]);
		if (answer)
			goto end;
	}
	answer = bpf_res_spin_lock(locks[MANY]);
	if (!answer)
		bpf_res_spin_unlock(locks[MANY]);
end:
	for (i = i - 1; i >= 0; i--)
		bpf_res_spin_unlock(locks[i]);
	waited = bpf_ktime_get_ns() - begin;
	noted[1] = answer;
	return 0;
}

LICENSE("Dual MIT/GPL");

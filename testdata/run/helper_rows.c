// Why: what helpers answer in programs: each line with NOTE is a row of testdata/golden/helpers_6.18.txt, under the name of its program.
#include "skep_bpf.h"

static s64 (*const bpf_xdp_load_bytes)(void *c, u32 at, void *to, u32 len) = (void *)189;
static s64 (*const bpf_xdp_store_bytes)(void *c, u32 at, void *from, u32 len) = (void *)190;
static u64 (*const bpf_xdp_get_buff_len)(void *c) = (void *)188;
static s64 (*const bpf_redirect)(u32 device, u64 flags) = (void *)23;
static s64 (*const bpf_redirect_map)(void *map, u64 key, u64 flags) = (void *)51;
static s64 (*const bpf_csum_diff)(void *from, u32 from_len, void *to, u32 to_len, u32 seed) = (void *)28;
static s64 (*const bpf_probe_read_user)(void *to, u32 len, const void *from) = (void *)112;
static void *(*const bpf_map_lookup_percpu_elem)(void *map, const void *key, u32 cpu) = (void *)195;
static s64 (*const bpf_get_numa_node_id)(void) = (void *)42;
static s64 (*const bpf_strtol)(const char *text, u64 len, u64 flags, s64 *to) = (void *)105;
static s64 (*const bpf_strncmp)(const char *a, u32 len, const char *b) = (void *)182;
static s64 (*const bpf_snprintf)(char *to, u32 len, const char *format, u64 *args, u32 args_len) = (void *)165;
static u64 (*const bpf_jiffies64)(void) = (void *)118;
static s64 (*const bpf_skb_store_bytes)(void *c, u32 at, const void *from, u32 len, u64 flags) = (void *)9;
static s64 (*const bpf_l3_csum_replace)(void *c, u32 at, u64 from, u64 to, u64 flags) = (void *)10;
static s64 (*const bpf_l4_csum_replace)(void *c, u32 at, u64 from, u64 to, u64 flags) = (void *)11;
static s64 (*const bpf_clone_redirect)(void *c, u32 device, u64 flags) = (void *)13;
static u32 (*const bpf_get_cgroup_classid)(void *c) = (void *)17;
static s64 (*const bpf_skb_vlan_push)(void *c, u16 proto, u16 tci) = (void *)18;
static s64 (*const bpf_skb_vlan_pop)(void *c) = (void *)19;
static u32 (*const bpf_get_route_realm)(void *c) = (void *)24;
static s64 (*const bpf_skb_change_proto)(void *c, u16 proto, u64 flags) = (void *)31;
static s64 (*const bpf_skb_change_type)(void *c, u32 type) = (void *)32;
static u32 (*const bpf_get_hash_recalc)(void *c) = (void *)34;
static s64 (*const bpf_skb_change_tail)(void *c, u32 len, u64 flags) = (void *)38;
static s64 (*const bpf_skb_pull_data)(void *c, u32 len) = (void *)39;
static s64 (*const bpf_csum_update)(void *c, u32 sum) = (void *)40;
static s64 (*const bpf_skb_change_head)(void *c, u32 len, u64 flags) = (void *)43;
static u64 (*const bpf_get_socket_cookie)(void *c) = (void *)46;
static u32 (*const bpf_get_socket_uid)(void *c) = (void *)47;
static s64 (*const bpf_skb_adjust_room)(void *c, s32 len, u32 mode, u64 flags) = (void *)50;

// Results in the order of the lines. Each program has a range of its own, so that a kernel which refuses one of them can run the others.
s64 results[256];
#define NOTE(what) results[__COUNTER__] = (s64)(what)

#define MAP(name, kind, key_type, value_type, entries) \
	struct { __uint(type, kind); __uint(max_entries, entries); __type(key, key_type); __type(value, value_type); } name SEC(".maps")
struct prefix { u32 bits, address; };
MAP(h2, BPF_MAP_TYPE_HASH, u32, u64, 2);
MAP(h3, BPF_MAP_TYPE_HASH, u32, u64, 3);
MAP(a, BPF_MAP_TYPE_ARRAY, u32, u64, 4);
MAP(pca, BPF_MAP_TYPE_PERCPU_ARRAY, u32, u64, 4);
struct { __uint(type, 22); __uint(max_entries, 2); __type(value, u64); } q SEC(".maps");
struct { __uint(type, 30); __uint(max_entries, 8); __type(value, u64); } bl SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 4096); } rb SEC(".maps");
MAP(pe, 4, u32, u32, 4);
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE); __uint(max_entries, 2); __uint(map_flags, 1);
	__type(key, struct prefix); __type(value, u64);
} lp SEC(".maps");
MAP(programs, 3, u32, u32, 1);
MAP(dm, 14, u32, u32, 4);
MAP(dh, 25, u32, u32, 4);
MAP(cm, 16, u32, u32, 4);
MAP(xm, 17, u32, u32, 4);

// What each program calls `h` is another map.
#define h h2
SEC("raw_tp/prog-side")
int prog_side(struct bpf_raw_tracepoint_args *c)
{
	u32 k = 1, k2 = 2, k3 = 3, bad = 99;
	u64 v = 7, w = 5, d = 5, args[1] = { 7 };
	s64 r = 0;
	char s[8] = "aaaaaaa", t[4] = "aaa", cm[16] = "", b[16] = "";
	struct prefix lk = { 33, 0 };
	void *p;

	NOTE(bpf_map_delete_elem(&h,&k));
	NOTE(bpf_map_update_elem(&h,&k,&v,2));
	NOTE(bpf_map_update_elem(&h,&k,&v,1));
	NOTE(bpf_map_update_elem(&h,&k,&v,1));
	NOTE(bpf_map_update_elem(&h,&k2,&v,0));
	NOTE(bpf_map_update_elem(&h,&k3,&v,0));
	NOTE(bpf_map_update_elem(&h,&k,&v,8));
	NOTE(bpf_map_lookup_elem(&h,&bad)==0);
	NOTE(bpf_map_update_elem(&a,&bad,&v,0));
	NOTE(bpf_map_update_elem(&a,&k,&v,1));
	NOTE(bpf_map_delete_elem(&a,&k));
	NOTE(bpf_map_lookup_elem(&a,&bad)==0);
	NOTE(bpf_map_pop_elem(&q,&w));
	NOTE((s64)w);
	NOTE(bpf_map_push_elem(&q,&v,0));
	NOTE(bpf_map_push_elem(&q,&v,0));
	NOTE(bpf_map_push_elem(&q,&v,0));
	NOTE(bpf_map_push_elem(&q,&v,2));
	NOTE(bpf_map_push_elem(&q,&v,1));
	NOTE(bpf_map_peek_elem(&q,&w));
	NOTE(w);
	{
		// Not on the stack: Linux 7.2 believes that a look writes there, and refuses what it takes for unset.
		static u64 v = 7;

		NOTE(bpf_map_peek_elem(&bl,&v));
		NOTE(bpf_map_push_elem(&bl,&v,0));
		NOTE(bpf_map_peek_elem(&bl,&v));
		NOTE(bpf_map_push_elem(&bl,&v,1));
	}
	// Larger than the ring; as large as fits; with flags that there are not, while the ring is full.
	p = bpf_ringbuf_reserve(&rb, 4089, 0);
	NOTE(p!=0);
	if (p)
		bpf_ringbuf_discard(p, 0);
	p = bpf_ringbuf_reserve(&rb, 4080, 0);
	NOTE(p!=0);
	if (p)
		bpf_ringbuf_discard(p, 0);
	p = bpf_ringbuf_reserve(&rb, 8, 1);
	NOTE(p!=0);
	if (p)
		bpf_ringbuf_discard(p, 0);
	NOTE(bpf_ringbuf_output(&rb,&v,8,0));
	NOTE(bpf_ringbuf_output(&rb,&v,8,8));
	NOTE(bpf_ringbuf_query(&rb,0));
	NOTE(bpf_ringbuf_query(&rb,1));
	NOTE(bpf_ringbuf_query(&rb,9));
	NOTE(bpf_perf_event_output(c,&pe,0,&v,8));
	NOTE(bpf_perf_event_output(c,&pe,9,&v,8));
	NOTE(bpf_perf_event_output(c,&pe,0xffffffffULL,&v,8));
	NOTE(bpf_perf_event_output(c,&pe,1ULL<<33,&v,8));
	NOTE(bpf_probe_read_kernel(&d,8,(void*)0x10));
	NOTE(d);
	d = 5;
	NOTE(bpf_probe_read_user(&d,8,(void*)0x10));
	NOTE(d);
	NOTE(bpf_probe_read_kernel_str(s,8,(void*)0x10));
	NOTE(s[0]);
	NOTE(bpf_probe_read_kernel_str(t,4,"hello"));
	NOTE(t[3]);
	NOTE(bpf_probe_read_kernel_str(t,4,"hi"));
	NOTE(bpf_map_update_elem(&lp,&lk,&v,0));
	lk.bits = 8;
	NOTE(bpf_map_update_elem(&lp,&lk,&v,0));
	lk.bits = 16;
	NOTE(bpf_map_update_elem(&lp,&lk,&v,0));
	lk.bits = 24;
	NOTE(bpf_map_update_elem(&lp,&lk,&v,0));
	lk.bits = 33;
	NOTE(bpf_map_lookup_elem(&lp,&lk)==0);
	NOTE(bpf_map_delete_elem(&lp,&lk));
	NOTE(bpf_get_current_comm(cm,16));
	NOTE(bpf_get_current_comm(cm,4));
	NOTE(cm[3]);
	NOTE((s64)bpf_map_lookup_percpu_elem(&pca,&k,99)==0);
	NOTE(bpf_map_lookup_percpu_elem(&pca,&k,1)!=0);
	NOTE(bpf_get_smp_processor_id()<2);
	NOTE(bpf_get_numa_node_id());
	NOTE(bpf_strtol("123x",4,0,&r));
	NOTE(r);
	NOTE(bpf_strtol("x",1,10,&r));
	NOTE(bpf_strtol("99",2,7,&r));
	NOTE(bpf_strncmp("abc",3,"abd"));
	NOTE(bpf_snprintf(b,16,"v=%d",args,8));
	NOTE(bpf_snprintf(b,4,"v=%d long",args,8));
	NOTE(b[3]);
	NOTE(bpf_trace_printk("hi %d\n",7,5));
	NOTE(bpf_get_current_pid_tgid()>>32!=0);
	NOTE(bpf_jiffies64()!=0);
	NOTE(bpf_ringbuf_query(&rb,2));
	NOTE(bpf_ringbuf_query(&rb,3));
	NOTE(bpf_strtol("0x1f",4,0,&r));
	NOTE(r);
	return 0;
}
#undef h

u64 runs, fell_through;

SEC("raw_tp/tail_call")
int tail_call(void *c)
{
	runs++;
	bpf_tail_call(c, &programs, 0);
	fell_through++;
	return 5;
}

static __noinline int cb(u32 at, u64 *x)
{
	return ++*x == 4;
}

static __noinline int each(void *map, u32 *key, u64 *value, u64 *x)
{
	++*x;
	return 0;
}

static __noinline int each1(void *map, u32 *key, u64 *value, u64 *x)
{
	++*x;
	return 1;
}

static __noinline int eachdel(void *map, u32 *key, u64 *value, u64 *x)
{
	++*x;
	bpf_map_delete_elem(map, key);
	return 0;
}

#define h h3
// Always 0; a verifier that knew it would follow every turn.
u64 zero;

SEC("raw_tp/loop")
int loop(void *c)
{
	u64 x = zero, v = 7;
	u32 k = 0, k2 = 1, k3 = 2;

	bpf_map_update_elem(&h, &k, &v, 0);
	bpf_map_update_elem(&h, &k2, &v, 0);
	bpf_map_update_elem(&h, &k3, &v, 0);
	NOTE(bpf_loop(100,cb,&x,0));
	NOTE(x);
	NOTE(bpf_loop(0,cb,&x,0));
	NOTE(bpf_loop((1<<23)+1,cb,&x,0));
	NOTE(bpf_loop(1,cb,&x,1));
	x = zero;
	NOTE(bpf_for_each_map_elem(&h,each,&x,0));
	NOTE(x);
	x = zero;
	NOTE(bpf_for_each_map_elem(&a,each,&x,0));
	NOTE(x);
	x = zero;
	NOTE(bpf_for_each_map_elem(&h,each1,&x,0));
	NOTE(x);
	NOTE(bpf_for_each_map_elem(&h,each,&x,1));
	x = zero;
	NOTE(bpf_for_each_map_elem(&h,eachdel,&x,0));
	NOTE(x);
	NOTE(bpf_for_each_map_elem(&h,each,&x,0));
	return 0;
}

SEC("xdp")
int xdp_side(struct xdp_md *c)
{
	u8 b[8] = { 1, 2, 3, 4, 5, 6, 7, 8 };
	u8 z[8] __attribute__((aligned(8))) = { 0x12, 0x34, 0x56, 0x78, 0x9a, 0xbc, 0xde, 0xf0 };

	NOTE(bpf_redirect_map(&dm,0,0));
	NOTE(bpf_redirect_map(&dm,0,2));
	NOTE(bpf_redirect_map(&dm,9,1));
	NOTE(bpf_redirect_map(&dm,0,9));
	NOTE(bpf_redirect_map(&cm,1,2));
	NOTE(bpf_redirect_map(&xm,0,2));
	NOTE(bpf_redirect_map(&dh,7,3));
	NOTE(bpf_redirect(1,0));
	NOTE(bpf_redirect(1,1));
	NOTE(bpf_redirect(9999,0));
	NOTE(bpf_xdp_load_bytes(c,60,b,8));
	NOTE(b[0]);
	NOTE(bpf_xdp_load_bytes(c,0,b,8));
	NOTE(bpf_xdp_store_bytes(c,60,b,8));
	NOTE(bpf_xdp_get_buff_len(c));
	NOTE(bpf_csum_diff(0,0,(void*)b,8,0));
	NOTE(bpf_csum_diff((void*)b,4,(void*)b,8,0));
	NOTE(bpf_csum_diff(0,0,(void*)z,8,0));
	NOTE(bpf_csum_diff(0,0,(void*)z,8,0xffff));
	NOTE(bpf_csum_diff((void*)z,8,0,0,0));
	NOTE(bpf_csum_diff((void*)z,4,(void*)(z+4),4,7));
	NOTE(bpf_redirect_map(&dm,1,0));
	return XDP_PASS;
}

SEC("tc")
int tc_side(struct __sk_buff *c)
{
	u8 b[8] = { 1, 2, 3, 4, 5, 6, 7, 8 };

	NOTE(bpf_skb_load_bytes(c,0,b,8));
	NOTE(b[0]);
	NOTE(bpf_skb_load_bytes(c,60,b,8));
	NOTE(b[0]);
	NOTE(bpf_skb_store_bytes(c,60,b,8,0));
	NOTE(bpf_skb_store_bytes(c,0,b,4,0));
	NOTE(bpf_skb_store_bytes(c,0,b,4,1));
	NOTE(bpf_skb_store_bytes(c,0,b,4,8));
	NOTE(bpf_skb_pull_data(c,0));
	NOTE(bpf_skb_pull_data(c,1000));
	NOTE(bpf_skb_change_tail(c,10,0));
	NOTE(bpf_skb_change_tail(c,100,0));
	NOTE(c->len);
	NOTE(bpf_skb_change_tail(c,100,1));
	NOTE(bpf_clone_redirect(c,9999,0));
	NOTE(bpf_l3_csum_replace(c,24,0,0x1234,0));
	NOTE(bpf_l3_csum_replace(c,24,0x11,0x22,2));
	NOTE(bpf_l4_csum_replace(c,50,0x11,0x22,2));
	NOTE(bpf_l3_csum_replace(c,25,0x11,0x22,2));
	NOTE(bpf_l3_csum_replace(c,24,1,2,3));
	NOTE(bpf_skb_vlan_push(c,0x81<<0,5));
	NOTE(c->vlan_present);
	NOTE(bpf_skb_vlan_pop(c));
	NOTE(bpf_skb_change_head(c,14,0));
	NOTE(c->len);
	NOTE(bpf_skb_adjust_room(c,20,1,0));
	NOTE(c->len);
	NOTE(bpf_skb_adjust_room(c,-200,1,0));
	NOTE(bpf_skb_change_type(c,0));
	NOTE(c->pkt_type);
	NOTE(bpf_get_hash_recalc(c)!=0);
	NOTE(bpf_skb_change_proto(c,0xdd86,0));
	NOTE(bpf_get_cgroup_classid(c));
	NOTE(bpf_get_route_realm(c));
	NOTE(bpf_csum_update(c,5));
	NOTE(bpf_get_socket_cookie(c)!=0);
	NOTE(bpf_get_socket_uid(c));
	return 0;
}

LICENSE("GPL");

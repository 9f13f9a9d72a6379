// What our BPF sources share: integer types, section and map macros, helpers by number, compile-once wrappers and the
// context structs of the program types. Written for this project so that regenerating the test objects needs no header
// of the machine it runs on.
#ifndef SKEP_BPF_H
#define SKEP_BPF_H

typedef unsigned char u8;
typedef signed char s8;
typedef unsigned short u16;
typedef short s16;
typedef unsigned int u32;
typedef int s32;
typedef unsigned long long u64;
typedef long long s64;
typedef u16 be16;
typedef u32 be32;
typedef _Bool bool;
#define true 1
#define false 0
#define NULL ((void *)0)

#define SEC(name) __attribute__((section(name), used))
#define LICENSE(text) char LICENSE_TEXT[] SEC("license") = text
#define __noinline __attribute__((noinline))
#define __inline static inline __attribute__((always_inline))
#define __weak __attribute__((weak))
#define __hidden __attribute__((visibility("hidden")))
#define __ksym __attribute__((section(".ksyms")))
#define __kconfig __attribute__((section(".kconfig")))
#define __arena __attribute__((address_space(1)))
#define __tag(text) __attribute__((btf_decl_tag(text)))
#define __type_tag(text) __attribute__((btf_type_tag(text)))
// An optimisation barrier: the compiler can no longer know the value of `v`.
#define opaque(v) asm volatile("" : "+r"(v))

// Map definitions: a number is the length of an array behind a pointer, a type is the type behind a pointer.
#define __uint(name, value) int(*name)[value]
#define __type(name, what) typeof(what) *name
#define __array(name, what) typeof(what) *name[]
#define SKEP_GLUE2(a, b) a##b
#define SKEP_GLUE(a, b) SKEP_GLUE2(a, b)
#define __ulong(name, value) enum { SKEP_GLUE(skep_ulong_, __COUNTER__) = value } name
#define LIBBPF_PIN_BY_NAME 1

// Compile-once relocations. Each wrapper yields what the relocation patches in; all thirteen kinds are here.
#define core(expr) __builtin_preserve_access_index(expr)
#define core_offset(field) __builtin_preserve_field_info(field, 0)
#define core_size(field) __builtin_preserve_field_info(field, 1)
#define core_exists(field) __builtin_preserve_field_info(field, 2)
#define core_signed(field) __builtin_preserve_field_info(field, 3)
#define core_lshift(field) __builtin_preserve_field_info(field, 4)
#define core_rshift(field) __builtin_preserve_field_info(field, 5)
#define core_type_local(type) __builtin_btf_type_id(*(typeof(type) *)0, 0)
#define core_type_target(type) __builtin_btf_type_id(*(typeof(type) *)0, 1)
#define core_type_exists(type) __builtin_preserve_type_info(*(typeof(type) *)0, 0)
#define core_type_size(type) __builtin_preserve_type_info(*(typeof(type) *)0, 1)
#define core_type_matches(type) __builtin_preserve_type_info(*(typeof(type) *)0, 2)
#define core_enum_exists(type, value) __builtin_preserve_enum_value(*(typeof(type) *)value, 0)
#define core_enum_value(type, value) __builtin_preserve_enum_value(*(typeof(type) *)value, 1)
// `core_field(struct sock, sk_protocol)` names a field without having a pointer to the struct.
#define core_field(type, field) (((type *)0)->field)
#define core_read(dst, field) bpf_probe_read_kernel(dst, sizeof(*(dst)), core(&(field)))
#define core_relocatable __attribute__((preserve_access_index))

// Helpers by their number in the kernel's list.
static void *(*const bpf_map_lookup_elem)(void *map, const void *key) = (void *)1;
static long (*const bpf_map_update_elem)(void *map, const void *key, const void *value, u64 flags) = (void *)2;
static long (*const bpf_map_delete_elem)(void *map, const void *key) = (void *)3;
static u64 (*const bpf_ktime_get_ns)(void) = (void *)5;
static long (*const bpf_trace_printk)(const char *fmt, u32 size, ...) = (void *)6;
static u32 (*const bpf_get_prandom_u32)(void) = (void *)7;
static u32 (*const bpf_get_smp_processor_id)(void) = (void *)8;
static long (*const bpf_tail_call)(void *ctx, void *prog_array, u32 index) = (void *)12;
static u64 (*const bpf_get_current_pid_tgid)(void) = (void *)14;
static u64 (*const bpf_get_current_uid_gid)(void) = (void *)15;
static long (*const bpf_get_current_comm)(void *buf, u32 size) = (void *)16;
static long (*const bpf_perf_event_output)(void *ctx, void *map, u64 flags, void *data, u64 size) = (void *)25;
static long (*const bpf_skb_load_bytes)(const void *skb, u32 offset, void *to, u32 len) = (void *)26;
static u64 (*const bpf_get_current_task)(void) = (void *)35;
static long (*const bpf_map_push_elem)(void *map, const void *value, u64 flags) = (void *)87;
static long (*const bpf_map_pop_elem)(void *map, void *value) = (void *)88;
static long (*const bpf_map_peek_elem)(void *map, void *value) = (void *)89;
static long (*const bpf_probe_read_kernel)(void *dst, u32 size, const void *src) = (void *)113;
static long (*const bpf_probe_read_kernel_str)(void *dst, u32 size, const void *src) = (void *)115;
static long (*const bpf_seq_write)(void *seq, const void *data, u32 len) = (void *)127;
static long (*const bpf_ringbuf_output)(void *ringbuf, void *data, u64 size, u64 flags) = (void *)130;
static void *(*const bpf_ringbuf_reserve)(void *ringbuf, u64 size, u64 flags) = (void *)131;
static void (*const bpf_ringbuf_submit)(void *data, u64 flags) = (void *)132;
static void (*const bpf_ringbuf_discard)(void *data, u64 flags) = (void *)133;
static u64 (*const bpf_ringbuf_query)(void *ringbuf, u64 what) = (void *)134;
static void *(*const bpf_task_storage_get)(void *map, void *task, void *value, u64 flags) = (void *)156;
static void *(*const bpf_get_current_task_btf)(void) = (void *)158;
static long (*const bpf_for_each_map_elem)(void *map, void *callback, void *ctx, u64 flags) = (void *)164;
static long (*const bpf_sys_bpf)(u32 cmd, void *attr, u32 attr_size) = (void *)166;
static long (*const bpf_loop)(u32 nr, void *callback, void *ctx, u64 flags) = (void *)181;
static long (*const bpf_dynptr_read)(void *dst, u32 len, const void *src, u32 offset, u64 flags) = (void *)201;
static long (*const bpf_user_ringbuf_drain)(void *map, void *callback, void *ctx, u64 flags) = (void *)209;

enum xdp_action { XDP_ABORTED, XDP_DROP, XDP_PASS, XDP_TX, XDP_REDIRECT };
enum map_type {
	BPF_MAP_TYPE_HASH = 1, BPF_MAP_TYPE_ARRAY = 2, BPF_MAP_TYPE_PERCPU_HASH = 5, BPF_MAP_TYPE_PERCPU_ARRAY = 6,
	BPF_MAP_TYPE_LRU_HASH = 9, BPF_MAP_TYPE_LRU_PERCPU_HASH = 10, BPF_MAP_TYPE_LPM_TRIE = 11, BPF_MAP_TYPE_RINGBUF = 27,
};

// Contexts, as the kernel's user-space interface lays them out; trailing members that no source here needs are left out.
struct xdp_md { u32 data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex; };
struct __sk_buff {
	u32 len, pkt_type, mark, queue_mapping, protocol, vlan_present, vlan_tci, vlan_proto, priority, ingress_ifindex, ifindex;
	u32 tc_index, cb[5], hash, tc_classid, data, data_end;
};
struct bpf_raw_tracepoint_args { u64 args[0]; };
struct bpf_sock { u32 bound_dev_if, family, type, protocol, mark, priority; };
struct bpf_sock_addr { u32 user_family, user_ip4, user_ip6[4], user_port, family, type, protocol; };
struct bpf_sysctl { u32 write, file_pos; };
struct bpf_sockopt { u64 sk, optval, optval_end; s32 level, optname, optlen, retval; };
struct bpf_cgroup_dev_ctx { u32 access_type, major, minor; };
struct bpf_sock_ops { u32 op, reply[4], family, remote_ip4, local_ip4; };
struct bpf_sk_lookup { u64 cookie; u32 family, protocol, remote_ip4; };
struct sk_msg_md { u64 data, data_end; u32 family; };
struct sk_reuseport_md { u64 data, data_end; u32 len; };
struct bpf_iter_meta { void *seq; u64 session_id, seq_num; } core_relocatable;
struct task_struct;
struct bpf_iter__task { struct bpf_iter_meta *meta; struct task_struct *task; } core_relocatable;

#endif

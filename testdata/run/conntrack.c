// Why: connections that the network tracks: looked up, made, inserted, changed and released, from XDP and tc programs.
#include "skep_bpf.h"

union nf_inet_addr {
	u32 all[4];
	be32 ip;
};
struct nf_conntrack_man {
	union nf_inet_addr u3;
	union { be16 all; } u;
	u16 l3num;
};
struct nf_conntrack_tuple {
	struct nf_conntrack_man src;
	struct {
		union nf_inet_addr u3;
		union { be16 all; } u;
		u8 protonum;
		u8 dir;
	} dst;
};
struct nf_conntrack_tuple_hash { struct nf_conntrack_tuple tuple; };
struct nf_conntrack_zone { u16 id; u8 flags; u8 dir; };
struct nf_conn {
	u32 timeout;
	struct nf_conntrack_zone zone;
	struct nf_conntrack_tuple_hash tuplehash[2];
	unsigned long status;
	u32 mark;
};
struct nf_conn___init { struct nf_conn ct; };
enum nf_nat_manip_type { NF_NAT_MANIP_SRC, NF_NAT_MANIP_DST };
struct bpf_sock_tuple { char bytes[36]; };
struct bpf_ct_opts {
	s32 netns_id;
	s32 error;
	u8 l4proto;
	u8 dir;
	u16 ct_zone_id;
	u8 ct_zone_dir;
	u8 reserved[3];
};

extern struct nf_conn___init *bpf_xdp_ct_alloc(struct xdp_md *ctx, struct bpf_sock_tuple *tuple, u32 tuple__sz,
					       struct bpf_ct_opts *opts, u32 opts__sz) __ksym;
extern struct nf_conn *bpf_xdp_ct_lookup(struct xdp_md *ctx, struct bpf_sock_tuple *tuple, u32 tuple__sz,
					 struct bpf_ct_opts *opts, u32 opts__sz) __ksym;
extern struct nf_conn___init *bpf_skb_ct_alloc(struct __sk_buff *ctx, struct bpf_sock_tuple *tuple, u32 tuple__sz,
					       struct bpf_ct_opts *opts, u32 opts__sz) __ksym;
extern struct nf_conn *bpf_skb_ct_lookup(struct __sk_buff *ctx, struct bpf_sock_tuple *tuple, u32 tuple__sz,
					 struct bpf_ct_opts *opts, u32 opts__sz) __ksym;
extern struct nf_conn *bpf_ct_insert_entry(struct nf_conn___init *ct) __ksym;
extern void bpf_ct_release(struct nf_conn *ct) __ksym;
extern void bpf_ct_set_timeout(struct nf_conn___init *ct, u32 timeout) __ksym;
extern int bpf_ct_change_timeout(struct nf_conn *ct, u32 timeout) __ksym;
extern int bpf_ct_set_status(const struct nf_conn___init *ct, u32 status) __ksym;
extern int bpf_ct_change_status(struct nf_conn *ct, u32 status) __ksym;
extern int bpf_ct_set_nat_info(struct nf_conn___init *ct, union nf_inet_addr *addr, int port,
			       enum nf_nat_manip_type manip) __ksym;

static u64 (*const jiffies64)(void) = (void *)118;

// What the test asks for.
char tuple[36];
u32 tuple_len;
struct bpf_ct_opts opts;
u32 opts_len;
struct { u32 set, timeout, status, mark, nat, port; union nf_inet_addr addr; } ask;
#define TIMEOUT 1
#define STATUS 2
#define MARK 4
#define NAT 8

// What became of it.
struct { s32 timeout, status, nat; } answered;
u32 found;
struct {
	u64 left;
	u32 status, mark;
	u16 zone;
	u8 zone_dir, protocol;
	u16 family;
	be16 ports[4];
	u32 addresses[4][4];
} seen;

#define tuple_of(ct, dir) core(&(ct)->tuplehash[dir].tuple)
#define get(ct, field) (*core(&(ct)->field))

__inline void note(struct nf_conn *ct)
{
	found = 1;
	seen.left = (u32)(get(ct, timeout) - (u32)jiffies64());
	seen.status = get(ct, status);
	seen.mark = get(ct, mark);
	seen.zone = get(ct, zone.id);
	seen.zone_dir = get(ct, zone.dir);
	seen.protocol = get(ct, tuplehash[0].tuple.dst.protonum);
	seen.family = get(ct, tuplehash[0].tuple.src.l3num);
	seen.ports[0] = get(ct, tuplehash[0].tuple.src.u.all);
	seen.ports[1] = get(ct, tuplehash[0].tuple.dst.u.all);
	seen.ports[2] = get(ct, tuplehash[1].tuple.src.u.all);
	seen.ports[3] = get(ct, tuplehash[1].tuple.dst.u.all);
#define words(n, path)                                  \
	seen.addresses[n][0] = get(ct, path.u3.all[0]); \
	seen.addresses[n][1] = get(ct, path.u3.all[1]); \
	seen.addresses[n][2] = get(ct, path.u3.all[2]); \
	seen.addresses[n][3] = get(ct, path.u3.all[3])
	words(0, tuplehash[0].tuple.src);
	words(1, tuplehash[0].tuple.dst);
	words(2, tuplehash[1].tuple.src);
	words(3, tuplehash[1].tuple.dst);
}

__inline void change(struct nf_conn *ct)
{
	if (ask.set & TIMEOUT)
		answered.timeout = bpf_ct_change_timeout(ct, ask.timeout);
	if (ask.set & STATUS)
		answered.status = bpf_ct_change_status(ct, ask.status);
	if (ask.set & MARK)
		*core(&ct->mark) = ask.mark;
	note(ct);
	bpf_ct_release(ct);
}

__inline struct nf_conn *insert(struct nf_conn___init *ct)
{
	if (ask.set & TIMEOUT)
		bpf_ct_set_timeout(ct, ask.timeout);
	if (ask.set & STATUS)
		answered.status = bpf_ct_set_status(ct, ask.status);
	if (ask.set & MARK)
		*core(&ct->ct.mark) = ask.mark;
	if (ask.set & NAT)
		answered.nat = bpf_ct_set_nat_info(ct, &ask.addr, ask.port, ask.nat);
	return bpf_ct_insert_entry(ct);
}

#define PROGRAMS(kind, section, context)                                                         \
	SEC(section) int kind##_look(context *ctx)                                               \
	{                                                                                        \
		u32 len = tuple_len, size = opts_len;                                            \
		struct nf_conn *ct;                                                              \
		found = 0;                                                                       \
		if (len > sizeof(tuple) || size > sizeof(opts))                                  \
			return 1;                                                                \
		ct = bpf_##kind##_ct_lookup(ctx, (struct bpf_sock_tuple *)tuple, len, &opts, size); \
		if (ct)                                                                          \
			change(ct);                                                              \
		return 0;                                                                        \
	}                                                                                        \
	SEC(section) int kind##_make(context *ctx)                                               \
	{                                                                                        \
		u32 len = tuple_len, size = opts_len;                                            \
		struct nf_conn___init *made;                                                     \
		struct nf_conn *ct;                                                              \
		found = 0;                                                                       \
		if (len > sizeof(tuple) || size > sizeof(opts))                                  \
			return 1;                                                                \
		made = bpf_##kind##_ct_alloc(ctx, (struct bpf_sock_tuple *)tuple, len, &opts, size); \
		if (!made)                                                                       \
			return 2;                                                                \
		ct = insert(made);                                                               \
		if (!ct)                                                                         \
			return 3;                                                                \
		note(ct);                                                                        \
		bpf_ct_release(ct);                                                              \
		return 0;                                                                        \
	}

PROGRAMS(xdp, "xdp", struct xdp_md)
PROGRAMS(skb, "tc", struct __sk_buff)

LICENSE("GPL");

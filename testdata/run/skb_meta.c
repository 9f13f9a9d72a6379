// Why: metadata that an XDP program leaves before a packet, and a tc program reads and changes through a dynptr.
#include "skep_bpf.h"

struct bpf_dynptr { u64 opaque[2]; } __attribute__((aligned(8)));

extern int bpf_dynptr_from_skb_meta(struct __sk_buff *skb, u64 flags, struct bpf_dynptr *ptr) __ksym;
extern u32 bpf_dynptr_size(const struct bpf_dynptr *ptr) __ksym;
extern bool bpf_dynptr_is_rdonly(const struct bpf_dynptr *ptr) __ksym;
extern int bpf_dynptr_adjust(const struct bpf_dynptr *ptr, u32 start, u32 end) __ksym;
extern void *bpf_dynptr_slice(const struct bpf_dynptr *ptr, u32 offset, void *buffer, u32 buffer__szk) __ksym;
extern void *bpf_dynptr_slice_rdwr(const struct bpf_dynptr *ptr, u32 offset, void *buffer, u32 buffer__szk) __ksym;

static long (*const xdp_adjust_meta)(struct xdp_md *xdp, int delta) = (void *)54;
static long (*const dynptr_read)(void *to, u32 len, const struct bpf_dynptr *ptr, u32 offset, u64 flags) = (void *)201;
static long (*const dynptr_write)(const struct bpf_dynptr *ptr, u32 offset, void *from, u32 len, u64 flags) = (void *)202;
static void *(*const dynptr_data)(const struct bpf_dynptr *ptr, u32 offset, u32 len) = (void *)203;

s64 noted[24];
u64 values[4];
u32 runs;

SEC("xdp") int leaves(struct xdp_md *ctx)
{
	u64 *meta;
	if (xdp_adjust_meta(ctx, -16))
		return 1;
	meta = (void *)(long)ctx->data_meta;
	if ((void *)(meta + 2) > (void *)(long)ctx->data)
		return 1;
	meta[0] = 0x0807060504030201;
	meta[1] = 0x1817161514131211;
	return 2;
}

SEC("tcx/ingress") int reads(struct __sk_buff *ctx)
{
	struct bpf_dynptr none, meta;
	u32 word = 0xaabbccdd;
	u64 *piece;

	runs++;
	noted[0] = bpf_dynptr_from_skb_meta(ctx, 1, &none);
	noted[1] = (s32)bpf_dynptr_size(&none);
	noted[2] = bpf_dynptr_from_skb_meta(ctx, 0, &meta);
	noted[3] = bpf_dynptr_size(&meta);
	noted[4] = bpf_dynptr_is_rdonly(&meta);
	noted[5] = dynptr_read(&values[0], 8, &meta, 8, 0);
	noted[6] = dynptr_read(&values[1], 8, &meta, 9, 0);
	noted[7] = dynptr_read(&values[1], 8, &meta, 0, 1);
	noted[8] = dynptr_data(&meta, 0, 8) != NULL;
	noted[9] = dynptr_write(&meta, 4, &word, 4, 0);
	noted[10] = dynptr_write(&meta, 4, &word, 4, 1);
	noted[11] = dynptr_write(&meta, 13, &word, 4, 0);
	piece = bpf_dynptr_slice(&meta, 0, NULL, 8);
	noted[12] = piece != NULL;
	if (piece)
		values[1] = *piece;
	noted[13] = bpf_dynptr_slice(&meta, 9, NULL, 8) != NULL;
	noted[14] = bpf_dynptr_adjust(&meta, 4, 12);
	noted[15] = bpf_dynptr_size(&meta);
	piece = bpf_dynptr_slice_rdwr(&meta, 0, NULL, 8);
	noted[16] = piece != NULL;
	if (piece)
		*piece += 1;
	noted[17] = dynptr_read(&values[2], 8, &meta, 0, 0);
	return -1;
}

// What is there for who looks at it without a dynptr: `data_meta` is behind what the shared header has of `__sk_buff`.
SEC("tcx/ingress") int looks(struct __sk_buff *ctx)
{
	u64 *meta = (void *)(long)*(u32 *)((char *)ctx + 140);
	if ((void *)(meta + 1) <= (void *)(long)ctx->data)
		values[3] = *meta;
	return -1;
}

LICENSE("GPL");

// Why: ciphers: one that a program makes is kept in a map, and tc programs encrypt and decrypt with it.
#include "skep_bpf.h"

struct bpf_dynptr { u64 opaque[2]; } __attribute__((aligned(8)));
struct bpf_crypto_params {
	char type[14];
	u8 reserved[2];
	char algo[128];
	u8 key[256];
	u32 key_len;
	u32 authsize;
};
struct bpf_crypto_ctx { u32 siv_len; } core_relocatable;

#define __kptr __attribute__((btf_type_tag("kptr")))

extern struct bpf_crypto_ctx *bpf_crypto_ctx_create(const struct bpf_crypto_params *params, u32 params__sz, int *err) __ksym;
extern struct bpf_crypto_ctx *bpf_crypto_ctx_acquire(struct bpf_crypto_ctx *ctx) __ksym;
extern void bpf_crypto_ctx_release(struct bpf_crypto_ctx *ctx) __ksym;
extern int bpf_crypto_encrypt(struct bpf_crypto_ctx *ctx, const struct bpf_dynptr *src, const struct bpf_dynptr *dst,
			      const struct bpf_dynptr *siv) __ksym;
extern int bpf_crypto_decrypt(struct bpf_crypto_ctx *ctx, const struct bpf_dynptr *src, const struct bpf_dynptr *dst,
			      const struct bpf_dynptr *siv) __ksym;

static long (*const dynptr_from_mem)(void *data, u32 size, u64 flags, struct bpf_dynptr *ptr) = (void *)197;
static void *(*const kptr_xchg)(void *field, void *new) = (void *)194;

struct value { struct bpf_crypto_ctx __kptr *ctx; };
struct {
	__uint(type, 2);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct value);
} ciphers SEC(".maps");

struct bpf_crypto_params params;
u32 params_len;
int made;

char text[64], result[64], iv[32];
u32 text_len, result_len, iv_len;
int answered;
u32 acquired;

SEC("syscall") int make(void *ctx)
{
	struct bpf_crypto_ctx *cipher, *other;
	struct value *value;
	int err = 99;
	u32 zero = 0, len = params_len;

	if (len > sizeof(params))
		return 1;
	cipher = bpf_crypto_ctx_create(&params, len, &err);
	made = err;
	if (!cipher)
		return 2;
	other = bpf_crypto_ctx_acquire(cipher);
	if (other) {
		acquired++;
		bpf_crypto_ctx_release(other);
	}
	value = bpf_map_lookup_elem(&ciphers, &zero);
	if (!value) {
		bpf_crypto_ctx_release(cipher);
		return 3;
	}
	cipher = kptr_xchg(&value->ctx, cipher);
	if (cipher)
		bpf_crypto_ctx_release(cipher);
	return 0;
}

__inline int with(bool decrypt)
{
	struct bpf_dynptr from, to, state;
	struct bpf_crypto_ctx *cipher;
	struct value *value;
	u32 zero = 0, a = text_len, b = result_len, c = iv_len;

	value = bpf_map_lookup_elem(&ciphers, &zero);
	if (!value || a > sizeof(text) || b > sizeof(result) || c > sizeof(iv))
		return 1;
	cipher = value->ctx;
	if (!cipher)
		return 2;
	dynptr_from_mem(text, a, 0, &from);
	dynptr_from_mem(result, b, 0, &to);
	dynptr_from_mem(iv, c, 0, &state);
	if (decrypt)
		answered = bpf_crypto_decrypt(cipher, &from, &to, c ? &state : NULL);
	else
		answered = bpf_crypto_encrypt(cipher, &from, &to, c ? &state : NULL);
	return 0;
}

SEC("tc") int seal(struct __sk_buff *skb) { return with(false); }
SEC("tc") int open(struct __sk_buff *skb) { return with(true); }

LICENSE("GPL");

// Why: variables of every section that programs read and change, constants that the compiler makes by itself, and code that
// only a constant keeps the verifier from.
#include "skep_bpf.h"

struct padded { u8 tag; u64 count; u16 rest; };
struct __attribute__((packed)) tight { u8 tag; u64 count; u16 rest; };
struct table { u64 words[8]; };

u32 zeroes[6];
u64 counted;
u8 large[8192];
u32 number = 7;
static volatile u32 private_number = 8;
struct padded padded = { 1, 2, 3 };
struct tight tight = { 4, 5, 6 };
u32 custom SEC(".data.custom") = 9;
const volatile u32 constant = 10;
const volatile u32 custom_constant SEC(".rodata.custom") = 11;
const volatile bool enabled = false;
static long (*const no_such_helper)(void) = (void *)9999;

// A bit for each that is not as it is written above.
SEC("socket")
int first_values(struct __sk_buff *skb)
{
	u32 wrong = zeroes[skb->len & 3] != 0;

	wrong |= (counted != 0) << 1 | (large[8191] != 0) << 2 | (number != 7) << 3 | (private_number != 8) << 4;
	wrong |= (padded.tag != 1 || padded.count != 2 || padded.rest != 3) << 5;
	wrong |= (tight.tag != 4 || tight.count != 5 || tight.rest != 6) << 6;
	wrong |= (custom != 9) << 7 | (constant != 10) << 8 | (custom_constant != 11) << 9;
	return wrong;
}

SEC("socket")
int change(struct __sk_buff *skb)
{
	__sync_fetch_and_add(&counted, 3);
	large[8191] += 1;
	padded.rest += 1;
	tight.rest += 1;
	return number + constant;
}

// A structure of constants, which lies in a section of its own without a name.
SEC("socket")
int unnamed(struct __sk_buff *skb)
{
	const struct table table = { { 3, 1, 4, 1, 5, 9, 2, 6 } };

	return table.words[skb->len & 7];
}

SEC("socket")
int literal(struct __sk_buff *skb)
{
	const char *text = "straw and clay";

	return text[skb->len & 7];
}

SEC("socket")
int picked(struct __sk_buff *skb)
{
	switch (skb->len & 7) {
	case 0: return 31;
	case 1: return 17;
	case 2: return 5;
	case 3: return 90;
	case 4: return 22;
	case 5: return 63;
	default: return 4;
	}
}

SEC("socket")
int guarded(struct __sk_buff *skb) { return enabled ? no_such_helper() : 3; }

LICENSE("Dual MIT/GPL");

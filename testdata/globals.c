// Why: globals of every shape in every data section, with known first values, found and set by name.
#include "skep_bpf.h"

enum colour { RED = 1, GREEN = 2, BLUE = 40 };
enum wide { WIDE_SMALL = 1, WIDE_LARGE = 0x123456789abcdefULL };
struct point { s32 x, y; u8 tag; };

u8 data_u8 = 0xa1; u16 data_u16 = 0xa1b2; u32 data_u32 = 0xa1b2c3d4; u64 data_u64 = 0xa1b2c3d4e5f60718ULL;
s8 data_s8 = -2; s16 data_s16 = -300; s32 data_s32 = -70000; s64 data_s64 = -5000000000LL;
bool data_bool = true; enum colour data_enum = BLUE; enum wide data_wide = WIDE_LARGE; char data_char = 'k';
u32 data_array[4] = { 1, 2, 3, 4 };
struct point data_point = { .x = -3, .y = 4, .tag = 5 };
struct point data_points[2] = { { 1, 2, 3 }, { 4, 5, 6 } };
char data_text[16] = "straw hive";
__hidden u32 data_hidden = 77;
static volatile u32 data_static = 78;
__weak u32 data_weak = 79;

const volatile u32 config_limit = 100;
const volatile bool config_on = false;
const volatile char config_name[16] = "default";
const volatile struct point config_point = { 7, 8, 9 };
static volatile const u64 config_static = 11;

u64 bss_count; u8 bss_bytes[13]; struct point bss_point; static volatile u32 bss_static;

u32 custom_number SEC(".data.custom") = 1234;
u64 custom_pair[2] SEC(".data.custom") = { 5, 6 };
static volatile u16 custom_static SEC(".data.private") = 9;
const volatile u32 custom_constant SEC(".rodata.custom") = 4321;
u32 custom_zeroes[4] SEC(".bss.custom");

SEC("socket")
int sum_all(struct __sk_buff *skb)
{
	u64 sum = data_u8 + data_u16 + data_u32 + data_u64 + data_s8 + data_s16 + data_s32 + data_s64;

	sum += data_bool + data_enum + data_wide + data_char + data_array[skb->len & 3] + data_point.tag + data_text[skb->len & 15];
	sum += data_points[skb->len & 1].y + data_hidden + data_static + data_weak;
	sum += config_limit + config_on + config_name[skb->len & 15] + config_point.y + config_static;
	sum += custom_number + custom_pair[skb->len & 1] + custom_static + custom_constant;
	bss_count += 1;
	bss_bytes[skb->len & 7] = 1;
	bss_point.x = sum;
	bss_static += 1;
	custom_zeroes[skb->len & 3] += 1;
	return sum;
}

SEC("socket")
int limit(struct __sk_buff *skb)
{
	const char *text = "text of a string literal in .rodata.str1.1";

	return config_on && skb->len > config_limit ? (int)bpf_trace_printk(text, 10) : -1;
}

LICENSE("Dual MIT/GPL");

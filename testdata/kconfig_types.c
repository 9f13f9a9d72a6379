// Why: an optional configuration value of every type that can hold one, at the limits of which values are tried.
#include "skep_bpf.h"

enum libbpf_tristate { TRI_NO = 0, TRI_YES = 1, TRI_MODULE = 2 };
typedef const volatile bool qualified_bool;

extern bool CONFIG_BOOL __kconfig __weak;
extern qualified_bool CONFIG_QUALIFIED __kconfig __weak;
extern char CONFIG_CHAR __kconfig __weak;
extern unsigned char CONFIG_U8 __kconfig __weak;
extern short CONFIG_S16 __kconfig __weak;
extern unsigned short CONFIG_U16 __kconfig __weak;
extern int CONFIG_S32 __kconfig __weak;
extern unsigned int CONFIG_U32 __kconfig __weak;
extern long long CONFIG_S64 __kconfig __weak;
extern unsigned long long CONFIG_U64 __kconfig __weak;
extern enum libbpf_tristate CONFIG_TRISTATE __kconfig __weak;
extern char CONFIG_TEXT[6] __kconfig __weak;
extern unsigned char CONFIG_LETTER[1] __kconfig __weak;
extern bool LINUX_HAS_SYSCALL_WRAPPER __kconfig;
extern unsigned short LINUX_HAS_BPF_COOKIE __kconfig;
extern unsigned long long LINUX_KERNEL_VERSION __kconfig;
extern char LINUX_SKEP_UNKNOWN __kconfig __weak;

u64 sum;

SEC("socket")
int read_all(struct __sk_buff *skb)
{
	sum = CONFIG_BOOL + CONFIG_QUALIFIED + CONFIG_CHAR + CONFIG_U8 + CONFIG_S16 + CONFIG_U16 + CONFIG_S32 + CONFIG_U32;
	sum += CONFIG_S64 + CONFIG_U64 + CONFIG_TRISTATE + CONFIG_TEXT[skb->len & 3] + CONFIG_LETTER[0];
	sum += LINUX_HAS_SYSCALL_WRAPPER + LINUX_HAS_BPF_COOKIE + LINUX_KERNEL_VERSION + LINUX_SKEP_UNKNOWN;
	return 0;
}

LICENSE("Dual MIT/GPL");

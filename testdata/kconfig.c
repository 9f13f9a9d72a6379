// Why: kernel configuration values of every type, the loader's own LINUX_ ones, and optional ones that are missing.
#include "skep_bpf.h"

enum libbpf_tristate { TRI_NO = 0, TRI_YES = 1, TRI_MODULE = 2 };

extern u32 LINUX_KERNEL_VERSION __kconfig;
extern bool LINUX_HAS_BPF_COOKIE __kconfig __weak;
extern bool CONFIG_BPF_SYSCALL __kconfig;
extern enum libbpf_tristate CONFIG_BPF_JIT __kconfig __weak;
extern int CONFIG_HZ __kconfig;
extern u64 CONFIG_NR_CPUS __kconfig __weak;
extern char CONFIG_DEFAULT_HOSTNAME[16] __kconfig __weak;
extern char CONFIG_SKEP_NOT_A_CHAR __kconfig __weak;
extern bool CONFIG_SKEP_NOT_A_BOOL __kconfig __weak;
extern int LINUX_SKEP_UNKNOWN __kconfig __weak;

u64 version, hz, cpus, jit, has, none;
char first_letter;

SEC("socket")
int read_all(struct __sk_buff *skb)
{
	version = LINUX_KERNEL_VERSION;
	hz = CONFIG_HZ;
	cpus = CONFIG_NR_CPUS;
	jit = CONFIG_BPF_JIT;
	has = CONFIG_BPF_SYSCALL | LINUX_HAS_BPF_COOKIE << 1;
	none = CONFIG_SKEP_NOT_A_CHAR + CONFIG_SKEP_NOT_A_BOOL + LINUX_SKEP_UNKNOWN;
	first_letter = CONFIG_DEFAULT_HOSTNAME[skb->len & 15];
	return 0;
}

SEC("socket")
int none_of_it(struct __sk_buff *skb) { return 0; }

LICENSE("Dual MIT/GPL");

// What libbpf's relocation engine makes of hand-made BTF that no compiler emits: reads the cases that the test `core_table`
// writes when SKEP_CORE_CASES names a file, and prints table.json. It calls libbpf's internals, so it needs the sources:
//   gcc -O1 -I LIBBPF/src -I LIBBPF/include -I LIBBPF/include/uapi -o oracle oracle.c LIBBPF.a -lelf -lz -lzstd
//   ./oracle < CASES > table.json
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <stdarg.h>
#include "libbpf.h"
#include "btf.h"
#include "bpf.h"
#include "libbpf_internal.h"

static char line[1 << 22];
static unsigned char bytes[1 << 20];

static int quiet(enum libbpf_print_level level, const char *format, va_list args)
{
	return getenv("LOUD") ? vfprintf(stderr, format, args) : 0;
}

static size_t unhex(const char *text)
{
	size_t n = 0;
	unsigned byte;

	for (; sscanf(text, "%2x", &byte) == 1; text += 2)
		bytes[n++] = byte;
	return n;
}

static const char *name(int error)
{
	switch (-error) {
	case EINVAL: return "EINVAL";
	case E2BIG: return "E2BIG";
	case ERANGE: return "ERANGE";
	case EOPNOTSUPP: return "EOPNOTSUPP";
	default: return strerror(-error);
	}
}

int main(void)
{
	struct bpf_core_cand_list *lists[256] = {};
	struct btf *local = NULL, *target = NULL;
	int cases = 0, relos = 0;

	setvbuf(stdout, NULL, _IOLBF, 0);
	libbpf_set_print(quiet);
	printf("{\"made_with\": \"libbpf %s\", \"cases\": {", libbpf_version_string());
	while (fgets(line, sizeof(line), stdin)) {
		line[strcspn(line, "\n")] = 0;
		char *rest = strchr(line, ' ');

		rest = rest ? rest + 1 : line;
		if (!strncmp(line, "case ", 5)) {
			printf("%s%s\n\"%s\": [", cases ? "]" : "", cases ? "," : "", rest);
			cases++;
			relos = 0;
			memset(lists, 0, sizeof(lists));
		} else if (!strncmp(line, "local ", 6)) {
			local = btf__new(bytes, unhex(rest));
			if (local)
				btf__set_pointer_size(local, 8);
		} else if (!strncmp(line, "target ", 7)) {
			target = btf__new(bytes, unhex(rest));
		} else if (!strncmp(line, "relo ", 5)) {
			static struct bpf_core_spec scratch[3];
			struct bpf_core_relo relo = {};
			struct bpf_core_relo_res res = {};
			struct bpf_insn insns[2] = {};
			char hex[64], text[256];
			int error, at;

			sscanf(rest, "%u %u %u %63s", &relo.type_id, &relo.access_str_off, (unsigned *)&relo.kind, hex);
			int insn_cnt = unhex(hex) / 8;

			memcpy(insns, bytes, insn_cnt * 8);
			if (!local || !target) {
				printf("%s\"bad BTF\"", relos++ ? ", " : "");
				continue;
			}
			struct bpf_core_cand_list **list = &lists[relo.type_id];
			const struct btf_type *type = btf__type_by_id(local, relo.type_id);
			const char *type_name = type ? btf__name_by_offset(local, type->name_off) : NULL;

			memset(scratch, 0, sizeof(scratch));
			error = type_name ? 0 : -EINVAL;
			if (!error && relo.kind != BPF_CORE_TYPE_ID_LOCAL && !*list) {
				struct bpf_core_cand cand = { .btf = local, .id = relo.type_id };

				*list = calloc(1, sizeof(**list));
				error = *type_name ? bpf_core_add_cands(&cand, bpf_core_essential_name_len(type_name), target, "vmlinux", 1, *list) : -EINVAL;
			}
			if (!error)
				error = bpf_core_calc_relo_insn("case", &relo, relos, local, *list, scratch, &res);
			if (error) {
				printf("%s\"fails %s\"", relos++ ? ", " : "", name(error));
				continue;
			}
			if (res.poison)
				at = sprintf(text, "poison");
			else
				at = sprintf(text, "%llu -> %llu%s", (unsigned long long)res.orig_val, (unsigned long long)res.new_val, res.validate ? " checked" : "");
			if (!res.poison && res.orig_sz != res.new_sz)
				at += sprintf(text + at, " size %u:%u%s", res.orig_sz, res.new_sz, res.fail_memsz_adjust ? " not adjustable" : "");
			error = bpf_core_patch_insn("case", insns, 0, &relo, relos, &res);
			if (error) {
				sprintf(text + at, " | refused %s", name(error));
			} else {
				at += sprintf(text + at, " | ");
				for (int i = 0; i < insn_cnt * 8; i++)
					at += sprintf(text + at, "%02x", ((unsigned char *)insns)[i]);
			}
			printf("%s\"%s\"", relos++ ? ", " : "", text);
		}
	}
	printf("]\n}}\n");
	return 0;
}

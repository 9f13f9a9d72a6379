// What libbpf makes of an object, in lines for the script `expect`: with one argument, whether the whole and each program alone load;
// with a second (BTF or an object that has it), how each compile-once relocation is decided for that target.
// libbpf's own messages pass through between the lines that start with @@. Nothing is attached or pinned.
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static enum libbpf_print_level loudest = LIBBPF_WARN;
static int print(enum libbpf_print_level level, const char *format, va_list args)
{
	return level <= loudest ? vprintf(format, args) : 0;
}

static struct bpf_object *open_only(const char *path, const char *btf, int only, struct bpf_program **chosen)
{
	LIBBPF_OPTS(bpf_object_open_opts, options, .btf_custom_path = btf);
	struct bpf_object *object = bpf_object__open_file(path, &options);
	struct bpf_program *program;
	struct bpf_map *map;
	int n = 0;

	if (!object)
		return NULL;
	bpf_object__for_each_map(map, object) bpf_map__set_pin_path(map, NULL);
	bpf_object__for_each_program(program, object) {
		if (only >= 0)
			bpf_program__set_autoload(program, n == only);
		if (n++ == only)
			*chosen = program;
	}
	return object;
}

int main(int argc, char **argv)
{
	const char *path = argv[1], *btf = argc > 2 ? argv[2] : NULL;
	struct bpf_program *program = NULL;
	struct bpf_object *object;
	struct bpf_map *map;
	int count = 0;

	setvbuf(stdout, NULL, _IOLBF, 0);
	libbpf_set_print(print);
	object = bpf_object__open_file(path, NULL);
	printf("@@OPEN %d\n", object ? 0 : errno);
	if (!object)
		return 0;
	bpf_object__for_each_map(map, object)
		printf("@@MAP %s\t%s\t%u\t%u\t%u\t%#x\n", bpf_map__name(map), libbpf_bpf_map_type_str(bpf_map__type(map)), bpf_map__key_size(map),
		       bpf_map__value_size(map), bpf_map__max_entries(map), bpf_map__map_flags(map));
	bpf_object__for_each_program(program, object) {
		printf("@@PROGRAM %s\t%s\t%s\t%d\t%d\t%zu\n", bpf_program__name(program), bpf_program__section_name(program),
		       libbpf_bpf_prog_type_str(bpf_program__type(program)), bpf_program__expected_attach_type(program),
		       bpf_program__autoload(program), bpf_program__insn_cnt(program));
		count++;
	}
	bpf_object__close(object);
	for (int n = btf ? 0 : -1; n < count; n++) { // -1: the whole object, as its own autoload flags say
		int error;

		loudest = btf ? LIBBPF_DEBUG : LIBBPF_WARN;
		object = open_only(path, btf, n, &program);
		if (!object)
			break; // not a file of this machine's byte order, perhaps
		printf("@@TRY %s\n", n < 0 ? "" : bpf_program__name(program));
		error = btf ? bpf_object__prepare(object) : bpf_object__load(object);
		if (!error && !btf && n >= 0 && bpf_program__fd(program) < 0) {
			puts("@@DONE left_out"); // libbpf decided so, as for a program that only an unused struct_ops table names
			bpf_object__close(object);
			continue;
		}
		if (!error && !btf && n >= 0) {
			struct bpf_prog_info info = {};
			__u32 size = sizeof(info);

			bpf_prog_get_info_by_fd(bpf_program__fd(program), &info, &size);
			printf("@@TAG ");
			for (int i = 0; i < 8; i++)
				printf("%02x", info.tag[i]);
			printf("\t%u\n", info.xlated_prog_len / 8);
		}
		printf("@@DONE %d\n", -error);
		bpf_object__close(object);
	}
	return 0;
}

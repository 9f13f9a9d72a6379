use super::*;
use crate::spec::{FunctionIndex, ProgramSpec, section_kind};
use skep_sys::abi::{AttachType, ProgFlags, ProgType};

fn program(section: &str) -> ProgramSpec {
    let mut program = ProgramSpec {
        name: "program".into(),
        section: section.into(),
        function: FunctionIndex(0),
        prog_type: ProgType::UNSPEC,
        attach_type: AttachType(0),
        attach_type_optional: false,
        attach_to: None,
        attach_btf: false,
        auto_attach: AutoAttach::None,
        flags: ProgFlags::empty(),
        autoload: true,
    };
    if let Some((kind, target)) = section_kind(section) {
        program.attach_to = target.map(str::to_owned);
        program.attach_btf = kind.attach_btf;
        program.auto_attach = kind.auto_attach;
    }
    program
}

/// What a section name says, in a few words.
fn say(section: &str) -> String {
    let s = |when| match when {
        When::Entry => "",
        When::Return => " return",
        When::Session => " session",
    };
    match program(section).attach_point() {
        Err(error) => format!("error: {}", error.reason),
        Ok(None) => "nothing".into(),
        Ok(Some(point)) => match point {
            AttachPoint::KernelFunction { function, offset, when } => {
                format!("{function} + {offset}{}", s(when))
            }
            AttachPoint::KernelFunctions { pattern, when } => format!("all {pattern}{}", s(when)),
            AttachPoint::BinaryFunction { binary, function, offset, when } => {
                format!("{binary} {function} + {offset}{}", s(when))
            }
            AttachPoint::BinaryFunctions { binary, pattern, when } => {
                format!("{binary} all {pattern}{}", s(when))
            }
            AttachPoint::Syscall { name, when } => format!("syscall {name}{}", s(when)),
            AttachPoint::Usdt { binary, provider, name } => format!("{binary} usdt {provider} {name}"),
            AttachPoint::Tracepoint { category, name } => format!("tracepoint {category} {name}"),
            AttachPoint::RawTracepoint { name } => format!("raw {name}"),
            AttachPoint::KernelType { module, name } => format!("{}:{name}", module.unwrap_or_default()),
            AttachPoint::KernelTypes { module, pattern } => {
                format!("{}:all {pattern}", module.unwrap_or_default())
            }
        },
    }
}

#[test]
fn what_follows_the_slash() {
    const NOTHING: &str = "nothing";
    const EMPTY: &str = "error: nothing follows the slash";
    const CHARACTER: &str = "error: it holds a character that no such name has";
    const NUMBER: &str = "error: its offset is no number";
    const OFFSET: &str = "error: a probe of a function's return has no offset";
    const NO_FUNCTION: &str = "error: no function follows the path of the binary";
    const PARTS: &str = "error: it has not three parts";
    let cases = [
        ("kprobe", NOTHING),
        ("kprobe/", EMPTY),
        ("kprobe/do_exit", "do_exit + 0"),
        ("kprobe/do_exit+0x10", "do_exit + 16"),
        ("kprobe/do_exit+010", "do_exit + 8"),
        ("kprobe/do_exit+12", "do_exit + 12"),
        ("kprobe/tcp_v4_rcv.isra.0+4", "tcp_v4_rcv.isra.0 + 4"),
        ("kprobe/do_exit+-4", NUMBER),
        ("kprobe/do_exit+", NUMBER),
        ("kprobe/do_exit+4 ", NUMBER),
        ("kprobe/do exit", CHARACTER),
        ("kprobe/nf_nat:f", CHARACTER),
        ("kretprobe/do_exit", "do_exit + 0 return"),
        ("kretprobe/do_exit+0", "do_exit + 0 return"),
        ("kretprobe/do_exit+4", OFFSET),
        ("kprobe.multi", NOTHING),
        ("kprobe.multi/vfs_*", "all vfs_*"),
        ("kretprobe.multi/vfs_?ead", "all vfs_?ead return"),
        ("kprobe.session/vfs_read", "all vfs_read session"),
        ("kprobe.multi/a,b", CHARACTER),
        ("uprobe", NOTHING),
        ("uprobe/libc.so.6", NO_FUNCTION),
        ("uprobe/:malloc", "error: the path or the function is missing"),
        ("uprobe//usr/bin/bash:readline", "/usr/bin/bash readline + 0"),
        ("uprobe/libc.so.6:malloc+0x8", "libc.so.6 malloc + 8"),
        ("uprobe/libc.so.6:malloc@@GLIBC_2.2.5", "libc.so.6 malloc@@GLIBC_2.2.5 + 0"),
        ("uprobe/app:operator+", "app operator+ + 0"),
        ("uprobe/app:a::operator++3", "app a::operator+ + 3"),
        ("uprobe.s/base.apk!/lib/x.so:f", "base.apk!/lib/x.so f + 0"),
        ("uretprobe/libc.so.6:malloc", "libc.so.6 malloc + 0 return"),
        ("uretprobe.s/libc.so.6:malloc+8", OFFSET),
        ("uprobe.multi/libc.so.6:mal*", "libc.so.6 all mal*"),
        ("uretprobe.multi.s/libc.so.6:free", "libc.so.6 all free return"),
        ("uprobe.session.s/libc.so.6:free", "libc.so.6 all free session"),
        ("uprobe.multi/libc.so.6", NO_FUNCTION),
        ("ksyscall/openat", "syscall openat"),
        ("kretsyscall/openat", "syscall openat return"),
        ("ksyscall/", EMPTY),
        ("usdt", NOTHING),
        ("usdt.s", NOTHING),
        ("usdt/libc.so.6:libc:setjmp", "libc.so.6 usdt libc setjmp"),
        ("usdt.s/libc.so.6:libc:setjmp", "libc.so.6 usdt libc setjmp"),
        ("usdt/libc.so.6:libc", PARTS),
        ("usdt/libc.so.6:libc:a:b", PARTS),
        ("tp", NOTHING),
        ("tp/", "error: category or name is missing"),
        ("tp/sched", "error: category or name is missing"),
        ("tracepoint/sched/sched_switch", "tracepoint sched sched_switch"),
        ("tp.s/syscalls/sys_enter_open", "tracepoint syscalls sys_enter_open"),
        ("raw_tp", NOTHING),
        ("raw_tp.w/bpf_test_finish", "raw bpf_test_finish"),
        ("raw_tracepoint.s/sys_enter", "raw sys_enter"),
        ("tp_btf/sched_switch", ":sched_switch"),
        ("fentry/do_unlinkat", ":do_unlinkat"),
        ("fentry", NOTHING),
        ("fexit.s/nf_nat:nf_nat_setup_info", "nf_nat:nf_nat_setup_info"),
        ("fmod_ret/vmlinux:f", "vmlinux:f"),
        ("fentry.multi/vfs_*", ":all vfs_*"),
        ("fexit.multi.s/xfs:xfs_*", "xfs:all xfs_*"),
        ("fentry.multi/a b", CHARACTER),
        ("freplace/main", ":main"),
        ("lsm/file_open", ":file_open"),
        ("lsm_cgroup/socket_bind", ":socket_bind"),
        ("iter/task", ":task"),
        ("iter.s/task", ":task"),
        ("struct_ops/anything at all", NOTHING),
        ("xdp", NOTHING),
        ("cgroup_skb/ingress", NOTHING),
        ("no such section/x", NOTHING),
    ];
    for (section, said) in cases {
        assert_eq!(say(section), said, "{section}");
    }
}

#[test]
fn the_error_says_what_to_write() {
    let error = program("usdt/libc.so.6").attach_point().expect_err("two parts are missing");
    assert_eq!(
        error.to_string(),
        "section `usdt/libc.so.6`: it has not three parts; write usdt/PATH:PROVIDER:NAME"
    );
}

//! The section names that say what a program is: libbpf's `SEC()` table.

use skep_sys::abi::{AttachType, ProgFlags, ProgType};

/// How a section name says to attach its program.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AutoAttach {
    /// The name does not say: attach it by hand.
    #[default]
    None,
    /// Entry or return of a kernel function.
    Kprobe,
    /// Entry or return of a function of a binary.
    Uprobe,
    /// Many kernel functions by a pattern.
    KprobeMulti,
    /// Many kernel functions, entry and return in one program.
    KprobeSession,
    /// Many functions of a binary by a pattern.
    UprobeMulti,
    /// A system call by its name.
    Ksyscall,
    /// A static tracepoint of a binary.
    Usdt,
    /// A tracepoint, as `category/name`.
    Tracepoint,
    /// A raw tracepoint by its name.
    RawTracepoint,
    /// The kernel function or tracepoint that the program named at load.
    Trace,
    /// Many kernel functions by a pattern, through a trampoline.
    TracingMulti,
    /// A security hook.
    Lsm,
    /// An iterator.
    Iter,
}

/// What one row of the table says of the sections that match it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SectionKind {
    /// The name, without what may follow it.
    pub name: &'static str,
    /// Whether `/` and a target may follow.
    pub takes_target: bool,
    /// Kind of the program.
    pub prog_type: ProgType,
    /// Attach type; 0 for kinds without one.
    pub attach_type: AttachType,
    /// Whether the attach type may be left out where the kernel does not know the field.
    pub attach_type_optional: bool,
    /// Whether the target is a kernel type that is looked up when the program is loaded.
    pub attach_btf: bool,
    /// Whether it is a static tracepoint of a binary. Where a kernel has links for many places in a binary, such a program is
    /// loaded with their attach type.
    pub usdt: bool,
    /// Load flags.
    pub flags: ProgFlags,
    /// How it attaches.
    pub auto_attach: AutoAttach,
}

const PLAIN: u8 = 0;
const SLEEPABLE: u8 = 1;
const ATTACH_BTF: u8 = 2;
const XDP_FRAGS: u8 = 4;
const USDT: u8 = 8;
const OPTIONAL: u8 = 16;

#[derive(PartialEq)]
enum Match {
    Exact,
    With,
}
use Match::{Exact, With};

const fn row(
    name: &'static str,
    matches: Match,
    prog_type: ProgType,
    attach_type: AttachType,
    marks: u8,
    auto_attach: AutoAttach,
) -> SectionKind {
    let mut flags = 0;
    if marks & SLEEPABLE != 0 {
        flags |= ProgFlags::SLEEPABLE.bits();
    }
    if marks & XDP_FRAGS != 0 {
        flags |= ProgFlags::XDP_HAS_FRAGS.bits();
    }
    SectionKind {
        name,
        takes_target: matches!(matches, With),
        prog_type,
        attach_type,
        attach_type_optional: marks & OPTIONAL != 0,
        attach_btf: marks & ATTACH_BTF != 0,
        usdt: marks & USDT != 0,
        flags: ProgFlags::from_bits_retain(flags),
        auto_attach,
    }
}

/// The table, in libbpf's order: the first row that matches wins.
#[rustfmt::skip]
pub(crate) const SECTION_KINDS: &[SectionKind] = &[
    row("socket", Exact, ProgType::SOCKET_FILTER, AttachType(0), PLAIN, AutoAttach::None),
    row("sk_reuseport/migrate", Exact, ProgType::SK_REUSEPORT, AttachType::SK_REUSEPORT_SELECT_OR_MIGRATE, PLAIN, AutoAttach::None),
    row("sk_reuseport", Exact, ProgType::SK_REUSEPORT, AttachType::SK_REUSEPORT_SELECT, PLAIN, AutoAttach::None),
    row("kprobe", With, ProgType::KPROBE, AttachType(0), PLAIN, AutoAttach::Kprobe),
    row("uprobe", With, ProgType::KPROBE, AttachType(0), PLAIN, AutoAttach::Uprobe),
    row("uprobe.s", With, ProgType::KPROBE, AttachType(0), SLEEPABLE, AutoAttach::Uprobe),
    row("kretprobe", With, ProgType::KPROBE, AttachType(0), PLAIN, AutoAttach::Kprobe),
    row("uretprobe", With, ProgType::KPROBE, AttachType(0), PLAIN, AutoAttach::Uprobe),
    row("uretprobe.s", With, ProgType::KPROBE, AttachType(0), SLEEPABLE, AutoAttach::Uprobe),
    row("kprobe.multi", With, ProgType::KPROBE, AttachType::TRACE_KPROBE_MULTI, PLAIN, AutoAttach::KprobeMulti),
    row("kretprobe.multi", With, ProgType::KPROBE, AttachType::TRACE_KPROBE_MULTI, PLAIN, AutoAttach::KprobeMulti),
    row("kprobe.session", With, ProgType::KPROBE, AttachType::TRACE_KPROBE_SESSION, PLAIN, AutoAttach::KprobeSession),
    row("uprobe.multi", With, ProgType::KPROBE, AttachType::TRACE_UPROBE_MULTI, PLAIN, AutoAttach::UprobeMulti),
    row("uretprobe.multi", With, ProgType::KPROBE, AttachType::TRACE_UPROBE_MULTI, PLAIN, AutoAttach::UprobeMulti),
    row("uprobe.session", With, ProgType::KPROBE, AttachType::TRACE_UPROBE_SESSION, PLAIN, AutoAttach::UprobeMulti),
    row("uprobe.multi.s", With, ProgType::KPROBE, AttachType::TRACE_UPROBE_MULTI, SLEEPABLE, AutoAttach::UprobeMulti),
    row("uretprobe.multi.s", With, ProgType::KPROBE, AttachType::TRACE_UPROBE_MULTI, SLEEPABLE, AutoAttach::UprobeMulti),
    row("uprobe.session.s", With, ProgType::KPROBE, AttachType::TRACE_UPROBE_SESSION, SLEEPABLE, AutoAttach::UprobeMulti),
    row("ksyscall", With, ProgType::KPROBE, AttachType(0), PLAIN, AutoAttach::Ksyscall),
    row("kretsyscall", With, ProgType::KPROBE, AttachType(0), PLAIN, AutoAttach::Ksyscall),
    row("usdt", With, ProgType::KPROBE, AttachType(0), USDT, AutoAttach::Usdt),
    row("usdt.s", With, ProgType::KPROBE, AttachType(0), SLEEPABLE | USDT, AutoAttach::Usdt),
    row("tc/ingress", Exact, ProgType::SCHED_CLS, AttachType::TCX_INGRESS, PLAIN, AutoAttach::None),
    row("tc/egress", Exact, ProgType::SCHED_CLS, AttachType::TCX_EGRESS, PLAIN, AutoAttach::None),
    row("tcx/ingress", Exact, ProgType::SCHED_CLS, AttachType::TCX_INGRESS, PLAIN, AutoAttach::None),
    row("tcx/egress", Exact, ProgType::SCHED_CLS, AttachType::TCX_EGRESS, PLAIN, AutoAttach::None),
    row("tc", Exact, ProgType::SCHED_CLS, AttachType(0), PLAIN, AutoAttach::None),
    row("classifier", Exact, ProgType::SCHED_CLS, AttachType(0), PLAIN, AutoAttach::None),
    row("action", Exact, ProgType::SCHED_ACT, AttachType(0), PLAIN, AutoAttach::None),
    row("netkit/primary", Exact, ProgType::SCHED_CLS, AttachType::NETKIT_PRIMARY, PLAIN, AutoAttach::None),
    row("netkit/peer", Exact, ProgType::SCHED_CLS, AttachType::NETKIT_PEER, PLAIN, AutoAttach::None),
    row("tracepoint", With, ProgType::TRACEPOINT, AttachType(0), PLAIN, AutoAttach::Tracepoint),
    row("tp", With, ProgType::TRACEPOINT, AttachType(0), PLAIN, AutoAttach::Tracepoint),
    row("tracepoint.s", With, ProgType::TRACEPOINT, AttachType(0), SLEEPABLE, AutoAttach::Tracepoint),
    row("tp.s", With, ProgType::TRACEPOINT, AttachType(0), SLEEPABLE, AutoAttach::Tracepoint),
    row("raw_tracepoint", With, ProgType::RAW_TRACEPOINT, AttachType(0), PLAIN, AutoAttach::RawTracepoint),
    row("raw_tp", With, ProgType::RAW_TRACEPOINT, AttachType(0), PLAIN, AutoAttach::RawTracepoint),
    row("raw_tracepoint.s", With, ProgType::RAW_TRACEPOINT, AttachType(0), SLEEPABLE, AutoAttach::RawTracepoint),
    row("raw_tp.s", With, ProgType::RAW_TRACEPOINT, AttachType(0), SLEEPABLE, AutoAttach::RawTracepoint),
    row("raw_tracepoint.w", With, ProgType::RAW_TRACEPOINT_WRITABLE, AttachType(0), PLAIN, AutoAttach::RawTracepoint),
    row("raw_tp.w", With, ProgType::RAW_TRACEPOINT_WRITABLE, AttachType(0), PLAIN, AutoAttach::RawTracepoint),
    row("tp_btf", With, ProgType::TRACING, AttachType::TRACE_RAW_TP, ATTACH_BTF, AutoAttach::Trace),
    row("tp_btf.s", With, ProgType::TRACING, AttachType::TRACE_RAW_TP, ATTACH_BTF | SLEEPABLE, AutoAttach::Trace),
    row("fentry", With, ProgType::TRACING, AttachType::TRACE_FENTRY, ATTACH_BTF, AutoAttach::Trace),
    row("fmod_ret", With, ProgType::TRACING, AttachType::MODIFY_RETURN, ATTACH_BTF, AutoAttach::Trace),
    row("fexit", With, ProgType::TRACING, AttachType::TRACE_FEXIT, ATTACH_BTF, AutoAttach::Trace),
    row("fentry.s", With, ProgType::TRACING, AttachType::TRACE_FENTRY, ATTACH_BTF | SLEEPABLE, AutoAttach::Trace),
    row("fmod_ret.s", With, ProgType::TRACING, AttachType::MODIFY_RETURN, ATTACH_BTF | SLEEPABLE, AutoAttach::Trace),
    row("fexit.s", With, ProgType::TRACING, AttachType::TRACE_FEXIT, ATTACH_BTF | SLEEPABLE, AutoAttach::Trace),
    row("fsession", With, ProgType::TRACING, AttachType::TRACE_FSESSION, ATTACH_BTF, AutoAttach::Trace),
    row("fsession.s", With, ProgType::TRACING, AttachType::TRACE_FSESSION, ATTACH_BTF | SLEEPABLE, AutoAttach::Trace),
    row("fsession.multi", With, ProgType::TRACING, AttachType::TRACE_FSESSION_MULTI, PLAIN, AutoAttach::TracingMulti),
    row("fsession.multi.s", With, ProgType::TRACING, AttachType::TRACE_FSESSION_MULTI, SLEEPABLE, AutoAttach::TracingMulti),
    row("fentry.multi", With, ProgType::TRACING, AttachType::TRACE_FENTRY_MULTI, PLAIN, AutoAttach::TracingMulti),
    row("fexit.multi", With, ProgType::TRACING, AttachType::TRACE_FEXIT_MULTI, PLAIN, AutoAttach::TracingMulti),
    row("fentry.multi.s", With, ProgType::TRACING, AttachType::TRACE_FENTRY_MULTI, SLEEPABLE, AutoAttach::TracingMulti),
    row("fexit.multi.s", With, ProgType::TRACING, AttachType::TRACE_FEXIT_MULTI, SLEEPABLE, AutoAttach::TracingMulti),
    row("freplace", With, ProgType::EXT, AttachType(0), ATTACH_BTF, AutoAttach::Trace),
    row("lsm", With, ProgType::LSM, AttachType::LSM_MAC, ATTACH_BTF, AutoAttach::Lsm),
    row("lsm.s", With, ProgType::LSM, AttachType::LSM_MAC, ATTACH_BTF | SLEEPABLE, AutoAttach::Lsm),
    row("lsm_cgroup", With, ProgType::LSM, AttachType::LSM_CGROUP, ATTACH_BTF, AutoAttach::None),
    row("iter", With, ProgType::TRACING, AttachType::TRACE_ITER, ATTACH_BTF, AutoAttach::Iter),
    row("iter.s", With, ProgType::TRACING, AttachType::TRACE_ITER, ATTACH_BTF | SLEEPABLE, AutoAttach::Iter),
    row("syscall", Exact, ProgType::SYSCALL, AttachType(0), SLEEPABLE, AutoAttach::None),
    row("xdp.frags/devmap", Exact, ProgType::XDP, AttachType::XDP_DEVMAP, XDP_FRAGS, AutoAttach::None),
    row("xdp/devmap", Exact, ProgType::XDP, AttachType::XDP_DEVMAP, PLAIN, AutoAttach::None),
    row("xdp.frags/cpumap", Exact, ProgType::XDP, AttachType::XDP_CPUMAP, XDP_FRAGS, AutoAttach::None),
    row("xdp/cpumap", Exact, ProgType::XDP, AttachType::XDP_CPUMAP, PLAIN, AutoAttach::None),
    row("xdp.frags", Exact, ProgType::XDP, AttachType::XDP, XDP_FRAGS, AutoAttach::None),
    row("xdp", Exact, ProgType::XDP, AttachType::XDP, OPTIONAL, AutoAttach::None),
    row("perf_event", Exact, ProgType::PERF_EVENT, AttachType(0), PLAIN, AutoAttach::None),
    row("lwt_in", Exact, ProgType::LWT_IN, AttachType(0), PLAIN, AutoAttach::None),
    row("lwt_out", Exact, ProgType::LWT_OUT, AttachType(0), PLAIN, AutoAttach::None),
    row("lwt_xmit", Exact, ProgType::LWT_XMIT, AttachType(0), PLAIN, AutoAttach::None),
    row("lwt_seg6local", Exact, ProgType::LWT_SEG6LOCAL, AttachType(0), PLAIN, AutoAttach::None),
    row("sockops", Exact, ProgType::SOCK_OPS, AttachType::CGROUP_SOCK_OPS, OPTIONAL, AutoAttach::None),
    row("sk_skb/stream_parser", Exact, ProgType::SK_SKB, AttachType::SK_SKB_STREAM_PARSER, OPTIONAL, AutoAttach::None),
    row("sk_skb/stream_verdict", Exact, ProgType::SK_SKB, AttachType::SK_SKB_STREAM_VERDICT, OPTIONAL, AutoAttach::None),
    row("sk_skb/verdict", Exact, ProgType::SK_SKB, AttachType::SK_SKB_VERDICT, OPTIONAL, AutoAttach::None),
    row("sk_skb", Exact, ProgType::SK_SKB, AttachType(0), PLAIN, AutoAttach::None),
    row("sk_msg", Exact, ProgType::SK_MSG, AttachType::SK_MSG_VERDICT, OPTIONAL, AutoAttach::None),
    row("lirc_mode2", Exact, ProgType::LIRC_MODE2, AttachType::LIRC_MODE2, OPTIONAL, AutoAttach::None),
    row("flow_dissector", Exact, ProgType::FLOW_DISSECTOR, AttachType::FLOW_DISSECTOR, OPTIONAL, AutoAttach::None),
    row("cgroup_skb/ingress", Exact, ProgType::CGROUP_SKB, AttachType::CGROUP_INET_INGRESS, OPTIONAL, AutoAttach::None),
    row("cgroup_skb/egress", Exact, ProgType::CGROUP_SKB, AttachType::CGROUP_INET_EGRESS, OPTIONAL, AutoAttach::None),
    row("cgroup/skb", Exact, ProgType::CGROUP_SKB, AttachType(0), PLAIN, AutoAttach::None),
    row("cgroup/sock_create", Exact, ProgType::CGROUP_SOCK, AttachType::CGROUP_INET_SOCK_CREATE, PLAIN, AutoAttach::None),
    row("cgroup/sock_release", Exact, ProgType::CGROUP_SOCK, AttachType::CGROUP_INET_SOCK_RELEASE, PLAIN, AutoAttach::None),
    row("cgroup/sock", Exact, ProgType::CGROUP_SOCK, AttachType::CGROUP_INET_SOCK_CREATE, OPTIONAL, AutoAttach::None),
    row("cgroup/post_bind4", Exact, ProgType::CGROUP_SOCK, AttachType::CGROUP_INET4_POST_BIND, PLAIN, AutoAttach::None),
    row("cgroup/post_bind6", Exact, ProgType::CGROUP_SOCK, AttachType::CGROUP_INET6_POST_BIND, PLAIN, AutoAttach::None),
    row("cgroup/bind4", Exact, ProgType::CGROUP_SOCK_ADDR, AttachType::CGROUP_INET4_BIND, PLAIN, AutoAttach::None),
    row("cgroup/bind6", Exact, ProgType::CGROUP_SOCK_ADDR, AttachType::CGROUP_INET6_BIND, PLAIN, AutoAttach::None),
    row("cgroup/connect4", Exact, ProgType::CGROUP_SOCK_ADDR, AttachType::CGROUP_INET4_CONNECT, PLAIN, AutoAttach::None),
    row("cgroup/connect6", Exact, ProgType::CGROUP_SOCK_ADDR, AttachType::CGROUP_INET6_CONNECT, PLAIN, AutoAttach::None),
    row("cgroup/connect_unix", Exact, ProgType::CGROUP_SOCK_ADDR, AttachType::CGROUP_UNIX_CONNECT, PLAIN, AutoAttach::None),
    row("cgroup/sendmsg4", Exact, ProgType::CGROUP_SOCK_ADDR, AttachType::CGROUP_UDP4_SENDMSG, PLAIN, AutoAttach::None),
    row("cgroup/sendmsg6", Exact, ProgType::CGROUP_SOCK_ADDR, AttachType::CGROUP_UDP6_SENDMSG, PLAIN, AutoAttach::None),
    row("cgroup/sendmsg_unix", Exact, ProgType::CGROUP_SOCK_ADDR, AttachType::CGROUP_UNIX_SENDMSG, PLAIN, AutoAttach::None),
    row("cgroup/recvmsg4", Exact, ProgType::CGROUP_SOCK_ADDR, AttachType::CGROUP_UDP4_RECVMSG, PLAIN, AutoAttach::None),
    row("cgroup/recvmsg6", Exact, ProgType::CGROUP_SOCK_ADDR, AttachType::CGROUP_UDP6_RECVMSG, PLAIN, AutoAttach::None),
    row("cgroup/recvmsg_unix", Exact, ProgType::CGROUP_SOCK_ADDR, AttachType::CGROUP_UNIX_RECVMSG, PLAIN, AutoAttach::None),
    row("cgroup/getpeername4", Exact, ProgType::CGROUP_SOCK_ADDR, AttachType::CGROUP_INET4_GETPEERNAME, PLAIN, AutoAttach::None),
    row("cgroup/getpeername6", Exact, ProgType::CGROUP_SOCK_ADDR, AttachType::CGROUP_INET6_GETPEERNAME, PLAIN, AutoAttach::None),
    row("cgroup/getpeername_unix", Exact, ProgType::CGROUP_SOCK_ADDR, AttachType::CGROUP_UNIX_GETPEERNAME, PLAIN, AutoAttach::None),
    row("cgroup/getsockname4", Exact, ProgType::CGROUP_SOCK_ADDR, AttachType::CGROUP_INET4_GETSOCKNAME, PLAIN, AutoAttach::None),
    row("cgroup/getsockname6", Exact, ProgType::CGROUP_SOCK_ADDR, AttachType::CGROUP_INET6_GETSOCKNAME, PLAIN, AutoAttach::None),
    row("cgroup/getsockname_unix", Exact, ProgType::CGROUP_SOCK_ADDR, AttachType::CGROUP_UNIX_GETSOCKNAME, PLAIN, AutoAttach::None),
    row("cgroup/sysctl", Exact, ProgType::CGROUP_SYSCTL, AttachType::CGROUP_SYSCTL, PLAIN, AutoAttach::None),
    row("cgroup/getsockopt", Exact, ProgType::CGROUP_SOCKOPT, AttachType::CGROUP_GETSOCKOPT, PLAIN, AutoAttach::None),
    row("cgroup/setsockopt", Exact, ProgType::CGROUP_SOCKOPT, AttachType::CGROUP_SETSOCKOPT, PLAIN, AutoAttach::None),
    row("cgroup/dev", Exact, ProgType::CGROUP_DEVICE, AttachType::CGROUP_DEVICE, OPTIONAL, AutoAttach::None),
    row("struct_ops", With, ProgType::STRUCT_OPS, AttachType(0), PLAIN, AutoAttach::None),
    row("struct_ops.s", With, ProgType::STRUCT_OPS, AttachType(0), SLEEPABLE, AutoAttach::None),
    row("sk_lookup", Exact, ProgType::SK_LOOKUP, AttachType::SK_LOOKUP, PLAIN, AutoAttach::None),
    row("netfilter", Exact, ProgType::NETFILTER, AttachType::NETFILTER, PLAIN, AutoAttach::None),
];

/// Finds the row that a section name matches, and the target that follows it.
///
/// A leading `?` must be stripped. `None` is for names that libbpf does not know: such a program can be loaded once
/// the user has given it a type.
///
/// ```
/// use skep::spec::section_kind;
/// use skep::sys::abi::ProgType;
///
/// let (kind, target) = section_kind("tp_btf/sched_process_exec").unwrap();
/// assert_eq!(kind.prog_type, ProgType::TRACING);
/// assert_eq!(target, Some("sched_process_exec"));
/// assert!(section_kind("my_own_section").is_none());
/// ```
pub fn section_kind(section: &str) -> Option<(&'static SectionKind, Option<&str>)> {
    SECTION_KINDS.iter().find_map(|kind| match section.strip_prefix(kind.name)? {
        "" => Some((kind, None)),
        rest if kind.takes_target => Some((kind, Some(rest.strip_prefix('/')?))),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_found_by_its_own_name() {
        assert_eq!(SECTION_KINDS.len(), 116);
        for kind in SECTION_KINDS {
            let (found, target) = section_kind(kind.name).expect(kind.name);
            assert_eq!((found.name, target), (kind.name, None));
        }
    }

    #[test]
    fn names_match_whole_or_up_to_a_slash() {
        let name = |section| section_kind(section).map(|(kind, target)| (kind.name, target));
        assert_eq!(name("xdp"), Some(("xdp", None)));
        assert_eq!(name("xdp_drop"), None);
        assert_eq!(name("xdp/eth0"), None);
        assert_eq!(name("xdp.frags/devmap"), Some(("xdp.frags/devmap", None)));
        assert_eq!(name("kprobe/do_exit+0x10"), Some(("kprobe", Some("do_exit+0x10"))));
        assert_eq!(name("kprobe.multi/vfs_*"), Some(("kprobe.multi", Some("vfs_*"))));
        assert_eq!(name("tp/sched/sched_switch"), Some(("tp", Some("sched/sched_switch"))));
        assert_eq!(name("fentry.s/do_unlinkat"), Some(("fentry.s", Some("do_unlinkat"))));
        assert_eq!(name("fentryx"), None);
        assert_eq!(name("tp/"), Some(("tp", Some(""))));
        assert_eq!(name("cgroup/foo"), None);
        assert_eq!(name(""), None);
    }
}

//! What a refused call may mean, and what to do.

use skep_sys::abi::{Errno, MapType, ProgType};
use skep_sys::{Feature, Kernel, Permissions};

const CAP_NET_ADMIN: u32 = 12;
const CAP_SYS_ADMIN: u32 = 21;
const CAP_PERFMON: u32 = 38;
const CAP_BPF: u32 = 39;

/// A clause to put behind an error of this number, with its separator; empty when nothing is known.
pub(crate) fn for_errno(kernel: &Kernel, errno: Errno) -> String {
    match errno {
        Errno::EPERM => refused(kernel, &kernel.backend().permissions()),
        Errno::ENOMEM => " (the kernel has no memory for it: fewer entries or smaller values may fit)".into(),
        Errno::EMFILE => " (this process has no file descriptor left: raise RLIMIT_NOFILE)".into(),
        _ => String::new(),
    }
}

/// The same for a kind of map that the kernel does not know; none where it knows it, or that cannot be told.
pub(super) fn for_map_type(kernel: &Kernel, kind: MapType) -> Option<String> {
    kernel.has(Feature::MapType(kind)).is_unsupported().then(|| unknown("maps", kind.since()))
}

/// The same for a kind of program.
pub(super) fn for_prog_type(kernel: &Kernel, kind: ProgType) -> Option<String> {
    kernel.has(Feature::ProgType(kind)).is_unsupported().then(|| unknown("programs", kind.since()))
}

fn unknown(what: &str, since: Option<(u32, u32)>) -> String {
    let since = since.map(|(major, minor)| format!(", which came with Linux {major}.{minor}"));
    format!(" (this kernel does not know {what} of this kind{})", since.unwrap_or_default())
}

/// The same for what asks for `CAP_SYS_ADMIN` whatever it is about.
pub(crate) fn for_admin(kernel: &Kernel) -> String {
    let permissions = kernel.backend().permissions();
    if permissions.user_namespace {
        " (that needs CAP_SYS_ADMIN, which does not count in a user namespace)".into()
    } else {
        " (that needs CAP_SYS_ADMIN: run as root, or give the program file the capability with setcap)".into()
    }
}

fn refused(kernel: &Kernel, permissions: &Permissions) -> String {
    let has = |caps: u64, cap: u32| caps & (1 << cap) != 0;
    if let Some(mode) = permissions.lockdown.as_deref().filter(|mode| *mode == "confidentiality") {
        return format!(" (the kernel is locked down ({mode}): it refuses programs that read kernel memory)");
    }
    if kernel.token().is_some() {
        return " (the token does not allow it: the bpffs that it is of was mounted with `delegate_cmds`, \
                `delegate_maps`, `delegate_progs` and `delegate_attachs` that leave it out)"
            .into();
    }
    if permissions.user_namespace {
        return " (this process is in a user namespace, where capabilities do not count: it needs a bpffs that was \
                mounted with `delegate_cmds` and the like for it, see `Loader::token_path`)"
            .into();
    }
    if let Some(caps) = permissions.effective_caps.filter(|caps| !has(*caps, CAP_SYS_ADMIN)) {
        let missing: Vec<&str> = [
            (CAP_BPF, "CAP_BPF"),
            (CAP_PERFMON, "CAP_PERFMON for tracing"),
            (CAP_NET_ADMIN, "CAP_NET_ADMIN for networking"),
        ]
        .into_iter()
        .filter(|(cap, _)| !has(caps, *cap))
        .map(|(_, name)| name)
        .collect();
        if !missing.is_empty() {
            return format!(
                " (this process lacks {}: run it as root, or give the program file the capabilities with setcap)",
                missing.join(" and ")
            );
        }
    }
    match permissions.memlock_limit {
        Some(limit) if kernel.has(Feature::MemcgAccount).is_unsupported() => {
            format!(
                " (RLIMIT_MEMLOCK, {limit} bytes here, may be too low: this kernel counts maps and programs against it)"
            )
        }
        _ => " (this kernel is built or configured to refuse it)".into(),
    }
}

//! Probes that load programs.

use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;

use skep_asm::{Assembler, Insn, Reg, Size};

use super::{Feature, Inconclusive, Probe, attempt, btf, control};
use crate::abi::{AttachType, Errno, MapType, ProgFlags, ProgType};
use crate::kernel::Kernel;
use crate::program_fd::LoadedProgram;
use crate::request::{
    AttachTarget, LinkCreate, LinkTarget, LogBuffer, MapCreate, ProgLoad, Records, Uprobes,
};

const LOADING: &str = "load a program";

/// Room for what the verifier says of a program of a few instructions.
const LOG_SIZE: usize = 64 * 1024;

/// Numbers of helpers (`enum bpf_func_id`).
mod helper {
    pub(super) const PROBE_READ: i32 = 4;
    pub(super) const PROBE_READ_KERNEL: i32 = 113;
    pub(super) const KTIME_GET_COARSE_NS: u32 = 160;
    pub(super) const GET_HASH_RECALC: i32 = 34;
    pub(super) const GET_ATTACH_COOKIE: u32 = 174;
}

/// Bits of `CapEff`.
mod cap {
    pub(super) const SYS_ADMIN: u32 = 21;
    pub(super) const PERFMON: u32 = 38;
    pub(super) const BPF: u32 = 39;
}

/// What `assemble` writes. Labels are all that can go wrong, and the tests assemble all programs here.
fn program(assemble: impl FnOnce(&mut Assembler)) -> Vec<Insn> {
    let mut assembler = Assembler::new();
    assemble(&mut assembler);
    assembler.finish().unwrap_or_default()
}

/// `return 0`
fn trivial() -> Vec<Insn> {
    program(|asm| {
        asm.mov64_imm(Reg::R0, 0).exit();
    })
}

fn load(kernel: &Kernel, prog_type: ProgType, insns: &[Insn]) -> Result<LoadedProgram, Errno> {
    kernel.prog_load(&ProgLoad::new(prog_type, insns, "GPL"), None)
}

/// That a program which every kernel knows can be loaded.
fn loads_trivial(kernel: &Kernel, prog_type: ProgType) -> Result<(), Inconclusive> {
    control(LOADING, load(kernel, prog_type, &trivial()))
}

pub(super) fn name(kernel: &Kernel) -> Probe {
    let insns = trivial();
    let mut request = ProgLoad::new(ProgType::SOCKET_FILTER, &insns, "GPL");
    request.name = "skep_probe";
    attempt(LOADING, kernel.prog_load(&request, None))
        .unless(|| loads_trivial(kernel, ProgType::SOCKET_FILTER))
}

pub(super) fn global_data(kernel: &Kernel) -> Probe {
    let map = match kernel.map_create(&MapCreate::new(MapType::ARRAY, 4, 32, 1)) {
        Ok(map) => map,
        Err(errno) => return Probe::unknown("create a map", errno),
    };
    let insns = program(|asm| {
        asm.ld_map_value(Reg::R1, map.as_fd().as_raw_fd(), 16)
            .st(Size::DW, Reg::R1, 0, 42)
            .mov64_imm(Reg::R0, 0)
            .exit();
    });
    attempt(LOADING, load(kernel, ProgType::SOCKET_FILTER, &insns))
        .unless(|| loads_trivial(kernel, ProgType::SOCKET_FILTER))
}

/// An offset that is far outside of the map is refused either way: for where it points to, or for how large it is.
pub(super) fn full_range_off(kernel: &Kernel) -> Probe {
    let map = match kernel.map_create(&MapCreate::new(MapType::ARRAY, 4, 1, 1)) {
        Ok(map) => map,
        Err(errno) => return Probe::unknown("create a map", errno),
    };
    let insns = program(|asm| {
        asm.ld_map_value(Reg::R1, map.as_fd().as_raw_fd(), 1 << 30).mov64_imm(Reg::R0, 0).exit();
    });
    match refused(kernel, &ProgLoad::new(ProgType::SOCKET_FILTER, &insns, "GPL")) {
        // Not a kernel that looks at the offset.
        Ok(()) => Probe::Supported,
        Err((_, log)) if log.contains("direct value offset of ") => Probe::Unsupported,
        Err((_, log)) if log.contains("invalid access to map value pointer") => Probe::Supported,
        Err((errno, _)) => Probe::unknown(LOADING, errno),
    }
}

pub(super) fn expected_attach_type(kernel: &Kernel) -> Probe {
    let insns = trivial();
    let mut request = ProgLoad::new(ProgType::CGROUP_SOCK, &insns, "GPL");
    request.expected_attach_type = AttachType::CGROUP_INET_SOCK_CREATE;
    attempt(LOADING, kernel.prog_load(&request, None))
        .unless(|| loads_trivial(kernel, ProgType::SOCKET_FILTER))
}

pub(super) fn probe_read_kernel(kernel: &Kernel) -> Probe {
    let reads = |helper| {
        program(|asm| {
            asm.mov64_reg(Reg::R1, Reg::R10)
                .add64_imm(Reg::R1, -8)
                .mov64_imm(Reg::R2, 8)
                .mov64_imm(Reg::R3, 0)
                .call_helper(helper)
                .exit();
        })
    };
    attempt(LOADING, load(kernel, ProgType::TRACEPOINT, &reads(helper::PROBE_READ_KERNEL)))
        .unless(|| control(LOADING, load(kernel, ProgType::TRACEPOINT, &reads(helper::PROBE_READ))))
}

pub(super) fn bind_map(kernel: &Kernel) -> Probe {
    let map = match kernel.map_create(&MapCreate::new(MapType::ARRAY, 4, 4, 1)) {
        Ok(map) => map,
        Err(errno) => return Probe::unknown("create a map", errno),
    };
    match load(kernel, ProgType::SOCKET_FILTER, &trivial()) {
        Ok(prog) => attempt("bind a map", prog.bind_map(&map)),
        Err(errno) => Probe::unknown(LOADING, errno),
    }
}

/// A link to something that is no perf event: a kernel that makes such links looks at the descriptor.
pub(super) fn perf_link(kernel: &Kernel) -> Probe {
    let prog = match load(kernel, ProgType::TRACEPOINT, &trivial()) {
        Ok(prog) => prog,
        Err(errno) => return Probe::unknown(LOADING, errno),
    };
    let request = LinkCreate::new(prog.as_fd(), LinkTarget::Fd(prog.as_fd()), AttachType::PERF_EVENT);
    match kernel.link_create(&request) {
        Err(Errno::EBADF) => Probe::Supported,
        other => attempt("create a link", other),
    }
}

/// Places in what is a directory: a kernel that knows such links looks at the file. It looks at the process before, once it
/// does not take it for a thread any more.
pub(super) fn uprobe_multi_link(kernel: &Kernel) -> Probe {
    let insns = trivial();
    let mut request = smallest(kernel, ProgType::KPROBE, &insns);
    request.expected_attach_type = AttachType::TRACE_UPROBE_MULTI;
    let prog = match kernel.prog_load(&request, None) {
        Ok(prog) => prog,
        Err(errno) => {
            return attempt::<()>(LOADING, Err(errno))
                .unless(|| loads_trivial(kernel, ProgType::SOCKET_FILTER));
        }
    };
    let link = |pid| {
        let mut places = Uprobes::new(Path::new("/"), &[0]);
        places.pid = pid;
        let target = LinkTarget::Uprobes(places);
        kernel.link_create(&LinkCreate::new(prog.as_fd(), target, AttachType::TRACE_UPROBE_MULTI))
    };
    match link(0) {
        Err(Errno::EBADF) => (),
        other => return attempt("create a link", other),
    }
    match link(u32::MAX) {
        Err(Errno::EINVAL) => Probe::Supported,
        _ => Probe::Unsupported,
    }
}

/// The change came in the same release as a helper that can be seen.
pub(super) fn memcg_account(kernel: &Kernel) -> Probe {
    kernel.has(Feature::Helper(ProgType::SOCKET_FILTER, helper::KTIME_GET_COARSE_NS))
}

pub(super) fn cookie(kernel: &Kernel) -> Probe {
    kernel.has(Feature::Helper(ProgType::KPROBE, helper::GET_ATTACH_COOKIE))
}

/// A helper that takes nothing but the context is given the argument of a global function.
pub(super) fn arg_ctx_tag(kernel: &Kernel) -> Probe {
    let (bytes, main, sub) = match btf::tagged_argument() {
        Ok(parts) => parts,
        Err(reason) => return Probe::Unknown(reason),
    };
    match kernel.has(Feature::BtfDeclTag) {
        Probe::Supported => (),
        other => return other,
    }
    let btf = match kernel.btf_load(&bytes, None) {
        Ok(btf) => btf,
        Err(errno) => return attempt::<()>("load BTF", Err(errno)),
    };
    let insns = program(|asm| {
        asm.call("sub").exit().label("sub").call_helper(helper::GET_HASH_RECALC).exit();
    });
    // The sub-program is the third instruction.
    let records: Vec<u8> = [0, main.0, 2, sub.0].iter().flat_map(|word| word.to_ne_bytes()).collect();
    let mut request = ProgLoad::new(ProgType::SCHED_CLS, &insns, "GPL");
    request.btf = Some(btf.as_fd());
    request.func_info = Records { record_size: 8, bytes: &records };
    match kernel.prog_load(&request, None) {
        // How the verifier refuses to take a number for the context.
        Err(Errno::EACCES) => Probe::Unsupported,
        other => attempt(LOADING, other).unless(|| loads_trivial(kernel, ProgType::SCHED_CLS)),
    }
}

pub(super) fn kind(kernel: &Kernel, prog_type: ProgType) -> Probe {
    let insns = trivial();
    let request = smallest(kernel, prog_type, &insns);
    // Kinds that attach to a function or structure say at load to which, and 1 is none of these; a kernel that knows
    // the kind complains about that in its own way.
    let complaint = match prog_type {
        ProgType::TRACING | ProgType::LSM => "attach_btf_id 1 is not a function",
        ProgType::EXT => "Cannot replace kernel functions",
        _ => {
            return match kernel.prog_load(&request, None) {
                Err(Errno::ENOTSUPP) if prog_type == ProgType::STRUCT_OPS => Probe::Supported,
                other => attempt(LOADING, other),
            }
            .unless(|| loads_trivial(kernel, ProgType::SOCKET_FILTER));
        }
    };
    match refused(kernel, &request) {
        Ok(()) => Probe::Supported,
        Err((Errno::EINVAL, log)) if log.contains(complaint) => Probe::Supported,
        Err((errno, _)) => {
            attempt::<()>(LOADING, Err(errno)).unless(|| loads_trivial(kernel, ProgType::SOCKET_FILTER))
        }
    }
}

/// A program of this kind that a kernel that knows the kind cannot object to, or objects to in a known way.
fn smallest<'a>(kernel: &Kernel, prog_type: ProgType, insns: &'a [Insn]) -> ProgLoad<'a> {
    let mut request = ProgLoad::new(prog_type, insns, "GPL");
    request.expected_attach_type = match prog_type {
        ProgType::CGROUP_SOCK_ADDR => AttachType::CGROUP_INET4_CONNECT,
        ProgType::CGROUP_SOCKOPT => AttachType::CGROUP_GETSOCKOPT,
        ProgType::SK_LOOKUP => AttachType::SK_LOOKUP,
        ProgType::NETFILTER => AttachType::NETFILTER,
        ProgType::TRACING => AttachType::TRACE_FENTRY,
        ProgType::LSM => AttachType::LSM_MAC,
        _ => AttachType(0),
    };
    match prog_type {
        // Kernels before 5.0 compare it with their own.
        ProgType::KPROBE => request.kern_version = kernel.version_code().unwrap_or(0),
        ProgType::SYSCALL => request.flags = ProgFlags::SLEEPABLE,
        ProgType::TRACING | ProgType::LSM | ProgType::EXT | ProgType::STRUCT_OPS => {
            request.attach = AttachTarget::KernelType { type_id: 1, module: None };
        }
        _ => (),
    }
    request
}

pub(super) fn helper(kernel: &Kernel, prog_type: ProgType, helper: u32) -> Probe {
    if matches!(prog_type, ProgType::TRACING | ProgType::EXT | ProgType::LSM | ProgType::STRUCT_OPS) {
        return Probe::unknown("tell without an attach target", Errno::EOPNOTSUPP);
    }
    let insns = program(|asm| {
        asm.call_helper(helper.cast_signed()).mov64_imm(Reg::R0, 0).exit();
    });
    let (errno, log) = match refused(kernel, &smallest(kernel, prog_type, &insns)) {
        Ok(()) => return Probe::Supported,
        Err(refusal) => refusal,
    };
    let unknown = ["invalid func ", "unknown func ", "program of this type cannot use helper "];
    if unknown.iter().any(|complaint| log.contains(complaint)) {
        // A kernel hides some helpers from those who may not use them, in the same words.
        if may_all(kernel) { Probe::Unsupported } else { Probe::unknown("see all helpers", Errno::EPERM) }
    } else if log.is_empty() || errno == Errno::EPERM {
        // Nothing was verified.
        Probe::unknown(LOADING, errno)
    } else {
        // It is known, and its arguments are wrong.
        Probe::Supported
    }
}

/// Whether the process may use every helper, as far as is known.
fn may_all(kernel: &Kernel) -> bool {
    let has = |caps: u64, bit: u32| caps & 1 << bit != 0;
    kernel
        .backend()
        .permissions()
        .effective_caps
        .is_none_or(|caps| has(caps, cap::SYS_ADMIN) || has(caps, cap::BPF) && has(caps, cap::PERFMON))
}

/// Loads a program, and when it is refused once more to read why.
fn refused(kernel: &Kernel, request: &ProgLoad<'_>) -> Result<(), (Errno, String)> {
    if kernel.prog_load(request, None).is_ok() {
        return Ok(());
    }
    let mut log = LogBuffer::new(1, LOG_SIZE);
    match kernel.prog_load(request, Some(&mut log)) {
        Ok(_) => Ok(()),
        Err(errno) => Err((errno, log.text().into_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_assembled() {
        assert_eq!(trivial().len(), 2);
        let insns = program(|asm| {
            asm.call("sub").exit().label("sub").call_helper(helper::GET_HASH_RECALC).exit();
        });
        assert_eq!((insns.len(), insns[0].func_target(0)), (4, Some(2)));
    }
}

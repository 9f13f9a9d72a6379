//! What `BPF_PROG_LOAD` checks before the verifier, and what it makes.

use std::collections::BTreeMap;
use std::sync::Mutex;

use skep_btf::{ExtRecord, FuncInfo, Kind, LineInfo, TypeId};
use skep_sys::abi::{AttachType, Errno, ProgFlags, ProgType};
use skep_sys::request::{AttachTarget, OwnedRecords, ProgLoad, Records};

use super::device::bound_to;
use super::helpers::call_name;
use super::refs::Loads;
use super::verify::{Subject, Verified, verify};
use super::{Prog, Target, tag::tag, xlate::xlated};
use crate::features::Features;
use crate::helper::{self, Function};
use crate::kernel::Inner;
use crate::log::Log;
use crate::map::PlacesHold;
use crate::name::check_name;
use crate::vm::{Callee, Code, References};

/// Most instructions that a privileged user may load (`BPF_COMPLEXITY_LIMIT_INSNS`).
const INSNS_MAX: usize = 1_000_000;

/// A program that was accepted and has no id yet.
#[derive(Debug)]
pub(crate) struct Draft(Prog, Vec<PlacesHold>);

impl Draft {
    /// Notes who loads it.
    pub(crate) fn made_by(mut self, uid: u32) -> Draft {
        self.0.uid = uid;
        self
    }

    pub(crate) fn with_id(mut self, id: u32) -> Prog {
        self.0.id = id;
        self.1.into_iter().for_each(PlacesHold::keep);
        self.0
    }
}

/// Checks a program and everything that it refers to.
pub(crate) fn load(kernel: &Inner, request: &ProgLoad<'_>, log: &mut Log<'_>) -> Result<Draft, Errno> {
    check_attributes(kernel, request)?;
    let target = attach_target(kernel, request)?;
    check_attach_type(request)?;
    check_name(request.name)?;
    let device = bound_to(kernel, request)?;

    // The kernel looks at the BTF only for the records that need it.
    let has_records = request.func_info.count() != 0 || request.line_info.count() != 0;
    let btf = match request.btf.filter(|_| has_records) {
        Some(fd) => Some(kernel.object(fd)?.btf()?.clone()),
        None if has_records => return Err(Errno::EINVAL),
        None => None,
    };
    if btf.as_ref().is_some_and(|btf| btf.kernel) {
        return Err(Errno::EACCES);
    }
    let subject = Subject { kernel, request, gpl_compatible: is_gpl_compatible(request.license) };
    let Verified { loads, indirect, kfuncs, lines } = verify(&subject, btf.as_deref(), target.as_ref(), log)?;
    let references = Found { kernel, loads: &loads, kfuncs: &kfuncs };
    let mut code = Code::new(request.insns, loads.maps.clone(), loads.symbols.clone(), &references);
    code.set_indirect(indirect);
    let prog = Prog {
        id: 0,
        prog_type: request.prog_type,
        expected_attach_type: request.expected_attach_type,
        target,
        name: request.name.to_owned(),
        tag: tag(request.insns, kernel.features().contains(Features::SHA256_TAG)),
        insns: xlated(kernel, request),
        maps: Mutex::new(loads.maps),
        code,
        lines,
        btf,
        gpl_compatible: subject.gpl_compatible,
        func_info: owned(request.func_info, FuncInfo::SIZE),
        line_info: owned(request.line_info, LineInfo::SIZE),
        has_subprograms: request.insns.iter().any(|insn| insn.is_pseudo_call() || insn.is_pseudo_func()),
        typed: has_typed_pointers(request),
        load_time: kernel.now(),
        uid: 0,
        device,
    };
    Ok(Draft(prog, loads.places))
}

/// Whether a program may have pointers that the kernel gave it with a type: as arguments, or from helpers and functions of
/// the kernel.
fn has_typed_pointers(request: &ProgLoad<'_>) -> bool {
    /// `get_current_task_btf`, `task_pt_regs`, `per_cpu_ptr`, `this_cpu_ptr`, and those that tell what a socket is.
    const TYPED: &[i32] = &[136, 137, 138, 139, 140, 153, 154, 158, 162, 175, 178, 196];

    matches!(request.prog_type, ProgType::TRACING | ProgType::LSM | ProgType::STRUCT_OPS | ProgType::EXT)
        || request
            .insns
            .iter()
            .any(|insn| insn.is_kfunc_call() || insn.is_helper_call() && TYPED.contains(&insn.imm))
}

/// What the instructions of a program refer to.
struct Found<'a> {
    kernel: &'a Inner,
    loads: &'a Loads,
    kfuncs: &'a BTreeMap<usize, String>,
}

impl References for Found<'_> {
    fn map(&self, slot: usize) -> Option<usize> {
        let value = self.loads.by_slot.get(&slot).map(|(place, _)| place);
        value.or_else(|| self.loads.whole.get(&slot)).copied()
    }

    fn symbol(&self, slot: usize) -> Option<usize> {
        self.loads.symbol_by_slot.get(&slot).copied()
    }

    fn kfunc(&self, slot: usize) -> Option<Callee> {
        let name = self.kfuncs.get(&slot)?;
        let custom = self.kernel.config().kfuncs.get(name).cloned().map(Function::Custom);
        let function = custom.or_else(|| helper::kfunc(name).map(Function::Builtin));
        Some(Callee { name: name.clone(), function })
    }

    fn helper(&self, number: i32) -> Callee {
        let custom = self.kernel.config().helpers.get(&number).cloned().map(Function::Custom);
        let function = custom.or_else(|| helper::builtin(number).map(Function::Builtin));
        Callee { name: call_name(number), function }
    }
}

/// Records as a kernel keeps them, which is as far as it knows them. It tells the size also where there are none.
fn owned(records: Records<'_>, known: u32) -> OwnedRecords {
    let size = (records.record_size as usize).max(1);
    let each = records.bytes.chunks_exact(size);
    let bytes = each.flat_map(|record| record.iter().take(known as usize)).copied().collect();
    OwnedRecords { record_size: known, bytes }
}

/// The fields that only newer kernels have, the flags, and the size.
fn check_attributes(kernel: &Inner, request: &ProgLoad<'_>) -> Result<(), Errno> {
    let features = kernel.features();
    // An old kernel sees bytes that are not zero behind the attributes that it knows.
    let unknown = !request.name.is_empty() && !features.contains(Features::NAMES)
        || request.expected_attach_type.0 != 0 && !features.contains(Features::EXPECTED_ATTACH_TYPE)
        || request.btf.is_some() && !features.contains(Features::BTF)
        || request.func_info.record_size != 0 && !features.contains(Features::BTF_FUNC)
        || request.line_info.record_size != 0 && !features.contains(Features::BTF_FUNC)
        || !matches!(request.attach, AttachTarget::None) && !features.contains(Features::KERNEL_BTF);
    if unknown {
        return Err(Errno::E2BIG);
    }
    let known = ProgFlags::STRICT_ALIGNMENT
        | ProgFlags::ANY_ALIGNMENT
        | ProgFlags::TEST_RND_HI32
        | ProgFlags::TEST_STATE_FREQ
        | ProgFlags::SLEEPABLE
        | ProgFlags::XDP_HAS_FRAGS
        | ProgFlags::XDP_DEV_BOUND_ONLY
        | ProgFlags::TEST_REG_INVARIANTS;
    if !known.contains(request.flags) {
        return Err(Errno::EINVAL);
    }
    if request.insns.is_empty() || request.insns.len() > INSNS_MAX {
        return Err(Errno::E2BIG);
    }
    let last = kernel.config().last_prog_type;
    if request.prog_type == ProgType::UNSPEC || request.prog_type.name().is_none() || request.prog_type > last
    {
        return Err(Errno::EINVAL);
    }
    Ok(())
}

/// The licenses that the kernel counts as compatible with its own.
fn is_gpl_compatible(license: &str) -> bool {
    matches!(
        license,
        "GPL" | "GPL v2" | "GPL and additional rights" | "Dual BSD/GPL" | "Dual MIT/GPL" | "Dual MPL/GPL"
    )
}

/// Whether a kind of program names what it attaches to by a type.
fn has_target(prog_type: ProgType) -> bool {
    matches!(prog_type, ProgType::TRACING | ProgType::LSM | ProgType::STRUCT_OPS | ProgType::EXT)
}

fn attach_target(kernel: &Inner, request: &ProgLoad<'_>) -> Result<Option<Target>, Errno> {
    let (type_id, btf, prog) = match request.attach {
        AttachTarget::None => return Ok(None),
        AttachTarget::KernelType { type_id: 0, module: None } => return Ok(None),
        AttachTarget::KernelType { type_id, module: None } => {
            (type_id, kernel.vmlinux().ok_or(Errno::EINVAL)?.clone(), None)
        }
        AttachTarget::KernelType { type_id, module: Some(fd) } => {
            let btf = kernel.object(fd)?.btf()?.clone();
            if !btf.kernel {
                return Err(Errno::EINVAL);
            }
            (type_id, btf, None)
        }
        AttachTarget::Program { prog, type_id } => {
            let prog = kernel.object(prog)?.prog()?.clone();
            if !matches!(request.prog_type, ProgType::TRACING | ProgType::EXT) {
                return Err(Errno::EINVAL);
            }
            (type_id, prog.btf.clone().ok_or(Errno::EINVAL)?, Some(prog))
        }
        _ => return Err(Errno::EINVAL),
    };
    if !has_target(request.prog_type) || type_id == 0 {
        return Err(Errno::EINVAL);
    }
    let Ok(ty) = btf.btf.ty(TypeId(type_id)) else {
        return Ok(Some(Target { type_id, name: String::new(), obj_id: btf.id, kind: Kind::VOID, prog }));
    };
    let obj_id = prog.as_ref().map_or(btf.id, |prog| prog.id);
    Ok(Some(Target { type_id, name: ty.name().into_owned(), obj_id, kind: ty.kind(), prog }))
}

/// Attach types that kinds of programs insist on (`bpf_prog_load_check_attach`).
fn check_attach_type(request: &ProgLoad<'_>) -> Result<(), Errno> {
    use AttachType as A;

    let attach_type = request.expected_attach_type;
    let fits = match request.prog_type {
        ProgType::CGROUP_SOCK => matches!(
            attach_type,
            // Zero is the default, which the kernel takes for socket creation.
            A(0) | A::CGROUP_INET_SOCK_CREATE
                | A::CGROUP_INET_SOCK_RELEASE
                | A::CGROUP_INET4_POST_BIND
                | A::CGROUP_INET6_POST_BIND
        ),
        ProgType::CGROUP_SOCK_ADDR => matches!(
            attach_type,
            A::CGROUP_INET4_BIND
                | A::CGROUP_INET6_BIND
                | A::CGROUP_INET4_CONNECT
                | A::CGROUP_INET6_CONNECT
                | A::CGROUP_UNIX_CONNECT
                | A::CGROUP_INET4_GETPEERNAME
                | A::CGROUP_INET6_GETPEERNAME
                | A::CGROUP_UNIX_GETPEERNAME
                | A::CGROUP_INET4_GETSOCKNAME
                | A::CGROUP_INET6_GETSOCKNAME
                | A::CGROUP_UNIX_GETSOCKNAME
                | A::CGROUP_UDP4_SENDMSG
                | A::CGROUP_UDP6_SENDMSG
                | A::CGROUP_UNIX_SENDMSG
                | A::CGROUP_UDP4_RECVMSG
                | A::CGROUP_UDP6_RECVMSG
                | A::CGROUP_UNIX_RECVMSG
        ),
        ProgType::CGROUP_SKB => matches!(attach_type, A::CGROUP_INET_INGRESS | A::CGROUP_INET_EGRESS),
        ProgType::CGROUP_SOCKOPT => matches!(attach_type, A::CGROUP_SETSOCKOPT | A::CGROUP_GETSOCKOPT),
        ProgType::SK_LOOKUP => attach_type == A::SK_LOOKUP,
        ProgType::SK_REUSEPORT => {
            matches!(attach_type, A(0) | A::SK_REUSEPORT_SELECT | A::SK_REUSEPORT_SELECT_OR_MIGRATE)
        }
        ProgType::NETFILTER => attach_type == A::NETFILTER,
        ProgType::SYSCALL | ProgType::EXT => attach_type == A(0),
        _ => true,
    };
    if fits { Ok(()) } else { Err(Errno::EINVAL) }
}

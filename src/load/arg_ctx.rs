//! Writes out what a tag says of arguments, for kernels that do not know the tag.
//!
//! `arg:ctx` says of an argument of a global function that it is the program's context. Kernels before 6.8 tell a
//! context by its type alone, and by another one in each kind of program. So a function gets a second type for each
//! kind of context that programs which call it have, and their function records name that one.

use std::collections::{BTreeMap, BTreeSet};

use skep_btf::{Btf, BtfBuilder, BtfError, Kind, Linkage, Type, TypeId};
use skep_sys::abi::ProgType;
use skep_sys::{Feature, Kernel};

use super::report::{LoadReport, NoteKind};
use crate::reloc::ProgramPlan;
use crate::spec::InfoRecords;

const TAG: &str = "arg:ctx";

/// Most arguments that a function can have (`MAX_BPF_FUNC_REG_ARGS`).
const ARGS_MAX: usize = 5;

/// What a kernel calls the registers that a probe sees, and by what structure it has them.
const USER_REGS: &str = "bpf_user_pt_regs_t";
const REGS: &str = if cfg!(any(target_arch = "riscv32", target_arch = "riscv64")) {
    "user_regs_struct"
} else if cfg!(any(
    target_arch = "aarch64",
    target_arch = "s390x",
    target_arch = "powerpc64",
    target_arch = "loongarch64"
)) {
    "user_pt_regs"
} else {
    "pt_regs"
};

/// Types with contexts written out, and the function records that name them.
pub(super) struct Rewritten {
    pub(super) btf: Btf,
    /// By index of the plan's programs; none where nothing changed.
    pub(super) func_info: Vec<Option<Vec<u8>>>,
}

/// A function and the structure that its tagged arguments are to point to.
type Wanted = (TypeId, &'static str);

/// Writes out the contexts that programs pass to tagged arguments, if this kernel needs that.
///
/// Types are given to a kernel before programs are, so here a feature is asked for before anything is refused; but only
/// for objects that use the tag, and not as the kernel would take it anyway.
pub(super) fn rewrite(
    kernel: &Kernel,
    btf: &Btf,
    programs: &[ProgramPlan],
    report: &mut LoadReport,
) -> Option<Rewritten> {
    let tagged = tagged(btf);
    if tagged.is_empty() {
        return None;
    }
    let mut wanted: BTreeMap<Wanted, BTreeSet<usize>> = BTreeMap::new();
    let mut odd: BTreeSet<(&str, TypeId, usize)> = BTreeSet::new();
    for program in programs {
        let Some(context) = context_name(program.prog_type) else { continue };
        for function in program.func_info.iter().filter_map(type_of) {
            for &argument in tagged.get(&function).into_iter().flatten() {
                match judge(btf, function, argument, program.prog_type, context) {
                    Judgement::Canonical => {}
                    Judgement::Rewrite => _ = wanted.entry((function, context)).or_default().insert(argument),
                    Judgement::Odd => _ = odd.insert((&program.name, function, argument)),
                }
            }
        }
    }
    if wanted.is_empty() && odd.is_empty() || !kernel.has(Feature::ArgCtxTag).is_unsupported() {
        return None;
    }
    for (program, function, argument) in odd {
        let function = btf.ty(function).map(|ty| ty.name().into_owned()).unwrap_or_default();
        let text = format!(
            "argument {argument} of `{function}` is tagged as the context, which this kernel does not know, and its \
             type is none that can stand for it: make it a `void *`"
        );
        report.add(NoteKind::Skipped, program, text);
    }
    // What the types are like was seen above, so only their number can be too large.
    let (btf, written) = write_out(btf, &wanted).ok()?;
    let mut func_info = Vec::with_capacity(programs.len());
    for program in programs {
        let context = context_name(program.prog_type);
        let (bytes, changed) = rename(&program.func_info, |function| {
            context.and_then(|context| written.get(&(function, context)).copied())
        });
        if changed > 0 {
            let text = format!(
                "the context that {changed} of its functions take is written out as `struct {}`: this kernel does not \
                 know the tag for it",
                context.unwrap_or_default()
            );
            report.add(NoteKind::Adapted, &program.name, text);
        }
        func_info.push((changed > 0).then_some(bytes));
    }
    Some(Rewritten { btf, func_info })
}

/// Function records with other types, and how many of them changed.
fn rename(records: &InfoRecords, other: impl Fn(TypeId) -> Option<TypeId>) -> (Vec<u8>, usize) {
    let mut bytes = Vec::with_capacity(records.bytes.len());
    let mut changed = 0;
    for record in records.iter() {
        let start = bytes.len();
        bytes.extend_from_slice(record);
        if let Some(new) = type_of(record).and_then(&other)
            && let Some(slot) = bytes.get_mut(start + 4..start + 8)
        {
            slot.copy_from_slice(&new.0.to_ne_bytes());
            changed += 1;
        }
    }
    (bytes, changed)
}

/// The type in a function record, behind its instruction.
fn type_of(record: &[u8]) -> Option<TypeId> {
    let bytes = record.get(4..8)?.try_into().ok()?;
    Some(TypeId(u32::from_ne_bytes(bytes)))
}

/// The tagged arguments of each global function.
fn tagged(btf: &Btf) -> BTreeMap<TypeId, BTreeSet<usize>> {
    let mut tagged: BTreeMap<TypeId, BTreeSet<usize>> = BTreeMap::new();
    for ty in btf.types().filter(|ty| ty.kind() == Kind::DECL_TAG && ty.name_bytes() == TAG.as_bytes()) {
        let argument = ty.component_index().and_then(|index| usize::try_from(index).ok());
        let Some(argument) = argument.filter(|&argument| argument < ARGS_MAX) else { continue };
        let function = btf.ty(ty.type_id()).ok();
        // A static function is verified where it is called.
        if function.is_some_and(|function| function.linkage() == Some(Linkage::GLOBAL)) {
            tagged.entry(ty.type_id()).or_default().insert(argument);
        }
    }
    tagged
}

/// What has to be done to a tagged argument.
enum Judgement {
    /// It is of the type by which a kernel tells a context.
    Canonical,
    Rewrite,
    /// It is of a type that is no context in this kind of program.
    Odd,
}

fn judge(btf: &Btf, function: TypeId, argument: usize, kind: ProgType, context: &str) -> Judgement {
    let Some(target) = pointee(btf, function, argument) else { return Judgement::Odd };
    let probes = matches!(kind, ProgType::KPROBE | ProgType::PERF_EVENT);
    if probes && is_named(btf, target, USER_REGS) {
        return Judgement::Canonical;
    }
    let Ok(ty) = btf.peel(target) else { return Judgement::Odd };
    let is_struct = |name: &str| ty.kind() == Kind::STRUCT && ty.name_bytes() == name.as_bytes();
    let other = match kind {
        _ if ty.is_void() => true,
        ProgType::KPROBE => is_struct("pt_regs"),
        ProgType::PERF_EVENT => is_struct(REGS),
        ProgType::RAW_TRACEPOINT | ProgType::RAW_TRACEPOINT_WRITABLE => {
            ty.kind() == Kind::INT && ty.size() == 8
        }
        _ => false,
    };
    match other {
        _ if is_struct(context) => Judgement::Canonical,
        true => Judgement::Rewrite,
        false => Judgement::Odd,
    }
}

/// What an argument points to.
fn pointee(btf: &Btf, function: TypeId, argument: usize) -> Option<TypeId> {
    let proto = prototype(btf, function)?;
    if proto.params().count() > ARGS_MAX {
        return None;
    }
    let pointer = btf.peel(proto.params().nth(argument)?.type_id).ok()?;
    (pointer.kind() == Kind::PTR).then(|| pointer.type_id())
}

fn prototype(btf: &Btf, function: TypeId) -> Option<Type<'_>> {
    let proto = btf.ty(btf.ty(function).ok()?.type_id()).ok()?;
    (proto.kind() == Kind::FUNC_PROTO).then_some(proto)
}

/// Whether an alias of this name is met before the type that it stands for.
fn is_named(btf: &Btf, id: TypeId, name: &str) -> bool {
    let mut next = btf.ty(id).ok();
    // As many as types are followed elsewhere; what is longer is no type of a context.
    for _ in 0..32 {
        match next {
            Some(ty) if ty.kind() == Kind::TYPEDEF && ty.name_bytes() == name.as_bytes() => return true,
            Some(ty) if ty.kind() == Kind::TYPEDEF || ty.kind().is_modifier() => {
                next = btf.ty(ty.type_id()).ok()
            }
            _ => return false,
        }
    }
    false
}

/// Adds to the types one of each wanted function whose arguments point to the context.
fn write_out(
    btf: &Btf,
    wanted: &BTreeMap<Wanted, BTreeSet<usize>>,
) -> Result<(Btf, BTreeMap<Wanted, TypeId>), BtfError> {
    let mut builder = BtfBuilder::from_btf(btf);
    let mut pointers: BTreeMap<&str, TypeId> = BTreeMap::new();
    let mut written = BTreeMap::new();
    for (&(id, context), arguments) in wanted {
        let Some(proto) = prototype(btf, id) else { continue };
        let pointer = match pointers.get(context) {
            Some(&pointer) => pointer,
            None => {
                // The kernel compares names only.
                let structure = builder.add_struct(context, 0)?;
                let pointer = builder.add_ptr(structure)?;
                pointers.insert(context, pointer);
                pointer
            }
        };
        let new = builder.add_func_proto(proto.type_id())?;
        for (index, param) in proto.params().enumerate() {
            let ty = if arguments.contains(&index) { pointer } else { param.type_id };
            builder.add_param(param.name_bytes(), ty)?;
        }
        let function = builder.add_func(btf.ty(id)?.name_bytes(), Linkage::GLOBAL, new)?;
        for &argument in arguments {
            builder.add_decl_tag(TAG, function, u32::try_from(argument).ok(), false)?;
        }
        written.insert((id, context), function);
    }
    Ok((builder.finish()?, written))
}

/// The structure by which a kernel tells the context of a kind of program.
fn context_name(kind: ProgType) -> Option<&'static str> {
    Some(match kind {
        ProgType::CGROUP_DEVICE => "bpf_cgroup_dev_ctx",
        ProgType::CGROUP_SKB
        | ProgType::FLOW_DISSECTOR
        | ProgType::LWT_IN
        | ProgType::LWT_OUT
        | ProgType::LWT_SEG6LOCAL
        | ProgType::LWT_XMIT
        | ProgType::SCHED_ACT
        | ProgType::SCHED_CLS
        | ProgType::SK_SKB
        | ProgType::SOCKET_FILTER => "__sk_buff",
        ProgType::CGROUP_SOCK => "bpf_sock",
        ProgType::CGROUP_SOCK_ADDR => "bpf_sock_addr",
        ProgType::CGROUP_SOCKOPT => "bpf_sockopt",
        ProgType::CGROUP_SYSCTL => "bpf_sysctl",
        ProgType::KPROBE => USER_REGS,
        ProgType::NETFILTER => "bpf_nf_ctx",
        ProgType::PERF_EVENT => "bpf_perf_event_data",
        ProgType::RAW_TRACEPOINT | ProgType::RAW_TRACEPOINT_WRITABLE => "bpf_raw_tracepoint_args",
        ProgType::SK_LOOKUP => "bpf_sk_lookup",
        ProgType::SK_MSG => "sk_msg_md",
        ProgType::SK_REUSEPORT => "sk_reuseport_md",
        ProgType::SOCK_OPS => "bpf_sock_ops",
        ProgType::XDP => "xdp_md",
        _ => return None,
    })
}

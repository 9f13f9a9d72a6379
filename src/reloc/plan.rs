//! The data types of a [`Plan`].

use skep_asm::Insn;
use skep_btf::relo::{Applied, Decision};
use skep_btf::{Btf, TypeId};
use skep_sys::abi::{AttachType, ProgFlags, ProgType};

use super::TargetError;
use crate::spec::{
    AutoAttach, ExternIndex, ExternKind, ExternSpec, InfoRecords, JumpTableIndex, MapIndex, MapSpec,
    ProgramIndex,
};

/// Exactly what will be asked of a kernel: which maps in which order with which bytes, each program's final
/// instructions, and every decision on the way with its reason.
///
/// What only a live kernel can give (descriptors) is left as named [`Placeholder`]s, so a plan is the same wherever
/// it is made, and can be compared between kernels.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Plan {
    /// Name of the object.
    pub name: String,
    /// License of its programs.
    pub license: String,
    /// Kernel version that the object states.
    pub version: Option<u32>,
    /// Types that the kernel is given, if there are any.
    pub btf: Option<Btf>,
    /// Maps, with the indexes of [`Spec::maps`](crate::spec::Spec::maps). Those that are not to be created have
    /// [`MapSpec::autocreate`] off.
    pub maps: Vec<MapPlan>,
    /// Modules whose functions the object calls, in the order in which it needs them: the first is number 1 in the
    /// table that each program is loaded with, as in libbpf.
    pub modules: Vec<String>,
    /// Programs to load, in the order of the object.
    pub programs: Vec<ProgramPlan>,
    /// What was met and decided, beside CO-RE.
    pub notes: Vec<String>,
    /// What the target was asked and does not hold. A plan for a live kernel has none.
    pub unknown: Vec<Unknown>,
}

/// Something that an object expects from outside and that a described target does not hold: it may be there or not, and
/// its value may be any.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Unknown {
    /// Name of the extern.
    pub name: String,
    /// What the extern is.
    pub kind: ExternKind,
    /// What the target would have to hold.
    pub error: TargetError,
}

impl Unknown {
    pub(super) fn is(&self, spec: &ExternSpec) -> bool {
        self.name == spec.name && self.kind == spec.kind
    }

    pub(super) fn new(spec: &ExternSpec, error: TargetError) -> Self {
        Unknown { name: spec.name.clone(), kind: spec.kind, error }
    }
}

impl Plan {
    /// The map of this name.
    pub fn map(&self, name: &str) -> Option<&MapPlan> {
        self.maps.iter().find(|map| map.spec.name == name)
    }

    /// The program of this name.
    pub fn program(&self, name: &str) -> Option<&ProgramPlan> {
        self.programs.iter().find(|program| program.name == name)
    }
}

/// A map to create.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct MapPlan {
    /// What it is, with its final contents.
    pub spec: MapSpec,
    /// The name that the kernel gets, at most 15 bytes.
    pub kernel_name: String,
    /// Offset in an arena where its contents go, in bytes; 0 for other maps.
    pub contents_offset: u32,
    /// What is known beyond that of a `struct_ops` table. Its contents and value size are the kernel's then, and its
    /// slots those of the object.
    pub struct_ops: Option<StructOpsPlan>,
}

/// A `struct_ops` table in the terms of a kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StructOpsPlan {
    /// The kernel's structure that the map holds, such as `bpf_struct_ops_tcp_congestion_ops`.
    pub value_type: KernelType,
    /// Where the programs go, ordered by offset.
    pub programs: Vec<StructOpsProgram>,
}

/// A place of a `struct_ops` table that holds a program.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StructOpsProgram {
    /// Name of the member.
    pub member: String,
    /// Offset in the map's value, in bytes, where the descriptor of the program goes in a table of the machine's word
    /// size.
    pub offset: u32,
    /// The program.
    pub program: ProgramIndex,
}

/// A program to load.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ProgramPlan {
    /// Name in the object.
    pub name: String,
    /// The name that the kernel gets, at most 15 bytes.
    pub kernel_name: String,
    /// Which program of the object it is.
    pub program: ProgramIndex,
    /// Section that it is in.
    pub section: String,
    /// Kind.
    pub prog_type: ProgType,
    /// Attach type that the kernel verifies it for. Static tracepoints of binaries (USDT) have 0 here, and are loaded with
    /// [`AttachType::TRACE_UPROBE_MULTI`] into a kernel that can link many places at once.
    pub attach_type: AttachType,
    /// Whether the attach type may be left out where a kernel does not know the field.
    pub attach_type_optional: bool,
    /// What the section name says to attach to.
    pub attach_to: Option<String>,
    /// How the section name says to attach it.
    pub auto_attach: AutoAttach,
    /// The kernel type that it is bound to at load.
    pub attach_target: Option<KernelType>,
    /// The function of another program that it is bound to at load, instead of a kernel type.
    pub attach_function: Option<ProgramFunction>,
    /// Load flags.
    pub flags: ProgFlags,
    /// Instructions of the program and of every sub-program it calls, in libbpf's order.
    pub insns: Vec<Insn>,
    /// The functions that [`insns`](Self::insns) is made of.
    pub functions: Vec<PlacedFunction>,
    /// What a kernel has to fill in, ordered by instruction.
    pub placeholders: Vec<Placeholder>,
    /// Tables of indirect jumps, each a map of its own (`BPF_MAP_TYPE_INSN_ARRAY`, Linux 6.19).
    pub jump_tables: Vec<JumpTablePlan>,
    /// Function records, offsets in instructions of [`insns`](Self::insns).
    pub func_info: InfoRecords,
    /// Line records, offsets in instructions of [`insns`](Self::insns).
    pub line_info: InfoRecords,
    /// CO-RE decisions, ordered by instruction.
    pub decisions: Vec<PlacedDecision>,
    /// Calls of kernel functions that were not found and are poisoned, ordered by instruction.
    pub missing: Vec<Missing>,
    /// Where externs are referred to, ordered by instruction.
    pub externs: Vec<PlacedExtern>,
}

/// A reference to something from outside the object.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PlacedExtern {
    /// Index in the program's final instructions.
    pub insn: u32,
    /// Which extern of the object it is.
    pub index: ExternIndex,
    /// What it is.
    pub kind: ExternKind,
    /// Whether the target says if it is there. When not, it is in [`Plan::unknown`].
    pub known: bool,
}

/// A function's place in a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlacedFunction {
    /// Its name.
    pub name: String,
    /// Its first instruction.
    pub start: u32,
    /// How many instructions it has.
    pub len: u32,
}

/// A CO-RE decision and the instruction that it changed.
#[derive(Clone, Debug)]
pub struct PlacedDecision {
    /// Index in the program's final instructions.
    pub insn: u32,
    /// What was decided and why.
    pub decision: Decision,
    /// What that did to the instruction.
    pub applied: Applied,
    /// The instruction as the compiler wrote it.
    pub original: Insn,
}

/// Something that an instruction needs and that is not there, so the instruction was made one that the verifier
/// refuses if it can be reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// Index in the program's final instructions.
    pub insn: u32,
    /// What is missing.
    pub what: MissingKind,
    /// Its name.
    pub name: String,
    /// The instruction as the compiler wrote it.
    pub original: Insn,
}

/// What is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MissingKind {
    /// A map that is not created.
    Map,
    /// A kernel function.
    KernelFunction,
}

/// A type of the kernel's BTF, or of a module's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelType {
    /// Its name.
    pub name: String,
    /// Its id.
    pub type_id: TypeId,
    /// The module whose BTF it is in, none for vmlinux.
    pub module: Option<String>,
}

/// A table of indirect jumps of a program.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct JumpTablePlan {
    /// Which table of the object it is.
    pub table: JumpTableIndex,
    /// Where its entries lead: indexes in the program's final instructions.
    pub targets: Vec<u32>,
}

/// A function of a loaded program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProgramFunction {
    /// Its name.
    pub name: String,
    /// Its id in that program's types.
    pub type_id: TypeId,
}

/// An instruction that a kernel has to fill in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placeholder {
    /// Index in the program's final instructions.
    pub insn: u32,
    /// What goes there.
    pub value: PlaceholderValue,
}

/// What a kernel has to fill in.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PlaceholderValue {
    /// The descriptor of a map; the load names the map itself.
    Map(MapIndex),
    /// The descriptor of a map; the load names a place in its value, whose offset is in the instruction.
    MapValue(MapIndex),
    /// The descriptor of the map of a jump table, by its index in [`ProgramPlan::jump_tables`].
    JumpTable(usize),
    /// The BTF descriptor of a module, in the second half of a load of a kernel variable's address.
    ModuleBtf(String),
    /// The BTF descriptor of a module, as an index into the descriptor table of the load.
    ModuleCall(String),
}

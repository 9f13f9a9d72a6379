//! The data types of a [`Spec`].

use skep_asm::{Endian, Insn};
use skep_btf::{Btf, CoreRelo, TypeId};
use skep_sys::abi::{AttachType, MapFlags, MapType, ProgFlags, ProgType};

use super::kconfig::KconfigValue;
use super::sections::AutoAttach;

/// What an object file says: plain data, the same for the same bytes on every machine.
///
/// Everything may be edited before the next stage. References between parts are indexes into the vectors here, so a
/// part is renamed freely, and switched off ([`ProgramSpec::autoload`], [`MapSpec::autocreate`]) rather than removed.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Spec {
    /// Name of the object: the file name up to its first dot, at most 15 bytes. It begins the names of the maps that
    /// hold global data.
    pub name: String,
    /// Byte order of the object. Only an object of the machine's own order can be loaded.
    pub endian: Endian,
    /// License of its programs, from the `license` section; empty when there is none.
    pub license: String,
    /// Kernel version from the `version` section, which kernels before 5.0 demand of kprobes.
    pub version: Option<u32>,
    /// All functions in the order of the file: those of entry programs and sub-programs.
    pub functions: Vec<FunctionSpec>,
    /// Entry programs in the order of the file.
    pub programs: Vec<ProgramSpec>,
    /// Maps: the declared ones in the order of `.maps`, those defined without BTF in the order of their sections and offsets,
    /// those of data sections in the order of the file, that of the configuration values, then the `struct_ops` tables.
    pub maps: Vec<MapSpec>,
    /// Global variables in the order of their sections and offsets.
    pub globals: Vec<GlobalSpec>,
    /// Things that the kernel or its configuration must supply.
    pub externs: Vec<ExternSpec>,
    /// The object's types, with sizes and offsets of data sections filled in.
    pub btf: Option<Btf>,
    /// Tables of indirect jumps, in the order in which functions first refer to them.
    pub jump_tables: Vec<JumpTableSpec>,
    /// The function of each CO-RE record, in the order of the records in the file. They are decided in this order, since what
    /// one finds can rule out candidates for those that follow.
    pub core_order: Vec<FunctionIndex>,
    /// What was met and left out, in the order of the file.
    pub notes: Vec<String>,
}

/// Index of a function in [`Spec::functions`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct FunctionIndex(pub usize);

/// Index of a program in [`Spec::programs`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct ProgramIndex(pub usize);

/// Index of a map in [`Spec::maps`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct MapIndex(pub usize);

/// Index of a table in [`Spec::jump_tables`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct JumpTableIndex(pub usize);

/// Index of an extern in [`Spec::externs`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct ExternIndex(pub usize);

/// One function of the object, as the compiler wrote it.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct FunctionSpec {
    /// Name of its symbol.
    pub name: String,
    /// Section that it is in, without a leading `?`.
    pub section: String,
    /// Where it starts in its section, in instructions.
    pub offset: u32,
    /// Whether it is a sub-program (in `.text`): called by programs, never loaded alone.
    pub subprogram: bool,
    /// Whether its symbol is global or weak.
    pub global: bool,
    /// Whether its symbol is weak.
    pub weak: bool,
    /// Whether a hidden or internal symbol: the kernel is told that it is static.
    pub hidden: bool,
    /// Its instructions, in slots of 8 bytes.
    pub insns: Vec<Insn>,
    /// What its instructions refer to, ordered by instruction.
    pub references: Vec<Reference>,
    /// Instructions whose relocations lead nowhere. A program that reaches the function cannot be loaded; others can.
    pub strays: Vec<Stray>,
    /// CO-RE records, whose `insn_off` counts instructions from the function's start.
    pub core_relos: Vec<CoreRelo>,
    /// Function records, offsets in instructions from the function's start.
    pub func_info: InfoRecords,
    /// Line records, offsets in instructions from the function's start.
    pub line_info: InfoRecords,
}

/// Records of `.BTF.ext`, kept whole even when they are longer than this version knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InfoRecords {
    /// Length of one record in bytes; 0 when there are none.
    pub record_size: u32,
    /// The records in the byte order of the machine. The first four bytes of each are its instruction offset.
    pub bytes: Vec<u8>,
}

impl InfoRecords {
    /// The records, one slice each.
    pub fn iter(&self) -> std::slice::ChunksExact<'_, u8> {
        self.bytes.chunks_exact((self.record_size as usize).max(1))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }
}

/// A place in a function that refers to something outside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reference {
    /// The instruction, counted from the function's start.
    pub insn: u32,
    /// What it refers to.
    pub target: ReferenceTarget,
}

/// An instruction that should refer to something and does not.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stray {
    /// The instruction, counted from the function's start.
    pub insn: u32,
    /// What is wrong with it.
    pub reason: String,
}

/// What an instruction refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReferenceTarget {
    /// A call of a function of this object.
    Call(FunctionIndex),
    /// The address of a function of this object, for a callback.
    FunctionAddress(FunctionIndex),
    /// A map.
    Map(MapIndex),
    /// A place in the value of a data map, or among the first variables of an arena.
    MapValue {
        /// The map.
        map: MapIndex,
        /// Offset in its value or contents, in bytes.
        offset: u32,
    },
    /// Something from outside the object: a kernel function or variable, or a configuration value.
    Extern(ExternIndex),
    /// A table of indirect jumps. Its targets are instructions of the function that refers to it.
    JumpTable(JumpTableIndex),
}

/// A table of indirect jumps (`gotox`), from section `.jumptables`, which compilers make of large switches.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct JumpTableSpec {
    /// Name of its symbol.
    pub name: String,
    /// Where its entries lead: instructions, counted from the start of the section of the function that jumps.
    pub targets: Vec<u32>,
}

/// An entry program.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ProgramSpec {
    /// Name. The kernel keeps its first 15 bytes.
    pub name: String,
    /// Section that it is in, without a leading `?`.
    pub section: String,
    /// Its code.
    pub function: FunctionIndex,
    /// Kind; [`ProgType::UNSPEC`] when the section name says nothing: set it, or the program cannot be loaded. Programs
    /// that a section `ID/KEY` puts into a prog array have the kind of those that jump there.
    pub prog_type: ProgType,
    /// Attach type that the kernel verifies it for; 0 for kinds without one.
    pub attach_type: AttachType,
    /// Whether the attach type may be left out where a kernel does not know such a field.
    pub attach_type_optional: bool,
    /// What the section name says to attach to: the text after its type, such as `sched_process_exec`.
    pub attach_to: Option<String>,
    /// Whether the target is a kernel type that is looked up when the program is loaded.
    pub attach_btf: bool,
    /// How the section name says to attach it.
    pub auto_attach: AutoAttach,
    /// Load flags that the section name asks for.
    pub flags: ProgFlags,
    /// Whether loading the object loads it: false for sections that begin with `?`. A program that a `struct_ops` table
    /// holds is loaded when such a table is created, whatever this says, as with libbpf.
    pub autoload: bool,
}

/// A map to create.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct MapSpec {
    /// Name: of the variable, or of the section for data maps.
    pub name: String,
    /// Kind.
    pub map_type: MapType,
    /// Size of a key in bytes.
    pub key_size: u32,
    /// Size of a value in bytes.
    pub value_size: u32,
    /// Capacity. 0 for a perf event array stands for the number of possible CPUs.
    pub max_entries: u32,
    /// Creation flags.
    pub flags: MapFlags,
    /// NUMA node, passed as it is: set [`MapFlags::NUMA_NODE`] as well.
    pub numa_node: u32,
    /// Kind-specific parameter.
    pub map_extra: u64,
    /// Whether it is pinned under its name and reused when the pin exists.
    pub pinning: Pinning,
    /// Type of the key in the object's BTF.
    pub key_type: Option<TypeId>,
    /// Type of the value in the object's BTF. Of a `struct_ops` table it is the object's own view of the kernel's
    /// structure, and `value_size` its size.
    pub value_type: Option<TypeId>,
    /// Prototype of the maps that this one holds.
    pub inner: Option<Box<MapSpec>>,
    /// Elements that the object declares.
    pub slots: Vec<Slot>,
    /// What the map is for.
    pub role: MapRole,
    /// Value of the only element of a data map, first variables of an arena, or a `struct_ops` table as the object lays
    /// it out; what is beyond its end is zero.
    pub contents: Vec<u8>,
    /// Whether loading the object creates it.
    pub autocreate: bool,
}

impl MapSpec {
    /// A declared map with no flags, types or elements.
    pub fn new(name: &str, map_type: MapType, key_size: u32, value_size: u32, max_entries: u32) -> Self {
        MapSpec {
            name: name.to_owned(),
            map_type,
            key_size,
            value_size,
            max_entries,
            flags: MapFlags::empty(),
            numa_node: 0,
            map_extra: 0,
            pinning: Pinning::None,
            key_type: None,
            value_type: None,
            inner: None,
            slots: Vec::new(),
            role: MapRole::Declared,
            contents: Vec::new(),
            autocreate: true,
        }
    }
}

/// Whether a map is pinned when the object is loaded (`LIBBPF_PIN_*`, `PIN_*`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Pinning {
    /// Not pinned.
    #[default]
    None,
    /// Pinned in the pin directory under its name (`LIBBPF_PIN_BY_NAME`); the map of a data section without the dots, which
    /// a bpffs does not take: `.rodata` as `rodata`. Who finds it pinned takes it with what is in it.
    ByName,
    /// Pinned under its name in `tc/globals` of the pin directory, where tc keeps maps that objects share
    /// (`PIN_GLOBAL_NS` of iproute2). With the usual pin directory the two find each other's.
    TcGlobal,
}

/// What a map is for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum MapRole {
    /// Declared in the `.maps` section, or defined without BTF in `maps` or `maps/NAME`.
    #[default]
    Declared,
    /// Holds a `.data` section: one element, written by programs and user space.
    Data,
    /// Holds a `.rodata` section: one element, frozen before programs are loaded.
    Rodata,
    /// Holds a `.bss` section: one element, all zero at first.
    Bss,
    /// Holds the values of the `.kconfig` externs, frozen before programs are loaded.
    Kconfig,
    /// A table of programs that becomes functions of the kernel, from section `.struct_ops` or `.struct_ops.link`.
    StructOps,
}

impl MapRole {
    /// Whether the map holds global data.
    pub fn is_data(&self) -> bool {
        matches!(self, MapRole::Data | MapRole::Rodata | MapRole::Bss | MapRole::Kconfig)
    }

    /// Whether user space may not write to it once it is loaded.
    pub fn is_read_only(&self) -> bool {
        matches!(self, MapRole::Rodata | MapRole::Kconfig)
    }
}

/// An element that the object declares for a map of maps or of programs, or a program of a `struct_ops` table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// Its index; in a `struct_ops` table, the number of the member in the object's structure.
    pub index: u32,
    /// What it holds.
    pub value: SlotValue,
}

/// What a declared element holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlotValue {
    /// A map of this object.
    Map(MapIndex),
    /// A program of this object.
    Program(ProgramIndex),
}

/// A global variable: a typed range of a data map's value, or of an arena's contents.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct GlobalSpec {
    /// Name.
    pub name: String,
    /// Data map or arena that it is in.
    pub map: MapIndex,
    /// Offset in [`MapSpec::contents`], in bytes.
    pub offset: u32,
    /// Size in bytes.
    pub size: u32,
    /// Its type in the object's BTF, when there is one.
    pub type_id: Option<TypeId>,
    /// Whether it is static or hidden, and so not part of the object's face.
    pub private: bool,
}

/// Something from outside the object.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ExternSpec {
    /// Name.
    pub name: String,
    /// Whether it may be missing.
    pub weak: bool,
    /// What it is.
    pub kind: ExternKind,
    /// The type that it is declared with in the object's BTF: a variable's type, or a function's prototype.
    pub type_id: TypeId,
    /// What a configuration value is whatever the kernel says ([`Spec::set_kconfig`]). No file sets one.
    pub value: Option<KconfigValue>,
}

/// What an extern is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ExternKind {
    /// A configuration value (`__kconfig`).
    Kconfig {
        /// Offset in the value of the `.kconfig` map.
        offset: u32,
        /// Size in bytes.
        size: u32,
    },
    /// A kernel variable or symbol address (`__ksym`).
    Variable {
        /// Whether it is declared with a type, and so looked up in BTF rather than in kallsyms.
        typed: bool,
    },
    /// A kernel function (`__ksym`).
    Function,
}

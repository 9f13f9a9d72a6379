//! What was asked, as it was asked: one entry for each object that a kernel made.

/// Which of the kernel's objects. A descriptor may be duplicated, closed and given out again; this stays.
pub(crate) type Id = u64;

/// All objects that were made, in the order in which they were.
#[derive(Default)]
pub(crate) struct Tape {
    pub(crate) maps: Vec<Map>,
    pub(crate) programs: Vec<Program>,
    pub(crate) types: Vec<Types>,
}

/// `BPF_MAP_CREATE`, and what was done with the map later.
#[derive(Clone, Default)]
pub(crate) struct Map {
    pub(crate) id: Id,
    pub(crate) name: String,
    pub(crate) map_type: u32,
    pub(crate) key_size: u32,
    pub(crate) value_size: u32,
    pub(crate) max_entries: u32,
    pub(crate) flags: u32,
    pub(crate) inner: Option<Id>,
    pub(crate) numa_node: u32,
    pub(crate) ifindex: u32,
    pub(crate) types: Option<Id>,
    pub(crate) key_type: u32,
    pub(crate) value_type: u32,
    pub(crate) kernel_value_type: u32,
    pub(crate) value_type_module: Option<String>,
    pub(crate) extra: u64,
    pub(crate) elements: Vec<Element>,
    pub(crate) frozen: bool,
    /// The program that alone may use it, by its hash.
    pub(crate) exclusive: Vec<u8>,
}

/// `BPF_MAP_UPDATE_ELEM`.
#[derive(Clone)]
pub(crate) struct Element {
    pub(crate) key: Vec<u8>,
    pub(crate) value: Value,
    pub(crate) flags: u64,
}

/// What was written to an element.
#[derive(Clone)]
pub(crate) enum Value {
    Bytes(Vec<u8>),
    Map(Option<Id>),
    Program(Option<Id>),
}

/// `BPF_PROG_LOAD`.
#[derive(Clone, Default)]
pub(crate) struct Program {
    pub(crate) id: Id,
    pub(crate) name: String,
    pub(crate) prog_type: u32,
    pub(crate) license: String,
    pub(crate) kern_version: u32,
    pub(crate) flags: u32,
    pub(crate) ifindex: u32,
    pub(crate) attach_type: u32,
    pub(crate) types: Option<Id>,
    pub(crate) func_info: Records,
    pub(crate) line_info: Records,
    pub(crate) attach_btf_id: u32,
    /// Name of the BTF that this id is in; empty for the kernel's own.
    pub(crate) attach_module: String,
    pub(crate) core_relos: u32,
    /// The instructions, without descriptors.
    pub(crate) insns: Vec<[u8; 8]>,
    /// What the descriptors meant, by instruction.
    pub(crate) references: Vec<(usize, Reference)>,
    /// Maps bound to it by `BPF_PROG_BIND_MAP`.
    pub(crate) bound: Vec<Id>,
}

/// Records of `.BTF.ext`.
#[derive(Clone, Default)]
pub(crate) struct Records {
    pub(crate) size: u32,
    pub(crate) bytes: Vec<u8>,
}

/// What a descriptor in an instruction stands for.
#[derive(Clone)]
pub(crate) enum Reference {
    Map(Option<Id>),
    /// BTF of a module.
    Module(String),
}

/// `BPF_BTF_LOAD`.
pub(crate) struct Types {
    pub(crate) id: Id,
    pub(crate) bytes: Vec<u8>,
}

impl Program {
    pub(crate) fn has_records(&self) -> bool {
        !(self.func_info.bytes.is_empty() && self.line_info.bytes.is_empty())
    }
}

impl Tape {
    pub(crate) fn map(&self, id: Id) -> Option<&Map> {
        self.maps.iter().find(|map| map.id == id)
    }

    pub(crate) fn map_mut(&mut self, id: Id) -> Option<&mut Map> {
        self.maps.iter_mut().find(|map| map.id == id)
    }

    pub(crate) fn program(&self, id: Id) -> Option<&Program> {
        self.programs.iter().find(|program| program.id == id)
    }
}

//! What the calls of a [`Backend`](crate::Backend) are asked, and what they answer.
//!
//! Required arguments are in the constructors, optional ones are public fields to set.

use std::cell::Cell;
use std::os::fd::BorrowedFd;
use std::path::Path;

use skep_asm::Insn;

use crate::abi::{
    AttachFlags, AttachType, BtfObjectId, LinkId, LinkType, MapFlags, MapId, MapType, OpenFlags, ProgFlags,
    ProgId, ProgType,
};
use crate::backend::ObjectKind;

/// `BPF_MAP_CREATE`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct MapCreate<'a> {
    /// Kind of the map.
    pub map_type: MapType,
    /// Size of a key in bytes.
    pub key_size: u32,
    /// Size of a value in bytes (of one CPU's value for per-CPU kinds).
    pub value_size: u32,
    /// Capacity; its unit depends on the kind (elements, bytes of a ring, pages of an arena).
    pub max_entries: u32,
    /// Creation flags.
    pub flags: MapFlags,
    /// Name of at most [`OBJ_NAME_MAX`](crate::abi::OBJ_NAME_MAX) bytes; empty for none (Linux 4.15).
    pub name: &'a str,
    /// NUMA node, used with [`MapFlags::NUMA_NODE`].
    pub numa_node: u32,
    /// Kind-specific parameter (`map_extra`, Linux 5.16).
    pub map_extra: u64,
    /// Prototype of the inner maps of a map of maps.
    pub inner_map: Option<BorrowedFd<'a>>,
    /// Types of key and value.
    pub btf: Option<MapBtf<'a>>,
    /// Type of the value in the kernel's BTF, for a map of a `struct_ops` structure, else 0 (Linux 5.6).
    pub vmlinux_value_type_id: u32,
    /// Loaded BTF of the module that [`vmlinux_value_type_id`](Self::vmlinux_value_type_id) belongs to (Linux 6.9);
    /// none for the kernel's own.
    pub value_type_module: Option<BorrowedFd<'a>>,
    /// Network device for an offloaded map.
    pub ifindex: u32,
    /// Token that the right comes from (Linux 6.9). [`Kernel`](crate::Kernel) puts its own here.
    pub token: Option<BorrowedFd<'a>>,
}

impl<'a> MapCreate<'a> {
    /// A map with no name, no flags and no BTF.
    pub fn new(map_type: MapType, key_size: u32, value_size: u32, max_entries: u32) -> Self {
        MapCreate {
            map_type,
            key_size,
            value_size,
            max_entries,
            flags: MapFlags::empty(),
            name: "",
            numa_node: 0,
            map_extra: 0,
            inner_map: None,
            btf: None,
            vmlinux_value_type_id: 0,
            value_type_module: None,
            ifindex: 0,
            token: None,
        }
    }
}

/// A part of a map's memory to map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MapMemory {
    /// Where it starts, in bytes from the map's start; whole pages.
    pub offset: u64,
    /// How many bytes; whole pages.
    pub len: usize,
    /// Whether it can be written.
    pub writable: bool,
    /// Address in this process where it must be, and where nothing may be yet; none for any place. An arena that was
    /// made with an address is mapped there and nowhere else.
    pub address: Option<u64>,
}

impl MapMemory {
    /// That many bytes from `offset` on, to read, at any address.
    pub fn new(offset: u64, len: usize) -> Self {
        MapMemory { offset, len, writable: false, address: None }
    }
}

/// The BTF types of a map's key and value.
#[derive(Clone, Copy, Debug)]
pub struct MapBtf<'a> {
    /// Loaded BTF that the ids belong to.
    pub btf: BorrowedFd<'a>,
    /// Type id of the key, 0 for none.
    pub key_type: u32,
    /// Type id of the value, 0 for none.
    pub value_type: u32,
}

/// `BPF_PROG_LOAD`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ProgLoad<'a> {
    /// Kind of the program.
    pub prog_type: ProgType,
    /// Instructions, with every descriptor in place.
    pub insns: &'a [Insn],
    /// License, without a NUL.
    pub license: &'a str,
    /// Name of at most [`OBJ_NAME_MAX`](crate::abi::OBJ_NAME_MAX) bytes; empty for none (Linux 4.15).
    pub name: &'a str,
    /// Attach type that the verifier assumes (Linux 4.17); [`AttachType(0)`](AttachType) when the kind has none.
    pub expected_attach_type: AttachType,
    /// Load flags.
    pub flags: ProgFlags,
    /// Kernel version that old kernels require of kprobes.
    pub kern_version: u32,
    /// Network device for an offloaded program.
    pub ifindex: u32,
    /// Loaded BTF that `func_info` and `line_info` refer to.
    pub btf: Option<BorrowedFd<'a>>,
    /// Function records, offsets in instructions.
    pub func_info: Records<'a>,
    /// Line records, offsets in instructions.
    pub line_info: Records<'a>,
    /// What the program attaches to, for kinds that say so at load.
    pub attach: AttachTarget<'a>,
    /// BTF objects of modules whose functions are called; a call's `off` field is an index here. Slot 0 is not used.
    pub fd_array: &'a [Option<BorrowedFd<'a>>],
    /// Token that the right comes from (Linux 6.9). [`Kernel`](crate::Kernel) puts its own here.
    pub token: Option<BorrowedFd<'a>>,
    /// Where a kernel that refuses the records with `E2BIG` says how much of each it knows.
    pub known_records: Option<&'a KnownRecords>,
}

impl<'a> ProgLoad<'a> {
    /// A program with no name, no flags and no BTF.
    pub fn new(prog_type: ProgType, insns: &'a [Insn], license: &'a str) -> Self {
        ProgLoad {
            prog_type,
            insns,
            license,
            name: "",
            expected_attach_type: AttachType(0),
            flags: ProgFlags::empty(),
            kern_version: 0,
            ifindex: 0,
            btf: None,
            func_info: Records::default(),
            line_info: Records::default(),
            attach: AttachTarget::None,
            fd_array: &[],
            token: None,
            known_records: None,
        }
    }
}

/// How much of a record a kernel knows, in bytes; 0 where it did not say. What lies behind has to be zero.
#[derive(Clone, Debug, Default)]
pub struct KnownRecords {
    /// Of function records.
    pub func_info: Cell<u32>,
    /// Of line records.
    pub line_info: Cell<u32>,
}

/// A table of fixed-size records in the byte order of the machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct Records<'a> {
    /// Size of one record in bytes.
    pub record_size: u32,
    /// The records, one after the other.
    pub bytes: &'a [u8],
}

impl Records<'_> {
    /// Number of whole records.
    pub fn count(&self) -> usize {
        self.bytes.len().checked_div(self.record_size as usize).unwrap_or(0)
    }
}

/// `BPF_BTF_LOAD`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct BtfLoad<'a> {
    /// The BTF, in the byte order of the machine.
    pub bytes: &'a [u8],
    /// Token that the right comes from (Linux 6.9). [`Kernel`](crate::Kernel) puts its own here.
    pub token: Option<BorrowedFd<'a>>,
}

impl<'a> BtfLoad<'a> {
    /// These bytes, with the rights of the process.
    pub fn new(bytes: &'a [u8]) -> Self {
        BtfLoad { bytes, token: None }
    }
}

/// `BPF_*_GET_FD_BY_ID`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct OpenById<'a> {
    /// Kind of the object.
    pub kind: ObjectKind,
    /// Its id.
    pub id: u32,
    /// Flags of the descriptor, of maps.
    pub flags: OpenFlags,
    /// Token that the right comes from, for BTF (Linux 6.15).
    pub token: Option<BorrowedFd<'a>>,
}

impl OpenById<'_> {
    /// The object of this kind and id, with the rights of the process.
    pub fn new(kind: ObjectKind, id: u32) -> Self {
        OpenById { kind, id, flags: OpenFlags::empty(), token: None }
    }
}

/// What a program is bound to when it is loaded.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub enum AttachTarget<'a> {
    /// Nothing.
    #[default]
    None,
    /// A type of the kernel's BTF (`attach_btf_id`), or of a module's (`attach_btf_obj_fd`).
    KernelType {
        /// Type id.
        type_id: u32,
        /// BTF of the module, none for vmlinux.
        module: Option<BorrowedFd<'a>>,
    },
    /// A function of another program (`attach_prog_fd`).
    Program {
        /// The other program.
        prog: BorrowedFd<'a>,
        /// Type id of the function in that program's BTF.
        type_id: u32,
    },
}

/// Where the kernel writes its log.
#[derive(Clone, Debug, Default)]
pub struct LogBuffer {
    /// `log_level`: 1 for branches, 2 for all, 4 for statistics, or-ed.
    pub level: u32,
    /// The buffer; its length is what the kernel may fill. After the call it holds the text and a NUL.
    pub bytes: Vec<u8>,
    /// Length that the whole log needs, when the kernel says so (Linux 6.4); else 0.
    pub true_size: u32,
}

impl LogBuffer {
    /// An empty log buffer of `size` bytes.
    pub fn new(level: u32, size: usize) -> Self {
        LogBuffer { level, bytes: vec![0; size], true_size: 0 }
    }

    /// The text up to its NUL. Bytes that are not UTF-8 (a log can be cut inside a character) are replaced.
    pub fn text(&self) -> std::borrow::Cow<'_, str> {
        let end = self.bytes.iter().position(|&b| b == 0).unwrap_or(self.bytes.len());
        String::from_utf8_lossy(self.bytes.get(..end).unwrap_or_default())
    }
}

/// `BPF_PROG_TEST_RUN`.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct TestRun<'a> {
    /// Packet, for kinds that take one.
    pub data_in: &'a [u8],
    /// Where the packet is written afterwards.
    pub data_out: &'a mut [u8],
    /// Context, for kinds that take one.
    pub ctx_in: &'a [u8],
    /// Where the context is written afterwards.
    pub ctx_out: &'a mut [u8],
    /// Context that is read and then written in place, as programs of kind
    /// [`SYSCALL`](crate::abi::ProgType::SYSCALL) take it; instead of `ctx_in` and `ctx_out`.
    pub ctx: &'a mut [u8],
    /// How often to run; 0 is once.
    pub repeat: u32,
    /// `BPF_F_TEST_*` flags.
    pub flags: u32,
    /// CPU to run on, with `BPF_F_TEST_RUN_ON_CPU`.
    pub cpu: u32,
    /// Frames per batch, with `BPF_F_TEST_XDP_LIVE_FRAMES`.
    pub batch_size: u32,
}

/// What a test run answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TestRunResult {
    /// The program's return value.
    pub retval: u32,
    /// Mean time of a run in nanoseconds.
    pub duration_ns: u32,
    /// Length of the packet afterwards, also when `data_out` was shorter.
    pub data_size_out: u32,
    /// Length of the context afterwards.
    pub ctx_size_out: u32,
}

/// `BPF_LINK_CREATE`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LinkCreate<'a> {
    /// The program.
    pub prog: BorrowedFd<'a>,
    /// What to attach to.
    pub target: LinkTarget<'a>,
    /// Attach point.
    pub attach_type: AttachType,
    /// Flags, whose meaning depends on the attach point.
    pub flags: u32,
    /// User value that the program reads with `bpf_get_attach_cookie` (tracing and perf events), else 0.
    pub cookie: u64,
}

impl<'a> LinkCreate<'a> {
    /// A link with no flags.
    pub fn new(prog: BorrowedFd<'a>, target: LinkTarget<'a>, attach_type: AttachType) -> Self {
        LinkCreate { prog, target, attach_type, flags: 0, cookie: 0 }
    }
}

/// What a link attaches to.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum LinkTarget<'a> {
    /// What the program named at load.
    Loaded,
    /// A network device.
    Ifindex(u32),
    /// A cgroup, network namespace, perf event or map.
    Fd(BorrowedFd<'a>),
}

impl<'a> LinkCreate<'a> {
    /// Registers the table that a `struct_ops` map holds (Linux 6.4). The map's descriptor stands where that of a
    /// program does otherwise.
    pub fn of_struct_ops(map: BorrowedFd<'a>) -> Self {
        LinkCreate::new(map, LinkTarget::Loaded, AttachType::STRUCT_OPS)
    }
}

/// `BPF_LINK_UPDATE`. Links of `struct_ops` take maps where others take programs.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LinkUpdate<'a> {
    /// The link.
    pub link: BorrowedFd<'a>,
    /// The program that takes over.
    pub new_prog: BorrowedFd<'a>,
    /// The program that must be the present one, if it matters.
    pub old_prog: Option<BorrowedFd<'a>>,
    /// Further flags.
    pub flags: AttachFlags,
}

impl<'a> LinkUpdate<'a> {
    /// Puts `new_prog` in the link's place whatever it runs now.
    pub fn new(link: BorrowedFd<'a>, new_prog: BorrowedFd<'a>) -> Self {
        LinkUpdate { link, new_prog, old_prog: None, flags: AttachFlags::empty() }
    }
}

/// Pins an object (`BPF_OBJ_PIN`).
#[derive(Clone, Copy, Debug)]
pub struct Pin<'a> {
    /// The object.
    pub fd: BorrowedFd<'a>,
    /// Path on a bpffs.
    pub path: &'a Path,
}

/// What a kernel says of a map (`struct bpf_map_info`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct MapInfo {
    /// Kind.
    pub map_type: MapType,
    /// Id; 0 on kernels before 4.13.
    pub id: MapId,
    /// Key size in bytes.
    pub key_size: u32,
    /// Value size in bytes.
    pub value_size: u32,
    /// Capacity.
    pub max_entries: u32,
    /// Flags as the kernel keeps them.
    pub flags: MapFlags,
    /// Name.
    pub name: String,
    /// Device of an offloaded map.
    pub ifindex: u32,
    /// Id of its BTF, 0 for none.
    pub btf_id: BtfObjectId,
    /// Type of the key in that BTF.
    pub btf_key_type_id: u32,
    /// Type of the value in that BTF.
    pub btf_value_type_id: u32,
    /// Kind-specific parameter.
    pub map_extra: u64,
}

/// What a kernel says of a program (`struct bpf_prog_info`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProgInfo {
    /// Kind.
    pub prog_type: ProgType,
    /// Id.
    pub id: ProgId,
    /// Hash of the instructions with map references zeroed.
    pub tag: [u8; 8],
    /// Name.
    pub name: String,
    /// Length of the translated program in bytes.
    pub xlated_len: u32,
    /// Length of the compiled program in bytes.
    pub jited_len: u32,
    /// Load time in nanoseconds since boot.
    pub load_time: u64,
    /// User who loaded it.
    pub created_by_uid: u32,
    /// Ids of the maps that it uses.
    pub map_ids: Vec<MapId>,
    /// Id of its BTF, 0 for none.
    pub btf_id: BtfObjectId,
    /// Instructions that the verifier processed (Linux 5.16), else 0.
    pub verified_insns: u32,
    /// Whether its license is compatible with the GPL.
    pub gpl_compatible: bool,
    /// Number of function records the kernel keeps.
    pub nr_func_info: u32,
    /// Number of line records the kernel keeps.
    pub nr_line_info: u32,
    /// Times run, with statistics on.
    pub run_cnt: u64,
    /// Nanoseconds run, with statistics on.
    pub run_time_ns: u64,
}

/// What a kernel says of a BTF object (`struct bpf_btf_info`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct BtfInfo {
    /// Id.
    pub id: BtfObjectId,
    /// Name: `vmlinux`, a module, or empty.
    pub name: String,
    /// Whether the kernel has no names for BTF objects, as before Linux 5.11. It has no BTF of modules then.
    pub names_unknown: bool,
    /// Whether it is the kernel's or a module's own.
    pub kernel: bool,
    /// Length of its bytes.
    pub size: u32,
}

/// What a kernel says of a link (`struct bpf_link_info`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LinkInfo {
    /// Kind.
    pub link_type: LinkType,
    /// Id.
    pub id: LinkId,
    /// The program that it runs.
    pub prog_id: ProgId,
    /// What is known of the place it is attached to.
    pub place: LinkPlace,
}

/// Where a link is attached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum LinkPlace {
    /// The kernel does not say, or this version does not read it.
    #[default]
    Unknown,
    /// A raw tracepoint.
    RawTracepoint {
        /// Its name.
        name: String,
    },
    /// A type of a BTF object.
    Tracing {
        /// Attach point.
        attach_type: AttachType,
        /// Id of the BTF object.
        target_obj_id: u32,
        /// Type id in it.
        target_btf_id: u32,
    },
    /// A network device through XDP.
    Xdp {
        /// Its index.
        ifindex: u32,
    },
}

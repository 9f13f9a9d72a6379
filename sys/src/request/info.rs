use crate::abi::{AttachType, BtfObjectId, LinkId, LinkType, MapFlags, MapId, MapType, ProgId, ProgType};

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
    /// Type of the value of a `struct_ops` table (Linux 5.6), 0 for other kinds.
    pub vmlinux_value_type_id: u32,
    /// Id of the BTF that this is in (Linux 6.9), 0 on older kernels, where it is the kernel's own.
    pub vmlinux_btf_id: BtfObjectId,
    /// Kind-specific parameter.
    pub map_extra: u64,
}

/// What a kernel says of a map beside [`MapInfo`] (`/proc/PID/fdinfo/FD`). What it does not say is none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct MapUsage {
    /// Memory that the map takes, in bytes (Linux 4.10). Since Linux 6.4 what it takes now, before what it can take.
    pub memory: Option<u64>,
    /// Whether user space may no longer write (Linux 5.2).
    pub frozen: Option<bool>,
    /// Kind of the programs in a program array, once there was one (Linux 4.3).
    pub owner: Option<ProgType>,
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
    /// Runs that were left out because the program ran already on that CPU (Linux 5.12), counted always.
    pub recursion_misses: u64,
    /// Number of functions, the main one included, that were compiled (Linux 4.18).
    pub nr_jited_ksyms: u32,
    /// Number of line records of the compiled program (Linux 5.0).
    pub nr_jited_line_info: u32,
    /// BTF object of the type that it attaches to, 0 for none (Linux 5.17).
    pub attach_btf_obj_id: BtfObjectId,
    /// The type in it that it attaches to, 0 for none (Linux 5.17).
    pub attach_btf_id: u32,
    /// Network device of an offloaded program, else 0.
    pub ifindex: u32,
    /// Device number of that device's network namespace.
    pub netns_dev: u64,
    /// Inode of that device's network namespace.
    pub netns_ino: u64,
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
    /// A network device through tcx (Linux 6.6).
    Tcx {
        /// Its index.
        ifindex: u32,
        /// Ingress or egress.
        attach_type: AttachType,
    },
    /// A netkit device (Linux 6.7).
    Netkit {
        /// Its index.
        ifindex: u32,
        /// Primary or peer.
        attach_type: AttachType,
    },
    /// A control group.
    Cgroup {
        /// Its id.
        id: u64,
        /// Attach point.
        attach_type: AttachType,
    },
    /// A network namespace.
    Netns {
        /// Its inode.
        inode: u32,
        /// Attach point.
        attach_type: AttachType,
    },
    /// A netfilter hook (Linux 6.4).
    Netfilter {
        /// Protocol family.
        family: u32,
        /// The hook.
        hook: u32,
        /// Its place in the order.
        priority: i32,
        /// Flags.
        flags: u32,
    },
    /// A map of sockets (Linux 6.10).
    Sockmap {
        /// Its id.
        map_id: MapId,
        /// Attach point.
        attach_type: AttachType,
    },
}

//! What a simulated kernel can do, so that old ones can be had.

bitflags::bitflags! {
    /// Things that kernels learnt over time. A simulated kernel without one refuses it as an old kernel does.
    ///
    /// The default of [`SimKernel::builder`](crate::SimKernel::builder) is what Linux 6.18 has of them.
    #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
    pub struct Features: u64 {
        /// Names of programs and maps (Linux 4.15).
        const NAMES = 1 << 0;
        /// `BPF_BTF_LOAD` and BTF of maps (Linux 4.18).
        const BTF = 1 << 1;
        /// Kinds `FUNC` and `FUNC_PROTO`, and function records of programs (Linux 5.0).
        const BTF_FUNC = 1 << 2;
        /// Kinds `VAR` and `DATASEC` (Linux 5.2).
        const BTF_DATASEC = 1 << 3;
        /// Data sections whose name starts with `?` (Linux 6.5).
        const BTF_QMARK_DATASEC = 1 << 4;
        /// Functions with global linkage (Linux 5.6).
        const BTF_FUNC_GLOBAL = 1 << 5;
        /// Kind `FLOAT` (Linux 5.13).
        const BTF_FLOAT = 1 << 6;
        /// Kind `DECL_TAG` (Linux 5.16).
        const BTF_DECL_TAG = 1 << 7;
        /// Kind `TYPE_TAG` (Linux 5.17).
        const BTF_TYPE_TAG = 1 << 8;
        /// Kind `ENUM64` (Linux 6.0).
        const BTF_ENUM64 = 1 << 9;
        /// Loads of the address of a map's value, which globals need (Linux 5.2).
        const GLOBAL_DATA = 1 << 10;
        /// Arrays that can be mapped (Linux 5.5).
        const ARRAY_MMAP = 1 << 11;
        /// `BPF_MAP_FREEZE` (Linux 5.2).
        const MAP_FREEZE = 1 << 12;
        /// `BPF_PROG_BIND_MAP` (Linux 5.10).
        const PROG_BIND_MAP = 1 << 13;
        /// Attach types at program load (Linux 4.17).
        const EXPECTED_ATTACH_TYPE = 1 << 14;
        /// `BPF_LINK_CREATE` and everything else of links but raw tracepoints (Linux 5.7).
        const LINKS = 1 << 15;
        /// Cookies of links (Linux 5.15).
        const COOKIE = 1 << 16;
        /// The kernel's own BTF, and with it programs that name their target by its type (Linux 5.5).
        const KERNEL_BTF = 1 << 17;
        /// Programs hashed with SHA-256 instead of SHA-1 for their tag (Linux 6.18).
        const SHA256_TAG = 1 << 18;
        /// BTF of modules, and names of BTF objects (Linux 5.11).
        const MODULE_BTF = 1 << 20;
        /// Links to perf events (Linux 5.15).
        const PERF_LINK = 1 << 21;
        /// Links to many places in a program or library, by processes (Linux 6.10).
        const UPROBE_MULTI = 1 << 36;
        /// Arguments of global functions that are tagged as the context (Linux 6.8).
        const ARG_CTX_TAG = 1 << 22;
        /// Memory is charged to control groups (Linux 5.11). Without it maps and programs together may take 64 KiB until
        /// `RLIMIT_MEMLOCK` is raised.
        const MEMCG_ACCOUNT = 1 << 23;
        /// `BPF_ENABLE_STATS` (Linux 5.8).
        const STATS = 1 << 40;
        /// `BPF_TOKEN_CREATE` (Linux 6.9).
        const TOKEN = 1 << 37;
        /// Output streams of programs (Linux 6.17).
        const PROG_STREAMS = 1 << 41;
        /// Many elements of a map in one call (Linux 5.6).
        const MAP_BATCH = 1 << 24;
        /// Look up and delete an element of a hash in one step (Linux 5.14).
        const HASH_TAKE = 1 << 25;
        /// Reading and writing one CPU's value of an element, and writing all with one value (Linux 7.0). Since then bytes
        /// between the values of CPUs are 0, and `BPF_NOEXIST` and `BPF_EXIST` together stand for neither with per-CPU maps.
        const CPU_FLAGS = 1 << 26;
        /// `bpf_csum_diff` answers 16 bits; before it answered 32, or `EINVAL` for more than 512 bytes (Linux 6.13).
        const CSUM_DIFF_FOLDS = 1 << 35;
        /// Links to maps of sockets (Linux 6.10).
        const SOCKMAP_LINK = 1 << 33;
        /// Programs of control groups have places in their order (Linux 6.17, and 6.12 in its stable releases).
        const CGROUP_ORDER = 1 << 34;
        /// Keys of hashes that are longer than 512 bytes (Linux 5.11).
        const LONG_KEYS = 1 << 32;
        /// Many elements of LPM tries and of per-CPU arrays in one call (Linux 5.13).
        const LPM_BATCH = 1 << 28;
        /// Many elements of maps of maps in one call (Linux 5.19).
        const MAP_IN_MAP_BATCH = 1 << 29;
        /// `BPF_MAP_FREEZE` takes a descriptor that may write, instead of a capability (Linux 6.5).
        const FREEZE_NEEDS_WRITE = 1 << 30;
        /// Look up and delete a stack trace in one step (Linux 6.18).
        const STACK_TRACE_TAKE = 1 << 31;
        /// Maps of instructions (Linux 6.19).
        const INSN_ARRAY = 1 << 42;
        /// The capabilities `CAP_BPF` and `CAP_PERFMON` (Linux 5.8). Without them the administrator's is asked for in their place.
        const CAPABILITIES = 1 << 43;
        /// Calls that need nothing but a descriptor or a path are anyone's (Linux 5.19). Without it all calls of bpf(2) are refused to
        /// who may not make maps, where `kernel.unprivileged_bpf_disabled` is set.
        const UNPRIVILEGED_CALLS = 1 << 44;
        /// Ring buffers that overwrite their oldest records (Linux 6.19). Not among the defaults.
        const RING_OVERWRITE = 1 << 27;
        /// BTF with a layout section, a header longer than 24 bytes and unknown kinds.
        const BTF_LAYOUT = 1 << 19;
    }
}

impl Default for Features {
    fn default() -> Self {
        let newer =
            Features::BTF_LAYOUT | Features::CPU_FLAGS | Features::INSN_ARRAY | Features::RING_OVERWRITE;
        Features::all().difference(newer)
    }
}

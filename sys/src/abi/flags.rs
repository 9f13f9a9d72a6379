//! Flags of bpf(2) commands. Unknown bits are kept.

bitflags::bitflags! {
    /// Flags of map creation (`BPF_F_*` in `map_flags`).
    #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
    pub struct MapFlags: u32 {
        /// `BPF_F_NO_PREALLOC`: allocate elements when they are inserted.
        const NO_PREALLOC = 1 << 0;
        /// `BPF_F_NO_COMMON_LRU`: one LRU list per CPU.
        const NO_COMMON_LRU = 1 << 1;
        /// `BPF_F_NUMA_NODE`: allocate on the given node.
        const NUMA_NODE = 1 << 2;
        /// `BPF_F_RDONLY`: user space may only read.
        const RDONLY = 1 << 3;
        /// `BPF_F_WRONLY`: user space may only write.
        const WRONLY = 1 << 4;
        /// `BPF_F_STACK_BUILD_ID`: stacks hold build ids and offsets.
        const STACK_BUILD_ID = 1 << 5;
        /// `BPF_F_ZERO_SEED`: hash with seed 0.
        const ZERO_SEED = 1 << 6;
        /// `BPF_F_RDONLY_PROG`: programs may only read.
        const RDONLY_PROG = 1 << 7;
        /// `BPF_F_WRONLY_PROG`: programs may only write.
        const WRONLY_PROG = 1 << 8;
        /// `BPF_F_CLONE`: socket storage is cloned with the socket.
        const CLONE = 1 << 9;
        /// `BPF_F_MMAPABLE`: user space may map the values (Linux 5.5).
        const MMAPABLE = 1 << 10;
        /// `BPF_F_PRESERVE_ELEMS`: perf events outlive the descriptor that set them.
        const PRESERVE_ELEMS = 1 << 11;
        /// `BPF_F_INNER_MAP`: an inner array may have another size than the prototype.
        const INNER_MAP = 1 << 12;
        /// `BPF_F_LINK`: struct_ops is registered by a link.
        const LINK = 1 << 13;
        /// `BPF_F_VTYPE_BTF_OBJ_FD`: the value type lives in a module's BTF.
        const VTYPE_BTF_OBJ_FD = 1 << 15;
        /// `BPF_F_TOKEN_FD`: a token is passed.
        const TOKEN_FD = 1 << 16;
        /// `BPF_F_SEGV_ON_FAULT`: arena faults raise a signal.
        const SEGV_ON_FAULT = 1 << 17;
        /// `BPF_F_NO_USER_CONV`: arena pointers are not translated.
        const NO_USER_CONV = 1 << 18;
        /// `BPF_F_RB_OVERWRITE`: a full ring drops its oldest records.
        const RB_OVERWRITE = 1 << 19;
        const _ = !0;
    }

    /// Flags of program load (`prog_flags`).
    #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
    pub struct ProgFlags: u32 {
        /// `BPF_F_STRICT_ALIGNMENT`.
        const STRICT_ALIGNMENT = 1 << 0;
        /// `BPF_F_ANY_ALIGNMENT`.
        const ANY_ALIGNMENT = 1 << 1;
        /// `BPF_F_TEST_RND_HI32`.
        const TEST_RND_HI32 = 1 << 2;
        /// `BPF_F_TEST_STATE_FREQ`.
        const TEST_STATE_FREQ = 1 << 3;
        /// `BPF_F_SLEEPABLE`: the program may sleep (Linux 5.10).
        const SLEEPABLE = 1 << 4;
        /// `BPF_F_XDP_HAS_FRAGS`: the program handles multi-buffer packets (Linux 5.18).
        const XDP_HAS_FRAGS = 1 << 5;
        /// `BPF_F_XDP_DEV_BOUND_ONLY`.
        const XDP_DEV_BOUND_ONLY = 1 << 6;
        /// `BPF_F_TEST_REG_INVARIANTS`.
        const TEST_REG_INVARIANTS = 1 << 7;
        /// `BPF_F_TOKEN_FD`: a token is passed.
        const TOKEN_FD = 1 << 16;
        const _ = !0;
    }

    /// Flags of element updates and lookups.
    #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
    pub struct UpdateFlags: u64 {
        /// `BPF_NOEXIST`: fail when the key exists. No bit at all is `BPF_ANY`.
        const NOEXIST = 1;
        /// `BPF_EXIST`: fail when the key does not exist.
        const EXIST = 2;
        /// `BPF_F_LOCK`: take the value's spin lock (Linux 5.1).
        const LOCK = 4;
        /// `BPF_F_CPU`: one CPU only, its number in the upper 32 bits (see [`on_cpu`](UpdateFlags::on_cpu)).
        const CPU = 8;
        /// `BPF_F_ALL_CPUS`: the same value on all CPUs; for updates only.
        const ALL_CPUS = 16;
        const _ = !0;
    }

    /// Flags of attaching (`BPF_F_*` of `BPF_PROG_ATTACH` and `BPF_LINK_CREATE`).
    #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
    pub struct AttachFlags: u32 {
        /// `BPF_F_ALLOW_OVERRIDE`.
        const ALLOW_OVERRIDE = 1 << 0;
        /// `BPF_F_ALLOW_MULTI`.
        const ALLOW_MULTI = 1 << 1;
        /// `BPF_F_REPLACE`.
        const REPLACE = 1 << 2;
        /// `BPF_F_BEFORE`.
        const BEFORE = 1 << 3;
        /// `BPF_F_AFTER`.
        const AFTER = 1 << 4;
        /// `BPF_F_ID`.
        const ID = 1 << 5;
        /// `BPF_F_PREORDER`.
        const PREORDER = 1 << 6;
        const _ = !0;
    }

    /// Flags of a test run (`BPF_F_TEST_*` of `BPF_PROG_TEST_RUN`).
    #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
    pub struct TestRunFlags: u32 {
        /// `BPF_F_TEST_RUN_ON_CPU`: run a raw tracepoint program on a CPU of choice (Linux 5.10).
        const RUN_ON_CPU = 1 << 0;
        /// `BPF_F_TEST_XDP_LIVE_FRAMES`: send the frames of an XDP program to where it says (Linux 5.18).
        const XDP_LIVE_FRAMES = 1 << 1;
        /// `BPF_F_TEST_SKB_CHECKSUM_COMPLETE`: the packet comes with its checksum computed (Linux 6.17).
        const SKB_CHECKSUM_COMPLETE = 1 << 2;
        const _ = !0;
    }

    /// Flags with which a program ends a record of a ring buffer, and with which it drains one of user space (`BPF_RB_*`).
    #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
    pub struct RingFlags: u64 {
        /// `BPF_RB_NO_WAKEUP`: who waits is not woken.
        const NO_WAKEUP = 1 << 0;
        /// `BPF_RB_FORCE_WAKEUP`: who waits is woken, also where the consumer has older records to read.
        const FORCE_WAKEUP = 1 << 1;
        const _ = !0;
    }

    /// Flags of opening a pinned object or one by its id (`open_flags`, `file_flags`).
    #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
    pub struct OpenFlags: u32 {
        /// `BPF_F_RDONLY`: the descriptor may only read.
        const RDONLY = 1 << 3;
        /// `BPF_F_WRONLY`: the descriptor may only write.
        const WRONLY = 1 << 4;
        const _ = !0;
    }
}

impl UpdateFlags {
    /// [`CPU`](UpdateFlags::CPU) with the number of the CPU whose value is meant.
    pub fn on_cpu(cpu: u32) -> UpdateFlags {
        UpdateFlags::from_bits_retain(UpdateFlags::CPU.bits() | u64::from(cpu) << 32)
    }
}

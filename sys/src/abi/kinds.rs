//! Types of maps, programs, attach points and links, and the ids of kernel objects.

use std::fmt;

macro_rules! kinds {
    ($(#[$meta:meta])* $ty:ident, $prefix:literal, $unknown:literal; $($name:ident = $value:literal, $text:literal;)*) => {
        $(#[$meta])*
        ///
        /// A newtype over the kernel's number: values that this version does not know pass through. It prints the
        /// name that bpftool uses, or the number.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
        pub struct $ty(pub u32);

        impl $ty {
            $(
                #[doc = concat!("`", $prefix, stringify!($name), "` (", stringify!($value), ").")]
                pub const $name: $ty = $ty($value);
            )*

            /// Every value that this version knows, in the kernel's order.
            pub const ALL: &'static [$ty] = &[$($ty::$name),*];

            /// The name that bpftool prints, such as `percpu_hash`, when the number is known.
            pub fn name(self) -> Option<&'static str> {
                match self.0 { $($value => Some($text),)* _ => None }
            }

            /// The value with the name that bpftool prints.
            pub fn from_name(name: &str) -> Option<$ty> {
                match name { $($text => Some($ty::$name),)* _ => None }
            }
        }

        impl fmt::Display for $ty {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self.name() {
                    Some(name) => f.pad(name),
                    None => f.pad(&format!("{}_{}", $unknown, self.0)),
                }
            }
        }

        impl fmt::Debug for $ty {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{self}")
            }
        }
    };
}
pub(super) use kinds;

kinds! {
    /// Kind of a map (`enum bpf_map_type`).
    MapType, "BPF_MAP_TYPE_", "map_type";
    UNSPEC = 0, "unspec";
    HASH = 1, "hash";
    ARRAY = 2, "array";
    PROG_ARRAY = 3, "prog_array";
    PERF_EVENT_ARRAY = 4, "perf_event_array";
    PERCPU_HASH = 5, "percpu_hash";
    PERCPU_ARRAY = 6, "percpu_array";
    STACK_TRACE = 7, "stack_trace";
    CGROUP_ARRAY = 8, "cgroup_array";
    LRU_HASH = 9, "lru_hash";
    LRU_PERCPU_HASH = 10, "lru_percpu_hash";
    LPM_TRIE = 11, "lpm_trie";
    ARRAY_OF_MAPS = 12, "array_of_maps";
    HASH_OF_MAPS = 13, "hash_of_maps";
    DEVMAP = 14, "devmap";
    SOCKMAP = 15, "sockmap";
    CPUMAP = 16, "cpumap";
    XSKMAP = 17, "xskmap";
    SOCKHASH = 18, "sockhash";
    CGROUP_STORAGE = 19, "cgroup_storage";
    REUSEPORT_SOCKARRAY = 20, "reuseport_sockarray";
    PERCPU_CGROUP_STORAGE = 21, "percpu_cgroup_storage";
    QUEUE = 22, "queue";
    STACK = 23, "stack";
    SK_STORAGE = 24, "sk_storage";
    DEVMAP_HASH = 25, "devmap_hash";
    STRUCT_OPS = 26, "struct_ops";
    RINGBUF = 27, "ringbuf";
    INODE_STORAGE = 28, "inode_storage";
    TASK_STORAGE = 29, "task_storage";
    BLOOM_FILTER = 30, "bloom_filter";
    USER_RINGBUF = 31, "user_ringbuf";
    CGRP_STORAGE = 32, "cgrp_storage";
    ARENA = 33, "arena";
    INSN_ARRAY = 34, "insn_array";
    RHASH = 35, "rhash";
}

impl MapType {
    /// The first release of Linux that has maps of this kind, such as `(5, 8)`; none for one that this version does not
    /// know. It tells a person which kernel to look for: whether a kernel has it, a probe tells.
    ///
    /// ```
    /// use skep_sys::abi::MapType;
    ///
    /// assert_eq!(MapType::RINGBUF.since(), Some((5, 8)));
    /// ```
    pub fn since(self) -> Option<(u32, u32)> {
        Some(match self {
            Self::HASH | Self::ARRAY => (3, 19),
            Self::PROG_ARRAY => (4, 2),
            Self::PERF_EVENT_ARRAY => (4, 3),
            Self::PERCPU_HASH | Self::PERCPU_ARRAY | Self::STACK_TRACE => (4, 6),
            Self::CGROUP_ARRAY => (4, 8),
            Self::LRU_HASH | Self::LRU_PERCPU_HASH => (4, 10),
            Self::LPM_TRIE => (4, 11),
            Self::ARRAY_OF_MAPS | Self::HASH_OF_MAPS => (4, 12),
            Self::DEVMAP | Self::SOCKMAP => (4, 14),
            Self::CPUMAP => (4, 15),
            Self::XSKMAP | Self::SOCKHASH => (4, 18),
            Self::CGROUP_STORAGE | Self::REUSEPORT_SOCKARRAY => (4, 19),
            Self::PERCPU_CGROUP_STORAGE | Self::QUEUE | Self::STACK => (4, 20),
            Self::SK_STORAGE => (5, 2),
            Self::DEVMAP_HASH => (5, 4),
            Self::STRUCT_OPS => (5, 6),
            Self::RINGBUF => (5, 8),
            Self::INODE_STORAGE => (5, 10),
            Self::TASK_STORAGE => (5, 11),
            Self::BLOOM_FILTER => (5, 16),
            Self::USER_RINGBUF => (6, 1),
            Self::CGRP_STORAGE => (6, 2),
            Self::ARENA => (6, 9),
            Self::INSN_ARRAY => (6, 19),
            _ => return None,
        })
    }

    /// Whether a value of this kind is one value per possible CPU as seen from user space.
    pub fn is_per_cpu(self) -> bool {
        matches!(
            self,
            MapType::PERCPU_HASH
                | MapType::PERCPU_ARRAY
                | MapType::LRU_PERCPU_HASH
                | MapType::PERCPU_CGROUP_STORAGE
        )
    }

    /// Whether the batch cursor of this kind is a 32-bit bucket number rather than a key.
    pub fn has_bucket_cursor(self) -> bool {
        matches!(
            self,
            MapType::HASH
                | MapType::PERCPU_HASH
                | MapType::LRU_HASH
                | MapType::LRU_PERCPU_HASH
                | MapType::HASH_OF_MAPS
        )
    }
}

kinds! {
    /// Kind of a program (`enum bpf_prog_type`).
    ProgType, "BPF_PROG_TYPE_", "prog_type";
    UNSPEC = 0, "unspec";
    SOCKET_FILTER = 1, "socket_filter";
    KPROBE = 2, "kprobe";
    SCHED_CLS = 3, "sched_cls";
    SCHED_ACT = 4, "sched_act";
    TRACEPOINT = 5, "tracepoint";
    XDP = 6, "xdp";
    PERF_EVENT = 7, "perf_event";
    CGROUP_SKB = 8, "cgroup_skb";
    CGROUP_SOCK = 9, "cgroup_sock";
    LWT_IN = 10, "lwt_in";
    LWT_OUT = 11, "lwt_out";
    LWT_XMIT = 12, "lwt_xmit";
    SOCK_OPS = 13, "sock_ops";
    SK_SKB = 14, "sk_skb";
    CGROUP_DEVICE = 15, "cgroup_device";
    SK_MSG = 16, "sk_msg";
    RAW_TRACEPOINT = 17, "raw_tracepoint";
    CGROUP_SOCK_ADDR = 18, "cgroup_sock_addr";
    LWT_SEG6LOCAL = 19, "lwt_seg6local";
    LIRC_MODE2 = 20, "lirc_mode2";
    SK_REUSEPORT = 21, "sk_reuseport";
    FLOW_DISSECTOR = 22, "flow_dissector";
    CGROUP_SYSCTL = 23, "cgroup_sysctl";
    RAW_TRACEPOINT_WRITABLE = 24, "raw_tracepoint_writable";
    CGROUP_SOCKOPT = 25, "cgroup_sockopt";
    TRACING = 26, "tracing";
    STRUCT_OPS = 27, "struct_ops";
    EXT = 28, "ext";
    LSM = 29, "lsm";
    SK_LOOKUP = 30, "sk_lookup";
    SYSCALL = 31, "syscall";
    NETFILTER = 32, "netfilter";
}

impl ProgType {
    /// The first release of Linux that has programs of this kind, such as `(5, 8)`; none for one that this version does not
    /// know. It tells a person which kernel to look for: whether a kernel has it, a probe tells.
    ///
    /// ```
    /// use skep_sys::abi::ProgType;
    ///
    /// assert_eq!(ProgType::SYSCALL.since(), Some((5, 14)));
    /// ```
    pub fn since(self) -> Option<(u32, u32)> {
        Some(match self {
            Self::SOCKET_FILTER => (3, 19),
            Self::KPROBE | Self::SCHED_CLS | Self::SCHED_ACT => (4, 1),
            Self::TRACEPOINT => (4, 7),
            Self::XDP => (4, 8),
            Self::PERF_EVENT => (4, 9),
            Self::CGROUP_SKB | Self::CGROUP_SOCK | Self::LWT_IN | Self::LWT_OUT | Self::LWT_XMIT => (4, 10),
            Self::SOCK_OPS => (4, 13),
            Self::SK_SKB => (4, 14),
            Self::CGROUP_DEVICE => (4, 15),
            Self::SK_MSG | Self::RAW_TRACEPOINT | Self::CGROUP_SOCK_ADDR => (4, 17),
            Self::LWT_SEG6LOCAL | Self::LIRC_MODE2 => (4, 18),
            Self::SK_REUSEPORT => (4, 19),
            Self::FLOW_DISSECTOR => (4, 20),
            Self::CGROUP_SYSCTL | Self::RAW_TRACEPOINT_WRITABLE => (5, 2),
            Self::CGROUP_SOCKOPT => (5, 3),
            Self::TRACING => (5, 5),
            Self::STRUCT_OPS | Self::EXT => (5, 6),
            Self::LSM => (5, 7),
            Self::SK_LOOKUP => (5, 9),
            Self::SYSCALL => (5, 14),
            Self::NETFILTER => (6, 4),
            _ => return None,
        })
    }
}

kinds! {
    /// Attach point of a program (`enum bpf_attach_type`).
    AttachType, "BPF_", "attach_type";
    CGROUP_INET_INGRESS = 0, "cgroup_inet_ingress";
    CGROUP_INET_EGRESS = 1, "cgroup_inet_egress";
    CGROUP_INET_SOCK_CREATE = 2, "cgroup_inet_sock_create";
    CGROUP_SOCK_OPS = 3, "cgroup_sock_ops";
    SK_SKB_STREAM_PARSER = 4, "sk_skb_stream_parser";
    SK_SKB_STREAM_VERDICT = 5, "sk_skb_stream_verdict";
    CGROUP_DEVICE = 6, "cgroup_device";
    SK_MSG_VERDICT = 7, "sk_msg_verdict";
    CGROUP_INET4_BIND = 8, "cgroup_inet4_bind";
    CGROUP_INET6_BIND = 9, "cgroup_inet6_bind";
    CGROUP_INET4_CONNECT = 10, "cgroup_inet4_connect";
    CGROUP_INET6_CONNECT = 11, "cgroup_inet6_connect";
    CGROUP_INET4_POST_BIND = 12, "cgroup_inet4_post_bind";
    CGROUP_INET6_POST_BIND = 13, "cgroup_inet6_post_bind";
    CGROUP_UDP4_SENDMSG = 14, "cgroup_udp4_sendmsg";
    CGROUP_UDP6_SENDMSG = 15, "cgroup_udp6_sendmsg";
    LIRC_MODE2 = 16, "lirc_mode2";
    FLOW_DISSECTOR = 17, "flow_dissector";
    CGROUP_SYSCTL = 18, "cgroup_sysctl";
    CGROUP_UDP4_RECVMSG = 19, "cgroup_udp4_recvmsg";
    CGROUP_UDP6_RECVMSG = 20, "cgroup_udp6_recvmsg";
    CGROUP_GETSOCKOPT = 21, "cgroup_getsockopt";
    CGROUP_SETSOCKOPT = 22, "cgroup_setsockopt";
    TRACE_RAW_TP = 23, "trace_raw_tp";
    TRACE_FENTRY = 24, "trace_fentry";
    TRACE_FEXIT = 25, "trace_fexit";
    MODIFY_RETURN = 26, "modify_return";
    LSM_MAC = 27, "lsm_mac";
    TRACE_ITER = 28, "trace_iter";
    CGROUP_INET4_GETPEERNAME = 29, "cgroup_inet4_getpeername";
    CGROUP_INET6_GETPEERNAME = 30, "cgroup_inet6_getpeername";
    CGROUP_INET4_GETSOCKNAME = 31, "cgroup_inet4_getsockname";
    CGROUP_INET6_GETSOCKNAME = 32, "cgroup_inet6_getsockname";
    XDP_DEVMAP = 33, "xdp_devmap";
    CGROUP_INET_SOCK_RELEASE = 34, "cgroup_inet_sock_release";
    XDP_CPUMAP = 35, "xdp_cpumap";
    SK_LOOKUP = 36, "sk_lookup";
    XDP = 37, "xdp";
    SK_SKB_VERDICT = 38, "sk_skb_verdict";
    SK_REUSEPORT_SELECT = 39, "sk_reuseport_select";
    SK_REUSEPORT_SELECT_OR_MIGRATE = 40, "sk_reuseport_select_or_migrate";
    PERF_EVENT = 41, "perf_event";
    TRACE_KPROBE_MULTI = 42, "trace_kprobe_multi";
    LSM_CGROUP = 43, "lsm_cgroup";
    STRUCT_OPS = 44, "struct_ops";
    NETFILTER = 45, "netfilter";
    TCX_INGRESS = 46, "tcx_ingress";
    TCX_EGRESS = 47, "tcx_egress";
    TRACE_UPROBE_MULTI = 48, "trace_uprobe_multi";
    CGROUP_UNIX_CONNECT = 49, "cgroup_unix_connect";
    CGROUP_UNIX_SENDMSG = 50, "cgroup_unix_sendmsg";
    CGROUP_UNIX_RECVMSG = 51, "cgroup_unix_recvmsg";
    CGROUP_UNIX_GETPEERNAME = 52, "cgroup_unix_getpeername";
    CGROUP_UNIX_GETSOCKNAME = 53, "cgroup_unix_getsockname";
    NETKIT_PRIMARY = 54, "netkit_primary";
    NETKIT_PEER = 55, "netkit_peer";
    TRACE_KPROBE_SESSION = 56, "trace_kprobe_session";
    TRACE_UPROBE_SESSION = 57, "trace_uprobe_session";
    TRACE_FSESSION = 58, "trace_fsession";
    TRACE_FENTRY_MULTI = 59, "trace_fentry_multi";
    TRACE_FEXIT_MULTI = 60, "trace_fexit_multi";
    TRACE_FSESSION_MULTI = 61, "trace_fsession_multi";
}

kinds! {
    /// Kind of a link (`enum bpf_link_type`).
    LinkType, "BPF_LINK_TYPE_", "link_type";
    UNSPEC = 0, "unspec";
    RAW_TRACEPOINT = 1, "raw_tracepoint";
    TRACING = 2, "tracing";
    CGROUP = 3, "cgroup";
    ITER = 4, "iter";
    NETNS = 5, "netns";
    XDP = 6, "xdp";
    PERF_EVENT = 7, "perf_event";
    KPROBE_MULTI = 8, "kprobe_multi";
    STRUCT_OPS = 9, "struct_ops";
    NETFILTER = 10, "netfilter";
    TCX = 11, "tcx";
    UPROBE_MULTI = 12, "uprobe_multi";
    NETKIT = 13, "netkit";
    SOCKMAP = 14, "sockmap";
    TRACING_MULTI = 15, "tracing_multi";
}

kinds! {
    /// What a kernel can be asked to count (`enum bpf_stats_type`).
    StatsType, "BPF_STATS_", "stats_type";
    RUN_TIME = 0, "run_time";
}

kinds! {
    /// An output stream of a program (`enum bpf_stream_id`).
    StreamId, "BPF_", "stream";
    STDOUT = 1, "stdout";
    STDERR = 2, "stderr";
}

macro_rules! ids {
    ($($name:ident, $text:literal;)*) => {
        $(
            #[doc = $text]
            #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
            pub struct $name(pub u32);

            impl fmt::Display for $name {
                fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    self.0.fmt(f)
                }
            }
        )*
    };
}

ids! {
    MapId, "Id of a map in one kernel.";
    ProgId, "Id of a program in one kernel.";
    BtfObjectId, "Id of a loaded BTF object in one kernel (not of a type inside it).";
    LinkId, "Id of a link in one kernel.";
}

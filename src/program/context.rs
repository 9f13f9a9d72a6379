//! Contexts of programs, as test runs take and give them. Layouts: `include/uapi/linux/bpf.h`.

use std::mem::offset_of;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Context of an XDP program (`struct xdp_md`).
///
/// A test run reads [`data`](Self::data), [`data_end`](Self::data_end), [`ingress_ifindex`](Self::ingress_ifindex) and
/// [`rx_queue_index`](Self::rx_queue_index); the others have to be 0.
#[doc(alias = "xdp_md")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct XdpMd {
    /// Where the packet begins in the data that is given: what lies before is metadata, a multiple of 4 bytes.
    pub data: u32,
    /// Where the packet ends in the data that is given. 0 stands for its end in [`RunInput`](super::RunInput). Since Linux
    /// 6.18 what lies behind is put into fragments; before it has to be the end.
    pub data_end: u32,
    /// Where metadata begins.
    pub data_meta: u32,
    /// Index of the interface that it came in by, 0 for one of the kernel's choice.
    pub ingress_ifindex: u32,
    /// Receive queue of that interface that it came in by.
    pub rx_queue_index: u32,
    /// Index of the interface that it leaves by.
    pub egress_ifindex: u32,
}

/// Context of programs that see a socket buffer: socket filters, tc, cgroups, lightweight tunnels
/// (`struct __sk_buff`).
///
/// A test run reads [`mark`](Self::mark), [`priority`](Self::priority), [`ifindex`](Self::ifindex),
/// [`ingress_ifindex`](Self::ingress_ifindex), [`cb`](Self::cb), [`tstamp`](Self::tstamp), [`wire_len`](Self::wire_len),
/// [`gso_segs`](Self::gso_segs), [`gso_size`](Self::gso_size) and [`hwtstamp`](Self::hwtstamp), as far as the kernel
/// knows them; the others have to be 0.
#[doc(alias = "__sk_buff")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
#[allow(missing_docs)] // fields of the kernel's, by its names
pub struct SkBuff {
    pub len: u32,
    pub pkt_type: u32,
    pub mark: u32,
    pub queue_mapping: u32,
    /// In network byte order.
    pub protocol: u32,
    pub vlan_present: u32,
    pub vlan_tci: u32,
    pub vlan_proto: u32,
    pub priority: u32,
    pub ingress_ifindex: u32,
    pub ifindex: u32,
    pub tc_index: u32,
    pub cb: [u32; 5],
    pub hash: u32,
    pub tc_classid: u32,
    pub data: u32,
    pub data_end: u32,
    pub napi_id: u32,
    pub family: u32,
    /// In network byte order.
    pub remote_ip4: u32,
    /// In network byte order.
    pub local_ip4: u32,
    /// In network byte order.
    pub remote_ip6: [u32; 4],
    /// In network byte order.
    pub local_ip6: [u32; 4],
    /// In network byte order.
    pub remote_port: u32,
    /// In host byte order.
    pub local_port: u32,
    pub data_meta: u32,
    /// A pointer for the program, 0 here.
    pub flow_keys: u64,
    /// Time stamp in nanoseconds.
    pub tstamp: u64,
    pub wire_len: u32,
    pub gso_segs: u32,
    /// A pointer for the program, 0 here.
    pub sk: u64,
    pub gso_size: u32,
    pub tstamp_type: u8,
    pub padding: [u8; 3],
    /// Time stamp of the hardware in nanoseconds.
    pub hwtstamp: u64,
}

/// Context of a program that looks up sockets (`struct bpf_sk_lookup`).
///
/// A test run reads all but [`cookie`](Self::cookie), which it writes: the socket that the program chose, 0 for none.
#[doc(alias = "bpf_sk_lookup")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SkLookup {
    /// Cookie of the socket that was chosen.
    pub cookie: u64,
    /// Address family, `AF_INET` or `AF_INET6`.
    pub family: u32,
    /// Protocol, `IPPROTO_TCP` or `IPPROTO_UDP`.
    pub protocol: u32,
    /// Sender's IPv4 address in network byte order.
    pub remote_ip4: u32,
    /// Sender's IPv6 address in network byte order.
    pub remote_ip6: [u32; 4],
    /// Sender's port in network byte order.
    pub remote_port: u16,
    /// Zero.
    pub zero: u16,
    /// Receiver's IPv4 address in network byte order.
    pub local_ip4: u32,
    /// Receiver's IPv6 address in network byte order.
    pub local_ip6: [u32; 4],
    /// Receiver's port in host byte order.
    pub local_port: u32,
    /// Index of the interface that it came in by.
    pub ingress_ifindex: u32,
    /// Zero.
    pub padding: u32,
}

/// What a flow dissector finds (`struct bpf_flow_keys`). A test run of one reads [`flags`](Self::flags) from the context
/// and gives the keys as its data.
#[doc(alias = "bpf_flow_keys")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct FlowKeys {
    /// Offset of the network header.
    pub nhoff: u16,
    /// Offset of the transport header.
    pub thoff: u16,
    /// Protocol of the addresses, `ETH_P_IP` or `ETH_P_IPV6`.
    pub addr_proto: u16,
    /// Whether it is a fragment.
    pub is_frag: u8,
    /// Whether it is the first one.
    pub is_first_frag: u8,
    /// Whether it is a packet in a packet.
    pub is_encap: u8,
    /// Protocol of the transport.
    pub ip_proto: u8,
    /// Protocol of the network in network byte order.
    pub n_proto: u16,
    /// Source port in network byte order.
    pub sport: u16,
    /// Destination port in network byte order.
    pub dport: u16,
    /// Source and destination IPv4 address in the first two words, or source and destination IPv6 address in four each;
    /// in network byte order.
    pub addresses: [u32; 8],
    /// `BPF_FLOW_DISSECTOR_F_*`.
    pub flags: u32,
    /// Flow label in network byte order.
    pub flow_label: u32,
}

/// Context of a test run of a netfilter program: where in the stack it is (`struct nf_hook_state` as the kernel takes
/// it).
#[doc(alias = "nf_hook_state")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct NfHookState {
    /// Hook, `NF_INET_*`.
    pub hook: u8,
    /// Protocol family, `NFPROTO_*`: 2 for IPv4, 10 for IPv6.
    pub pf: u8,
    /// Zero.
    pub padding: [u8; 6],
    /// Pointers of the kernel's, 0 here.
    pub pointers: [u64; 5],
}

const _: () = {
    assert!(size_of::<XdpMd>() == 24);
    assert!(size_of::<SkBuff>() == 192);
    assert!(offset_of!(SkBuff, cb) == 48 && offset_of!(SkBuff, data) == 76);
    assert!(offset_of!(SkBuff, flow_keys) == 144 && offset_of!(SkBuff, hwtstamp) == 184);
    assert!(size_of::<SkLookup>() == 72 && offset_of!(SkLookup, local_ip6) == 44);
    assert!(size_of::<FlowKeys>() == 56 && offset_of!(FlowKeys, flags) == 48);
    assert!(size_of::<NfHookState>() == 48);
};

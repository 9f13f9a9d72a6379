//! What a device reports of a packet beside its bytes, for XDP programs.

bitflags::bitflags! {
    /// What the driver of a device can tell XDP programs of a packet: the kernel functions `bpf_xdp_metadata_…` that it has. The
    /// others answer `EOPNOTSUPP`.
    #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
    pub struct XdpHints: u64 {
        /// When it came: `bpf_xdp_metadata_rx_timestamp`.
        const TIMESTAMP = 1 << 0;
        /// The hash of its flow: `bpf_xdp_metadata_rx_hash`.
        const HASH = 1 << 1;
        /// The VLAN tag that the device took out: `bpf_xdp_metadata_rx_vlan_tag`.
        const VLAN_TAG = 1 << 2;
    }
}

/// What a device says of one packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Hints {
    /// Nanoseconds.
    pub(crate) timestamp: Option<u64>,
    /// The hash, and of what it is (`enum xdp_rss_hash_type`).
    pub(crate) hash: Option<(u32, u32)>,
    /// Protocol and TCI.
    pub(crate) vlan: Option<(u16, u16)>,
}

//! What programs did to the network, for tests to look at.

use std::net::SocketAddr;

use skep_sys::abi::MapId;

use super::socket::SocketId;

/// Something that a program did beyond its own memory and its maps, or that became of a packet.
///
/// [`SimKernel::effects`](crate::SimKernel::effects) has them in the order in which they happened.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Effect {
    /// A program asked for a packet to go elsewhere (`bpf_redirect` and its like). Where an event carries it out, what
    /// comes of it follows.
    Redirect {
        /// Where to.
        to: Destination,
    },
    /// A copy of a packet was sent (`bpf_clone_redirect`).
    Clone {
        /// Where to.
        to: Destination,
        /// The copy, with its link header.
        packet: Vec<u8>,
    },
    /// A packet left a device.
    Transmitted {
        /// The device.
        ifindex: u32,
        /// The packet, with its link header.
        packet: Vec<u8>,
    },
    /// A packet passed all programs of a device on its way in.
    Delivered {
        /// The device.
        ifindex: u32,
        /// The packet, with its link header.
        packet: Vec<u8>,
    },
    /// A packet was dropped.
    Dropped {
        /// The device.
        ifindex: u32,
        /// By whom.
        by: Dropper,
    },
    /// A packet was given to a socket (`bpf_sk_assign`).
    SocketAssigned {
        /// The socket.
        socket: SocketId,
    },
    /// A socket was chosen among those that share a port (`bpf_sk_select_reuseport`).
    SocketSelected {
        /// The socket.
        socket: SocketId,
    },
    /// A message or a part of a stream goes to another socket (`bpf_msg_redirect_map`, `bpf_sk_redirect_map`, and `_hash`).
    SocketRedirect {
        /// The socket.
        socket: SocketId,
        /// Whether it is received there, and not sent.
        ingress: bool,
    },
    /// A socket was put into a map (`bpf_sock_map_update`, `bpf_sock_hash_update`).
    SocketMapped {
        /// The map.
        map: MapId,
        /// The socket.
        socket: SocketId,
    },
    /// An option of a socket was set (`bpf_setsockopt`).
    OptionSet {
        /// The socket.
        socket: SocketId,
        /// `SOL_SOCKET`, `IPPROTO_TCP`, …
        level: i32,
        /// The option.
        name: i32,
        /// The value.
        value: Vec<u8>,
    },
    /// What a socket tells programs of was changed (`bpf_sock_ops_cb_flags_set`).
    CallbackFlags {
        /// The socket.
        socket: SocketId,
        /// The flags.
        flags: u32,
    },
    /// A socket was bound to an address (`bpf_bind`).
    Bound {
        /// The socket.
        socket: SocketId,
        /// The address.
        address: SocketAddr,
    },
    /// A TCP option was written into a header (`bpf_store_hdr_opt`).
    HeaderOption {
        /// Kind, length and contents.
        option: Vec<u8>,
    },
    /// A tunnel was given to a packet (`bpf_skb_set_tunnel_key`, `bpf_skb_set_tunnel_opt`).
    Tunnel {
        /// `struct bpf_tunnel_key`, as long as the program knows it.
        key: Vec<u8>,
        /// Options behind it.
        options: Vec<u8>,
    },
    /// A header was put before a packet (`bpf_lwt_push_encap`).
    Encapsulated {
        /// Mode: 0 and 1 for IPv6 segment routing, 2 for IP.
        mode: u32,
        /// The header.
        header: Vec<u8>,
    },
    /// How much of a message the verdict is for (`bpf_msg_apply_bytes`).
    ApplyBytes {
        /// Number of bytes.
        bytes: u32,
    },
    /// How much of a message is waited for (`bpf_msg_cork_bytes`).
    CorkBytes {
        /// Number of bytes.
        bytes: u32,
    },
    /// What a socket did was ended (`bpf_sock_destroy`). Whoever uses it gets `ECONNABORTED`.
    SocketDestroyed {
        /// The socket.
        socket: SocketId,
    },
    /// The times of a packet that a socket sends are asked for (`bpf_sock_ops_enable_tx_tstamp`).
    TimestampRequested {
        /// The socket.
        socket: SocketId,
    },
    /// An acknowledgement was sent (`bpf_tcp_send_ack`).
    Acknowledged {
        /// The sequence number.
        number: u32,
    },
}

/// Where a packet is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Destination {
    /// Out of a device.
    Egress(u32),
    /// Into a device, as if it had been received there.
    Ingress(u32),
    /// Into the device that is the other end of one (`bpf_redirect_peer`).
    Peer(u32),
    /// Out of a device to whom the neighbour tables say (`bpf_redirect_neigh`).
    Neighbour(u32),
    /// To a CPU.
    Cpu(u32),
    /// To an `AF_XDP` socket, by its place in the map.
    Xsk(u32),
    /// To every device of a map.
    Broadcast(MapId),
}

/// Who dropped a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Dropper {
    /// An XDP program said so.
    Xdp,
    /// An XDP program ended with an error, or with something that is no verdict.
    XdpAborted,
    /// A tc program.
    Tcx,
    /// A cgroup program.
    Cgroup,
    /// A netfilter program.
    Netfilter,
    /// A redirect led nowhere: there is no such device, or it is down.
    Redirect,
    /// It went through too many devices.
    Loop,
}

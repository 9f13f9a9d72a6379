//! Sockets of a simulated kernel.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// A socket of a simulated kernel: its cookie, as `bpf_get_socket_cookie` answers it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub struct SocketId(pub u64);

impl fmt::Display for SocketId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

pub(crate) const AF_UNIX: u32 = 1;
pub(crate) const AF_INET: u32 = 2;
pub(crate) const AF_INET6: u32 = 10;
pub(crate) const SOCK_STREAM: u32 = 1;
pub(crate) const SOCK_DGRAM: u32 = 2;
/// The address of what is bound to none.
const NOWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
/// States of a TCP socket (`BPF_TCP_ESTABLISHED` and its like).
pub(crate) const ESTABLISHED: u32 = 1;
pub(crate) const CLOSE: u32 = 7;
pub(crate) const LISTEN: u32 = 10;

/// A socket that programs find, read and change.
///
/// ```
/// use skep_sim::{SimKernel, Socket};
///
/// let sim = SimKernel::new();
/// let web = sim.add_socket(Socket::tcp("10.0.0.1:80".parse().unwrap()).listening());
/// assert_eq!(sim.socket(web).unwrap().local.port(), 80);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Socket {
    /// `AF_INET`, `AF_INET6` or another.
    pub family: u32,
    /// `SOCK_STREAM`, `SOCK_DGRAM` or another.
    pub kind: u32,
    /// `IPPROTO_TCP`, `IPPROTO_UDP` or another.
    pub protocol: u32,
    /// The address that it is bound to; port 0 when it is not.
    pub local: SocketAddr,
    /// The address that it is connected to.
    pub remote: Option<SocketAddr>,
    /// State: `BPF_TCP_ESTABLISHED` (1), `BPF_TCP_CLOSE` (7), `BPF_TCP_LISTEN` (10) or another.
    pub state: u32,
    /// Index of the device that it is bound to, 0 for none.
    pub bound_dev_if: u32,
    /// Mark of its packets.
    pub mark: u32,
    /// Priority of its packets.
    pub priority: u32,
    /// The user who made it.
    pub uid: u32,
    /// Whether it shares its port with others (`SO_REUSEPORT`).
    pub reuse_port: bool,
    /// Path of the cgroup that it belongs to: the root by default.
    pub cgroup: String,
    /// What TCP programs are told of (`bpf_sock_ops_cb_flags_set`).
    pub callback_flags: u32,
    /// What is known of a TCP connection.
    pub tcp: TcpState,
    /// Options that were set, by level and name.
    pub options: BTreeMap<(i32, i32), Vec<u8>>,
}

/// What sockets have in common that share a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Shared {
    pub(crate) protocol: u32,
    pub(crate) family: u32,
    pub(crate) local: SocketAddr,
}

/// What is known of a TCP connection (`struct bpf_tcp_sock`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the fields are called as those of `struct bpf_tcp_sock` and say the same")]
pub struct TcpState {
    pub snd_cwnd: u32,
    pub srtt_us: u32,
    pub rtt_min: u32,
    pub snd_ssthresh: u32,
    pub rcv_nxt: u32,
    pub snd_nxt: u32,
    pub snd_una: u32,
    pub mss_cache: u32,
    pub ecn_flags: u32,
    pub rate_delivered: u32,
    pub rate_interval_us: u32,
    pub packets_out: u32,
    pub retrans_out: u32,
    pub total_retrans: u32,
    pub segs_in: u32,
    pub data_segs_in: u32,
    pub segs_out: u32,
    pub data_segs_out: u32,
    pub lost_out: u32,
    pub sacked_out: u32,
    pub bytes_received: u64,
    pub bytes_acked: u64,
    pub dsack_dups: u32,
    pub delivered: u32,
    pub delivered_ce: u32,
    pub icsk_retransmits: u32,
}

impl TcpState {
    /// The words of 32 bits that both `struct bpf_tcp_sock` and `struct bpf_sock_ops` have, in their order.
    pub(crate) fn words(&self) -> [u32; 20] {
        [
            self.snd_cwnd,
            self.srtt_us,
            self.rtt_min,
            self.snd_ssthresh,
            self.rcv_nxt,
            self.snd_nxt,
            self.snd_una,
            self.mss_cache,
            self.ecn_flags,
            self.rate_delivered,
            self.rate_interval_us,
            self.packets_out,
            self.retrans_out,
            self.total_retrans,
            self.segs_in,
            self.data_segs_in,
            self.segs_out,
            self.data_segs_out,
            self.lost_out,
            self.sacked_out,
        ]
    }
}

impl Socket {
    fn new(local: SocketAddr, kind: u32, protocol: u32) -> Socket {
        Socket {
            family: if local.is_ipv4() { AF_INET } else { AF_INET6 },
            kind,
            protocol,
            local,
            remote: None,
            state: CLOSE,
            bound_dev_if: 0,
            mark: 0,
            priority: 0,
            uid: 0,
            reuse_port: false,
            cgroup: "/".to_owned(),
            callback_flags: 0,
            tcp: TcpState {
                snd_cwnd: 10,
                snd_ssthresh: i32::MAX as u32,
                mss_cache: 536,
                ..TcpState::default()
            },
            options: BTreeMap::new(),
        }
    }

    /// A TCP socket that is bound to an address.
    pub fn tcp(local: SocketAddr) -> Socket {
        Socket::new(local, SOCK_STREAM, 6)
    }

    /// A UDP socket that is bound to an address.
    pub fn udp(local: SocketAddr) -> Socket {
        Socket::new(local, SOCK_DGRAM, 17)
    }

    /// A Unix socket for streams.
    pub fn unix_stream() -> Socket {
        Socket { family: AF_UNIX, ..Socket::new(NOWHERE, SOCK_STREAM, 0) }
    }

    /// A Unix socket for messages.
    pub fn unix_datagram() -> Socket {
        Socket { family: AF_UNIX, ..Socket::new(NOWHERE, SOCK_DGRAM, 0) }
    }

    /// Makes it listen.
    pub fn listening(mut self) -> Self {
        self.state = LISTEN;
        self
    }

    /// Connects it.
    pub fn connected(mut self, remote: SocketAddr) -> Self {
        self.remote = Some(remote);
        self.state = ESTABLISHED;
        self
    }

    /// The cgroup that it belongs to.
    pub fn cgroup(mut self, path: impl Into<String>) -> Self {
        self.cgroup = path.into();
        self
    }

    /// The user who made it.
    pub fn uid(mut self, uid: u32) -> Self {
        self.uid = uid;
        self
    }

    /// Mark of its packets.
    pub fn mark(mut self, mark: u32) -> Self {
        self.mark = mark;
        self
    }

    /// Lets it share its port with others.
    pub fn reuse_port(mut self) -> Self {
        self.reuse_port = true;
        self
    }

    /// What is known of its connection.
    pub fn tcp_state(mut self, tcp: TcpState) -> Self {
        self.tcp = tcp;
        self
    }

    /// What sockets have in common that share a port: protocol, family and address. `None` for one that does not share, or that
    /// takes no packets of others.
    pub(crate) fn shared(&self) -> Option<Shared> {
        let open = self.remote.is_none() && (self.protocol != 6 || self.state == LISTEN);
        let there = self.reuse_port && open && self.local.port() != 0;
        there.then_some(Shared { protocol: self.protocol, family: self.family, local: self.local })
    }

    /// Whether it takes packets of both versions of the internet protocol: one of the newer that is bound to no address, unless it was
    /// told otherwise (`IPV6_V6ONLY`).
    pub(crate) fn takes_both(&self) -> bool {
        const V6ONLY: (i32, i32) = (41, 26);

        let only = self.options.get(&V6ONLY).is_some_and(|value| value.iter().any(|byte| *byte != 0));
        self.family == AF_INET6 && self.local.ip().is_unspecified() && !only
    }

    /// What is known here of the other end of its connection.
    pub(crate) fn other_end(&self) -> Socket {
        let mut other = self.clone();
        if let Some(remote) = self.remote {
            (other.local, other.remote) = (remote, Some(self.local));
        }
        (other.tcp.snd_nxt, other.tcp.rcv_nxt) = (self.tcp.rcv_nxt, self.tcp.snd_nxt);
        other
    }

    /// Whether what programs redirect can go through it.
    pub(crate) fn takes_redirects(&self) -> bool {
        if self.protocol == 6 { self.state != LISTEN } else { self.state == ESTABLISHED }
    }

    /// Gives one that has no address that of the loopback device, if it talks to somebody there.
    pub(crate) fn choose_address(&mut self, to: SocketAddr) {
        if self.local.ip().is_unspecified() && to.ip().is_loopback() {
            self.local.set_ip(match to {
                SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
                SocketAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
            });
        }
    }

    pub(crate) fn remote_ip(&self) -> IpAddr {
        let none: IpAddr =
            if self.family == AF_INET6 { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
        self.remote.map_or(none, |remote| remote.ip())
    }

    pub(crate) fn remote_port(&self) -> u16 {
        self.remote.map_or(0, |remote| remote.port())
    }

    /// `struct bpf_sock`, as programs read it.
    pub(crate) fn bytes(&self) -> [u8; 80] {
        let mut bytes = [0; 80];
        let mut put = |at: usize, value: &[u8]| {
            if let Some(to) = bytes.get_mut(at..at + value.len()) {
                to.copy_from_slice(value);
            }
        };
        let words = [self.bound_dev_if, self.family, self.kind, self.protocol, self.mark, self.priority];
        for (index, word) in words.into_iter().enumerate() {
            put(index * 4, &word.to_ne_bytes());
        }
        let mut address = |address: IpAddr, four: usize, six: usize| match address {
            IpAddr::V4(address) => put(four, &address.octets()),
            IpAddr::V6(address) => put(six, &address.octets()),
        };
        address(self.local.ip(), 24, 28);
        address(self.remote_ip(), 52, 56);
        put(44, &u32::from(self.local.port()).to_ne_bytes());
        put(48, &self.remote_port().to_be_bytes());
        put(72, &self.state.to_ne_bytes());
        put(76, &(-1_i32).to_ne_bytes());
        bytes
    }

    /// `struct bpf_tcp_sock`, as programs read it.
    pub(crate) fn tcp_bytes(&self) -> Vec<u8> {
        let t = &self.tcp;
        let last = [t.dsack_dups, t.delivered, t.delivered_ce, t.icsk_retransmits];
        let words = |words: &[u32]| words.iter().flat_map(|word| word.to_ne_bytes()).collect::<Vec<u8>>();
        let middle = [t.bytes_received.to_ne_bytes(), t.bytes_acked.to_ne_bytes()].concat();
        [words(&t.words()), middle, words(&last)].concat()
    }
}

//! Routes and neighbours.

use std::net::IpAddr;

/// What is done with a packet that a route is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum RouteKind {
    /// It is forwarded.
    #[default]
    Unicast,
    /// It is for this machine.
    Local,
    /// It is dropped.
    Blackhole,
    /// It is answered with an error.
    Unreachable,
    /// It is answered with the error that it is not allowed.
    Prohibit,
}

/// A route of a simulated kernel, which `bpf_fib_lookup` finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Route {
    /// The network.
    pub network: IpAddr,
    /// How many bits of an address have to be those of the network.
    pub prefix_len: u8,
    /// Index of the device that packets leave through.
    pub ifindex: u32,
    /// The router that they are sent to, where it is not their destination.
    pub gateway: Option<IpAddr>,
    /// The address that packets of this machine have there.
    pub source: Option<IpAddr>,
    /// Longest packet, where it is not that of the device.
    pub mtu: Option<u32>,
    /// Metric: the route with the smallest is taken.
    pub metric: u32,
    /// The table that it is in: 254, the main one, by default.
    pub table: u32,
    /// What is done.
    pub kind: RouteKind,
}

impl Route {
    /// A route to a network through a device.
    pub fn new(network: impl Into<IpAddr>, prefix_len: u8, ifindex: u32) -> Route {
        Route {
            network: network.into(),
            prefix_len,
            ifindex,
            gateway: None,
            source: None,
            mtu: None,
            metric: 0,
            table: 254,
            kind: RouteKind::Unicast,
        }
    }

    /// Sends to a router.
    pub fn via(mut self, gateway: impl Into<IpAddr>) -> Self {
        self.gateway = Some(gateway.into());
        self
    }

    /// The address that packets of this machine have there.
    pub fn source(mut self, source: impl Into<IpAddr>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Longest packet.
    pub fn mtu(mut self, mtu: u32) -> Self {
        self.mtu = Some(mtu);
        self
    }

    /// Metric.
    pub fn metric(mut self, metric: u32) -> Self {
        self.metric = metric;
        self
    }

    /// Table.
    pub fn table(mut self, table: u32) -> Self {
        self.table = table;
        self
    }

    /// What is done with a packet.
    pub fn kind(mut self, kind: RouteKind) -> Self {
        self.kind = kind;
        self
    }

    /// Whether an address is in the network.
    pub(crate) fn contains(&self, address: IpAddr) -> bool {
        let bits = |address: IpAddr| match address {
            IpAddr::V4(address) => (u128::from(u32::from(address)) << 96, 32),
            IpAddr::V6(address) => (u128::from(address), 128),
        };
        let ((network, width), (address, other)) = (bits(self.network), bits(address));
        let prefix = u32::from(self.prefix_len).min(width);
        let mask = u128::MAX.checked_shl(128 - prefix).unwrap_or(0);
        width == other && (network ^ address) & mask == 0
    }
}

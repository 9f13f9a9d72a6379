//! Network devices.

use super::XdpHints;

/// A network device of a simulated kernel.
///
/// ```
/// use skep_sim::{Interface, SimKernel};
///
/// let sim = SimKernel::new();
/// let eth0 = sim.add_interface(Interface::new("eth0").mac([2, 0, 0, 0, 0, 1]))?;
/// assert_eq!(sim.interface("eth0").map(|eth0| eth0.ifindex), Some(eth0));
/// # Ok::<(), skep_sys::abi::Errno>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Its index: 0 before it is added, for the next free one.
    pub ifindex: u32,
    /// Its address: all zero, as that of the loopback device, by default.
    pub mac: [u8; 6],
    /// Longest packet in bytes, without the link header: 1500 by default.
    pub mtu: u32,
    /// Whether it is up. It is by default.
    pub up: bool,
    /// Whether packets that come in are forwarded to other devices. They are by default.
    pub forwarding: bool,
    /// Index of the device that is its other end: what one sends, the other receives.
    pub peer: Option<u32>,
    /// Number of queues that packets are received by: 1 by default.
    pub rx_queues: u32,
    /// Whether it is a netkit device, which [`NETKIT_PRIMARY`](skep_sys::abi::AttachType::NETKIT_PRIMARY) programs attach to.
    pub netkit: bool,
    /// What its driver tells XDP programs of packets, if a [`Receive`](crate::Receive) says it: all that there is by default.
    pub xdp_hints: XdpHints,
}

impl Interface {
    /// A device with everything at its default.
    pub fn new(name: impl Into<String>) -> Interface {
        Interface {
            name: name.into(),
            ifindex: 0,
            mac: [0; 6],
            mtu: 1500,
            up: true,
            forwarding: true,
            peer: None,
            rx_queues: 1,
            netkit: false,
            xdp_hints: XdpHints::all(),
        }
    }

    /// Its index.
    pub fn ifindex(mut self, ifindex: u32) -> Self {
        self.ifindex = ifindex;
        self
    }

    /// Its address.
    pub fn mac(mut self, mac: [u8; 6]) -> Self {
        self.mac = mac;
        self
    }

    /// Longest packet in bytes, without the link header.
    pub fn mtu(mut self, mtu: u32) -> Self {
        self.mtu = mtu;
        self
    }

    /// Whether it is up.
    pub fn up(mut self, up: bool) -> Self {
        self.up = up;
        self
    }

    /// Whether packets that come in are forwarded to other devices.
    pub fn forwarding(mut self, forwarding: bool) -> Self {
        self.forwarding = forwarding;
        self
    }

    /// Makes it one end of a pair whose other end is the device with this index. That one's other end becomes this one.
    pub fn peer(mut self, ifindex: u32) -> Self {
        self.peer = Some(ifindex);
        self
    }

    /// Number of queues that packets are received by.
    pub fn rx_queues(mut self, queues: u32) -> Self {
        self.rx_queues = queues;
        self
    }

    /// What its driver tells XDP programs of packets.
    pub fn xdp_hints(mut self, hints: XdpHints) -> Self {
        self.xdp_hints = hints;
        self
    }

    /// Makes it a netkit device.
    pub fn netkit(mut self) -> Self {
        self.netkit = true;
        self
    }
}

//! Packets that devices receive and send, on their way past all programs.

use std::fmt;

use skep_sys::abi::{AttachType, Errno, ProgId};

use super::road::Road;
use super::scene::check_cpu;
use super::socket_life::no_socket;
use super::{Event, EventError};
use crate::kernel::SimKernel;
use crate::net::{Destination, Dropper, Effect, Hints, SocketId};

/// A packet that a device receives: it goes through its XDP program, tcx programs at its ingress, netfilter programs, the choice of a socket,
/// and the ingress programs of that socket's control groups.
///
/// ```
/// use skep_sim::{Fate, Receive, SimKernel};
/// # use std::os::fd::AsFd;
/// # use skep_sys::abi::{AttachType, ProgType};
/// # use skep_sys::request::{LinkCreate, LinkTarget, ProgLoad};
/// # use skep_sys::Kernel;
///
/// let sim = SimKernel::builder().interface("eth0", 2).build()?;
/// # let kernel = Kernel::new(sim.clone());
/// # let insns = skep_asm::Assembler::new().mov64_imm(skep_asm::Reg::R0, 1).exit().finish()?;
/// let drop_all = kernel.prog_load(&ProgLoad::new(ProgType::XDP, &insns, "GPL"), None)?;
/// let request = LinkCreate::new(drop_all.as_fd(), LinkTarget::Ifindex(2), AttachType::XDP);
/// let link = kernel.link_create(&request)?;
/// let passage = sim.fire(Receive::new("eth0", [0; 64]))?;
/// assert!(passage.is_dropped());
/// drop(link);
/// let passage = sim.fire(Receive::new("eth0", [0; 64]))?;
/// assert_eq!(passage.fate, Fate::Delivered { ifindex: 2, socket: None });
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receive {
    interface: String,
    packet: Vec<u8>,
    queue: u32,
    cpu: u32,
    hints: Hints,
}

impl Receive {
    /// A packet, with its link header, at the device with a name.
    pub fn new(interface: impl Into<String>, packet: impl Into<Vec<u8>>) -> Receive {
        Receive {
            interface: interface.into(),
            packet: packet.into(),
            queue: 0,
            cpu: 0,
            hints: Hints::default(),
        }
    }

    /// The queue that it comes in by: 0 by default.
    pub fn queue(mut self, queue: u32) -> Self {
        self.queue = queue;
        self
    }

    /// The CPU that it is worked on: 0 by default.
    pub fn cpu(mut self, cpu: u32) -> Self {
        self.cpu = cpu;
        self
    }

    /// When the device says that it came, in nanoseconds: what `bpf_xdp_metadata_rx_timestamp` answers, and where the packet passes
    /// the field `hwtstamp` of `__sk_buff`. If nothing is said the former answers `ENODATA`.
    pub fn rx_timestamp(mut self, timestamp: u64) -> Self {
        self.hints.timestamp = Some(timestamp);
        self
    }

    /// The hash of its flow as the device says, and of what it is (`enum xdp_rss_hash_type`): what `bpf_xdp_metadata_rx_hash`
    /// answers, and where the packet passes the field `hash` of `__sk_buff`. If nothing is said the former answers `ENODATA`.
    pub fn rx_hash(mut self, hash: u32, rss_type: u32) -> Self {
        self.hints.hash = Some((hash, rss_type));
        self
    }

    /// The VLAN tag that the device took out of the packet: its protocol, such as `0x8100`, and TCI. It is what
    /// `bpf_xdp_metadata_rx_vlan_tag` answers, and the packet's where it passes. If nothing is said the former answers `ENODATA`.
    pub fn rx_vlan_tag(mut self, protocol: u16, tci: u16) -> Self {
        self.hints.vlan = Some((protocol, tci));
        self
    }
}

/// A packet that is sent through a device: it goes through netfilter programs, the egress programs of its socket's control
/// groups, and tcx programs at the device's egress. Where the device has another end, it is received there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transmit {
    interface: String,
    packet: Vec<u8>,
    socket: Option<SocketId>,
    cpu: u32,
}

impl Transmit {
    /// A packet, with its link header, for the device with a name.
    pub fn new(interface: impl Into<String>, packet: impl Into<Vec<u8>>) -> Transmit {
        Transmit { interface: interface.into(), packet: packet.into(), socket: None, cpu: 0 }
    }

    /// The socket that sends it. Without one, no programs of control groups run.
    pub fn socket(mut self, socket: SocketId) -> Self {
        self.socket = Some(socket);
        self
    }

    /// The CPU that it is worked on: 0 by default.
    pub fn cpu(mut self, cpu: u32) -> Self {
        self.cpu = cpu;
        self
    }
}

/// What became of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fate {
    /// It came through.
    Delivered {
        /// The device that it came in by.
        ifindex: u32,
        /// The socket that it is for, if there is one.
        socket: Option<SocketId>,
    },
    /// It left through a device that has no other end here.
    Transmitted {
        /// The device.
        ifindex: u32,
    },
    /// It was dropped.
    Dropped {
        /// The device that it was at.
        ifindex: u32,
        /// By whom.
        by: Dropper,
    },
    /// It waits where no program takes it any further: for a socket of `AF_XDP`.
    Queued {
        /// Where.
        at: Destination,
    },
}

/// A program that saw a packet, and what it said.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Verdict {
    /// Name of the program.
    pub program: String,
    /// Its id.
    pub prog_id: ProgId,
    /// As what it is attached.
    pub attach_type: AttachType,
    /// What it returned.
    pub value: u32,
}

/// The way of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[must_use = "it tells what became of the packet"]
pub struct Passage {
    /// What became of it.
    pub fate: Fate,
    /// The packet as it was at the end, with its link header.
    pub packet: Vec<u8>,
    /// Its mark at the end.
    pub mark: u32,
    /// The programs that saw it, in order.
    pub verdicts: Vec<Verdict>,
    /// What they did to the network, in order.
    pub effects: Vec<Effect>,
}

impl Passage {
    /// Whether it was dropped.
    pub fn is_dropped(&self) -> bool {
        matches!(self.fate, Fate::Dropped { .. })
    }

    /// Names of the programs that saw it.
    pub fn programs(&self) -> Vec<&str> {
        self.verdicts.iter().map(|verdict| verdict.program.as_str()).collect()
    }
}

impl fmt::Display for Fate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fate::Delivered { ifindex, socket: None } => write!(f, "delivered by device {ifindex}"),
            Fate::Delivered { ifindex, socket: Some(socket) } => {
                write!(f, "delivered by device {ifindex} to socket {socket}")
            }
            Fate::Transmitted { ifindex } => write!(f, "sent through device {ifindex}"),
            Fate::Dropped { ifindex, by } => write!(f, "dropped at device {ifindex} by {by:?}"),
            Fate::Queued { at } => write!(f, "queued at {at:?}"),
        }
    }
}

fn device(kernel: &SimKernel, name: &str) -> Result<u32, EventError> {
    let world = kernel.0.world();
    world.net.ifindex(name).ok_or_else(|| {
        let known: Vec<&str> = world.net.interfaces.values().map(|device| device.name.as_str()).collect();
        let what = format!(
            "there is no network device `{name}`, only {}; add it with `SimKernel::add_interface`",
            known.join(", ")
        );
        EventError::new(Errno::ENODEV, what)
    })
}

fn check_length(packet: &[u8]) -> Result<(), EventError> {
    if packet.len() >= 14 && packet.len() <= 0xffff {
        return Ok(());
    }
    let what =
        format!("a packet of {} bytes, which has to have 14 to 65535 with its link header", packet.len());
    Err(EventError::Errno { errno: Errno::EINVAL, what })
}

impl Event for Receive {
    type Outcome = Passage;

    fn happen(self, kernel: &SimKernel) -> Result<Passage, EventError> {
        check_cpu(kernel, self.cpu)?;
        let ifindex = device(kernel, &self.interface)?;
        check_length(&self.packet)?;
        let mut road = Road::new(kernel, self.cpu);
        let fate = road.receive_with(ifindex, self.queue, self.packet, self.hints)?;
        Ok(road.end(fate))
    }
}

impl Event for Transmit {
    type Outcome = Passage;

    fn happen(self, kernel: &SimKernel) -> Result<Passage, EventError> {
        check_cpu(kernel, self.cpu)?;
        let ifindex = device(kernel, &self.interface)?;
        check_length(&self.packet)?;
        if let Some(socket) = self.socket
            && kernel.socket(socket).is_none()
        {
            return Err(no_socket(socket));
        }
        let mut road = Road::new(kernel, self.cpu);
        let fate = road.send(ifindex, self.packet, self.socket.map(|socket| socket.0))?;
        Ok(road.end(fate))
    }
}

impl SimKernel {
    /// Lets a device receive a packet with its link header; [`Receive`] with its defaults.
    ///
    /// # Errors
    /// [`EventError::Fault`] when a program was stopped; [`Errno::ENODEV`] when there is no such device.
    pub fn receive(&self, interface: &str, packet: &[u8]) -> Result<Passage, EventError> {
        self.fire(Receive::new(interface, packet))
    }

    /// Sends a packet with its link header through a device; [`Transmit`] with its defaults.
    ///
    /// # Errors
    /// [`EventError::Fault`] when a program was stopped; [`Errno::ENODEV`] when there is no such device.
    pub fn transmit(&self, interface: &str, packet: &[u8]) -> Result<Passage, EventError> {
        self.fire(Transmit::new(interface, packet))
    }
}

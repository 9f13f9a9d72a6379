//! The network of a simulated kernel: devices, routes, sockets, cgroups, and what programs did to them.

mod attach;
mod cgroup;
mod connection;
mod conntrack;
mod effect;
mod groups;
mod hook;
mod interface;
mod metadata;
mod object;
mod objects;
mod option;
mod order;
mod reuseport;
mod route;
mod socket;
mod stream;

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use skep_sys::abi::{Errno, MapType};

use crate::fd::Access;
use crate::kernel::SimKernel;
use crate::map::Owner;
use crate::object::Object;
use crate::prog::Prog;

pub(crate) use attach::{prog_attach, prog_detach, prog_query};
pub(crate) use cgroup::Cgroups;
pub use connection::{Connection, ConnectionId, ConnectionStatus};
pub(crate) use conntrack::{Conntrack, Translate, Tuple, Zone};
pub use effect::{Destination, Dropper, Effect};
pub(crate) use hook::{Hook, is_net, link_net};
pub use interface::Interface;
pub(crate) use metadata::Hints;
pub use metadata::XdpHints;
pub(crate) use objects::Structures;
pub use route::{Route, RouteKind};
pub(crate) use socket::{AF_INET, AF_INET6, AF_UNIX, CLOSE, ESTABLISHED, LISTEN, SOCK_STREAM, Shared};
pub use socket::{Socket, SocketId, TcpState};
pub(crate) use stream::{Psock, SockVerdict, Stream};

/// Most effects that are kept; older ones are forgotten.
const EFFECTS_MAX: usize = 1 << 14;
/// Ports that sockets get that want any (`net.ipv4.ip_local_port_range`).
const FIRST_PORT: u16 = 32768;
const LAST_PORT: u16 = 60999;
/// The table of routes to this machine itself, which is looked at first.
const LOCAL_TABLE: u32 = 255;
/// Protocols of sockets.
const TCP: u32 = 6;
const UDP: u32 = 17;
/// The cookie of the network namespace.
pub(crate) const NETNS_COOKIE: u64 = 1;

/// The network.
#[derive(Clone, Debug)]
pub(crate) struct Net {
    pub(crate) interfaces: BTreeMap<u32, Interface>,
    pub(crate) routes: Vec<Route>,
    pub(crate) neighbours: BTreeMap<(u32, IpAddr), [u8; 6]>,
    sockets: BTreeMap<u64, Socket>,
    /// What is in them that tests do not see as a part of them.
    streams: BTreeMap<u64, Stream>,
    /// Programs that choose among sockets that share a port, by the socket that each was attached through.
    pub(crate) reuseport: BTreeMap<Shared, Arc<Prog>>,
    next_cookie: u64,
    pub(crate) cgroups: Cgroups,
    pub(crate) conntrack: Conntrack,
    effects: VecDeque<Effect>,
    /// How many effects there were.
    noted: u64,
    /// How often the order of programs at a place was changed.
    revisions: BTreeMap<(u8, u64, u32), u64>,
}

impl Net {
    pub(crate) fn new(interfaces: &BTreeMap<String, u32>) -> Net {
        let device = |(name, index): (&String, &u32)| {
            let mtu = if name == "lo" { 65536 } else { 1500 };
            let mac = if name == "lo" { [0; 6] } else { default_mac(*index) };
            (*index, Interface::new(name.clone()).ifindex(*index).mac(mac).mtu(mtu))
        };
        Net {
            interfaces: interfaces.iter().map(device).collect(),
            routes: Vec::new(),
            neighbours: BTreeMap::new(),
            sockets: BTreeMap::new(),
            streams: BTreeMap::new(),
            reuseport: BTreeMap::new(),
            next_cookie: 1,
            cgroups: Cgroups::default(),
            conntrack: Conntrack::default(),
            effects: VecDeque::new(),
            noted: 0,
            revisions: BTreeMap::new(),
        }
    }

    pub(crate) fn note(&mut self, effect: Effect) {
        if self.effects.len() >= EFFECTS_MAX {
            self.effects.pop_front();
        }
        self.effects.push_back(effect);
        self.noted += 1; // one each nanosecond lasts for centuries
    }

    /// How many effects there were until now.
    pub(crate) fn noted(&self) -> u64 {
        self.noted
    }

    /// The effects since there were so many.
    pub(crate) fn effects_since(&self, noted: u64) -> Vec<Effect> {
        let count = usize::try_from(self.noted.saturating_sub(noted)).unwrap_or(usize::MAX);
        self.effects.iter().skip(self.effects.len().saturating_sub(count)).cloned().collect()
    }

    /// The number of the order of programs at a place, which grows with each change.
    pub(crate) fn revision(&self, hook: &Hook) -> u64 {
        hook_key(hook).and_then(|key| self.revisions.get(&key)).copied().unwrap_or(1)
    }

    pub(crate) fn note_change(&mut self, hook: &Hook) {
        if let Some(key) = hook_key(hook) {
            *self.revisions.entry(key).or_insert(1) += 1; // one each nanosecond lasts for centuries
        }
    }

    pub(crate) fn ifindex(&self, name: &str) -> Option<u32> {
        self.interfaces.values().find(|device| device.name == name).map(|device| device.ifindex)
    }

    fn add_interface(&mut self, mut device: Interface) -> Result<u32, Errno> {
        if device.name.is_empty() || device.name.len() > 15 {
            return Err(Errno::EINVAL);
        }
        if device.ifindex == 0 {
            device.ifindex = self.interfaces.last_key_value().map_or(1, |(last, _)| last.saturating_add(1));
        }
        let index = device.ifindex;
        if self.ifindex(&device.name).is_some()
            || self.interfaces.contains_key(&index)
            || index > i32::MAX as u32
        {
            return Err(Errno::EEXIST);
        }
        if let Some(peer) = device.peer {
            self.interfaces.get_mut(&peer).ok_or(Errno::ENODEV)?.peer = Some(index);
        }
        self.interfaces.insert(index, device);
        Ok(index)
    }

    /// A cookie that no socket has.
    pub(crate) fn next_cookie(&mut self) -> u64 {
        let cookie = self.next_cookie;
        self.next_cookie += 1; // a new one each nanosecond lasts for centuries
        cookie
    }

    pub(crate) fn add_socket(&mut self, socket: Socket) -> SocketId {
        let cookie = self.next_cookie();
        self.sockets.insert(cookie, socket);
        SocketId(cookie)
    }

    pub(crate) fn socket(&self, cookie: u64) -> Option<&Socket> {
        self.sockets.get(&cookie)
    }

    pub(crate) fn socket_mut(&mut self, cookie: u64) -> Option<&mut Socket> {
        self.sockets.get_mut(&cookie)
    }

    pub(crate) fn remove_socket(&mut self, cookie: u64) -> Option<Socket> {
        self.streams.remove(&cookie);
        for stream in self.streams.values_mut() {
            stream.peer = stream.peer.filter(|peer| *peer != cookie);
            stream.backlog.retain(|waiting| *waiting != cookie);
        }
        let removed = self.sockets.remove(&cookie);
        // A program goes with the last socket of its port.
        let sockets = &self.sockets;
        self.reuseport
            .retain(|shared, _| sockets.values().any(|socket| socket.shared().as_ref() == Some(shared)));
        removed
    }

    /// Ends what a socket does (`tcp_abort`, `udp_abort`).
    pub(crate) fn destroy(&mut self, cookie: u64) -> Result<(), Errno> {
        let socket = self.sockets.get_mut(&cookie).ok_or(Errno::ENOENT)?;
        match socket.protocol {
            TCP if socket.state == CLOSE => return Err(Errno::ENOENT),
            TCP | UDP => {}
            _ => return Err(Errno::EOPNOTSUPP),
        }
        socket.state = CLOSE;
        if socket.protocol == UDP {
            socket.remote = None;
        }
        self.note(Effect::SocketDestroyed { socket: SocketId(cookie) });
        Ok(())
    }

    /// All sockets, in the order in which they were made.
    pub(crate) fn sockets(&self) -> impl Iterator<Item = (u64, &Socket)> {
        self.sockets.iter().map(|(cookie, socket)| (*cookie, socket))
    }

    /// The inside of a socket, if there is something.
    pub(crate) fn stream(&self, cookie: u64) -> Option<&Stream> {
        self.streams.get(&cookie)
    }

    /// The inside of a socket. One that is not there loses it again.
    pub(crate) fn stream_mut(&mut self, cookie: u64) -> &mut Stream {
        let sockets = &self.sockets;
        self.streams.retain(|known, _| sockets.contains_key(known));
        self.streams.entry(cookie).or_default()
    }

    /// The socket whose struct is at an address.
    pub(crate) fn socket_of_struct(&self, address: u64) -> Option<u64> {
        self.streams.iter().find(|(_, stream)| stream.object == Some(address)).map(|(cookie, _)| *cookie)
    }

    /// The sockets that share a port with one, in the order in which they were made.
    pub(crate) fn sharing(&self, shared: &Shared) -> Vec<u64> {
        self.sockets()
            .filter(|(_, socket)| socket.shared().as_ref() == Some(shared))
            .map(|(at, _)| at)
            .collect()
    }

    /// Binds a socket: `EINVAL` when it is bound, `EADDRINUSE` when another one has the address.
    pub(crate) fn bind(&mut self, cookie: u64, address: SocketAddr) -> Result<(), Errno> {
        let socket = self.sockets.get(&cookie).ok_or(Errno::EINVAL)?;
        if socket.local.port() != 0 {
            return Err(Errno::EINVAL);
        }
        let clashes = |(other, known): (&u64, &Socket)| {
            let any = known.local.ip().is_unspecified() || address.ip().is_unspecified();
            *other != cookie
                && address.port() != 0
                && known.protocol == socket.protocol
                && known.local.port() == address.port()
                && (any || known.local.ip() == address.ip())
                && known.remote.is_none()
                && !(known.reuse_port && socket.reuse_port)
        };
        if self.sockets.iter().any(clashes) {
            return Err(Errno::EADDRINUSE);
        }
        if let Some(socket) = self.sockets.get_mut(&cookie) {
            socket.local = address;
        }
        Ok(())
    }

    /// Gives a socket that has no port the first one that is free of those that a kernel chooses from.
    pub(crate) fn give_port(&mut self, cookie: u64) {
        let Some(socket) = self.sockets.get(&cookie).filter(|socket| socket.local.port() == 0) else {
            return;
        };
        let protocol = socket.protocol;
        let is_free = |port: &u16| {
            let mut others = self.sockets.values().filter(|other| other.protocol == protocol);
            others.all(|other| other.local.port() != *port)
        };
        let free = (FIRST_PORT..=LAST_PORT).find(is_free);
        if let (Some(port), Some(socket)) = (free, self.sockets.get_mut(&cookie)) {
            socket.local.set_port(port);
        }
    }

    /// The socket that a packet is for: the one of its connection, else the one that listens or is bound there.
    pub(crate) fn find_socket(
        &self,
        protocol: u32,
        (source, source_port): (IpAddr, u16),
        (destination, port): (IpAddr, u16),
        ifindex: u32,
    ) -> Option<u64> {
        let here = |socket: &Socket| {
            socket.protocol == protocol
                && socket.local.port() == port
                && port != 0
                && (socket.bound_dev_if == 0 || socket.bound_dev_if == ifindex)
        };
        let connected = self.sockets.iter().find(|(_, socket)| {
            here(socket)
                && socket.local.ip() == destination
                && socket.remote.is_some_and(|remote| (remote.ip(), remote.port()) == (source, source_port))
        });
        let open = |socket: &Socket| socket.remote.is_none() && (protocol != 6 || socket.state == LISTEN);
        let bound = || self.sockets.iter().find(|(_, s)| here(s) && open(s) && s.local.ip() == destination);
        // A socket of IPv6 that is bound to no address takes packets of IPv4, too.
        let any = || {
            self.sockets.iter().find(|(_, socket)| {
                here(socket)
                    && open(socket)
                    && socket.local.ip().is_unspecified()
                    && (socket.local.is_ipv6() || destination.is_ipv4())
            })
        };
        connected.or_else(bound).or_else(any).map(|(cookie, _)| *cookie)
    }

    /// Whether an address is known to be this machine's: one of the loopback device, or one that a route says it of.
    pub(crate) fn is_local(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        let route = || self.route(Some(LOCAL_TABLE), address).or_else(|| self.route(None, address));
        address.is_loopback() || route().is_some_and(|route| route.kind == RouteKind::Local)
    }

    /// The route to an address in a table.
    pub(crate) fn route(&self, table: Option<u32>, address: IpAddr) -> Option<&Route> {
        let in_table = |route: &&Route| match table {
            Some(table) => route.table == table,
            None => matches!(route.table, 253..=255),
        };
        let fitting = self.routes.iter().filter(in_table).filter(|route| route.contains(address));
        fitting.min_by_key(|route| (std::cmp::Reverse(route.prefix_len), route.metric))
    }
}

/// What an order of programs is known by.
fn hook_key(hook: &Hook) -> Option<(u8, u64, u32)> {
    match *hook {
        Hook::Tcx { ifindex, attach_type } => Some((0, ifindex.into(), attach_type.0)),
        Hook::Netkit { ifindex, attach_type } => Some((1, ifindex.into(), attach_type.0)),
        Hook::Cgroup { id, attach_type, target } => Some((2, id, attach_type.0 | target << 8)),
        _ => None,
    }
}

/// An address for a device that is given none.
fn default_mac(index: u32) -> [u8; 6] {
    let [a, b, c, d] = index.to_be_bytes();
    [2, 0, a, b, c, d]
}

impl SimKernel {
    /// Adds a network device. Answers its index.
    ///
    /// # Errors
    /// [`Errno::EEXIST`] when its name or index is taken, [`Errno::EINVAL`] for a name that no device can have,
    /// [`Errno::ENODEV`] when there is no device to be its other end.
    pub fn add_interface(&self, mut interface: Interface) -> Result<u32, Errno> {
        let mut world = self.0.world();
        if interface.mac == [0; 6] && interface.name != "lo" {
            let next = world.net.interfaces.last_key_value().map_or(1, |(last, _)| last.saturating_add(1));
            interface.mac = default_mac(if interface.ifindex == 0 { next } else { interface.ifindex });
        }
        world.net.add_interface(interface)
    }

    /// Changes a network device, as `ip link set` does. Its index stays.
    ///
    /// # Errors
    /// [`Errno::ENODEV`] when there is no such device.
    pub fn change_interface(&self, ifindex: u32, change: impl FnOnce(&mut Interface)) -> Result<(), Errno> {
        let mut world = self.0.world();
        let device = world.net.interfaces.get_mut(&ifindex).ok_or(Errno::ENODEV)?;
        change(device);
        device.ifindex = ifindex;
        Ok(())
    }

    /// Removes a network device. Links on it are detached.
    ///
    /// # Errors
    /// [`Errno::ENODEV`] when there is no such device.
    pub fn remove_interface(&self, ifindex: u32) -> Result<(), Errno> {
        let mut world = self.0.world();
        world.net.interfaces.remove(&ifindex).ok_or(Errno::ENODEV)?;
        world.net.neighbours.retain(|(index, _), _| *index != ifindex);
        world.net.routes.retain(|route| route.ifindex != ifindex);
        for device in world.net.interfaces.values_mut().filter(|device| device.peer == Some(ifindex)) {
            device.peer = None;
        }
        drop(world);
        self.0.detach_from_interface(ifindex);
        Ok(())
    }

    /// The network device with a name.
    pub fn interface(&self, name: &str) -> Option<Interface> {
        let world = self.0.world();
        world.net.interfaces.values().find(|device| device.name == name).cloned()
    }

    /// Adds a route, for `bpf_fib_lookup`.
    pub fn add_route(&self, route: Route) {
        self.0.world().net.routes.push(route);
    }

    /// Adds a neighbour: the link address of an address at a device.
    pub fn add_neighbour(&self, ifindex: u32, address: impl Into<IpAddr>, mac: [u8; 6]) {
        self.0.world().net.neighbours.insert((ifindex, address.into()), mac);
    }

    /// Adds a socket, which programs find by its addresses and which events are about.
    pub fn add_socket(&self, socket: Socket) -> SocketId {
        self.0.world().net.add_socket(socket)
    }

    /// A socket as it is now.
    pub fn socket(&self, socket: SocketId) -> Option<Socket> {
        self.0.world().net.socket(socket.0).cloned()
    }

    /// Removes a socket. Answers what it was at last.
    pub fn remove_socket(&self, socket: SocketId) -> Option<Socket> {
        self.0.forget_socket(socket.0)
    }

    /// Opens a socket: what maps of sockets are given
    /// ([`MapFd::update_fd`](skep_sys::MapFd::update_fd)), and the key of its value in a map of the kind `SK_STORAGE`. Unlike on Linux, the socket stays when the descriptor is closed.
    ///
    /// # Errors
    /// [`Errno::ENOENT`] when it is not there.
    pub fn open_socket(&self, socket: SocketId) -> Result<OwnedFd, Errno> {
        self.0.world().net.socket(socket.0).ok_or(Errno::ENOENT)?;
        self.0.open(Object::Socket(socket.0), Access::ALL)
    }

    /// Makes a control group. Paths begin at the root, which is always there: `/system/web`.
    ///
    /// # Errors
    /// [`Errno::EEXIST`] when it is there, [`Errno::ENOENT`] when the one that it is to be in is not.
    pub fn add_cgroup(&self, path: &str) -> Result<u64, Errno> {
        self.0.world().net.cgroups.add(path)
    }

    /// Removes a control group. Links on it are detached.
    ///
    /// # Errors
    /// [`Errno::ENOENT`] when it is not there, [`Errno::EBUSY`] for the root and when there are groups in it.
    pub fn remove_cgroup(&self, path: &str) -> Result<(), Errno> {
        let group = self.0.world().net.cgroups.remove(path)?;
        self.0.detach_from_cgroup(group);
        self.0.forget_owner(MapType::CGRP_STORAGE, Owner::Cgroup(group));
        Ok(())
    }

    /// Opens the directory of a control group: what links are attached to
    /// ([`LinkTarget::Fd`](skep_sys::request::LinkTarget::Fd)), and the key of its value in a map of the kind `CGRP_STORAGE`.
    ///
    /// # Errors
    /// [`Errno::ENOENT`] when it is not there.
    pub fn open_cgroup(&self, path: &str) -> Result<OwnedFd, Errno> {
        let id = self.0.world().net.cgroups.get(path).map(|group| group.id).ok_or(Errno::ENOENT)?;
        self.0.open(Object::Cgroup(id), Access::ALL)
    }

    /// Opens the network namespace, which programs that look up sockets or take packets apart are attached to.
    ///
    /// # Errors
    /// When the process has no descriptor left.
    pub fn open_netns(&self) -> Result<OwnedFd, Errno> {
        self.0.open(Object::Netns, Access::ALL)
    }

    /// What programs did to the network, oldest first. The last 16,384 are kept.
    pub fn effects(&self) -> Vec<Effect> {
        self.0.world().net.effects.iter().cloned().collect()
    }

    /// As [`effects`](SimKernel::effects), and forgets them.
    pub fn take_effects(&self) -> Vec<Effect> {
        self.0.world().net.effects.drain(..).collect()
    }
}

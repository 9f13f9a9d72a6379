//! Connections that the network tracks (`nf_conntrack`).

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use skep_sys::abi::Errno;

use super::conntrack::{TIMEOUT_MAX, Tuple};
use crate::image::{ImageError, KernelObject};
use crate::kernel::SimKernel;

bitflags::bitflags! {
    /// What is known of a tracked connection (`IPS_…`).
    #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
    pub struct ConnectionStatus: u32 {
        /// Another connection announced it.
        const EXPECTED = 1 << 0;
        /// Packets went both ways.
        const SEEN_REPLY = 1 << 1;
        /// It is not dropped early.
        const ASSURED = 1 << 2;
        /// It is in the table.
        const CONFIRMED = 1 << 3;
        /// Its source is translated.
        const SRC_NAT = 1 << 4;
        /// Its destination is translated.
        const DST_NAT = 1 << 5;
        /// Sequence numbers are adjusted.
        const SEQ_ADJUST = 1 << 6;
        /// It was decided how its source is translated.
        const SRC_NAT_DONE = 1 << 7;
        /// It was decided how its destination is translated.
        const DST_NAT_DONE = 1 << 8;
        /// It was taken out of the table.
        const DYING = 1 << 9;
        /// Its timeout does not change.
        const FIXED_TIMEOUT = 1 << 10;
        /// It is a template for others.
        const TEMPLATE = 1 << 11;
        /// It is not tracked.
        const UNTRACKED = 1 << 12;
        /// A helper of conntrack was set explicitly.
        const HELPER = 1 << 13;
        /// A flow table has it.
        const OFFLOAD = 1 << 14;
        /// Hardware has it.
        const HW_OFFLOAD = 1 << 15;
        const _ = !0;
    }
}

/// A connection that the simulated network tracks, as `bpf_xdp_ct_lookup` and `bpf_skb_ct_lookup` find it.
///
/// Packets do not make connections here: tests put them in, and programs (`bpf_ct_insert_entry`).
///
/// ```
/// use skep_sim::{Connection, SimKernel};
///
/// let sim = SimKernel::new();
/// let (client, server) = ("10.0.0.1:40000".parse().unwrap(), "10.0.0.2:80".parse().unwrap());
/// let web = sim.add_connection(Connection::tcp(client, server).mark(7))?;
/// assert_eq!(sim.connection(web).unwrap().mark, 7);
/// assert_eq!(sim.connections(), [(web, sim.connection(web).unwrap())]);
///
/// sim.advance(std::time::Duration::from_secs(600)); // the default timeout
/// assert_eq!(sim.connection(web), None);
/// # Ok::<(), skep_sys::abi::Errno>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Connection {
    /// `IPPROTO_TCP` (6) or `IPPROTO_UDP` (17); programs find no others.
    pub protocol: u8,
    /// Who began it.
    pub source: SocketAddr,
    /// Whom the first packet was for.
    pub destination: SocketAddr,
    /// Where replies come from: the destination, unless that is translated.
    pub reply_source: SocketAddr,
    /// Whom replies are for: the source, unless that is translated.
    pub reply_destination: SocketAddr,
    /// The zone that it is in, 0 by default.
    pub zone: u16,
    /// For which directions the zone counts: 1 the original one, 2 replies, 3 both, which is the default.
    pub zone_dir: u8,
    /// What is known of it.
    pub status: ConnectionStatus,
    /// Its mark, which programs may write.
    pub mark: u32,
    /// How long it stays, from now on: ten minutes by default. Programs see it in ticks of a millisecond.
    pub timeout: Duration,
}

/// A connection in the table of a simulated kernel.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct ConnectionId(pub(super) u64);

impl Connection {
    /// A TCP connection.
    pub fn tcp(source: SocketAddr, destination: SocketAddr) -> Connection {
        Connection::new(6, source, destination)
    }

    /// What UDP sends to and fro.
    pub fn udp(source: SocketAddr, destination: SocketAddr) -> Connection {
        Connection::new(17, source, destination)
    }

    pub(super) fn new(protocol: u8, source: SocketAddr, destination: SocketAddr) -> Connection {
        Connection {
            protocol,
            source,
            destination,
            reply_source: destination,
            reply_destination: source,
            zone: 0,
            zone_dir: 3,
            status: ConnectionStatus::CONFIRMED,
            mark: 0,
            timeout: Duration::from_secs(600),
        }
    }

    /// Where replies come from and whom they are for, where addresses are translated.
    pub fn replies(mut self, source: SocketAddr, destination: SocketAddr) -> Self {
        (self.reply_source, self.reply_destination) = (source, destination);
        self
    }

    /// The zone that it is in.
    pub fn zone(mut self, zone: u16) -> Self {
        self.zone = zone;
        self
    }

    /// What is known of it. That it is in the table is added.
    pub fn status(mut self, status: ConnectionStatus) -> Self {
        self.status = status | ConnectionStatus::CONFIRMED;
        self
    }

    /// Its mark.
    pub fn mark(mut self, mark: u32) -> Self {
        self.mark = mark;
        self
    }

    /// How long it stays.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// What packets look like: of the original direction, or of replies.
    pub(super) fn tuple(&self, reply: bool) -> Tuple {
        let (source, destination) =
            if reply { (self.reply_source, self.reply_destination) } else { (self.source, self.destination) };
        Tuple { protocol: self.protocol, source, destination }
    }
}

impl SimKernel {
    /// Puts a connection into the table of those that are tracked.
    ///
    /// # Errors
    /// [`Errno::EEXIST`] when packets of one of its directions are those of another connection in its zone,
    /// [`Errno::EINVAL`] when one of its addresses is of IPv4 and another of IPv6.
    pub fn add_connection(&self, connection: Connection) -> Result<ConnectionId, Errno> {
        let families = [connection.destination, connection.reply_source, connection.reply_destination];
        if families.iter().any(|address| address.is_ipv4() != connection.source.is_ipv4()) {
            return Err(Errno::EINVAL);
        }
        let now = self.0.now();
        let mut world = self.0.world();
        let timeout = ticks(connection.timeout);
        let id = world.net.conntrack.allocate(connection, timeout);
        let added = world.net.conntrack.insert(id, now).map(|()| ConnectionId(id));
        world.net.conntrack.put(id); // the table has it
        added
    }

    /// A tracked connection as it is now; none when it has expired.
    pub fn connection(&self, connection: ConnectionId) -> Option<Connection> {
        self.tracked().into_iter().find(|(id, _)| *id == connection).map(|(_, connection)| connection)
    }

    /// The connections that are tracked, in the order in which they were made.
    pub fn connections(&self) -> Vec<(ConnectionId, Connection)> {
        self.tracked()
    }

    /// Changes a tracked connection.
    ///
    /// # Errors
    /// [`Errno::ENOENT`] when it is not there.
    pub fn change_connection(
        &self,
        connection: ConnectionId,
        change: impl FnOnce(&mut Connection),
    ) -> Result<(), Errno> {
        let mut changed = self.connection(connection).ok_or(Errno::ENOENT)?;
        change(&mut changed);
        changed.status |= ConnectionStatus::CONFIRMED;
        let now = self.0.now();
        {
            let mut world = self.0.world();
            let entry = world.net.conntrack.get_mut(connection.0).ok_or(Errno::ENOENT)?;
            entry.connection = changed;
            entry.set_timeout(ticks(entry.connection.timeout), now);
        }
        self.show_connection(connection.0, true);
        Ok(())
    }

    /// Takes a connection out of the table. Answers what it was at last.
    pub fn remove_connection(&self, connection: ConnectionId) -> Option<Connection> {
        let removed = self.connection(connection);
        self.0.world().net.conntrack.kill(connection.0);
        removed
    }

    /// The `struct nf_conn` of a tracked connection, as programs get it, to set what is not known of a [`Connection`].
    ///
    /// # Errors
    /// [`ImageError::NoBtf`], [`ImageError::NoType`]; [`ImageError::NoSuch`] when it is not there.
    pub fn connection_object(&self, connection: ConnectionId) -> Result<KernelObject, ImageError> {
        let (btf, ty) = self.0.type_named("nf_conn")?;
        let missing = || ImageError::NoSuch { what: format!("connection {}", connection.0) };
        self.connection(connection).ok_or_else(missing)?;
        let address = self.connection_address(connection.0).ok_or_else(missing)?;
        Ok(KernelObject::new(self, &btf, address, ty))
    }

    fn tracked(&self) -> Vec<(ConnectionId, Connection)> {
        let now = self.0.now();
        let mut found = self.0.world().net.conntrack.live(now);
        for (_, connection, object) in &mut found {
            // Programs write it where they see it.
            if let Some(mark) = object.and_then(|object| self.mark_at(object)) {
                connection.mark = mark;
            }
        }
        found.into_iter().map(|(id, connection, _)| (ConnectionId(id), connection)).collect()
    }

    fn mark_at(&self, object: u64) -> Option<u32> {
        let (btf, ty) = self.0.type_named("nf_conn").ok()?;
        KernelObject::new(self, &btf, object, ty).get("mark").ok()?.try_into().ok()
    }

    /// The address of a connection's structure, which is made at first, as the connection is now.
    pub(crate) fn connection_address(&self, id: u64) -> Option<u64> {
        /// As large as the structure is in any kernel.
        const UNKNOWN: [u8; 512] = [0; 512];

        let known = self.0.world().net.conntrack.get(id)?.object;
        let is_new = known.is_none();
        let spare = if is_new { self.0.world().net.conntrack.reuse() } else { None };
        if let Some(spare) = spare {
            let size = self.memory().object_at("nf_conn", spare).and_then(|object| object.size());
            let zeros = vec![0; size.map_or(UNKNOWN.len(), |size| size as usize)];
            self.memory().write(spare, &zeros).ok()?;
        }
        let address = known.or(spare).unwrap_or_else(|| {
            let object = self.memory().object("nf_conn");
            object.as_ref().map_or_else(|_| self.memory().put(&UNKNOWN), KernelObject::address)
        });
        self.0.world().net.conntrack.get_mut(id)?.object = Some(address);
        self.show_connection(id, is_new);
        Some(address)
    }

    /// Writes what is known of a connection to where programs read it, `mark` too where they did not write it.
    pub(crate) fn show_connection(&self, id: u64, mark: bool) {
        let Ok((btf, ty)) = self.0.type_named("nf_conn") else { return };
        let now = self.0.now();
        let entry = self.0.world().net.conntrack.get(id).cloned();
        let Some((entry, address)) = entry.and_then(|entry| entry.object.map(|object| (entry, object)))
        else {
            return;
        };
        let object = KernelObject::new(self, &btf, address, ty);
        let connection = &entry.connection;
        // Which fields there are depends on the version of the kernel.
        let set = |path: &str, value: u64| _ = object.set(path, value);
        set("ct_general.use.refs.counter", 1 + u64::from(entry.held));
        set("timeout", entry.timeout_word(now).into());
        set("status", connection.status.bits().into());
        set("zone.id", connection.zone.into());
        set("zone.dir", connection.zone_dir.into());
        if mark {
            set("mark", connection.mark.into());
        }
        if let Some(netns) = self.netns_address() {
            set("ct_net.net", netns);
        }
        for (direction, reply) in [(0, false), (1, true)] {
            let tuple = connection.tuple(reply);
            let path = |field: &str| format!("tuplehash[{direction}].tuple.{field}");
            for (end, address) in [("src", tuple.source), ("dst", tuple.destination)] {
                let _ = object.set(&path(&format!("{end}.u3")), &octets(address.ip())[..]);
                set(&path(&format!("{end}.u.all")), address.port().to_be().into());
            }
            set(&path("src.l3num"), if tuple.source.is_ipv4() { 2 } else { 10 });
            set(&path("dst.protonum"), tuple.protocol.into());
            set(&path("dst.dir"), direction);
        }
    }
}

/// A `union nf_inet_addr`.
fn octets(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(four) => {
            let [a, b, c, d] = four.octets();
            [a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
        }
        IpAddr::V6(six) => six.octets(),
    }
}

/// A time in ticks, as many as the table holds.
fn ticks(time: Duration) -> u32 {
    u32::try_from(time.as_millis()).map_or(TIMEOUT_MAX, |ticks| ticks.min(TIMEOUT_MAX))
}

//! The table of connections that the network tracks: what is found, and who holds it.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use skep_sys::abi::Errno;

use super::connection::{Connection, ConnectionStatus};
use crate::world::TICK;

/// The longest timeout in ticks (`INT_MAX`).
pub(super) const TIMEOUT_MAX: u32 = i32::MAX as u32;
/// Most structures that are kept for other connections.
const SPARE_MAX: usize = 1 << 10;

/// What packets of one direction of a connection have in common.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tuple {
    pub(crate) protocol: u8,
    pub(crate) source: SocketAddr,
    pub(crate) destination: SocketAddr,
}

impl PartialEq for Tuple {
    /// Scopes and flow labels are not looked at.
    fn eq(&self, other: &Tuple) -> bool {
        let same = |a: SocketAddr, b: SocketAddr| a.ip() == b.ip() && a.port() == b.port();
        self.protocol == other.protocol
            && same(self.source, other.source)
            && same(self.destination, other.destination)
    }
}

/// A zone, and the directions that it counts for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Zone {
    pub(crate) id: u16,
    pub(crate) dir: u8,
}

impl Zone {
    /// The zone of one direction (`nf_ct_zone_id`).
    fn of(self, reply: bool) -> u16 {
        if self.dir & (1 << u8::from(reply)) != 0 { self.id } else { 0 }
    }
}

/// A connection in the table, or one that a program is making.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) connection: Connection,
    /// The tick when it expires; before it is in the table, how many it is to stay.
    timeout: u64,
    /// Whether it can be found.
    in_table: bool,
    /// How many references programs have.
    pub(crate) held: u32,
    /// Where its structure is.
    pub(crate) object: Option<u64>,
}

/// Which address is translated.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Translate {
    Source,
    Destination,
}

impl Entry {
    pub(crate) fn is_confirmed(&self) -> bool {
        self.connection.status.contains(ConnectionStatus::CONFIRMED)
    }

    fn is_expired(&self, now: u64) -> bool {
        self.timeout <= now / TICK
    }

    fn zone(&self) -> Zone {
        Zone { id: self.connection.zone, dir: self.connection.zone_dir }
    }

    /// `__nf_ct_set_timeout`.
    pub(crate) fn set_timeout(&mut self, ticks: u32, now: u64) {
        let ticks = u64::from(ticks.min(TIMEOUT_MAX));
        self.timeout = if self.is_confirmed() { now / TICK + ticks } else { ticks };
    }

    /// `__nf_ct_change_timeout`.
    pub(crate) fn change_timeout(&mut self, ticks: u32, now: u64) -> Result<(), Errno> {
        if self.connection.status.contains(ConnectionStatus::FIXED_TIMEOUT) {
            return Err(Errno::EPERM);
        }
        self.set_timeout(ticks, now);
        if self.connection.status.contains(ConnectionStatus::DYING) { Err(Errno::ETIME) } else { Ok(()) }
    }

    /// `nf_ct_change_status_common`.
    pub(crate) fn change_status(&mut self, status: u32) -> Result<(), Errno> {
        type S = ConnectionStatus;
        // Of 16 bits; the kernel looks at no others.
        const LAST: u32 = 0xffff;

        let fixed = S::EXPECTED | S::CONFIRMED | S::DYING;
        let only_set = S::SEEN_REPLY | S::ASSURED;
        let is = self.connection.status.bits();
        if (is ^ status) & fixed.bits() != 0 || is & !status & only_set.bits() != 0 {
            return Err(Errno::EBUSY);
        }
        let ignored = S::SRC_NAT
            | S::DST_NAT
            | S::SRC_NAT_DONE
            | S::DST_NAT_DONE
            | S::SEQ_ADJUST
            | S::TEMPLATE
            | S::UNTRACKED
            | S::OFFLOAD
            | S::HW_OFFLOAD
            | fixed;
        self.connection.status |= S::from_bits_retain(status & LAST) & !ignored;
        Ok(())
    }

    /// The timeout as the structure has it: in ticks, when it is, the lower half.
    pub(super) fn timeout_word(&self, now: u64) -> u32 {
        if self.is_confirmed() {
            // The counter of ticks does not begin at 0.
            let left = (self.timeout as u32).wrapping_sub((now / TICK) as u32);
            return crate::world::jiffies(now).wrapping_add(left.into()) as u32;
        }
        self.timeout as u32
    }

    fn left(&self, now: u64) -> Duration {
        Duration::from_nanos(self.timeout.saturating_sub(now / TICK).saturating_mul(TICK))
    }
}

/// All connections.
#[derive(Clone, Debug, Default)]
pub(crate) struct Conntrack {
    entries: BTreeMap<u64, Entry>,
    next: u64,
    /// Structures of connections that are not there any more.
    spare: Vec<u64>,
}

impl Conntrack {
    pub(crate) fn get(&self, id: u64) -> Option<&Entry> {
        self.entries.get(&id)
    }

    pub(crate) fn get_mut(&mut self, id: u64) -> Option<&mut Entry> {
        self.entries.get_mut(&id)
    }

    /// The connection whose structure is at an address.
    pub(crate) fn at(&self, address: u64) -> Option<(u64, &Entry)> {
        let found = self.entries.iter().find(|(_, entry)| entry.object == Some(address));
        found.map(|(id, entry)| (*id, entry))
    }

    /// A structure that no connection has any more.
    pub(super) fn reuse(&mut self) -> Option<u64> {
        self.spare.pop()
    }

    /// A new connection, which the caller holds and which cannot be found.
    pub(crate) fn allocate(&mut self, connection: Connection, ticks: u32) -> u64 {
        let id = self.next;
        self.next += 1; // one each nanosecond lasts for centuries
        let entry = Entry { connection, timeout: ticks.into(), in_table: false, held: 1, object: None };
        self.entries.insert(id, entry);
        id
    }

    /// Puts a connection into the table, unless packets of one of its directions are those of another one.
    pub(crate) fn insert(&mut self, id: u64, now: u64) -> Result<(), Errno> {
        // On Linux those that have expired are in the way until a worker comes by.
        let expired: Vec<u64> =
            self.entries.iter().filter(|(_, e)| e.in_table && e.is_expired(now)).map(|(id, _)| *id).collect();
        expired.into_iter().for_each(|id| self.kill(id));
        let entry = self.entries.get(&id).ok_or(Errno::EINVAL)?;
        let (zone, connection) = (entry.zone(), &entry.connection);
        if [false, true].iter().any(|reply| self.find(&connection.tuple(*reply), zone).is_some()) {
            return Err(Errno::EEXIST);
        }
        let entry = self.entries.get_mut(&id).ok_or(Errno::EINVAL)?;
        entry.timeout += now / TICK; // both are far below 2^63
        entry.connection.status |= ConnectionStatus::CONFIRMED;
        entry.in_table = true;
        Ok(())
    }

    /// The connection that a packet belongs to, and whether it is a reply.
    fn find(&self, tuple: &Tuple, zone: Zone) -> Option<(u64, bool)> {
        let is = |entry: &Entry, reply: bool| {
            entry.connection.tuple(reply) == *tuple && entry.zone().of(reply) == zone.of(reply)
        };
        let known = self.entries.iter().filter(|(_, entry)| entry.in_table);
        known
            .flat_map(|(id, entry)| [(*id, entry, false), (*id, entry, true)])
            .find(|(_, entry, reply)| is(entry, *reply))
            .map(|(id, _, reply)| (id, reply))
    }

    /// As [`find`](Conntrack::find), of those that have not expired. The caller holds what is found.
    pub(crate) fn look_up(&mut self, tuple: &Tuple, zone: Zone, now: u64) -> Option<(u64, bool)> {
        loop {
            let (id, reply) = self.find(tuple, zone)?;
            let entry = self.entries.get_mut(&id)?;
            if !entry.is_expired(now) {
                entry.held += 1; // as many as a run has regions of memory
                return Some((id, reply));
            }
            self.kill(id);
        }
    }

    /// Takes a connection out of the table.
    pub(crate) fn kill(&mut self, id: u64) {
        if let Some(entry) = self.entries.get_mut(&id)
            && entry.in_table
        {
            entry.in_table = false;
            entry.connection.status |= ConnectionStatus::DYING;
            self.forget(id);
        }
    }

    /// Gives back a reference.
    pub(crate) fn put(&mut self, id: u64) {
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.held = entry.held.saturating_sub(1);
            self.forget(id);
        }
    }

    /// Forgets a connection that neither the table nor a program has.
    fn forget(&mut self, id: u64) {
        if self.entries.get(&id).is_some_and(|entry| !entry.in_table && entry.held == 0)
            && let Some(entry) = self.entries.remove(&id)
            && self.spare.len() < SPARE_MAX
        {
            self.spare.extend(entry.object);
        }
    }

    /// Those that can be found and have not expired, with where their structures are.
    pub(super) fn live(&self, now: u64) -> Vec<(u64, Connection, Option<u64>)> {
        let known = self.entries.iter().filter(|(_, entry)| entry.in_table && !entry.is_expired(now));
        known
            .map(|(id, entry)| {
                (*id, Connection { timeout: entry.left(now), ..entry.connection.clone() }, entry.object)
            })
            .collect()
    }

    /// Decides how a connection that is not in the table yet is translated (`nf_nat_setup_info`).
    pub(crate) fn translate(
        &mut self,
        id: u64,
        address: IpAddr,
        port: Option<u16>,
        what: Translate,
    ) -> Result<(), Errno> {
        type S = ConnectionStatus;

        let (done, changed) = match what {
            Translate::Source => (S::SRC_NAT_DONE, S::SRC_NAT),
            Translate::Destination => (S::DST_NAT_DONE, S::DST_NAT),
        };
        let entry = self.entries.get(&id).ok_or(Errno::ENOMEM)?;
        if entry.connection.status.intersects(done) {
            return Err(Errno::ENOMEM);
        }
        let connection = entry.connection.clone();
        // What the packets will look like that leave: the replies the other way round.
        let (old, other) = match what {
            Translate::Source => (connection.reply_destination, connection.reply_source),
            Translate::Destination => (connection.reply_source, connection.reply_destination),
        };
        let replies = |end: SocketAddr| {
            let (source, destination) = match what {
                Translate::Source => (other, end),
                Translate::Destination => (end, other),
            };
            Tuple { protocol: connection.protocol, source, destination }
        };
        let zone = entry.zone();
        let is_free = |end: SocketAddr| self.find(&replies(end), zone).is_none();
        let wanted = SocketAddr::new(address, port.unwrap_or(old.port()));
        // A port that a program asks for stays; so does that of a destination.
        let new = if port.is_some() || what == Translate::Destination || is_free(wanted) {
            wanted
        } else {
            other_port(wanted, is_free)
        };
        let entry = self.entries.get_mut(&id).ok_or(Errno::ENOMEM)?;
        if (new.ip(), new.port()) != (old.ip(), old.port()) {
            match what {
                Translate::Source => entry.connection.reply_destination = new,
                Translate::Destination => entry.connection.reply_source = new,
            }
            entry.connection.status |= changed;
        }
        entry.connection.status |= done;
        Ok(())
    }
}

/// Another port for a source, of those that the kernel would take: the next one that is free.
fn other_port(wanted: SocketAddr, is_free: impl Fn(SocketAddr) -> bool) -> SocketAddr {
    let ports = match wanted.port() {
        0..512 => 1..=511,
        512..1024 => 600..=1023,
        _ => 1024..=u16::MAX,
    };
    let at = |port: u16| SocketAddr::new(wanted.ip(), port);
    let later = ports.clone().filter(|port| *port > wanted.port());
    let mut all = later.chain(ports.filter(|port| *port < wanted.port())).map(at);
    all.find(|end| is_free(*end)).unwrap_or(wanted)
}

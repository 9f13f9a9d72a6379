//! What a simulated kernel keeps of sockets beside what tests see: connections, bytes that wait, programs of socket maps.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};

use skep_sys::abi::AttachType;

use crate::map::Map;
use crate::prog::Prog;

/// The inside of a socket.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stream {
    /// The socket at the other end, when it is of this kernel.
    pub(crate) peer: Option<u64>,
    /// Bytes that wait to be read.
    pub(crate) inbox: Vec<u8>,
    /// Bytes that were sent to a peer that this kernel does not have.
    pub(crate) outbox: Vec<u8>,
    /// Connections that nobody has accepted.
    pub(crate) backlog: VecDeque<u64>,
    /// The first segment of the connection: its header, as `TCP_SAVE_SYN` keeps it.
    pub(crate) syn: Option<Vec<u8>>,
    /// When it last answered the beginning of a connection with a cookie.
    pub(crate) cookies: Option<u64>,
    /// Address of the socket's struct in the kernel's memory.
    pub(crate) object: Option<u64>,
    /// What the maps of sockets that it is in made of it.
    pub(crate) psock: Psock,
}

/// A socket that is in maps of sockets (`struct sk_psock`).
#[derive(Clone, Debug, Default)]
pub(crate) struct Psock {
    /// Where it is: maps and keys, and whether programs of a map see what comes in.
    places: Vec<(Weak<Map>, Box<[u8]>, bool)>,
    /// The programs that the maps had when it was put in.
    pub(crate) progs: Vec<(AttachType, Arc<Prog>)>,
    /// For how many bytes the last verdict still is, and what it was.
    pub(crate) apply: u32,
    pub(crate) verdict: Option<SockVerdict>,
    /// For how many bytes is waited before a program is asked, and what there is.
    pub(crate) cork: u32,
    pub(crate) corked: Vec<u8>,
    /// What a parser has not made a message of.
    pub(crate) unparsed: Vec<u8>,
}

/// What programs say of a message or a part of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SockVerdict {
    Pass,
    Drop,
    /// To another socket, and whether it is received there.
    Redirect(u64, bool),
}

impl Psock {
    /// The places that were noted, to ask the maps.
    pub(crate) fn places(&self) -> Vec<(Weak<Map>, Box<[u8]>)> {
        self.places.iter().map(|(map, key, _)| (map.clone(), key.clone())).collect()
    }

    /// Keeps the places where the socket still is. Programs that see what comes in go with the map that they are of, all others
    /// with the last map.
    pub(crate) fn retain(&mut self, is_there: &[bool]) {
        let (mut there, mut stops) = (is_there.iter(), false);
        self.places.retain(|(_, _, sees_incoming)| {
            let stays = there.next().copied().unwrap_or(true);
            stops |= !stays && *sees_incoming;
            stays
        });
        if stops {
            self.progs.retain(|(attach_type, _)| *attach_type == AttachType::SK_MSG_VERDICT);
            self.unparsed.clear();
        }
        if self.places.is_empty() {
            *self = Psock::default();
        }
    }

    /// Notes a place and the programs there.
    pub(crate) fn add(&mut self, map: &Arc<Map>, key: &[u8], progs: Vec<(AttachType, Arc<Prog>)>) {
        let sees_incoming = progs.iter().any(|(attach_type, _)| *attach_type != AttachType::SK_MSG_VERDICT);
        self.places.push((Arc::downgrade(map), key.into(), sees_incoming));
        self.progs.extend(progs);
    }

    pub(crate) fn is_in_map(&self) -> bool {
        !self.places.is_empty()
    }

    pub(crate) fn prog(&self, attach_type: AttachType) -> Option<Arc<Prog>> {
        self.progs.iter().find(|(known, _)| *known == attach_type).map(|(_, prog)| prog.clone())
    }
}

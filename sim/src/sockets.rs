//! Sockets of the simulated network in maps of sockets, and what programs of those maps make of them.

use std::sync::Arc;

use skep_sys::abi::{AttachType, Errno, MapType};

use crate::fd::Access;
use crate::kernel::Inner;
use crate::map::{Map, Owner};
use crate::net::{Hook, Psock};
use crate::object::Object;
use crate::outside::Socket;
use crate::prog::Prog;

/// What programs of a map of sockets are attached as.
const ATTACHED: [AttachType; 4] = [
    AttachType::SK_MSG_VERDICT,
    AttachType::SK_SKB_STREAM_PARSER,
    AttachType::SK_SKB_STREAM_VERDICT,
    AttachType::SK_SKB_VERDICT,
];

impl Inner {
    /// The socket of the simulated network whose descriptor a value is the number of.
    pub(crate) fn socket_number(&self, value: &[u8]) -> Option<u64> {
        let number = match *value {
            [a, b, c, d] => i32::from_ne_bytes([a, b, c, d]),
            _ => i32::try_from(u64::from_ne_bytes(value.try_into().ok()?)).ok()?,
        };
        match self.object_number(number).ok()? {
            Object::Socket(cookie) => Some(cookie),
            _ => None,
        }
    }

    /// What maps ask of a socket.
    fn facts(&self, cookie: u64) -> Result<Socket, Errno> {
        let world = self.world();
        let socket = world.net.socket(cookie).ok_or(Errno::EBADF)?;
        Ok(Socket::simulated(cookie, socket))
    }

    /// Puts a socket into a map, as user space does.
    pub(crate) fn put_socket(
        &self,
        map: &Arc<Map>,
        access: Access,
        key: &[u8],
        cookie: u64,
        flags: u64,
    ) -> Result<(), Errno> {
        let facts = self.facts(cookie)?;
        self.put(map, Some(access), key, &facts, flags)
    }

    /// Puts a socket into a map, as a program does, which may be before the socket's state is one that maps take.
    pub(crate) fn put_socket_as_program(
        &self,
        map: &Arc<Map>,
        key: &[u8],
        cookie: u64,
        flags: u64,
        checks_state: bool,
    ) -> Result<(), Errno> {
        let mut facts = self.facts(cookie)?;
        facts.connected |= !checks_state;
        self.put(map, None, key, &facts, flags)
    }

    fn put(
        &self,
        map: &Arc<Map>,
        access: Option<Access>,
        key: &[u8],
        socket: &Socket,
        flags: u64,
    ) -> Result<(), Errno> {
        let is_sockmap = matches!(map.shape.kind, MapType::SOCKMAP | MapType::SOCKHASH);
        let progs = if is_sockmap { self.sockmap_progs(map) } else { Vec::new() };
        self.settle_psock(socket.cookie);
        let busy = self.world().net.stream(socket.cookie).is_some_and(|stream| {
            progs.iter().any(|(attach_type, _)| stream.psock.prog(*attach_type).is_some())
        });
        // The kernel has one place for what a socket is used for.
        let is_array = map.shape.kind == MapType::REUSEPORT_SOCKARRAY;
        let in_sockmap = || self.psock(socket.cookie).is_some();
        let busy = busy
            || is_sockmap && self.is_in_array(map, socket)
            || is_array && (in_sockmap() || self.is_in_array(map, socket));
        map.put_socket(access, key, socket, flags, busy)?;
        if is_sockmap {
            self.world().net.stream_mut(socket.cookie).psock.add(map, key, progs);
        }
        Ok(())
    }

    /// Whether a socket is in another map for programs of shared ports.
    fn is_in_array(&self, than: &Arc<Map>, socket: &Socket) -> bool {
        let maps: Vec<Arc<Map>> = self.state().maps.iter().collect();
        let arrays = maps.iter().filter(|map| map.shape.kind == MapType::REUSEPORT_SOCKARRAY);
        arrays.filter(|map| !Arc::ptr_eq(map, than)).any(|map| map.holds(socket))
    }

    /// The programs that are attached to a map of sockets.
    fn sockmap_progs(&self, map: &Map) -> Vec<(AttachType, Arc<Prog>)> {
        let of = |attach_type: AttachType| {
            let links = self.chain(&Hook::Sockmap { map: map.id, attach_type });
            links.first().map(|link| (attach_type, link.prog()))
        };
        ATTACHED.into_iter().filter_map(of).collect()
    }

    /// Looks which maps a socket still is in: maps do not say when they let go of one.
    pub(crate) fn settle_psock(&self, cookie: u64) {
        let places = match self.world().net.stream(cookie) {
            Some(stream) => stream.psock.places(),
            None => return,
        };
        let is_there: Vec<bool> = places
            .iter()
            .map(|(map, key)| map.upgrade().is_some_and(|map| map.simulated_socket(key) == Some(cookie)))
            .collect();
        if is_there.contains(&false) {
            self.world().net.stream_mut(cookie).psock.retain(&is_there);
        }
    }

    /// What maps of sockets made of a socket, if it is in one.
    pub(crate) fn psock(&self, cookie: u64) -> Option<Psock> {
        self.settle_psock(cookie);
        let world = self.world();
        world.net.stream(cookie).map(|stream| &stream.psock).filter(|psock| psock.is_in_map()).cloned()
    }

    /// Removes a socket from the network and from all maps. Answers what it was at last.
    pub(crate) fn forget_socket(&self, cookie: u64) -> Option<crate::net::Socket> {
        let maps: Vec<Arc<Map>> = self.state().maps.iter().filter(|map| map.takes_sockets()).collect();
        for map in maps {
            map.forget_socket(cookie);
        }
        self.forget_owner(MapType::SK_STORAGE, Owner::Simulated(cookie));
        self.world().net.remove_socket(cookie)
    }
}

//! Sockets that share a port, and the programs that choose among them.

use std::os::fd::AsFd;

use skep_sys::abi::{Errno, ProgType};

use super::{Socket, SocketId};
use crate::kernel::SimKernel;

impl SimKernel {
    /// Lets a program choose among all sockets that share the port of one, as the socket option `SO_ATTACH_REUSEPORT_EBPF`
    /// does. Another program takes its place; it goes with the last of the sockets.
    ///
    /// Sockets share a port that said so ([`Socket::reuse_port`]) and have the same protocol, family and address; those of TCP
    /// listen. Without a program, all packets of a connection go to the same one.
    ///
    /// # Errors
    /// [`Errno::EINVAL`] when the program is of another kind than
    /// [`SK_REUSEPORT`](skep_sys::abi::ProgType::SK_REUSEPORT), or the socket does not share its port,
    /// [`Errno::ENOENT`] when there is no such socket.
    pub fn attach_reuseport(&self, socket: SocketId, prog: impl AsFd) -> Result<(), Errno> {
        let object = self.0.object(prog.as_fd())?;
        let prog = object.prog()?;
        let mut world = self.0.world();
        let shared = world.net.socket(socket.0).ok_or(Errno::ENOENT)?.shared();
        if prog.prog_type != ProgType::SK_REUSEPORT {
            return Err(Errno::EINVAL);
        }
        world.net.reuseport.insert(shared.ok_or(Errno::EINVAL)?, prog.clone());
        Ok(())
    }

    /// Takes the program away that chooses among the sockets that share the port of one (`SO_DETACH_REUSEPORT_BPF`).
    ///
    /// # Errors
    /// [`Errno::ENOENT`] when there is no such socket or no program, [`Errno::EINVAL`] when the socket does not share its port.
    pub fn detach_reuseport(&self, socket: SocketId) -> Result<(), Errno> {
        let mut world = self.0.world();
        let shared = world.net.socket(socket.0).ok_or(Errno::ENOENT)?.shared().ok_or(Errno::EINVAL)?;
        world.net.reuseport.remove(&shared).map(drop).ok_or(Errno::ENOENT)
    }

    /// The sockets that share a port with one, in the order in which they were added. None when it does not share its port.
    pub fn sharing_port(&self, socket: SocketId) -> Vec<SocketId> {
        let world = self.0.world();
        let shared = world.net.socket(socket.0).and_then(Socket::shared);
        shared.map_or(Vec::new(), |shared| world.net.sharing(&shared).into_iter().map(SocketId).collect())
    }
}

//! Packets, and the contexts through which programs see them.

pub(crate) mod buffer;
pub(crate) mod checksum;
pub(crate) mod flow;
mod kernel;
mod lookup;
mod netfilter;
mod reuseport;
mod sk_buff;
mod sk_msg;
pub(crate) mod skb;
mod sock;
mod sock_addr;
mod sock_ops;
mod sockopt;
mod sysctl;
pub(crate) mod tcp;
pub(crate) mod vlan;
pub(crate) mod xdp;

pub(crate) use kernel::{Layouts, SK_BUFF_NAME, kernel_context, packet_bounds, perf_context, shared_info};
pub(crate) use lookup::SkLookup;
pub(crate) use netfilter::Netfilter;
pub(crate) use reuseport::SkReuseport;
pub(crate) use sk_buff::{Rules, SkBuff};
pub(crate) use sk_msg::{Message, SkMsg};
pub(crate) use skb::{Skb, Tunnel};
pub(crate) use sock::SockContext;
pub(crate) use sock_addr::SockAddr;
pub(crate) use sock_ops::{Segment, SockOps};
pub(crate) use sockopt::Sockopt;
pub(crate) use sysctl::Sysctl;
pub(crate) use xdp::Xdp;

use std::sync::Arc;

use crate::net::Destination;
use crate::prog::Prog;
use crate::vm::{Region, Trap, Vm, What};

/// What a run keeps of the network beside its context.
#[derive(Debug, Default)]
pub(crate) struct PacketState {
    /// Addresses of sockets that the program was given, with their cookies.
    sockets: Vec<(u64, u64)>,
    /// Addresses of the kernel's own structures that the program was given, by what they are.
    views: Vec<(u8, u64)>,
    /// Where the packet goes if the program says so with its return value.
    pub(crate) redirect: Option<Redirect>,
    /// Copies that were sent meanwhile.
    pub(crate) clones: Vec<(Destination, Vec<u8>)>,
    /// What the hook of a control group answers (`bpf_set_retval`).
    pub(crate) retval: i32,
    /// The socket that a part of a stream goes to, and whether it is received there.
    pub(crate) socket_redirect: Option<(u64, bool)>,
}

/// What a redirect was asked for.
#[derive(Clone, Debug)]
pub(crate) struct Redirect {
    pub(crate) to: Destination,
    /// The program that runs there.
    pub(crate) prog: Option<Arc<Prog>>,
    /// Devices of a broadcast.
    pub(crate) devices: Vec<u32>,
}

/// Puts a netfilter context into the memory of a run: of a packet between two devices, 0 for none. Answers its address.
pub(crate) fn netfilter_context(
    vm: &mut Vm,
    skb: Skb,
    hook: u8,
    family: u8,
    devices: (u32, u32),
) -> Result<u64, Trap> {
    let state = kernel::hook_state(vm, hook, family, devices)?;
    let packet = kernel::hook_packet(vm)?;
    vm.memory.add_context(Box::new(Netfilter { skb, state, packet }))
}

impl Vm {
    /// The address of a socket as `struct bpf_sock`, the same for the same one.
    pub(crate) fn socket_address(&mut self, cookie: u64) -> Result<u64, Trap> {
        if let Some((address, _)) = self.packet.sockets.iter().find(|(_, known)| *known == cookie) {
            return Ok(*address);
        }
        let bytes = self.kernel.0.world().net.socket(cookie).map(|socket| socket.bytes().to_vec());
        let Some(bytes) = bytes else { return Ok(0) };
        let address = self.own(What::Other("a socket"), bytes, false)?;
        self.packet.sockets.push((address, cookie));
        Ok(address)
    }

    /// The socket that the context is about, where it is no packet.
    pub(crate) fn context_socket(&mut self) -> Option<u64> {
        if let Some(context) = self.memory.context::<SockOps>() {
            return context.full.map(|(cookie, _)| cookie);
        }
        if let Some(context) = self.memory.context::<SkMsg>() {
            return Some(context.cookie);
        }
        let address = self.memory.context::<SockAddr>().map(|context| context.cookie);
        address.or_else(|| self.memory.context::<Sockopt>().map(|context| context.cookie))
    }

    /// Another view of a socket, such as `struct bpf_tcp_sock`, which helpers know as that socket.
    pub(crate) fn socket_view(
        &mut self,
        cookie: u64,
        what: &'static str,
        bytes: Vec<u8>,
    ) -> Result<u64, Trap> {
        let address = self.own(What::Other(what), bytes, false)?;
        self.packet.sockets.push((address, cookie));
        Ok(address)
    }

    /// Says that an address is one of a socket.
    pub(crate) fn name_socket(&mut self, address: u64, cookie: u64) {
        self.packet.sockets.push((address, cookie));
    }

    /// The cookie of the socket at an address.
    pub(crate) fn socket_at(&self, address: u64) -> Option<u64> {
        let given = self.packet.sockets.iter().find(|(known, _)| *known == address);
        let is_region = self.memory.region(address).is_some();
        // Not one of the run: its struct in the kernel's memory.
        let of_kernel = || if is_region { None } else { self.kernel.0.world().net.socket_of_struct(address) };
        given.map(|(_, cookie)| *cookie).or_else(of_kernel)
    }

    /// Writes what a socket is now to where the program reads it.
    pub(crate) fn refresh_socket(&mut self, cookie: u64) {
        let bytes =
            self.kernel.0.world().net.socket(cookie).map(|socket| (socket.bytes(), socket.tcp_bytes()));
        let Some((sock, tcp)) = bytes else { return };
        let has_struct =
            self.kernel.0.world().net.stream(cookie).is_some_and(|stream| stream.object.is_some());
        if has_struct {
            let _ = self.kernel.socket_struct(cookie); // writes what has changed
        }
        let addresses: Vec<u64> = self.packet.sockets.iter().filter(|s| s.1 == cookie).map(|s| s.0).collect();
        for address in addresses {
            if let Some(Region::Own(own)) = self.memory.region_mut(address) {
                let bytes = if own.bytes.len() == sock.len() { &sock[..] } else { &tcp };
                if let Some(to) = own.bytes.get_mut(..bytes.len()) {
                    to.copy_from_slice(bytes);
                }
            }
        }
    }
}

//! Which socket a packet is for.

use std::net::IpAddr;
use std::sync::Arc;

use skep_sys::abi::{AttachType, Errno, ProgType};

use super::{Road, trapped};
use crate::event::EventError;
use crate::net::{Hook, Shared, Socket};
use crate::packet::buffer::Buffer;
use crate::packet::flow::{Flow, TCP, UDP};
use crate::packet::skb::{ETH_IPV4, ETH_IPV6};
use crate::packet::xdp::ETH_LEN;
use crate::packet::{SkLookup, SkReuseport};
use crate::prog::Prog;
use crate::vm::Vm;

/// What programs say that have no objection (`SK_PASS`).
const PASS: u32 = 1;

/// An end of a connection.
type End = (IpAddr, u16);

/// A packet that a socket is looked for.
struct Wanted<'a> {
    flow: Flow,
    remote: End,
    local: End,
    ifindex: u32,
    /// From its network header on.
    packet: &'a [u8],
}

/// Who chooses among sockets that share a port, and for what.
struct Choice<'a> {
    /// The socket that was found.
    found: u64,
    prog: Option<Arc<Prog>>,
    group: Vec<u64>,
    any_address: bool,
    wanted: Option<&'a Wanted<'a>>,
    migrating: Option<u64>,
}

impl Road<'_> {
    /// The socket that a packet is for. Programs choose where there is no connection.
    pub(super) fn find_socket(&mut self, ifindex: u32, frame: &[u8]) -> Result<Option<u64>, EventError> {
        let protocol = crate::packet::skb::ether_type(frame);
        let packet = frame.get(ETH_LEN..).unwrap_or_default();
        let Some(flow) = Flow::of(protocol, Some(packet)) else { return Ok(None) };
        let Some((source, destination)) = flow.ports.filter(|_| matches!(flow.protocol, TCP | UDP)) else {
            return Ok(None);
        };
        let (remote, local) = ((flow.source, source), (flow.destination, destination));
        let found = self.choose(&Wanted { flow, remote, local, ifindex, packet })?;
        Ok(found.and_then(Result::ok))
    }

    /// The socket that listens where a connection is to go, by the first segment of that. An error when programs refuse it.
    pub(crate) fn find_listener(
        &mut self,
        protocol: u8,
        (remote, local): (End, End),
        segment: &[u8],
    ) -> Result<Option<Result<u64, Errno>>, EventError> {
        let mut packet = ip_header(remote.0, local.0, protocol, segment.len());
        let flow = Flow {
            source: remote.0,
            destination: local.0,
            protocol,
            ports: Some((remote.1, local.1)),
            transport: packet.len(),
        };
        packet.extend(segment);
        // What this machine sends to itself goes through its first device.
        self.choose(&Wanted { flow, remote, local, ifindex: 1, packet: &packet })
    }

    fn choose(&mut self, wanted: &Wanted<'_>) -> Result<Option<Result<u64, Errno>>, EventError> {
        let Wanted { flow, remote, local, ifindex, .. } = *wanted;
        let found = self.kernel.0.world().net.find_socket(flow.protocol.into(), remote, local, ifindex);
        let connected = |cookie: u64| {
            let world = self.kernel.0.world();
            world.net.socket(cookie).is_some_and(|socket: &Socket| socket.remote.is_some())
        };
        if found.is_some_and(connected) {
            return Ok(found.map(Ok));
        }
        let attach_type = AttachType::SK_LOOKUP;
        let (mut all_pass, mut selected) = (true, None);
        for link in self.kernel.0.chain(&Hook::Netns { attach_type }) {
            let prog = link.prog();
            let mut vm = Vm::new(self.kernel, &prog, self.cpu);
            let context = SkLookup {
                family: if flow.source.is_ipv4() { 2 } else { 10 },
                protocol: flow.protocol.into(),
                remote,
                local,
                ingress_ifindex: ifindex,
                selected: selected.map(|(cookie, _)| cookie),
                selected_address: 0,
                no_reuseport: false,
            };
            let address = vm.memory.add_context(Box::new(context)).map_err(|trap| trapped(&vm, trap))?;
            let value = self.run(&mut vm, &prog, attach_type, address)?;
            let chosen = vm
                .memory
                .context::<SkLookup>()
                .and_then(|context| context.selected.map(|cookie| (cookie, context.no_reuseport)));
            match value {
                PASS if chosen.is_some() => selected = chosen,
                0 => all_pass = false,
                _ => {}
            }
        }
        match selected {
            Some((cookie, true)) => Ok(Some(Ok(cookie))),
            Some((cookie, false)) => self.select(cookie, wanted).map(Some),
            None if !all_pass => Ok(found.map(|_| Err(Errno::ECONNREFUSED))),
            None => found.map(|cookie| self.select(cookie, wanted)).transpose(),
        }
    }

    /// One of the sockets that share a port with one.
    fn select(&mut self, found: u64, wanted: &Wanted<'_>) -> Result<Result<u64, Errno>, EventError> {
        let choice = {
            let net = &self.kernel.0.world().net;
            let Some(shared) = net.socket(found).and_then(Socket::shared) else { return Ok(Ok(found)) };
            Choice {
                found,
                prog: net.reuseport.get(&shared).cloned(),
                group: net.sharing(&shared),
                any_address: shared.local.ip().is_unspecified(),
                wanted: Some(wanted),
                migrating: None,
            }
        };
        self.decide(&choice)
    }

    /// The socket that a connection goes to which nobody accepted from a socket that is closed.
    pub(crate) fn migrate(&mut self, listener: u64, child: u64) -> Result<Option<u64>, EventError> {
        let choice = {
            let net = &self.kernel.0.world().net;
            let Some(socket) = net.socket(listener).filter(|socket| socket.reuse_port) else {
                return Ok(None);
            };
            let shared = Shared { protocol: socket.protocol, family: socket.family, local: socket.local };
            let moves =
                |prog: &Arc<Prog>| prog.expected_attach_type == AttachType::SK_REUSEPORT_SELECT_OR_MIGRATE;
            let group = net.sharing(&shared);
            let Some(prog) = net.reuseport.get(&shared).cloned().filter(moves) else { return Ok(None) };
            if group.is_empty() {
                return Ok(None);
            }
            let any_address = shared.local.ip().is_unspecified();
            Choice {
                found: listener,
                prog: Some(prog),
                group,
                any_address,
                wanted: None,
                migrating: Some(child),
            }
        };
        Ok(self.decide(&choice)?.ok())
    }

    /// What the program of a port says, or a number that is the same for all packets of a connection.
    fn decide(&mut self, choice: &Choice<'_>) -> Result<Result<u64, Errno>, EventError> {
        let hash = choice.wanted.map_or(choice.migrating.unwrap_or(0) as u32, |wanted| wanted.flow.hash());
        let by_hash = || {
            // As the kernel scales it to their number.
            let index = (u64::from(hash) * choice.group.len() as u64) >> 32;
            choice.group.get(index as usize).copied().unwrap_or(choice.found)
        };
        let Some(prog) = &choice.prog else { return Ok(Ok(by_hash())) };
        let mut vm = Vm::new(self.kernel, prog, self.cpu);
        let failed = |vm: &Vm, trap| trapped(vm, trap);
        let packet = choice.wanted.map_or(&[][..], |wanted| wanted.packet);
        let transport = choice.wanted.map_or(0, |wanted| wanted.flow.transport);
        let segment = packet.get(transport..).unwrap_or_default();
        let buffer = Buffer::new(&mut vm.memory, 0, segment, 0).map_err(|trap| failed(&vm, trap))?;
        buffer.protect(&mut vm.memory);
        let address = vm.socket_address(choice.found).map_err(|trap| failed(&vm, trap))?;
        let migrating = match choice.migrating {
            Some(cookie) => Some((cookie, vm.socket_address(cookie).map_err(|trap| failed(&vm, trap))?)),
            None => None,
        };
        let protocol = match choice.wanted.map(|wanted| wanted.flow.source.is_ipv4()) {
            Some(true) => ETH_IPV4,
            Some(false) => ETH_IPV6,
            None => 0,
        };
        let ip_protocol = self.kernel.0.world().net.socket(choice.found).map_or(0, |socket| socket.protocol);
        let context = SkReuseport {
            buffer,
            packet: packet.to_vec(),
            transport,
            eth_protocol: protocol,
            ip_protocol,
            bind_inany: choice.any_address,
            hash,
            socket: (choice.found, address),
            migrating,
            selected: None,
        };
        let at = vm.memory.add_context(Box::new(context)).map_err(|trap| failed(&vm, trap))?;
        let value = self.run(&mut vm, prog, prog.expected_attach_type, at)?;
        debug_assert_eq!(prog.prog_type, ProgType::SK_REUSEPORT);
        let selected = vm.memory.context::<SkReuseport>().and_then(|context| context.selected);
        Ok(if value == PASS { Ok(selected.unwrap_or_else(by_hash)) } else { Err(Errno::ECONNREFUSED) })
    }
}

/// The network header of a packet.
fn ip_header(from: IpAddr, to: IpAddr, protocol: u8, len: usize) -> Vec<u8> {
    let len = |more: usize| u16::try_from(len + more).unwrap_or(u16::MAX).to_be_bytes();
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let total = len(20);
            let mut header = vec![0x45, 0, total[0], total[1], 0, 0, 0x40, 0, 64, protocol, 0, 0];
            header.extend(from.octets());
            header.extend(to.octets());
            header
        }
        (from, to) => {
            let six = |address: IpAddr| match address {
                IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
                IpAddr::V6(address) => address.octets(),
            };
            let payload = len(0);
            let mut header = vec![0x60, 0, 0, 0, payload[0], payload[1], protocol, 64];
            header.extend(six(from));
            header.extend(six(to));
            header
        }
    }
}

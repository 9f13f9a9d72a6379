//! The way of a packet through the programs of a kernel.

mod choose;

use std::sync::Arc;

use skep_sys::abi::{AttachType, ProgId};

use super::EventError;
use super::packet::{Fate, Passage, Verdict};
use crate::kernel::SimKernel;
use crate::link::{Link, Place};
use crate::net::{Destination, Dropper, Effect, Hints, Hook, SocketId};
use crate::packet::flow::Flow;
use crate::packet::skb::{ETH_IPV4, ETH_IPV6, packet_type};
use crate::packet::vlan::{Vlan, tag, untag};
use crate::packet::xdp::{ETH_LEN, FRAME, HEADROOM, TAILROOM};
use crate::packet::{Netfilter, Redirect, Rules, SkBuff, Skb, Xdp, netfilter_context};
use crate::prog::Prog;
use crate::vm::{Fault, Trap, Vm};

/// Devices that a packet may go through (`XMIT_RECURSION_LIMIT`).
const HOPS_MAX: u32 = 8;
/// Numbers of the netfilter hooks of packets that leave: before and after the way is chosen.
const LOCAL_OUT: u32 = 3;
const POST_ROUTING: u32 = 4;

/// Verdicts of tcx programs.
mod tcx {
    pub(super) const NEXT: u32 = u32::MAX;
    pub(super) const DROP: u32 = 2;
    pub(super) const REDIRECT: u32 = 7;
}

/// Verdicts of XDP programs.
mod action {
    pub(super) const ABORTED: u32 = 0;
    pub(super) const DROP: u32 = 1;
    pub(super) const PASS: u32 = 2;
    pub(super) const TX: u32 = 3;
    pub(super) const REDIRECT: u32 = 4;
}

/// What comes of the programs at one place.
enum Decision {
    Continue,
    Drop,
    Redirect(Redirect),
}

/// What belongs to a packet beside its bytes.
#[derive(Clone, Debug, Default)]
struct Tags {
    mark: u32,
    priority: u32,
    tstamp: u64,
    queue_mapping: u16,
    tc_index: u16,
    hash: Option<u32>,
    hwtstamp: u64,
    socket: Option<u64>,
    /// Metadata that an XDP program left before the packet.
    meta: Vec<u8>,
}

/// A packet on its way.
pub(crate) struct Road<'k> {
    kernel: &'k SimKernel,
    cpu: u32,
    hops: u32,
    verdicts: Vec<Verdict>,
    /// Number of effects at the start.
    start: u64,
    packet: Vec<u8>,
    mark: u32,
    /// What the device that it came in by said of it.
    hints: Hints,
}

/// A place that runs out of memory is a fault of the program that took it.
fn trapped(vm: &Vm, trap: Trap) -> EventError {
    EventError::Fault(vm.fault_of(trap))
}

impl<'k> Road<'k> {
    pub(crate) fn new(kernel: &'k SimKernel, cpu: u32) -> Road<'k> {
        let start = kernel.0.world().net.noted();
        Road {
            kernel,
            cpu,
            hops: 0,
            verdicts: Vec::new(),
            start,
            packet: Vec::new(),
            mark: 0,
            hints: Hints::default(),
        }
    }

    pub(crate) fn end(self, fate: Fate) -> Passage {
        let effects = self.kernel.0.world().net.effects_since(self.start);
        Passage { fate, packet: self.packet, mark: self.mark, verdicts: self.verdicts, effects }
    }

    fn note(&self, effect: Effect) {
        self.kernel.0.world().net.note(effect);
    }

    fn dropped(&mut self, ifindex: u32, by: Dropper, packet: Vec<u8>) -> Fate {
        self.note(Effect::Dropped { ifindex, by });
        self.packet = packet;
        Fate::Dropped { ifindex, by }
    }

    /// Runs a program and notes what it said.
    fn run(
        &mut self,
        vm: &mut Vm,
        prog: &Arc<Prog>,
        attach_type: AttachType,
        context: u64,
    ) -> Result<u32, EventError> {
        vm.packet.redirect = None;
        let value = vm.run(prog, context).map_err(|fault| self.fault(fault))? as u32;
        let program = prog.name().to_owned();
        self.verdicts.push(Verdict { program, prog_id: ProgId(prog.id), attach_type, value });
        Ok(value)
    }

    fn fault(&self, fault: Box<Fault>) -> EventError {
        self.kernel.0.world().faults.add((*fault).clone());
        EventError::Fault(fault)
    }

    /// Whether a device is there and up, and the packet has not been through too many.
    fn enter(&mut self, ifindex: u32) -> Result<[u8; 6], Dropper> {
        self.hops += 1; // not many
        if self.hops > HOPS_MAX {
            return Err(Dropper::Loop);
        }
        let world = self.kernel.0.world();
        match world.net.interfaces.get(&ifindex) {
            Some(device) if device.up => Ok(device.mac),
            _ => Err(Dropper::Redirect),
        }
    }

    /// A device receives a packet from another one.
    fn receive(&mut self, ifindex: u32, frame: Vec<u8>) -> Result<Fate, EventError> {
        self.receive_with(ifindex, 0, frame, Hints::default())
    }

    /// A device receives a packet, of which it says something.
    pub(crate) fn receive_with(
        &mut self,
        ifindex: u32,
        queue: u32,
        frame: Vec<u8>,
        hints: Hints,
    ) -> Result<Fate, EventError> {
        if let Err(by) = self.enter(ifindex) {
            return Ok(self.dropped(ifindex, by, frame));
        }
        self.hints = hints;
        let Some(link) = self.kernel.0.xdp_link(ifindex) else {
            return self.passed(ifindex, frame, Vec::new());
        };
        self.xdp(&link.prog(), AttachType::XDP, frame, Vec::new(), (ifindex, queue), None)
    }

    /// A packet that no XDP program kept, with what the device said of it.
    fn passed(&mut self, ifindex: u32, mut frame: Vec<u8>, meta: Vec<u8>) -> Result<Fate, EventError> {
        let hints = std::mem::take(&mut self.hints);
        if let Some((proto, tci)) = hints.vlan {
            tag(&mut frame, Vlan { proto, tci });
        }
        let (hash, hwtstamp) = (hints.hash.map(|(hash, _)| hash), hints.timestamp.unwrap_or(0));
        self.stack(ifindex, frame, Tags { meta, hash, hwtstamp, ..Tags::default() })
    }

    /// Runs an XDP program, and does as it says.
    fn xdp(
        &mut self,
        prog: &Arc<Prog>,
        attach_type: AttachType,
        frame: Vec<u8>,
        meta: Vec<u8>,
        (ifindex, queue): (u32, u32),
        egress: Option<u32>,
    ) -> Result<Fate, EventError> {
        let mut vm = Vm::new(self.kernel, prog, self.cpu);
        let (linear, rest) = frame.split_at(frame.len().min(FRAME - HEADROOM - TAILROOM)); // not more than there is
        let first = [&meta, linear].concat();
        let headroom = HEADROOM.saturating_sub(meta.len());
        let packet = Xdp::new(&mut vm.memory, headroom, meta.len(), &first);
        let mut packet = packet.map_err(|trap| trapped(&vm, trap))?;
        packet.frags = rest.chunks(FRAME).map(<[u8]>::to_vec).collect();
        (packet.ingress_ifindex, packet.rx_queue, packet.egress_ifindex) = (ifindex, queue, egress);
        packet.hints = self.hints;
        let context = vm.memory.add_context(Box::new(packet)).map_err(|trap| trapped(&vm, trap))?;
        let value = self.run(&mut vm, prog, attach_type, context)?;
        let (frame, meta) = match vm.memory.context::<Xdp>().cloned() {
            Some(packet) => {
                let meta = packet.buffer.with_meta(&vm.memory);
                let len = packet.buffer.data - packet.buffer.meta; // metadata is before the packet
                (packet.whole(&vm.memory), meta.get(..len).unwrap_or_default().to_vec())
            }
            None => (frame, Vec::new()),
        };
        let at = egress.unwrap_or(ifindex);
        match (value, vm.packet.redirect.take()) {
            (action::PASS, _) if egress.is_some() => self.wire(at, frame),
            (action::PASS, _) => self.passed(ifindex, frame, meta),
            (action::TX, _) if egress.is_none() => self.wire(ifindex, frame),
            (action::REDIRECT, Some(redirect)) => self.xdp_redirect(redirect, frame, meta, (ifindex, queue)),
            (action::DROP, _) => Ok(self.dropped(at, Dropper::Xdp, frame)),
            (action::ABORTED | _, _) => Ok(self.dropped(at, Dropper::XdpAborted, frame)),
        }
    }

    /// Sends a packet where an XDP program wants it.
    fn xdp_redirect(
        &mut self,
        redirect: Redirect,
        frame: Vec<u8>,
        meta: Vec<u8>,
        from: (u32, u32),
    ) -> Result<Fate, EventError> {
        match redirect.to {
            Destination::Egress(to) => match &redirect.prog {
                Some(prog) => self.xdp(prog, AttachType::XDP_DEVMAP, frame, meta, from, Some(to)),
                None => self.wire(to, frame),
            },
            Destination::Cpu(_) => match &redirect.prog {
                Some(prog) => self.xdp(prog, AttachType::XDP_CPUMAP, frame, meta, from, None),
                None => self.passed(from.0, frame, meta),
            },
            Destination::Broadcast(_) => {
                let mut fate = None;
                let hops = self.hops;
                for device in redirect.devices {
                    self.hops = hops;
                    fate = Some(self.wire(device, frame.clone())?);
                }
                Ok(fate.unwrap_or_else(|| self.dropped(from.0, Dropper::Redirect, frame)))
            }
            at => {
                self.packet = frame;
                Ok(Fate::Queued { at })
            }
        }
    }

    /// A packet leaves a device, and is received by its other end.
    fn wire(&mut self, ifindex: u32, frame: Vec<u8>) -> Result<Fate, EventError> {
        if let Err(by) = self.enter(ifindex) {
            return Ok(self.dropped(ifindex, by, frame));
        }
        self.note(Effect::Transmitted { ifindex, packet: frame.clone() });
        let peer = self.kernel.0.world().net.interfaces.get(&ifindex).and_then(|device| device.peer);
        match peer {
            Some(peer) => self.receive(peer, frame),
            None => {
                self.packet = frame;
                Ok(Fate::Transmitted { ifindex })
            }
        }
    }

    /// A socket buffer in the memory of a run, and the run.
    fn buffer(
        &self,
        frame: &[u8],
        ifindex: u32,
        tags: &Tags,
        prog: &Arc<Prog>,
    ) -> Result<(Vm, Skb), EventError> {
        let mut vm = Vm::new(self.kernel, prog, self.cpu);
        let mut skb = Skb::received(&mut vm.memory, frame).map_err(|trap| trapped(&vm, trap))?;
        let mac = self.kernel.0.world().net.interfaces.get(&ifindex).map_or([0; 6], |device| device.mac);
        skb.pkt_type = packet_type(frame, mac);
        skb.mac_len = skb.network.saturating_sub(skb.mac);
        (skb.ifindex, skb.mark, skb.priority, skb.tstamp) = (ifindex, tags.mark, tags.priority, tags.tstamp);
        (skb.queue_mapping, skb.tc_index, skb.hash, skb.socket) =
            (tags.queue_mapping, tags.tc_index, tags.hash, tags.socket);
        skb.hwtstamp = tags.hwtstamp;
        Ok((vm, skb))
    }

    /// Runs programs that see socket buffers, until `stop` says so. Answers what the last one said.
    fn skb_chain(
        &mut self,
        chain: &[Arc<Link>],
        attach_type: AttachType,
        ifindex: u32,
        frame: &mut Vec<u8>,
        tags: &mut Tags,
        mut stop: impl FnMut(u32) -> bool,
    ) -> Result<Option<(u32, Option<Redirect>)>, EventError> {
        let Some(first) = chain.first() else { return Ok(None) };
        let prog = first.prog();
        let rules = Rules::of(prog.prog_type);
        let ingress = matches!(
            attach_type,
            AttachType::TCX_INGRESS | AttachType::CGROUP_INET_INGRESS | AttachType::NETKIT_PEER
        );
        // The stack takes a tag out of packets that come in.
        let vlan = if ingress { untag(frame) } else { None };
        let (mut vm, mut skb) = self.buffer(frame, ifindex, tags, &prog)?;
        skb.vlan = vlan;
        skb.ingress_ifindex = if ingress { ifindex } else { 0 };
        if !ingress {
            skb.pkt_type = 4;
        }
        if rules.has_link_header() {
            skb.show_link_header(&mut vm.memory);
            skb.set_meta(&mut vm.memory, &tags.meta);
        }
        let socket = tags.socket.and_then(|cookie| {
            let socket = self.kernel.0.world().net.socket(cookie).cloned();
            socket.map(|socket| (cookie, socket))
        });
        let mut context = SkBuff::new(skb, rules);
        if let Some((cookie, socket)) = &socket {
            let address = vm.socket_address(*cookie).map_err(|trap| trapped(&vm, trap))?;
            context.set_socket(address, socket);
        }
        let address = vm.memory.add_context(Box::new(context)).map_err(|trap| trapped(&vm, trap))?;
        let mut said = None;
        for link in chain {
            if let Place::Net(Hook::Cgroup { id, attach_type, .. }) = link.place {
                vm.held.set_cgroup(id, attach_type);
            }
            let value = self.run(&mut vm, &link.prog(), attach_type, address)?;
            said = Some((value, vm.packet.redirect.take()));
            if stop(value) {
                break;
            }
        }
        if let Some(context) = vm.memory.context::<SkBuff>() {
            let skb = context.skb.clone();
            *tags = Tags {
                mark: skb.mark,
                priority: skb.priority,
                tstamp: skb.tstamp,
                queue_mapping: skb.queue_mapping,
                tc_index: skb.tc_index,
                hash: skb.hash,
                hwtstamp: skb.hwtstamp,
                socket: skb.socket,
                meta: std::mem::take(&mut tags.meta),
            };
            *frame = skb.frame(&vm.memory);
        }
        self.mark = tags.mark;
        let clones = std::mem::take(&mut vm.packet.clones);
        drop(vm);
        for (to, packet) in clones {
            let hops = self.hops;
            self.go(Redirect { to, prog: None, devices: Vec::new() }, ifindex, packet, Tags::default())?;
            self.hops = hops;
        }
        Ok(said)
    }

    /// The tcx programs at a device.
    fn tcx(
        &mut self,
        ifindex: u32,
        attach_type: AttachType,
        frame: &mut Vec<u8>,
        tags: &mut Tags,
    ) -> Result<Decision, EventError> {
        let mut chain = self.kernel.0.chain(&Hook::Tcx { ifindex, attach_type });
        let netkit = match attach_type {
            AttachType::TCX_INGRESS => None,
            _ => Some(AttachType::NETKIT_PRIMARY),
        };
        if let Some(attach_type) = netkit {
            chain.extend(self.kernel.0.chain(&Hook::Netkit { ifindex, attach_type }));
        }
        let said = self.skb_chain(&chain, attach_type, ifindex, frame, tags, |value| value != tcx::NEXT)?;
        Ok(match said {
            Some((tcx::DROP, _)) => Decision::Drop,
            Some((tcx::REDIRECT, Some(redirect))) => Decision::Redirect(redirect),
            // Such a program said to redirect and not where.
            Some((tcx::REDIRECT, None)) => Decision::Drop,
            _ => Decision::Continue,
        })
    }

    /// Sends a packet where a tc program wants it.
    fn go(&mut self, redirect: Redirect, from: u32, frame: Vec<u8>, tags: Tags) -> Result<Fate, EventError> {
        match redirect.to {
            Destination::Egress(to) => self.egress(to, frame, tags),
            Destination::Ingress(to) => match self.enter(to) {
                Ok(_) => self.stack(to, frame, Tags { meta: Vec::new(), ..tags }),
                Err(by) => Ok(self.dropped(to, by, frame)),
            },
            Destination::Peer(to) => {
                let peer = self.kernel.0.world().net.interfaces.get(&to).and_then(|device| device.peer);
                match (peer, peer.map(|peer| self.enter(peer))) {
                    (Some(peer), Some(Ok(_))) => self.stack(peer, frame, Tags { meta: Vec::new(), ..tags }),
                    (_, Some(Err(by))) => Ok(self.dropped(to, by, frame)),
                    _ => Ok(self.dropped(to, Dropper::Redirect, frame)),
                }
            }
            Destination::Neighbour(to) => match self.addressed(to, frame) {
                Ok(frame) => self.egress(to, frame, tags),
                Err(frame) => Ok(self.dropped(to, Dropper::Redirect, frame)),
            },
            _ => Ok(self.dropped(from, Dropper::Redirect, frame)),
        }
    }

    /// A packet with the link header that the neighbours of a device say.
    fn addressed(&self, ifindex: u32, mut frame: Vec<u8>) -> Result<Vec<u8>, Vec<u8>> {
        let world = self.kernel.0.world();
        let protocol = crate::packet::skb::ether_type(&frame);
        let Some(flow) = Flow::of(protocol, frame.get(ETH_LEN..)) else { return Err(frame) };
        let next = world
            .net
            .route(None, flow.destination)
            .and_then(|route| route.gateway)
            .unwrap_or(flow.destination);
        let to = world.net.neighbours.get(&(ifindex, next));
        let (Some(to), Some(device)) = (to, world.net.interfaces.get(&ifindex)) else { return Err(frame) };
        match frame.get_mut(..12) {
            Some(addresses) => addresses.copy_from_slice(&[*to, device.mac].concat()),
            None => return Err(frame),
        }
        Ok(frame)
    }

    /// The stack takes a packet that a device has received.
    fn stack(&mut self, ifindex: u32, mut frame: Vec<u8>, mut tags: Tags) -> Result<Fate, EventError> {
        match self.tcx(ifindex, AttachType::TCX_INGRESS, &mut frame, &mut tags)? {
            Decision::Continue => {}
            Decision::Drop => return Ok(self.dropped(ifindex, Dropper::Tcx, frame)),
            Decision::Redirect(redirect) => return self.go(redirect, ifindex, frame, tags),
        }
        // Before routing, and for this machine.
        for hook in [0, 1] {
            if !self.netfilter(hook, ifindex, &frame, &tags)? {
                return Ok(self.dropped(ifindex, Dropper::Netfilter, frame));
            }
        }
        if tags.socket.is_none() {
            tags.socket = self.find_socket(ifindex, &frame)?;
        }
        let group =
            tags.socket.and_then(|cookie| self.kernel.0.world().net.socket(cookie).map(|s| s.cgroup.clone()));
        if let Some(group) = group {
            let attach_type = AttachType::CGROUP_INET_INGRESS;
            if !self.cgroup(&group, attach_type, ifindex, &mut frame, &mut tags)? {
                return Ok(self.dropped(ifindex, Dropper::Cgroup, frame));
            }
        }
        self.mark = tags.mark;
        self.note(Effect::Delivered { ifindex, packet: frame.clone() });
        self.packet = frame;
        Ok(Fate::Delivered { ifindex, socket: tags.socket.map(SocketId) })
    }

    /// The programs of a control group and of those that it is in. All of them run; one that says no is enough.
    fn cgroup(
        &mut self,
        group: &str,
        attach_type: AttachType,
        ifindex: u32,
        frame: &mut Vec<u8>,
        tags: &mut Tags,
    ) -> Result<bool, EventError> {
        let chain = self.kernel.0.cgroup_chain(group, attach_type);
        let mut allowed = true;
        self.skb_chain(&chain, attach_type, ifindex, frame, tags, |value| {
            allowed &= value & 1 != 0;
            false
        })?;
        Ok(allowed)
    }

    /// The netfilter programs of a hook. The first that does not accept ends the way.
    fn netfilter(&mut self, hook: u32, ifindex: u32, frame: &[u8], tags: &Tags) -> Result<bool, EventError> {
        let family = match crate::packet::skb::ether_type(frame) {
            ETH_IPV4 => 2,
            ETH_IPV6 => 10,
            _ => return Ok(true),
        };
        let place = skep_sys::request::NetfilterHook::new(family, hook, 0);
        for link in self.kernel.0.chain(&Hook::Netfilter(place)) {
            let prog = link.prog();
            let (mut vm, mut skb) = self.buffer(frame, ifindex, tags, &prog)?;
            if hook == LOCAL_OUT {
                // No device has seen it yet.
                (skb.ifindex, skb.mac_len) = (0, 0);
            }
            let numbers = (hook as u8, family as u8); // below 11
            // Packets come in, or go out.
            let devices = if hook < 3 { (ifindex, 0) } else { (0, ifindex) };
            let context = netfilter_context(&mut vm, skb, numbers.0, numbers.1, devices);
            let context = context.map_err(|trap| trapped(&vm, trap))?;
            let value = self.run(&mut vm, &prog, AttachType::NETFILTER, context)?;
            debug_assert!(vm.memory.context::<Netfilter>().is_some());
            if value != 1 {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// A packet of this machine is sent.
    pub(crate) fn send(
        &mut self,
        ifindex: u32,
        mut frame: Vec<u8>,
        socket: Option<u64>,
    ) -> Result<Fate, EventError> {
        let sender = socket.and_then(|cookie| self.kernel.0.world().net.socket(cookie).cloned());
        let mut tags = Tags { socket, ..Tags::default() };
        if let Some(sender) = &sender {
            (tags.mark, tags.priority) = (sender.mark, sender.priority);
        }
        // Out of this machine, and after routing.
        for hook in [LOCAL_OUT, POST_ROUTING] {
            if !self.netfilter(hook, ifindex, &frame, &tags)? {
                return Ok(self.dropped(ifindex, Dropper::Netfilter, frame));
            }
        }
        if let Some(sender) = sender {
            let attach_type = AttachType::CGROUP_INET_EGRESS;
            if !self.cgroup(&sender.cgroup, attach_type, ifindex, &mut frame, &mut tags)? {
                return Ok(self.dropped(ifindex, Dropper::Cgroup, frame));
            }
        }
        self.egress(ifindex, frame, tags)
    }

    /// A packet is given to a device.
    fn egress(&mut self, ifindex: u32, mut frame: Vec<u8>, mut tags: Tags) -> Result<Fate, EventError> {
        if !self.kernel.0.world().net.interfaces.contains_key(&ifindex) {
            return Ok(self.dropped(ifindex, Dropper::Redirect, frame));
        }
        match self.tcx(ifindex, AttachType::TCX_EGRESS, &mut frame, &mut tags)? {
            Decision::Continue => self.wire(ifindex, frame),
            Decision::Drop => Ok(self.dropped(ifindex, Dropper::Tcx, frame)),
            Decision::Redirect(redirect) => {
                // Redirects back and forth end here.
                self.hops += 1;
                if self.hops > HOPS_MAX {
                    return Ok(self.dropped(ifindex, Dropper::Loop, frame));
                }
                self.go(redirect, ifindex, frame, tags)
            }
        }
    }
}

impl SimKernel {
    /// A frame of a test run that goes on through the network as an XDP program says.
    pub(crate) fn live_frame(
        &self,
        prog: &Arc<Prog>,
        frame: &[u8],
        meta: usize,
        device: (u32, u32),
    ) -> Result<(), EventError> {
        let (meta, frame) = frame.split_at(meta.min(frame.len())); // not more than there is
        let mut road = Road::new(self, 0);
        road.xdp(prog, AttachType::XDP, frame.to_vec(), meta.to_vec(), device, None).map(drop)
    }
}

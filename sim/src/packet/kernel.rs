//! Packets as the kernel's own structures: what programs see that cast their context to them, or are given them with a type.

use std::sync::Arc;

use super::skb::Checksum;
use super::xdp::FRAME;
use super::{Netfilter, SkBuff, SkLookup, Skb, Xdp};
use crate::image::Layout;
use crate::kernel::{Inner, SimKernel};
use crate::vm::{Handle, Memory, Region, Trap, View, Vm, What, offset};

/// Where the structures have their members.
#[derive(Debug)]
pub(crate) struct Layouts {
    sk_buff: Option<Layout>,
    shared_info: Option<Layout>,
    xdp_buff: Option<Layout>,
    rx_queue: Option<Layout>,
    hook_state: Option<Layout>,
    lookup: Option<Layout>,
    perf: Option<Layout>,
}

/// A packet whose members are asked for.
struct Packet<'a> {
    skb: &'a Skb,
    kernel: &'a SimKernel,
    /// Bytes of the memory that it lies in.
    room: usize,
}

type Member = (&'static str, fn(&Packet<'_>) -> u64);

/// A header that is not there.
const NO_HEADER: u64 = 0xffff;

/// Members of `struct sk_buff`.
const SK_BUFF: &[Member] = &[
    ("len", |p| p.skb.len32().into()),
    ("mac_len", |p| p.skb.mac_len as u64),
    ("queue_mapping", |p| p.skb.queue_mapping.into()),
    ("pkt_type", |p| p.skb.pkt_type.into()),
    ("ip_summed", |p| match p.skb.checksum {
        Checksum::None => 0,
        Checksum::Unnecessary(_) => 1,
        Checksum::Complete => 2,
    }),
    ("priority", |p| p.skb.priority.into()),
    ("skb_iif", |p| p.skb.ingress_ifindex.into()),
    ("hash", |p| p.skb.hash.unwrap_or(0).into()),
    ("l4_hash", |p| p.skb.hash.is_some().into()),
    ("vlan_present", |p| p.skb.vlan.is_some().into()),
    ("vlan_proto", |p| p.skb.vlan.map_or(0, |vlan| vlan.proto.to_be().into())),
    ("vlan_tci", |p| p.skb.vlan.map_or(0, |vlan| vlan.tci.into())),
    ("mark", |p| p.skb.mark.into()),
    ("protocol", |p| p.skb.protocol.to_be().into()),
    ("encapsulation", |p| p.skb.encapsulated.into()),
    ("tc_index", |p| p.skb.tc_index.into()),
    ("tstamp", |p| p.skb.tstamp),
    // What no device has seen has no link header.
    ("mac_header", |p| if p.skb.ifindex == 0 { NO_HEADER } else { p.skb.mac as u64 }),
    ("network_header", |p| p.skb.network as u64),
    ("transport_header", |p| p.skb.transport.map_or(NO_HEADER, |at| at as u64)),
    ("head", |p| p.skb.buffer.room_address()),
    ("data", |p| p.skb.buffer.data_address()),
    ("tail", |p| offset(p.skb.buffer.end_address()) as u64),
    ("end", |p| p.room as u64),
    ("users.refs.counter", |_| 1),
    ("dev", |p| p.kernel.device_address(p.skb.ifindex).unwrap_or(0)),
    ("sk", |p| p.skb.socket.and_then(|cookie| p.kernel.sock_address(cookie)).unwrap_or(0)),
];

const SHARED_INFO: &[&str] = &["gso_size", "gso_segs", "dataref.counter"];
const XDP_BUFF: &[&str] = &["data", "data_end", "data_meta", "data_hard_start", "rxq", "frame_sz", "flags"];
const RX_QUEUE: &[&str] = &["dev", "queue_index", "reg_state"];
const HOOK_STATE: &[&str] = &["hook", "pf", "in", "out", "sk", "net"];
const LOOKUP: &[&str] = &[
    "family",
    "protocol",
    "sport",
    "dport",
    "v4.saddr",
    "v4.daddr",
    "selected_sk",
    "ingress_ifindex",
    "no_reuseport",
];
const PERF: &[&str] = &["regs", "data", "event"];

impl Layouts {
    pub(crate) fn new(kernel: &Inner) -> Layouts {
        let layout = |name: &str, paths: &[&'static str]| Layout::new(kernel, name, paths.iter().copied());
        Layouts {
            sk_buff: Layout::new(kernel, "sk_buff", SK_BUFF.iter().map(|(path, _)| *path).chain(["cb"])),
            shared_info: layout("skb_shared_info", SHARED_INFO),
            xdp_buff: layout("xdp_buff", XDP_BUFF),
            rx_queue: layout("xdp_rxq_info", RX_QUEUE),
            hook_state: layout("nf_hook_state", HOOK_STATE),
            lookup: layout("bpf_sk_lookup_kern", LOOKUP),
            perf: layout("bpf_perf_event_data_kern", PERF),
        }
    }
}

/// A structure, by what it is of the run's context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Of {
    SkBuff,
    SharedInfo,
    /// With the address of the queue's structure.
    XdpBuff(u64),
    RxQueue,
    Lookup,
}

#[derive(Debug)]
struct Structure {
    of: Of,
    kernel: SimKernel,
}

impl Structure {
    fn layout(&self) -> Option<&Layout> {
        let layouts = self.kernel.0.layouts();
        match self.of {
            Of::SkBuff => layouts.sk_buff.as_ref(),
            Of::SharedInfo => layouts.shared_info.as_ref(),
            Of::XdpBuff(_) => layouts.xdp_buff.as_ref(),
            Of::RxQueue => layouts.rx_queue.as_ref(),
            Of::Lookup => layouts.lookup.as_ref(),
        }
    }
}

/// The socket buffer that the context of a run is or has.
fn skb_of(memory: &mut Memory) -> Option<Skb> {
    if let Some(context) = memory.context::<SkBuff>() {
        return Some(context.skb.clone());
    }
    memory.context::<Netfilter>().map(|context| context.skb.clone())
}

impl View for Structure {
    fn what(&self) -> &'static str {
        match self.of {
            Of::SkBuff => SK_BUFF_NAME,
            Of::SharedInfo => "struct skb_shared_info",
            Of::XdpBuff(_) => "struct xdp_buff",
            Of::RxQueue => "struct xdp_rxq_info",
            Of::Lookup => "struct bpf_sk_lookup_kern",
        }
    }

    fn size(&self) -> usize {
        self.layout().map_or(0, Layout::size)
    }

    fn bytes(&self, memory: &mut Memory) -> Option<Vec<u8>> {
        let (layout, kernel) = (self.layout()?, &self.kernel);
        Some(match self.of {
            Of::SkBuff => {
                let skb = skb_of(memory)?;
                let packet = Packet { skb: &skb, kernel, room: skb.buffer.room(memory).len() };
                let mut bytes = layout.object(SK_BUFF.iter().map(|(path, value)| (*path, value(&packet))));
                // `struct qdisc_skb_cb`.
                let cb = [
                    &skb.wire_len.to_ne_bytes()[..],
                    &skb.queue_mapping.to_ne_bytes(),
                    &skb.tc_classid.to_ne_bytes(),
                    &skb.cb,
                ];
                layout.set_bytes(&mut bytes, "cb", &cb.concat());
                bytes
            }
            Of::SharedInfo => {
                let skb = skb_of(memory)?;
                let (size, segs) = (skb.gso_size.into(), skb.gso_segs.into());
                layout.object([("gso_size", size), ("gso_segs", segs), ("dataref.counter", 1)])
            }
            Of::XdpBuff(queue) => {
                let xdp = memory.context::<Xdp>()?;
                let (buffer, frags) = (&xdp.buffer, !xdp.frags.is_empty());
                layout.object([
                    ("data", buffer.data_address()),
                    ("data_end", buffer.end_address()),
                    ("data_meta", buffer.meta_address()),
                    ("data_hard_start", buffer.room_address()),
                    ("rxq", queue),
                    ("frame_sz", FRAME as u64),
                    // `XDP_FLAGS_HAS_FRAGS`.
                    ("flags", frags.into()),
                ])
            }
            Of::RxQueue => {
                let (ifindex, queue) = {
                    let xdp = memory.context::<Xdp>()?;
                    (xdp.ingress_ifindex, xdp.rx_queue)
                };
                let dev = kernel.device_address(ifindex).unwrap_or(0);
                // It is registered.
                layout.object([("dev", dev), ("queue_index", queue.into()), ("reg_state", 1)])
            }
            Of::Lookup => {
                let lookup = memory.context::<SkLookup>()?.clone();
                let ip = |ip: std::net::IpAddr| match ip {
                    std::net::IpAddr::V4(ip) => u32::from_ne_bytes(ip.octets()).into(),
                    std::net::IpAddr::V6(_) => 0,
                };
                let selected = lookup.selected.and_then(|cookie| kernel.sock_address(cookie));
                layout.object([
                    ("family", lookup.family.into()),
                    ("protocol", lookup.protocol.into()),
                    ("sport", lookup.remote.1.to_be().into()),
                    ("dport", lookup.local.1.into()),
                    ("v4.saddr", ip(lookup.remote.0)),
                    ("v4.daddr", ip(lookup.local.0)),
                    ("selected_sk", selected.unwrap_or(0)),
                    ("ingress_ifindex", lookup.ingress_ifindex.into()),
                    ("no_reuseport", lookup.no_reuseport.into()),
                ])
            }
        })
    }
}

/// What a view of the packet is called, which helpers take for it.
pub(crate) const SK_BUFF_NAME: &str = "struct sk_buff";

fn view(vm: &mut Vm, of: Of) -> Result<u64, Trap> {
    if let Some((_, address)) = vm.packet.views.iter().find(|(known, _)| *known == of.key()) {
        return Ok(*address);
    }
    let structure = Structure { of, kernel: vm.kernel.clone() };
    let region = match structure.layout() {
        Some(_) => Region::View(Arc::new(structure)),
        // Without types nobody knows what is in it.
        None => Region::Handle(Handle::Other(structure.what(), Arc::new(()))),
    };
    let address = vm.memory.add(region)?;
    vm.packet.views.push((of.key(), address));
    Ok(address)
}

impl Of {
    fn key(self) -> u8 {
        match self {
            Of::SkBuff => 0,
            Of::SharedInfo => 1,
            Of::XdpBuff(_) => 2,
            Of::RxQueue => 3,
            Of::Lookup => 4,
        }
    }
}

/// What the context is for the kernel: for a packet of tc its `struct sk_buff`, and so on. A context that is plain bytes is the
/// same for both.
pub(crate) fn kernel_context(vm: &mut Vm, context: u64) -> Result<u64, Trap> {
    if !matches!(vm.memory.region(context), Some(Region::Context)) {
        return Ok(context);
    }
    if let Some(context) = vm.memory.context::<SkBuff>() {
        if let Some(cookie) = context.skb.socket {
            let _ = vm.kernel.socket_struct(cookie); // says what the socket is now
        }
        return view(vm, Of::SkBuff);
    }
    if vm.memory.context::<Xdp>().is_some() {
        let queue = view(vm, Of::RxQueue)?;
        return view(vm, Of::XdpBuff(queue));
    }
    if vm.memory.context::<SkLookup>().is_some() {
        return view(vm, Of::Lookup);
    }
    Ok(context)
}

/// The `struct sk_buff` of the packet of a netfilter hook.
pub(super) fn hook_packet(vm: &mut Vm) -> Result<u64, Trap> {
    view(vm, Of::SkBuff)
}

/// First address of a packet and that behind it, if its `struct sk_buff` is at an address.
pub(crate) fn packet_bounds(vm: &mut Vm, address: u64) -> Option<(u64, u64)> {
    match vm.memory.region(address) {
        Some(Region::View(view)) if view.what() == SK_BUFF_NAME => {
            let skb = skb_of(&mut vm.memory)?;
            Some((skb.buffer.data_address(), skb.buffer.end_address()))
        }
        _ => None,
    }
}

/// The `struct skb_shared_info` of a packet, if that is at an address: behind the room of the packet.
pub(crate) fn shared_info(vm: &mut Vm, address: u64) -> Result<Option<u64>, Trap> {
    let Some(skb) = skb_of(&mut vm.memory) else { return Ok(None) };
    let end = skb.buffer.room_address() + skb.buffer.room(&vm.memory).len() as u64;
    if address == end { view(vm, Of::SharedInfo).map(Some) } else { Ok(None) }
}

/// The `struct nf_hook_state` of a hook.
pub(super) fn hook_state(vm: &mut Vm, hook: u8, family: u8, devices: (u32, u32)) -> Result<u64, Trap> {
    let kernel = vm.kernel.clone();
    let device = |index: u32| kernel.device_address(index).unwrap_or(0);
    let bytes = match &kernel.0.layouts().hook_state {
        Some(layout) => layout.object([
            ("hook", hook.into()),
            ("pf", family.into()),
            ("in", device(devices.0)),
            ("out", device(devices.1)),
            ("net", kernel.netns_address().unwrap_or(0)),
        ]),
        None => {
            let mut bytes = vec![0; 48];
            if let Some(to) = bytes.first_chunk_mut() {
                *to = [hook, family];
            }
            bytes
        }
    };
    vm.own(What::Other("the state of a hook"), bytes, false)
}

/// The `struct bpf_perf_event_data_kern` of a perf event, whose registers, period and address are at the start of the context.
pub(crate) fn perf_context(vm: &mut Vm, context: u64) -> Result<u64, Trap> {
    let kernel = vm.kernel.clone();
    let Some(layout) = &kernel.0.layouts().perf else { return Ok(context) };
    let bytes = vm.memory.bytes(context.wrapping_add(crate::event::Registers::SIZE as u64), 16)?;
    let (words, _) = bytes.as_chunks::<8>();
    let [period, address] = *words else { return Ok(context) };
    let memory = kernel.memory();
    let data = memory.object("perf_sample_data").ok();
    if let Some(data) = &data {
        let _ = data.set("period", u64::from_ne_bytes(period));
        let _ = data.set("addr", u64::from_ne_bytes(address));
    }
    let data = data.map_or(0, |data| data.address());
    let event = memory.object("perf_event").map_or(0, |event| event.address());
    let bytes = layout.object([("regs", context), ("data", data), ("event", event)]);
    vm.own(What::Other("struct bpf_perf_event_data_kern"), bytes, false)
}

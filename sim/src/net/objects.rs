//! The kernel's own structures of devices and packets, as programs read them by the kernel's types.

use std::collections::BTreeMap;

use super::{Interface, NETNS_COOKIE};
use crate::image::{ImageError, KernelObject};
use crate::kernel::SimKernel;
use crate::packet::flow::Flow;
use crate::packet::skb::{ETH_IPV4, ETH_IPV6, ether_type};

/// Where structures are that were asked for, and what was written into them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Structures {
    devices: BTreeMap<u32, (Interface, u64)>,
    netns: Option<u64>,
    /// By id.
    cgroups: BTreeMap<u64, u64>,
    /// Open files by process and descriptor.
    pub(crate) files: BTreeMap<(u32, u32), u64>,
    /// Inodes by path.
    pub(crate) inodes: BTreeMap<String, u64>,
}

impl Structures {
    pub(crate) fn cgroup(&self, id: u64) -> Option<u64> {
        self.cgroups.get(&id).copied()
    }

    /// The id of the group whose structure is at an address.
    pub(crate) fn cgroup_at(&self, address: u64) -> Option<u64> {
        self.cgroups.iter().find(|(_, at)| **at == address).map(|(id, _)| *id)
    }

    pub(crate) fn add_cgroup(&mut self, id: u64, address: u64) {
        self.cgroups.insert(id, address);
    }
}

/// Inode number of the first network namespace (`PROC_NET_INIT_INO` of 6.18).
const NETNS_INODE: u32 = 0xefff_fff9;
/// Flags and types of devices.
const IFF_UP: u32 = 1;
const IFF_LOOPBACK: u32 = 8;
const IFF_BROADCAST: u32 = 2;
const IFF_MULTICAST: u32 = 1 << 12;
const ARPHRD_ETHER: u32 = 1;
const ARPHRD_LOOPBACK: u32 = 772;
/// Bytes of a link header, and room for one before a packet.
const ETH_LEN: usize = 14;
const HEADROOM: usize = 64;
/// Room for the kernel's `struct skb_shared_info` behind a packet.
const SHARED_INFO: usize = 512;
/// A header that is not there.
const NO_HEADER: usize = 0xffff;

impl SimKernel {
    /// The `struct net_device` of a network device, with its index, name, address and what else is known of an [`Interface`].
    ///
    /// # Errors
    /// [`ImageError::NoBtf`], [`ImageError::NoType`]; [`ImageError::NoSuch`] when there is no such device.
    pub fn device_object(&self, name: &str) -> Result<KernelObject, ImageError> {
        let (btf, ty) = self.0.type_named("net_device")?;
        let missing = || ImageError::NoSuch { what: format!("network device `{name}`") };
        let index = self.0.world().net.ifindex(name);
        let address = index.and_then(|index| self.device_address(index)).ok_or_else(missing)?;
        Ok(KernelObject::new(self, &btf, address, ty))
    }

    /// A `struct sk_buff` with a packet that a device received: the argument of tracepoints and functions of the network
    /// stack, such as `kfree_skb`. The packet is given with its link header; as in the stack, `data` is behind that, and
    /// offsets tell where headers are.
    ///
    /// # Errors
    /// [`ImageError::NoBtf`], [`ImageError::NoType`]; [`ImageError::NoSuch`] when there is no such device.
    pub fn packet_object(&self, interface: &str, packet: &[u8]) -> Result<KernelObject, ImageError> {
        let skb = self.memory().object("sk_buff")?;
        let missing = || ImageError::NoSuch { what: format!("network device `{interface}`") };
        let index = self.0.world().net.ifindex(interface).ok_or_else(missing)?;
        let head = self.memory().put(&[&[0; HEADROOM], packet, &[0; SHARED_INFO]].concat());
        let link = packet.len().min(ETH_LEN);
        let protocol = ether_type(packet);
        let network = HEADROOM + link;
        let rest = packet.get(link..).unwrap_or_default();
        let transport = match protocol {
            ETH_IPV4 => rest.first().map(|first| usize::from(first & 15) * 4),
            ETH_IPV6 => Some(40),
            _ => None,
        };
        let transport = transport.filter(|_| Flow::of(protocol, Some(rest)).is_some());
        let end = HEADROOM + packet.len();
        let values: [(&str, u64); 12] = [
            ("len", rest.len() as u64),
            ("mac_len", link as u64),
            ("protocol", protocol.to_be().into()),
            ("skb_iif", index.into()),
            ("head", head),
            ("data", head + network as u64),
            ("tail", end as u64),
            ("end", end as u64),
            ("mac_header", HEADROOM as u64),
            ("network_header", network as u64),
            ("transport_header", transport.map_or(NO_HEADER, |len| network + len) as u64),
            ("users.refs.counter", 1),
        ];
        set_all(&skb, &values);
        if let Some(device) = self.device_address(index) {
            let _ = skb.set("dev", device); // every kernel has it
        }
        Ok(skb)
    }

    /// The address of a device's structure, which is made at first. `None` without types, or without such a device.
    pub(crate) fn device_address(&self, index: u32) -> Option<u64> {
        let (device, known) = {
            let world = self.0.world();
            let device = world.net.interfaces.get(&index)?.clone();
            (device, world.structures.devices.get(&index).cloned())
        };
        if let Some((written, address)) = &known
            && *written == device
        {
            return Some(*address);
        }
        let object = match known {
            Some((_, address)) => self.memory().object_at("net_device", address).ok()?,
            None => self.memory().object("net_device").ok()?,
        };
        let loopback = device.name == "lo";
        let kind = if loopback { IFF_LOOPBACK } else { IFF_BROADCAST | IFF_MULTICAST };
        let values: [(&str, u64); 7] = [
            ("ifindex", device.ifindex.into()),
            ("mtu", device.mtu.into()),
            ("flags", (kind | if device.up { IFF_UP } else { 0 }).into()),
            ("type", if loopback { ARPHRD_LOOPBACK } else { ARPHRD_ETHER }.into()),
            ("addr_len", 6),
            ("hard_header_len", ETH_LEN as u64),
            ("real_num_rx_queues", device.rx_queues.into()),
        ];
        set_all(&object, &values);
        let _ = object.set("name", device.name.as_str());
        // It is an array in old kernels, and a pointer in others.
        let _ = object.set("dev_addr", &device.mac);
        if let Some(netns) = self.netns_address() {
            let _ = object.set("nd_net.net", netns);
        }
        let address = object.address();
        self.0.world().structures.devices.insert(index, (device, address));
        Some(address)
    }

    /// The address of a socket's structure as it was last written; it is made at first.
    pub(crate) fn sock_address(&self, cookie: u64) -> Option<u64> {
        let known = self.0.world().net.stream(cookie).and_then(|stream| stream.object);
        known.or_else(|| self.socket_struct(cookie))
    }

    /// The address of the structure of the network namespace.
    pub(crate) fn netns_address(&self) -> Option<u64> {
        if let Some(address) = self.0.world().structures.netns {
            return Some(address);
        }
        let object = self.memory().object("net").ok()?;
        set_all(&object, &[("ns.inum", NETNS_INODE.into()), ("net_cookie", NETNS_COOKIE)]);
        let address = object.address();
        self.0.world().structures.netns = Some(address);
        Some(address)
    }
}

/// Sets the members that the type has; which ones these are depends on the version of the kernel.
fn set_all(object: &KernelObject, values: &[(&str, u64)]) {
    for (path, value) in values {
        let _ = object.set(path, *value);
    }
}

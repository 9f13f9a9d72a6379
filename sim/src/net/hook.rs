//! Places of the network that programs are attached to, in an order.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use skep_sys::abi::{AttachFlags, AttachType, Errno, LinkType, MapId, MapType, ProgType};
use skep_sys::request::{LinkAnchor, LinkCreate, LinkPlace, LinkTarget, NetfilterHook};

use super::attach::hook_type;
use super::order::{New, Slot, cgroup_slot};
use crate::fd::Access;
use crate::features::Features;
use crate::kernel::Inner;
use crate::link::{Link, Place};
use crate::object::Object;
use crate::prog::Prog;

/// Most programs at one place (`BPF_MPROG_MAX`, `BPF_CGROUP_MAX_PROGS`).
pub(super) const PROGS_MAX: usize = 64;
/// The inode of the network namespace.
const NETNS_INODE: u32 = 0xf000_0000;
/// Hooks of a family.
const NETFILTER_HOOKS: u32 = 5;

/// A place that programs are attached to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hook {
    Tcx {
        ifindex: u32,
        attach_type: AttachType,
    },
    Netkit {
        ifindex: u32,
        attach_type: AttachType,
    },
    /// A security hook is told from others by the type of its function, which is 0 elsewhere.
    Cgroup {
        id: u64,
        attach_type: AttachType,
        target: u32,
    },
    Netns {
        attach_type: AttachType,
    },
    Netfilter(NetfilterHook),
    Sockmap {
        map: u32,
        attach_type: AttachType,
    },
}

impl Hook {
    /// Whether programs of both run at the same time, one after the other.
    fn is_with(&self, other: &Hook) -> bool {
        match (self, other) {
            (Hook::Netfilter(one), Hook::Netfilter(other)) => {
                one.family == other.family && one.hook == other.hook
            }
            _ => self == other,
        }
    }

    pub(crate) fn info(&self, attached: bool) -> (LinkType, LinkPlace) {
        let there = |number: u32| if attached { number } else { 0 };
        match *self {
            Hook::Tcx { ifindex, attach_type } => {
                (LinkType::TCX, LinkPlace::Tcx { ifindex: there(ifindex), attach_type })
            }
            Hook::Netkit { ifindex, attach_type } => {
                (LinkType::NETKIT, LinkPlace::Netkit { ifindex: there(ifindex), attach_type })
            }
            Hook::Cgroup { id, attach_type, .. } => {
                (LinkType::CGROUP, LinkPlace::Cgroup { id: if attached { id } else { 0 }, attach_type })
            }
            Hook::Netns { attach_type } => {
                (LinkType::NETNS, LinkPlace::Netns { inode: there(NETNS_INODE), attach_type })
            }
            Hook::Netfilter(hook) => (
                LinkType::NETFILTER,
                LinkPlace::Netfilter {
                    family: hook.family,
                    hook: hook.hook,
                    priority: hook.priority,
                    flags: hook.flags,
                },
            ),
            Hook::Sockmap { map, attach_type } => {
                (LinkType::SOCKMAP, LinkPlace::Sockmap { map_id: MapId(there(map)), attach_type })
            }
        }
    }
}

/// Whether programs of a kind attach to places of the network other than XDP.
pub(crate) fn is_net(kind: ProgType) -> bool {
    matches!(
        kind,
        ProgType::SCHED_CLS
            | ProgType::CGROUP_SKB
            | ProgType::CGROUP_SOCK
            | ProgType::CGROUP_SOCK_ADDR
            | ProgType::CGROUP_SOCKOPT
            | ProgType::CGROUP_SYSCTL
            | ProgType::CGROUP_DEVICE
            | ProgType::SOCK_OPS
            | ProgType::SK_LOOKUP
            | ProgType::FLOW_DISSECTOR
            | ProgType::NETFILTER
            | ProgType::SK_MSG
            | ProgType::SK_SKB
    )
}

/// Attaches a program to a place of the network (`BPF_LINK_CREATE`).
pub(crate) fn link_net(kernel: &Inner, prog: &Arc<Prog>, request: &LinkCreate<'_>) -> Result<OwnedFd, Errno> {
    check_attach_type(prog, request.attach_type)?;
    let hook = place(kernel, prog, request)?;
    let is_group = matches!(hook, Hook::Cgroup { .. });
    if request.flags & !if is_group { AttachFlags::PREORDER.bits() } else { 0 } != 0 {
        return Err(Errno::EINVAL);
    }
    let flags = if is_group {
        AttachFlags::ALLOW_MULTI | AttachFlags::from_bits_retain(request.flags | request.anchor.flags())
    } else {
        AttachFlags::empty()
    };
    let ordered = matches!(hook, Hook::Tcx { .. } | Hook::Netkit { .. } | Hook::Cgroup { .. });
    if !ordered && request.anchor.flags() != 0 {
        return Err(Errno::EINVAL);
    }
    let mut chain = kernel.chain(&hook);
    let at = match hook {
        Hook::Netfilter(new) => {
            let priority = |link: &Arc<Link>| match &link.place {
                Place::Net(Hook::Netfilter(hook)) => hook.priority,
                _ => 0,
            };
            if chain.iter().any(|link| priority(link) == new.priority) {
                return Err(Errno::EBUSY);
            }
            chain.iter().position(|link| priority(link) > new.priority).unwrap_or(chain.len())
        }
        Hook::Cgroup { .. } => {
            let has_order = kernel.features().contains(Features::CGROUP_ORDER);
            if !has_order && request.anchor.flags() != 0 {
                return Err(Errno::EINVAL);
            }
            let (anchor, revision) = (request.anchor, if has_order { request.expected_revision } else { 0 });
            let new = New { prog, is_link: true, flags, replace: None, anchor, revision };
            match cgroup_slot(kernel, &hook, &new)? {
                Slot::At(at) => at,
                Slot::Instead(_) => return Err(Errno::EPERM),
            }
        }
        Hook::Sockmap { .. } if !chain.is_empty() => return Err(Errno::EBUSY),
        Hook::Netns { attach_type: AttachType::FLOW_DISSECTOR } if !chain.is_empty() => {
            return Err(Errno::E2BIG);
        }
        _ => {
            if chain.len() >= PROGS_MAX {
                let tcx = matches!(hook, Hook::Tcx { .. } | Hook::Netkit { .. });
                return Err(if tcx { Errno::ERANGE } else { Errno::E2BIG });
            }
            if ordered {
                check_revision(kernel, &hook, request.expected_revision)?;
            }
            // A program is in the order of a device once.
            let again = |link: &Arc<Link>| Arc::ptr_eq(&link.prog(), prog);
            if matches!(hook, Hook::Tcx { .. } | Hook::Netkit { .. }) && chain.iter().any(again) {
                return Err(Errno::EEXIST);
            }
            anchored(kernel, &chain, request.anchor)?
        }
    };
    let link =
        kernel.state().links.add(|id| Link::new(id, prog.clone(), Place::Net(hook)).with_flags(flags))?;
    chain.insert(at, link.clone()); // inside of the order, or at its end
    for (rank, link) in (0..).zip(&chain) {
        link.set_rank(rank);
    }
    kernel.world().net.note_change(&hook);
    kernel.open(Object::Link(link), Access::ALL)
}

/// Whether a program may be attached as this.
pub(super) fn check_attach_type(prog: &Prog, attach_type: AttachType) -> Result<(), Errno> {
    use AttachType as A;

    let fits = match prog.prog_type {
        ProgType::SCHED_CLS => {
            matches!(attach_type, A::TCX_INGRESS | A::TCX_EGRESS | A::NETKIT_PRIMARY | A::NETKIT_PEER)
        }
        // The kernel looks at what was said at load only where the program may do other things there.
        ProgType::CGROUP_SKB => {
            matches!(attach_type, A::CGROUP_INET_INGRESS | A::CGROUP_INET_EGRESS)
                && (prog.expected_attach_type.0 == 0 || prog.expected_attach_type == attach_type)
        }
        ProgType::CGROUP_DEVICE => attach_type == A::CGROUP_DEVICE,
        ProgType::CGROUP_SYSCTL => attach_type == A::CGROUP_SYSCTL,
        ProgType::SOCK_OPS => attach_type == A::CGROUP_SOCK_OPS,
        ProgType::FLOW_DISSECTOR => attach_type == A::FLOW_DISSECTOR,
        ProgType::SK_MSG => attach_type == A::SK_MSG_VERDICT,
        ProgType::SK_SKB => {
            matches!(attach_type, A::SK_SKB_STREAM_PARSER | A::SK_SKB_STREAM_VERDICT | A::SK_SKB_VERDICT)
        }
        _ => prog.expected_attach_type == attach_type,
    };
    if fits { Ok(()) } else { Err(Errno::EINVAL) }
}

/// The place that a request names.
fn place(kernel: &Inner, prog: &Prog, request: &LinkCreate<'_>) -> Result<Hook, Errno> {
    let attach_type = request.attach_type;
    let object = |fd| kernel.object(fd).map_err(|_| Errno::EBADF);
    match (prog.prog_type, request.target) {
        (ProgType::SCHED_CLS, LinkTarget::Ifindex(ifindex)) => {
            let world = kernel.world();
            let device = world.net.interfaces.get(&ifindex).ok_or(Errno::ENODEV)?;
            match attach_type {
                AttachType::TCX_INGRESS | AttachType::TCX_EGRESS => Ok(Hook::Tcx { ifindex, attach_type }),
                _ if device.netkit => Ok(Hook::Netkit { ifindex, attach_type }),
                _ => Err(Errno::ENXIO),
            }
        }
        (ProgType::NETFILTER, _) => {
            let hook = request.netfilter.ok_or(Errno::EAFNOSUPPORT)?;
            match hook {
                NetfilterHook { family, .. } if !matches!(family, 2 | 10) => Err(Errno::EAFNOSUPPORT),
                NetfilterHook { hook, .. } if hook >= NETFILTER_HOOKS => Err(Errno::EPROTO),
                NetfilterHook { flags, .. } if flags & !1 != 0 => Err(Errno::EOPNOTSUPP),
                NetfilterHook { priority: i32::MIN | i32::MAX, .. } => Err(Errno::ERANGE),
                _ => Ok(Hook::Netfilter(hook)),
            }
        }
        (ProgType::SK_LOOKUP | ProgType::FLOW_DISSECTOR, LinkTarget::Fd(fd)) => match kernel.object(fd)? {
            Object::Netns => Ok(Hook::Netns { attach_type }),
            _ => Err(Errno::EINVAL),
        },
        (ProgType::SK_MSG | ProgType::SK_SKB, LinkTarget::Fd(fd)) => match kernel.object(fd)? {
            Object::Map(map) if matches!(map.shape.kind, MapType::SOCKMAP | MapType::SOCKHASH) => {
                Ok(Hook::Sockmap { map: map.id, attach_type })
            }
            _ => Err(Errno::EINVAL),
        },
        (_, LinkTarget::Fd(fd)) => match object(fd)? {
            Object::Cgroup(id) => Ok(Hook::Cgroup { id, attach_type, target: hook_type(prog, attach_type) }),
            _ => Err(Errno::EBADF),
        },
        _ => Err(Errno::EBADF),
    }
}

pub(super) fn check_revision(kernel: &Inner, hook: &Hook, expected: u64) -> Result<(), Errno> {
    let now = kernel.world().net.revision(hook);
    if expected == 0 || expected == now { Ok(()) } else { Err(Errno::ESTALE) }
}

/// The place in an order that an anchor means.
pub(super) fn anchored(kernel: &Inner, chain: &[Arc<Link>], anchor: LinkAnchor<'_>) -> Result<usize, Errno> {
    let by_prog = |prog: &Arc<Prog>| chain.iter().position(|link| Arc::ptr_eq(&link.prog(), prog));
    let by_link = |link: &Arc<Link>| chain.iter().position(|known| Arc::ptr_eq(known, link));
    let prog = |fd| Ok::<_, Errno>(by_prog(kernel.object(fd)?.prog()?));
    let link = |fd| Ok::<_, Errno>(by_link(kernel.object(fd)?.link()?));
    let (found, after) = match anchor {
        LinkAnchor::First => return Ok(0),
        LinkAnchor::BeforeProg(fd) => (prog(fd)?, false),
        LinkAnchor::AfterProg(fd) => (prog(fd)?, true),
        LinkAnchor::BeforeLink(fd) => (link(fd)?, false),
        LinkAnchor::AfterLink(fd) => (link(fd)?, true),
        LinkAnchor::BeforeProgId(id) => (chain.iter().position(|link| link.prog().id == id.0), false),
        LinkAnchor::AfterProgId(id) => (chain.iter().position(|link| link.prog().id == id.0), true),
        LinkAnchor::BeforeLinkId(id) => (chain.iter().position(|link| link.id == id.0), false),
        LinkAnchor::AfterLinkId(id) => (chain.iter().position(|link| link.id == id.0), true),
        _ => return Ok(chain.len()),
    };
    Ok(found.ok_or(Errno::ENOENT)? + usize::from(after))
}

impl Inner {
    /// All links, and the programs that are attached without one.
    pub(crate) fn all_links(&self) -> Vec<Arc<Link>> {
        let state = self.swept();
        state.links.iter().chain(state.direct.iter().cloned()).collect()
    }

    /// The links at a place, in the order in which their programs run.
    pub(crate) fn chain(&self, hook: &Hook) -> Vec<Arc<Link>> {
        let links = self.all_links();
        let here = |link: &Arc<Link>| matches!(&link.place, Place::Net(place) if place.is_with(hook));
        let mut chain: Vec<_> = links.into_iter().filter(|link| here(link) && link.is_attached()).collect();
        chain.sort_by_key(|link| (link.rank(), link.id));
        chain
    }

    /// Detaches the links of a network device that goes.
    pub(crate) fn detach_from_interface(&self, ifindex: u32) {
        self.detach_where(|place| match *place {
            Place::Xdp { ifindex: index }
            | Place::Net(Hook::Tcx { ifindex: index, .. } | Hook::Netkit { ifindex: index, .. }) => {
                index == ifindex
            }
            _ => false,
        });
    }

    /// Detaches the links of a control group that goes.
    pub(crate) fn detach_from_cgroup(&self, group: u64) {
        self.detach_where(|place| matches!(*place, Place::Net(Hook::Cgroup { id, .. }) if id == group));
    }

    fn detach_where(&self, is_gone: impl Fn(&Place) -> bool) {
        // What goes is dropped when nothing is locked any more.
        let links = self.all_links();
        for link in links.iter().filter(|link| is_gone(&link.place)) {
            // Links of these places can be detached.
            let _ = link.detach();
        }
        self.state().direct.retain(|link| link.is_attached());
    }
}

//! The order in which the programs of control groups run.

use std::sync::Arc;

use skep_sys::abi::{AttachFlags, AttachType, Errno};
use skep_sys::request::LinkAnchor;

use super::hook::{Hook, PROGS_MAX, check_revision};
use crate::kernel::Inner;
use crate::link::{Link, Place};
use crate::object::Object;
use crate::prog::Prog;

/// `BPF_F_LINK`.
pub(super) const LINK: u32 = 1 << 13;
/// What tells whether others may be attached, too.
const SHARING: AttachFlags = AttachFlags::ALLOW_OVERRIDE.union(AttachFlags::ALLOW_MULTI);

/// What is to be attached.
pub(super) struct New<'a> {
    pub(super) prog: &'a Arc<Prog>,
    pub(super) is_link: bool,
    pub(super) flags: AttachFlags,
    pub(super) replace: Option<Arc<Prog>>,
    pub(super) anchor: LinkAnchor<'a>,
    pub(super) revision: u64,
}

/// Where it comes to be.
pub(super) enum Slot {
    At(usize),
    /// In the place of another one, which goes.
    Instead(Arc<Link>),
}

/// The place of a program among those of a control group (`__cgroup_bpf_attach`).
pub(super) fn cgroup_slot(kernel: &Inner, hook: &Hook, new: &New<'_>) -> Result<Slot, Errno> {
    let Hook::Cgroup { id, attach_type, target } = *hook else { return Err(Errno::EINVAL) };
    let flags = new.flags;
    let shares = flags.contains(AttachFlags::ALLOW_MULTI);
    let replaces = flags.contains(AttachFlags::REPLACE);
    if shares && flags.contains(AttachFlags::ALLOW_OVERRIDE)
        || replaces && (!shares || flags.intersects(AttachFlags::BEFORE | AttachFlags::AFTER))
        || new.replace.is_some() != replaces
    {
        return Err(Errno::EINVAL);
    }
    check_revision(kernel, hook, new.revision)?;
    let chain = kernel.chain(hook);
    if !kernel.outer_groups_allow(id, attach_type, target)
        || !chain.is_empty() && sharing(&chain) != flags & SHARING
    {
        return Err(Errno::EPERM);
    }
    if chain.len() >= PROGS_MAX {
        return Err(Errno::E2BIG);
    }
    if !shares && let Some(only) = chain.first() {
        return Ok(Slot::Instead(only.clone()));
    }
    if shares {
        let is_it = |link: &&Arc<Link>, prog: &Arc<Prog>| link.is_direct() && Arc::ptr_eq(&link.prog(), prog);
        let replaced = new.replace.as_ref();
        let itself = replaced.is_some_and(|replaced| Arc::ptr_eq(replaced, new.prog));
        if !new.is_link && !itself && chain.iter().any(|link| is_it(&link, new.prog)) {
            return Err(Errno::EINVAL);
        }
        if let Some(replaced) = replaced {
            let found = chain.iter().find(|link| is_it(link, replaced));
            return found.cloned().map(Slot::Instead).ok_or(Errno::ENOENT);
        }
    }
    cgroup_anchor(kernel, &chain, new).map(Slot::At)
}

/// How the programs of a place share it.
pub(super) fn sharing(chain: &[Arc<Link>]) -> AttachFlags {
    chain.first().map_or(AttachFlags::empty(), |link| link.flags() & SHARING)
}

/// What an anchor names, which has to be attached in the same way as what is new (`get_prog_list`).
fn cgroup_anchor(kernel: &Inner, chain: &[Arc<Link>], new: &New<'_>) -> Result<usize, Errno> {
    let before = new.flags.contains(AttachFlags::BEFORE);
    let after = new.flags.contains(AttachFlags::AFTER);
    let (by_link, by_id) = (new.flags.bits() & LINK != 0, new.flags.contains(AttachFlags::ID));
    let named = !matches!(new.anchor, LinkAnchor::Default | LinkAnchor::First | LinkAnchor::Last);
    if by_link || by_id || named {
        if before == after || by_link != new.is_link {
            return Err(Errno::EINVAL);
        }
    } else if before && after && !chain.is_empty() {
        return Err(Errno::EINVAL);
    }
    let anchor = match new.anchor {
        LinkAnchor::BeforeProg(fd) | LinkAnchor::AfterProg(fd) => {
            Object::Prog(kernel.object(fd)?.prog()?.clone())
        }
        LinkAnchor::BeforeLink(fd) | LinkAnchor::AfterLink(fd) => {
            Object::Link(kernel.object(fd)?.link()?.clone())
        }
        LinkAnchor::BeforeProgId(id) | LinkAnchor::AfterProgId(id) => {
            Object::Prog(kernel.swept().progs.get(id.0)?)
        }
        LinkAnchor::BeforeLinkId(id) | LinkAnchor::AfterLinkId(id) => {
            Object::Link(kernel.swept().links.get(id.0)?)
        }
        // No program has this id, and no link this descriptor.
        _ if by_id => return Err(Errno::ENOENT),
        _ if by_link => return Err(Errno::EINVAL),
        _ => return Ok(if before { 0 } else { chain.len() }),
    };
    let is_it = |link: &Arc<Link>| match &anchor {
        Object::Prog(prog) => link.is_direct() && Arc::ptr_eq(&link.prog(), prog),
        Object::Link(known) => Arc::ptr_eq(link, known),
        _ => false,
    };
    let at = chain.iter().position(is_it).ok_or(Errno::ENOENT)?;
    let goes_first = |flags: AttachFlags| flags.contains(AttachFlags::PREORDER);
    if chain.get(at).is_some_and(|link| goes_first(link.flags()) != goes_first(new.flags)) {
        return Err(Errno::EINVAL);
    }
    Ok(at + usize::from(after))
}

impl Inner {
    /// Whether the groups around a group let programs be attached in it (`hierarchy_allows_attach`).
    pub(super) fn outer_groups_allow(&self, id: u64, attach_type: AttachType, target: u32) -> bool {
        let outer = self.world().net.cgroups.ancestors(id);
        for id in outer.into_iter().skip(1) {
            let chain = self.chain(&Hook::Cgroup { id, attach_type, target });
            let shares = sharing(&chain);
            if shares.contains(AttachFlags::ALLOW_MULTI) {
                return true;
            }
            if chain.len() == 1 {
                return shares.contains(AttachFlags::ALLOW_OVERRIDE);
            }
        }
        true
    }

    /// The programs that run for a group, in order (`compute_effective_progs`): its own, then those of the groups around
    /// it, unless one of those keeps its program to itself. Those that asked to go first are before all others, from the
    /// outside.
    pub(crate) fn effective(&self, id: u64, attach_type: AttachType, target: u32) -> Vec<Arc<Link>> {
        let groups = self.world().net.cgroups.ancestors(id);
        let (mut first, mut rest) = (Vec::new(), Vec::new());
        for id in groups {
            let chain = self.chain(&Hook::Cgroup { id, attach_type, target });
            let shares = sharing(&chain).contains(AttachFlags::ALLOW_MULTI);
            if !(shares || first.is_empty() && rest.is_empty()) {
                continue;
            }
            let (early, late): (Vec<_>, Vec<_>) =
                chain.into_iter().partition(|link| link.flags().contains(AttachFlags::PREORDER));
            first.splice(0..0, early);
            rest.extend(late);
        }
        first.extend(rest);
        first
    }

    /// The programs that run for the sockets of a control group.
    pub(crate) fn cgroup_chain(&self, path: &str, attach_type: AttachType) -> Vec<Arc<Link>> {
        let id = self.world().net.cgroups.get(path).map_or(1, |group| group.id);
        self.effective(id, attach_type, 0)
    }

    /// The security hooks that programs are attached to in control groups; one that is none for other attach types.
    pub(super) fn hook_types(&self, attach_type: AttachType) -> Vec<u32> {
        if attach_type != AttachType::LSM_CGROUP {
            return vec![0];
        }
        let mut types: Vec<u32> = self
            .all_links()
            .iter()
            .filter_map(|link| match link.place {
                Place::Net(Hook::Cgroup { attach_type: AttachType::LSM_CGROUP, target, .. }) => Some(target),
                _ => None,
            })
            .collect();
        types.sort_unstable();
        types.dedup();
        types
    }
}

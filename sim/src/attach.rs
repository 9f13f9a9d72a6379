//! Attaching programs: what makes the links of the simulated kernel.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use skep_sys::abi::{AttachType, Errno};
use skep_sys::request::{LinkCreate, LinkTarget};

use crate::fd::Access;
use crate::kernel::Inner;
use crate::link::{Link, Place};
use crate::object::Object;
use crate::prog::Prog;

/// Modes of XDP that a link may ask for: `XDP_FLAGS_SKB_MODE`, `_DRV_MODE` and `_HW_MODE`.
const XDP_MODES: u32 = 0b1110;

fn new_link(kernel: &Inner, prog: &Arc<Prog>, place: Place) -> Result<OwnedFd, Errno> {
    let link = kernel.state().links.add(|id| Link::new(id, prog.clone(), place))?;
    kernel.open(Object::Link(link), Access::ALL)
}

pub(crate) fn link_xdp(kernel: &Inner, prog: &Arc<Prog>, request: &LinkCreate<'_>) -> Result<OwnedFd, Errno> {
    if request.attach_type != AttachType::XDP
        || request.flags & !XDP_MODES != 0
        || request.flags.count_ones() > 1
        || matches!(prog.expected_attach_type, AttachType::XDP_DEVMAP | AttachType::XDP_CPUMAP)
    {
        return Err(Errno::EINVAL);
    }
    let LinkTarget::Ifindex(ifindex) = request.target else {
        return Err(Errno::EINVAL);
    };
    if !kernel.config().interfaces.values().any(|&index| index == ifindex) {
        return Err(Errno::EINVAL);
    }
    if kernel.xdp_link(ifindex).is_some() {
        return Err(Errno::EBUSY);
    }
    new_link(kernel, prog, Place::Xdp { ifindex })
}

pub(crate) fn link_raw_tracepoint(kernel: &Inner, prog: &Arc<Prog>, name: &str) -> Result<OwnedFd, Errno> {
    if !kernel.has_tracepoint(name) {
        return Err(Errno::ENOENT);
    }
    new_link(kernel, prog, Place::RawTracepoint(name.to_owned()))
}

/// Attaches a program to what it named at load.
pub(crate) fn link_loaded(kernel: &Inner, prog: &Arc<Prog>) -> Result<OwnedFd, Errno> {
    let target = prog.target.as_ref().ok_or(Errno::EINVAL)?;
    match prog.expected_attach_type {
        AttachType::TRACE_RAW_TP => {
            let name = target.name.strip_prefix("btf_trace_").unwrap_or(&target.name);
            link_raw_tracepoint(kernel, prog, name)
        }
        AttachType::TRACE_ITER => new_link(kernel, prog, Place::Iter),
        attach_type => {
            let (target_obj_id, target_btf_id) = (target.obj_id, target.type_id);
            new_link(kernel, prog, Place::Tracing { attach_type, target_obj_id, target_btf_id })
        }
    }
}

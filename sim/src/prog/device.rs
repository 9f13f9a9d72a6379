//! Programs that are bound to a network device.

use skep_sys::abi::{Errno, ProgFlags, ProgType};
use skep_sys::request::ProgLoad;

use crate::kernel::Inner;

/// Checks the device that a program asks to be bound to (`bpf_prog_dev_bound_init`).
pub(super) fn bound_to(kernel: &Inner, request: &ProgLoad<'_>) -> Result<Option<u32>, Errno> {
    if request.ifindex == 0 {
        return Ok(None);
    }
    let only_bound = request.flags.contains(ProgFlags::XDP_DEV_BOUND_ONLY);
    let known = ProgFlags::XDP_DEV_BOUND_ONLY | ProgFlags::XDP_HAS_FRAGS;
    let is_for = match request.prog_type {
        ProgType::XDP => true,
        ProgType::SCHED_CLS => !only_bound,
        _ => false,
    };
    if !is_for || !known.contains(request.flags) || request.flags == ProgFlags::XDP_HAS_FRAGS {
        return Err(Errno::EINVAL);
    }
    let world = kernel.world();
    let device = world.net.interfaces.get(&request.ifindex).ok_or(Errno::EINVAL)?;
    if device.name == "lo" || device.netkit {
        return Err(Errno::EOPNOTSUPP);
    }
    // No card here executes programs itself.
    if only_bound { Ok(Some(request.ifindex)) } else { Err(Errno::EINVAL) }
}

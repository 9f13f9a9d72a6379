//! Time, chance, and where a program runs.

use super::HelperFn;
use crate::vm::{Trap, Vm};
use crate::world::{TICK, WALL_CLOCK};

pub(super) const HELPERS: &[(i32, HelperFn)] = &[
    (5, |vm, _| Ok(vm.kernel.0.now())),
    (7, prandom),
    (8, |vm, _| Ok(vm.cpu.into())),
    // All CPUs are on one node.
    // `bpf_get_cgroup_classid`: no class is given to tasks here, as where there is no `net_cls`.
    (17, |_, _| Ok(0)),
    (42, |_, _| Ok(0)),
    (118, jiffies),
    // The machine never sleeps.
    (125, |vm, _| Ok(vm.kernel.0.now())),
    (160, coarse),
    (208, |vm, _| Ok(vm.kernel.0.now().saturating_add(WALL_CLOCK))),
];

pub(super) const KFUNCS: &[(&str, HelperFn)] = &[("bpf_get_smp_processor_id", |vm, _| Ok(vm.cpu.into()))];

/// Ticks when the kernel starts: five minutes before the lower half wraps around (`INITIAL_JIFFIES`).
const JIFFIES_AT_START: u64 = (300_000u32).wrapping_neg() as u64;

/// `bpf_get_prandom_u32()`.
fn prandom(vm: &mut Vm, _: [u64; 5]) -> Result<u64, Trap> {
    Ok(u64::from(vm.kernel.0.world().random.next() as u32))
}

/// `bpf_jiffies64()`.
fn jiffies(vm: &mut Vm, _: [u64; 5]) -> Result<u64, Trap> {
    Ok(JIFFIES_AT_START + vm.kernel.0.now() / TICK) // far from the end of 64 bits
}

/// `bpf_ktime_get_coarse_ns()`: the time of the last tick.
fn coarse(vm: &mut Vm, _: [u64; 5]) -> Result<u64, Trap> {
    let now = vm.kernel.0.now();
    Ok(now - now % TICK) // at most the time itself
}

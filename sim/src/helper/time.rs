//! Time, chance, and where a program runs.

use super::HelperFn;
use crate::vm::{Trap, Vm};
use crate::world::{TICK, WALL_CLOCK, jiffies};

pub(super) const HELPERS: &[(i32, HelperFn)] = &[
    (5, |vm, _| Ok(vm.kernel.0.now())),
    (7, prandom),
    (8, |vm, _| Ok(vm.cpu.into())),
    // All CPUs are on one node.
    // `bpf_get_cgroup_classid`: no class is given to tasks here, as where there is no `net_cls`.
    (17, |_, _| Ok(0)),
    (42, |_, _| Ok(0)),
    (118, jiffies64),
    // The machine never sleeps.
    (125, |vm, _| Ok(vm.kernel.0.now())),
    (160, coarse),
    (208, |vm, _| Ok(vm.kernel.0.now().saturating_add(WALL_CLOCK))),
];

pub(super) const KFUNCS: &[(&str, HelperFn)] = &[("bpf_get_smp_processor_id", |vm, _| Ok(vm.cpu.into()))];

/// `bpf_get_prandom_u32()`.
fn prandom(vm: &mut Vm, _: [u64; 5]) -> Result<u64, Trap> {
    Ok(u64::from(vm.kernel.0.world().random.next() as u32))
}

/// `bpf_jiffies64()`.
fn jiffies64(vm: &mut Vm, _: [u64; 5]) -> Result<u64, Trap> {
    Ok(jiffies(vm.kernel.0.now()))
}

/// `bpf_ktime_get_coarse_ns()`: the time of the last tick.
fn coarse(vm: &mut Vm, _: [u64; 5]) -> Result<u64, Trap> {
    let now = vm.kernel.0.now();
    Ok(now - now % TICK) // at most the time itself
}

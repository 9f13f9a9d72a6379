//! Counters of control groups that are added up when somebody asks (`cgroup/rstat.c`).

use super::{HelperFn, refuse};
use crate::event::FunctionCall;
use crate::vm::{Trap, Vm};

pub(super) const KFUNCS: &[(&str, HelperFn)] = &[("css_rstat_updated", updated), ("css_rstat_flush", flush)];

/// The group whose `struct cgroup_subsys_state` is at an address; none for one that only a test described, which counts nothing.
fn group(vm: &mut Vm, css: u64) -> Result<Option<u64>, Trap> {
    let ids = vm.kernel.0.cgroup_ids();
    let found = ids.into_iter().find(|id| vm.kernel.cgroup_css(*id) == Some(css));
    if found.is_none() && vm.memory.read(css, &mut [0]).is_err() {
        return Err(refuse(format!("{css:#x} is not the state of a control group")));
    }
    Ok(found)
}

/// `css_rstat_updated(css, cpu)`: notes that a group counted something on a CPU.
fn updated(vm: &mut Vm, [css, cpu, ..]: [u64; 5]) -> Result<u64, Trap> {
    let Some(group) = group(vm, css)? else { return Ok(0) };
    let cpu = cpu as u32;
    if cpu < vm.kernel.0.config().cpus {
        // The groups around it have to be gone through, too.
        let path = vm.kernel.0.cgroup_path(group);
        vm.kernel.0.world().rstat.updated.extend(path.into_iter().map(|group| (cpu, group)));
    }
    Ok(0)
}

/// `css_rstat_flush(css)`: calls `bpf_rstat_flush` for what has counted in a group and below it, inner groups first, so that the
/// programs that are attached there add it up.
fn flush(vm: &mut Vm, [css, ..]: [u64; 5]) -> Result<u64, Trap> {
    let Some(group) = group(vm, css)? else { return Ok(0) };
    let order = vm.kernel.0.cgroups_below(group, false);
    let calls: Vec<(u32, u64)> = {
        let mut world = vm.kernel.0.world();
        if world.rstat.flushing {
            return Ok(0);
        }
        let cpus = vm.kernel.0.config().cpus;
        let all = (0..cpus).flat_map(|cpu| order.iter().map(move |group| (cpu, *group)));
        let calls: Vec<_> = all.filter(|call| world.rstat.updated.remove(call)).collect();
        world.rstat.flushing = true;
        calls
    };
    let mut failed = None;
    for (cpu, group) in calls {
        let parent = vm.kernel.0.cgroup_path(group).iter().rev().nth(1).copied();
        let address = |id: u64| vm.kernel.cgroup_address(id).unwrap_or_default();
        let call = FunctionCall::new("bpf_rstat_flush").arg(address(group)).arg(parent.map_or(0, address));
        failed = vm.kernel.fire(call.arg(u64::from(cpu)).returns(0)).err().or(failed);
    }
    vm.kernel.0.world().rstat.flushing = false;
    match failed {
        Some(error) => Err(refuse(format!("bpf_rstat_flush: {error}"))),
        None => Ok(0),
    }
}

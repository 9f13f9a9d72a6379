//! How the programs of control groups run, and what they answer together.

use std::sync::Arc;

use skep_sys::abi::{AttachType, Errno, ProgId};

use super::EventError;
use super::packet::Verdict;
use super::scene::Scene;
use crate::kernel::SimKernel;
use crate::link::{Link, Place};
use crate::net::Hook;
use crate::vm::{Trap, Vm};

/// What the programs of a group look at, one after the other.
pub(super) trait Subject {
    /// Puts it into the memory of a run. Answers the address of the context.
    fn begin(&mut self, vm: &mut Vm) -> Result<u64, Trap>;

    /// Takes over what a program has changed.
    fn end(&mut self, vm: &mut Vm);
}

/// What programs said.
#[derive(Debug, Default)]
pub(super) struct Said {
    pub(super) verdicts: Vec<Verdict>,
    /// What the hook answers: 0, or a negative errno.
    pub(super) retval: i32,
}

impl Said {
    pub(super) fn result(&self) -> Result<(), Errno> {
        if self.retval < 0 { Err(Errno(self.retval.saturating_neg())) } else { Ok(()) }
    }
}

/// Runs programs in order (`bpf_prog_run_array_cg`). All of them run: one that says no has the hook answer `EPERM`, unless
/// an error stands already, and the last word is that of the last one.
pub(super) fn run(
    kernel: &SimKernel,
    scene: &Scene,
    chain: &[Arc<Link>],
    subject: &mut impl Subject,
    retval: i32,
) -> Result<Said, EventError> {
    let mut said = Said { verdicts: Vec::new(), retval };
    for link in chain {
        let Place::Net(Hook::Cgroup { id, attach_type, .. }) = link.place else { continue };
        let prog = link.prog();
        let mut vm = Vm::new(kernel, &prog, scene.cpu);
        vm.site = scene.site(kernel, None);
        vm.held.set_cgroup(id, attach_type);
        vm.packet.retval = said.retval;
        let at = subject.begin(&mut vm).map_err(|trap| EventError::Fault(vm.fault_of(trap)))?;
        let value = vm.run(&prog, at).map_err(|fault| {
            kernel.0.world().faults.add((*fault).clone());
            EventError::Fault(fault)
        })? as u32;
        subject.end(&mut vm);
        said.retval = after(attach_type, value, vm.packet.retval);
        let program = prog.name().to_owned();
        said.verdicts.push(Verdict { program, prog_id: ProgId(prog.id), attach_type, value });
    }
    Ok(said)
}

/// What the hook answers after a program that returned a value and left an answer.
pub(super) fn after(attach_type: AttachType, value: u32, left: i32) -> i32 {
    if is_no(attach_type, value) && left >= 0 { -Errno::EPERM.0 } else { left }
}

/// Whether a program refuses. Those that see binds say more with the other bits.
fn is_no(attach_type: AttachType, value: u32) -> bool {
    match attach_type {
        AttachType::CGROUP_INET4_BIND | AttachType::CGROUP_INET6_BIND => value & 1 == 0,
        _ => value == 0,
    }
}

/// A group that is not there.
pub(super) fn no_group(path: &str) -> EventError {
    let what = format!("there is no control group `{path}`; add it with `SimKernel::add_cgroup`");
    EventError::new(Errno::ENOENT, what)
}

/// Whether the group that a socket is said to be in is there.
pub(super) fn check_group(kernel: &SimKernel, path: &str) -> Result<(), EventError> {
    let is_there = kernel.0.world().net.cgroups.get(path).is_some();
    if is_there { Ok(()) } else { Err(no_group(path)) }
}

impl Scene {
    /// The control group of whom it happens to: one that is named, else that of the task.
    pub(super) fn group(&self, kernel: &SimKernel, named: Option<&str>) -> Result<u64, EventError> {
        let world = kernel.0.world();
        if let Some(path) = named {
            let group = world.net.cgroups.get(path).map(|group| group.id);
            return group.ok_or_else(|| no_group(path));
        }
        let pid = self.task.unwrap_or_else(|| world.tasks.current(self.cpu));
        let path = world.tasks.get(pid).map(|task| task.cgroup_path().to_vec()).unwrap_or_default();
        // The innermost one that is one of the kernel's; any directory may stand for a group of a task.
        let known = path.into_iter().rev().find(|id| !world.net.cgroups.ancestors(*id).is_empty());
        Ok(known.unwrap_or(1))
    }
}

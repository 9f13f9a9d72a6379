//! What all events say of where they happen, and how they run programs.

use std::sync::Arc;

use skep_sys::abi::{LinkId, ProgId};

use super::argument::Argument;
use super::outcome::{EventError, Run};
use super::site::{Branch, Site};
use crate::kernel::SimKernel;
use crate::link::{Link, Place};
use crate::prog::Prog;
use crate::vm::{Trap, Vm};

/// Where an event happens.
#[derive(Clone, Debug, Default)]
pub(crate) struct Scene {
    pub(crate) cpu: u32,
    pub(crate) task: Option<u32>,
    pub(crate) kernel_stack: Option<Arc<[u64]>>,
    pub(crate) user_stack: Option<Arc<[u64]>>,
    pub(crate) branches: Vec<Branch>,
    /// Whether it is a part of another event, which has said where it is.
    pub(crate) is_part: bool,
}

/// Whether a kernel has a CPU.
pub(super) fn check_cpu(kernel: &SimKernel, cpu: u32) -> Result<(), EventError> {
    let cpus = kernel.0.config().cpus;
    if cpu < cpus { Ok(()) } else { Err(EventError::NoCpu { cpu, cpus }) }
}

impl Scene {
    pub(crate) fn check(&self, kernel: &SimKernel) -> Result<(), EventError> {
        check_cpu(kernel, self.cpu)
    }

    /// What runs at an address of the kernel know. Without a stack that is told, they are called by nobody.
    pub(crate) fn site(&self, kernel: &SimKernel, ip: Option<u64>) -> Site {
        let world = kernel.0.world();
        let pid = self.task.unwrap_or_else(|| world.tasks.current(self.cpu));
        let of_task = |user| world.tasks.get(pid).map(|task| Arc::from(task.stack(user)));
        let kernel_stack = self.kernel_stack.clone().or_else(|| ip.map(|ip| Arc::from([ip])));
        Site {
            task: self.task,
            kernel_stack: kernel_stack.or_else(|| of_task(false)).unwrap_or_default(),
            user_stack: self.user_stack.clone().or_else(|| of_task(true)).unwrap_or_default(),
            branches: self.branches.clone().into(),
            ..Site::default()
        }
    }
}

/// The setters that all events have.
macro_rules! scene {
    ($event:ident) => {
        impl $event {
            /// As another event that it is a part of.
            #[allow(dead_code, reason = "only parts of other events need it")]
            pub(crate) fn in_scene(mut self, scene: &$crate::event::Scene) -> Self {
                self.scene = $crate::event::Scene { is_part: true, ..scene.clone() };
                self
            }

            /// The CPU that it happens on. 0 by default.
            pub fn cpu(mut self, cpu: u32) -> Self {
                self.scene.cpu = cpu;
                self
            }

            /// The task that it happens in. The [current one](crate::SimKernel::set_current) by default. One that was not
            /// [added](crate::SimKernel::add_task) is as [`Task::new`](crate::Task::new) makes it.
            pub fn task(mut self, pid: u32) -> Self {
                self.scene.task = Some(pid);
                self
            }

            /// The functions of the kernel that called each other, from the innermost on, as addresses.
            pub fn kernel_stack(mut self, addresses: impl IntoIterator<Item = u64>) -> Self {
                self.scene.kernel_stack = Some(addresses.into_iter().collect());
                self
            }

            /// The functions of the process that called each other, from the innermost on, as addresses.
            pub fn user_stack(mut self, addresses: impl IntoIterator<Item = u64>) -> Self {
                self.scene.user_stack = Some(addresses.into_iter().collect());
                self
            }

            /// Branches that the CPU took before, the last first: `(from, to)`.
            pub fn branches(mut self, branches: impl IntoIterator<Item = (u64, u64)>) -> Self {
                let branches = branches.into_iter();
                self.scene.branches = branches.map(|(from, to)| $crate::event::Branch { from, to }).collect();
                self
            }
        }
    };
}

/// The setters of events with arguments.
macro_rules! arguments {
    ($event:ident) => {
        impl $event {
            /// Adds an argument: a number, or an object whose address it is.
            pub fn arg(mut self, value: impl Into<$crate::event::Argument>) -> Self {
                self.args.push(value.into().0);
                self
            }

            /// Adds arguments.
            pub fn args(
                mut self,
                values: impl IntoIterator<Item = impl Into<$crate::event::Argument>>,
            ) -> Self {
                self.args.extend(values.into_iter().map(|value| value.into().0));
                self
            }
        }
    };
}

pub(super) use {arguments, scene};

/// Attached links for which `at` answers something, in the order in which they were attached, with that.
pub(super) fn attached<T>(kernel: &SimKernel, mut at: impl FnMut(&Link) -> Option<T>) -> Vec<(Arc<Link>, T)> {
    let links: Vec<_> = kernel.0.swept().links.iter().collect();
    let attached = links.into_iter().filter(|link| link.is_attached());
    attached.filter_map(|link| at(&link).map(|found| (link.clone(), found))).collect()
}

/// Runs the program of a link in a context that is plain bytes.
pub(crate) fn run_link(
    kernel: &SimKernel,
    link: &Link,
    cpu: u32,
    site: Site,
    context: impl FnOnce(&mut Vm) -> Result<u64, Trap>,
) -> (Run, Site) {
    run_prog(kernel, &link.prog(), LinkId(link.id), cpu, site, context)
}

pub(crate) fn run_prog(
    kernel: &SimKernel,
    prog: &Arc<Prog>,
    link_id: LinkId,
    cpu: u32,
    site: Site,
    context: impl FnOnce(&mut Vm) -> Result<u64, Trap>,
) -> (Run, Site) {
    run_prog_then(kernel, prog, link_id, cpu, site, context, |_| ())
}

/// The same, and looks at the run when it has ended.
pub(super) fn run_prog_then(
    kernel: &SimKernel,
    prog: &Arc<Prog>,
    link_id: LinkId,
    cpu: u32,
    site: Site,
    context: impl FnOnce(&mut Vm) -> Result<u64, Trap>,
    end: impl FnOnce(&mut Vm),
) -> (Run, Site) {
    let mut vm = Vm::new(kernel, prog, cpu);
    let cookie = site.cookie;
    vm.site = site;
    let result = vm.begin(context).and_then(|context| vm.run(prog, context));
    if let Err(fault) = &result {
        kernel.0.world().faults.add((**fault).clone());
    }
    end(&mut vm);
    let mut site = std::mem::take(&mut vm.site);
    if let Some(session) = &mut site.session
        && let Some(address) = session.address.take()
    {
        let mut bytes = [0; 8];
        if vm.memory.read(address, &mut bytes).is_ok() {
            session.cookie = u64::from_ne_bytes(bytes);
        }
    }
    let run = Run {
        program: prog.name().to_owned(),
        prog_id: ProgId(prog.id),
        link_id,
        cookie,
        result,
        effects: std::mem::take(&mut site.effects),
    };
    (run, site)
}

/// Whether a link is of a tracing program of an attach type and a function.
pub(super) fn is_tracing(link: &Link, types: &[skep_sys::abi::AttachType], name: &str) -> bool {
    matches!(&link.place, Place::Tracing { attach_type, .. } if types.contains(attach_type))
        && link.prog().target.as_ref().is_some_and(|target| target.prog.is_none() && target.name == name)
}

/// The words of a context.
pub(super) fn words(values: &[u64]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_ne_bytes()).collect()
}

impl From<Argument> for u64 {
    fn from(argument: Argument) -> u64 {
        argument.0
    }
}

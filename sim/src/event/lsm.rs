//! Hooks of the kernel's security modules.

use std::sync::Arc;

use skep_sys::abi::{AttachType, LinkId};

use super::Event;
use super::call::typed_context;
use super::group;
use super::known::{self, Named};
use super::outcome::{EventError, Run, Runs};
use super::scene::{Scene, arguments, attached, is_tracing, run_link, run_prog_then, scene};
use super::site::Site;
use crate::kernel::SimKernel;
use crate::link::{Link, Place};
use crate::net::Hook;
use crate::vm::{Trap, Vm, What};

/// A hook of the kernel's security modules: `file_open`, `bprm_check_security`, `socket_connect`.
///
/// The programs of hooks that decide (`lsm`) run until one returns something else than 0, which is the verdict: the one that was
/// attached last comes first. Those of hooks that return nothing all run.
///
/// Behind them are those of the control groups that the task is in (`lsm_cgroup`, Linux 6.0). All of these run; one that returns 0
/// refuses, and they may say with which error (`bpf_set_retval`). Linux asks those of the task also about sockets of other groups.
///
/// ```
/// # let sim = skep_sim::SimKernel::builder().btf(std::fs::read("../testdata/btf/6.18.btf")?).build()?;
/// let file = sim.memory().put(&[0; 256]);
/// let outcome = sim.fire(skep_sim::Lsm::new("file_open").arg(file))?;
/// assert_eq!(outcome.verdict, 0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct Lsm {
    name: String,
    args: Vec<u64>,
    cgroup: Option<String>,
    scene: Scene,
}

/// What the programs of a hook said.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[must_use]
pub struct LsmOutcome {
    /// The programs that ran, in order.
    pub runs: Runs,
    /// 0, or the negative errno of the program that refused.
    pub verdict: i32,
}

scene!(Lsm);
arguments!(Lsm);

impl Lsm {
    /// The hook with that name, without the `bpf_lsm_` of its function.
    pub fn new(name: impl Into<String>) -> Lsm {
        Lsm { name: name.into(), args: Vec::new(), cgroup: None, scene: Scene::default() }
    }

    /// The control group that it happens in: that of the task by default.
    pub fn cgroup(mut self, path: impl Into<String>) -> Lsm {
        self.cgroup = Some(path.into());
        self
    }
}

impl Event for Lsm {
    type Outcome = LsmOutcome;

    fn happen(self, kernel: &SimKernel) -> Result<LsmOutcome, EventError> {
        self.scene.check(kernel)?;
        let group = self.scene.group(kernel, self.cgroup.as_deref())?;
        let function = format!("bpf_lsm_{}", self.name);
        let address = kernel.0.function_address(&function);
        let found =
            attached(kernel, |link| is_tracing(link, &[AttachType::LSM_MAC], &function).then_some(()));
        let of_groups = of_groups(kernel, group, &function);
        if found.is_empty() && of_groups.is_empty() {
            known::check(kernel, &self.scene, Named::Lsm(self.name.clone()))?;
        }
        let mut runs = Vec::new();
        for (link, ()) in found.into_iter().rev() {
            let decides = decides(kernel, &link);
            let (site, bytes) = self.context(kernel, &link, address, decides);
            let context = |vm: &mut Vm| -> Result<u64, Trap> { vm.own(What::Context, bytes, false) };
            let (run, _) = run_link(kernel, &link, self.scene.cpu, site, context);
            let verdict = run.result.as_ref().map_or(0, |value| *value as i32);
            runs.push(run);
            if decides && verdict != 0 {
                return Ok(LsmOutcome { runs: Runs(runs), verdict });
            }
        }
        let verdict = self.ask_groups(kernel, &of_groups, address, &mut runs);
        Ok(LsmOutcome { runs: Runs(runs), verdict })
    }
}

impl Lsm {
    fn context(&self, kernel: &SimKernel, link: &Link, address: u64, decides: bool) -> (Site, Vec<u8>) {
        let site = Site { cookie: link.cookie, func_ip: address, ..self.scene.site(kernel, Some(address)) };
        typed_context(kernel, link, site, &self.args, decides.then_some(0))
    }

    /// Runs the programs of groups, and answers what they said (`bpf_prog_run_array_cg`).
    fn ask_groups(&self, kernel: &SimKernel, chain: &[Arc<Link>], address: u64, runs: &mut Vec<Run>) -> i32 {
        let mut verdict = 0;
        for link in chain {
            let Place::Net(Hook::Cgroup { id, attach_type, .. }) = link.place else { continue };
            let decides = decides(kernel, link);
            let (site, bytes) = self.context(kernel, link, address, decides);
            let begin = |vm: &mut Vm| -> Result<u64, Trap> {
                vm.held.set_cgroup(id, attach_type);
                vm.packet.retval = verdict;
                vm.own(What::Context, bytes, false)
            };
            let mut said = verdict;
            let end = |vm: &mut Vm| said = vm.packet.retval;
            let (run, _) =
                run_prog_then(kernel, &link.prog(), LinkId(link.id), self.scene.cpu, site, begin, end);
            // One that faults says nothing.
            if decides && let Ok(value) = run.result {
                verdict = group::after(attach_type, value as u32, said);
            }
            runs.push(run);
        }
        verdict
    }
}

/// Whether the hook of a program has an answer.
fn decides(kernel: &SimKernel, link: &Link) -> bool {
    link.prog().target.as_ref().is_none_or(|target| kernel.0.returns_something(target))
}

/// The programs of a hook in a control group and those that it is in, in their order.
fn of_groups(kernel: &SimKernel, group: u64, function: &str) -> Vec<Arc<Link>> {
    let hook = kernel.0.all_links().iter().find_map(|link| match link.place {
        Place::Net(Hook::Cgroup { attach_type: AttachType::LSM_CGROUP, target, .. }) => {
            let prog = link.prog();
            prog.target.as_ref().is_some_and(|known| known.name == function).then_some(target)
        }
        _ => None,
    });
    hook.map_or_else(Vec::new, |hook| kernel.0.effective(group, AttachType::LSM_CGROUP, hook))
}

//! Settings of the kernel, below `/proc/sys`.

use skep_sys::abi::{AttachType, Errno};

use super::group::{self, Subject};
use super::packet::Verdict;
use super::scene::Scene;
use super::{Event, EventError};
use crate::kernel::SimKernel;
use crate::packet;
use crate::vm::{Trap, Vm};

/// Most bytes that are written at once.
const PAGE: usize = 4096;

/// A process reads or writes a setting of the kernel (`/proc/sys/NAME`): the programs of its control group see the name and the values, may
/// put another value in the place of the one that is written, and may refuse.
///
/// ```
/// use skep_sim::{SimKernel, Sysctl};
///
/// let sim = SimKernel::new();
/// sim.set_sysctl("net/ipv4/ip_forward", "0");
/// // No program is attached.
/// assert_eq!(sim.fire(Sysctl::write("net/ipv4/ip_forward", "1"))?.result, Ok("1".into()));
/// assert_eq!(sim.fire(Sysctl::read("net/ipv4/ip_forward"))?.result, Ok("1\n".into()));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct Sysctl {
    name: String,
    new: Option<Vec<u8>>,
    position: u32,
    cgroup: Option<String>,
    scene: Scene,
}

/// What became of reading or writing a setting.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[must_use = "it tells whether the call was refused"]
pub struct SysctlOutcome {
    /// What was read or written; or what the process is told: [`Errno::EPERM`] when a program refused, unless it said something else
    /// (`bpf_set_retval`).
    pub result: Result<Vec<u8>, Errno>,
    /// Where in the file, which programs may change.
    pub position: u32,
    /// The programs that saw it, in order.
    pub verdicts: Vec<Verdict>,
}

super::scene::scene!(Sysctl);

impl Sysctl {
    fn new(name: impl Into<String>, new: Option<Vec<u8>>) -> Sysctl {
        let name = name.into().trim_matches('/').to_owned();
        Sysctl { name, new, position: 0, cgroup: None, scene: Scene::default() }
    }

    /// Reads a setting, by its path below `/proc/sys`.
    pub fn read(name: impl Into<String>) -> Sysctl {
        Sysctl::new(name, None)
    }

    /// Writes a setting.
    pub fn write(name: impl Into<String>, value: impl Into<Vec<u8>>) -> Sysctl {
        Sysctl::new(name, Some(value.into()))
    }

    /// Where in the file: 0 by default.
    pub fn position(mut self, position: u32) -> Sysctl {
        self.position = position;
        self
    }

    /// The control group that it happens in: that of the task by default.
    pub fn cgroup(mut self, path: impl Into<String>) -> Sysctl {
        self.cgroup = Some(path.into());
        self
    }
}

impl Event for Sysctl {
    type Outcome = SysctlOutcome;

    fn happen(self, kernel: &SimKernel) -> Result<SysctlOutcome, EventError> {
        self.scene.check(kernel)?;
        let group = self.scene.group(kernel, self.cgroup.as_deref())?;
        let current = kernel.0.world().sysctls.get(&self.name).cloned();
        let current = current.ok_or_else(|| {
            EventError::new(
                Errno::ENOENT,
                format!(
                    "there is no setting /proc/sys/{}; give it a value with `SimKernel::set_sysctl`",
                    self.name
                ),
            )
        })?;
        let mut new = self.new.clone();
        if let Some(new) = &mut new {
            new.truncate(PAGE);
        }
        let chain = kernel.0.effective(group, AttachType::CGROUP_SYSCTL, 0);
        let context = packet::Sysctl {
            name: self.name.clone(),
            current: current.clone(),
            new,
            is_changed: false,
            position: self.position,
        };
        let mut seen = Seen(context);
        let said = group::run(kernel, &self.scene, &chain, &mut seen, 0)?;
        let Seen(packet::Sysctl { new, is_changed, position, .. }) = seen;
        let result = said.result().map(|()| match (self.new, new) {
            (Some(written), new) => {
                let written = new.filter(|_| is_changed).unwrap_or(written);
                kernel.set_sysctl(self.name, written.clone());
                written
            }
            (None, _) => current.get(position as usize..).unwrap_or_default().to_vec(),
        });
        Ok(SysctlOutcome { result, position, verdicts: said.verdicts })
    }
}

/// A setting in the memory of runs.
struct Seen(packet::Sysctl);

impl Subject for Seen {
    fn begin(&mut self, vm: &mut Vm) -> Result<u64, Trap> {
        vm.memory.add_context(Box::new(self.0.clone()))
    }

    fn end(&mut self, vm: &mut Vm) {
        if let Some(after) = vm.memory.context::<packet::Sysctl>() {
            self.0 = after.clone();
        }
    }
}

impl SimKernel {
    /// Gives a setting of the kernel a value, by its path below `/proc/sys`. It is read with a newline behind it. There are
    /// `kernel/ostype` and `kernel/osrelease` at the start.
    pub fn set_sysctl(&self, name: impl Into<String>, value: impl Into<Vec<u8>>) {
        let mut value = value.into();
        while value.last().is_some_and(|byte| matches!(byte, 0 | b'\n')) {
            value.pop();
        }
        value.push(b'\n');
        self.0.world().sysctls.insert(name.into().trim_matches('/').to_owned(), value);
    }

    /// The value of a setting, without the newline.
    pub fn sysctl(&self, name: &str) -> Option<Vec<u8>> {
        let world = self.0.world();
        let value = world.sysctls.get(name.trim_matches('/'))?;
        Some(value.strip_suffix(b"\n").unwrap_or(value).to_vec())
    }
}

//! Files of devices that processes open and make.

use skep_sys::abi::{AttachType, Errno};

use super::group::{self, Subject};
use super::packet::Verdict;
use super::scene::Scene;
use super::{Event, EventError};
use crate::kernel::SimKernel;
use crate::vm::{Trap, Vm, What};

/// A process opens the file of a device, or makes one: the programs of its control group may refuse.
///
/// ```
/// use skep_sim::{DeviceAccess, SimKernel};
///
/// let sim = SimKernel::new();
/// let null = sim.fire(DeviceAccess::character(1, 3).read().write())?; // /dev/null
/// assert_eq!(null.result, Ok(()));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct DeviceAccess {
    kind: u32,
    access: u32,
    major: u32,
    minor: u32,
    cgroup: Option<String>,
    scene: Scene,
}

/// Whether a device may be used.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[must_use = "it tells whether the call was refused"]
pub struct DeviceOutcome {
    /// What the process is told: [`Errno::EPERM`] when a program refused, unless it said something else (`bpf_set_retval`).
    pub result: Result<(), Errno>,
    /// The programs that saw it, in order.
    pub verdicts: Vec<Verdict>,
}

/// `BPF_DEVCG_DEV_BLOCK`, `BPF_DEVCG_DEV_CHAR`.
const BLOCK: u32 = 1;
const CHARACTER: u32 = 2;
/// `BPF_DEVCG_ACC_MKNOD` and its like.
const MKNOD: u32 = 1;
const READ: u32 = 2;
const WRITE: u32 = 4;

super::scene::scene!(DeviceAccess);

impl DeviceAccess {
    fn new(kind: u32, major: u32, minor: u32) -> DeviceAccess {
        DeviceAccess { kind, access: 0, major, minor, cgroup: None, scene: Scene::default() }
    }

    /// A character device.
    pub fn character(major: u32, minor: u32) -> DeviceAccess {
        DeviceAccess::new(CHARACTER, major, minor)
    }

    /// A block device.
    pub fn block(major: u32, minor: u32) -> DeviceAccess {
        DeviceAccess::new(BLOCK, major, minor)
    }

    /// To read.
    pub fn read(mut self) -> DeviceAccess {
        self.access |= READ;
        self
    }

    /// To write.
    pub fn write(mut self) -> DeviceAccess {
        self.access |= WRITE;
        self
    }

    /// To make the file (`mknod`).
    pub fn make(mut self) -> DeviceAccess {
        self.access |= MKNOD;
        self
    }

    /// The control group that it happens in: that of the task by default.
    pub fn cgroup(mut self, path: impl Into<String>) -> DeviceAccess {
        self.cgroup = Some(path.into());
        self
    }
}

impl Event for DeviceAccess {
    type Outcome = DeviceOutcome;

    fn happen(self, kernel: &SimKernel) -> Result<DeviceOutcome, EventError> {
        self.scene.check(kernel)?;
        let group = self.scene.group(kernel, self.cgroup.as_deref())?;
        let chain = kernel.0.effective(group, AttachType::CGROUP_DEVICE, 0);
        let words = [self.access << 16 | self.kind, self.major, self.minor];
        let said = group::run(kernel, &self.scene, &chain, &mut Words(words), 0)?;
        Ok(DeviceOutcome { result: said.result(), verdicts: said.verdicts })
    }
}

/// `struct bpf_cgroup_dev_ctx`.
struct Words([u32; 3]);

impl Subject for Words {
    fn begin(&mut self, vm: &mut Vm) -> Result<u64, Trap> {
        let bytes = self.0.iter().flat_map(|word| word.to_ne_bytes()).collect();
        vm.own(What::Context, bytes, false)
    }

    fn end(&mut self, _: &mut Vm) {}
}

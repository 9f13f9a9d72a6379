//! What happens around every call: it can be recorded, and it can be made to fail.

use std::sync::atomic::{AtomicBool, Ordering};

use skep_sys::Backend;
use skep_sys::abi::Errno;
use skep_sys::wrap::parts::{Around, Described, Names, wrapper};
use skep_sys::wrap::{Calls, Command, Faults};

use crate::kernel::SimKernel;

/// The record of calls and the rules of what fails, which take time only once they are asked for.
#[derive(Debug, Default)]
pub(crate) struct CallHooks {
    calls: Calls,
    recorded: AtomicBool,
    faults: Faults,
    counted: AtomicBool,
}

impl CallHooks {
    /// Calls that fail from the start.
    pub(crate) fn new(failing: &[(Command, u64, Errno)]) -> CallHooks {
        let hooks = CallHooks::default();
        for &(command, nth, errno) in failing {
            hooks.faults.fail_command(command, nth, errno);
        }
        hooks.counted.store(!failing.is_empty(), Ordering::Relaxed);
        hooks
    }
}

impl SimKernel {
    /// Records every call of this kernel from now on, whoever makes it.
    ///
    /// ```
    /// use skep_sys::abi::MapType;
    /// use skep_sys::{Kernel, request::MapCreate};
    ///
    /// let sim = skep_sim::SimKernel::new();
    /// let calls = sim.log_calls();
    /// let map = Kernel::new(sim).map_create(&MapCreate::new(MapType::ARRAY, 4, 4, 1))?;
    /// map.update(&[0; 4], &[1, 2, 3, 4], Default::default())?;
    /// assert_eq!(
    ///     calls.text(),
    ///     "map_create array \"\" key=4 value=4 max=1 flags=0x0 = fd1\n\
    ///      map_update fd1 key=00000000 value=01020304 flags=0x0 = ok\n",
    /// );
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn log_calls(&self) -> Calls {
        let hooks = self.0.calls();
        hooks.recorded.store(true, Ordering::Relaxed);
        hooks.calls.clone()
    }

    /// Lets calls of this kernel fail, and counts them: the same as
    /// [`FaultInjection`](skep_sys::wrap::FaultInjection) around it. From the start there is
    /// [`Builder::fail`](crate::Builder::fail).
    ///
    /// ```
    /// use skep_sys::abi::{Errno, MapType};
    /// use skep_sys::wrap::Command;
    /// use skep_sys::{Kernel, request::MapCreate};
    ///
    /// let sim = skep_sim::SimKernel::new();
    /// sim.faults_of_calls().fail_command(Command::MAP_CREATE, 2, Errno::ENOMEM);
    /// let kernel = Kernel::new(sim);
    /// let array = MapCreate::new(MapType::ARRAY, 4, 4, 1);
    /// assert!(kernel.map_create(&array).is_ok());
    /// assert_eq!(kernel.map_create(&array).unwrap_err(), Errno::ENOMEM);
    /// assert!(kernel.map_create(&array).is_ok());
    /// ```
    pub fn faults_of_calls(&self) -> Faults {
        let hooks = self.0.calls();
        hooks.counted.store(true, Ordering::Relaxed);
        hooks.faults.clone()
    }
}

impl Around for SimKernel {
    type Inner = dyn Backend;

    fn inner(&self) -> &(dyn Backend + 'static) {
        &self.0
    }

    fn describes(&self) -> Option<Names> {
        let hooks = self.0.calls();
        hooks.recorded.load(Ordering::Relaxed).then(|| hooks.calls.names())
    }

    fn before(&self, command: &'static str) -> Option<Errno> {
        let hooks = self.0.calls();
        let fails = if hooks.counted.load(Ordering::Relaxed) { hooks.faults.before(command) } else { None };
        fails.or_else(|| self.0.may_call(command).err())
    }

    fn after(&self, call: Described, failed: Option<Errno>) {
        let hooks = self.0.calls();
        if hooks.recorded.load(Ordering::Relaxed) {
            hooks.calls.add(call, failed);
        }
    }
}

wrapper!(SimKernel);

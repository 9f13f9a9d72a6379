//! Functions that a test gives to its kernel.

use std::fmt;
use std::sync::Arc;

use crate::kernel::SimKernel;
use crate::vm::{Trap, Vm};

type Call = dyn Fn(&mut HelperCall<'_>) -> Result<u64, String> + Send + Sync;

/// A function of a test.
#[derive(Clone)]
pub(crate) struct CustomFunction(Arc<Call>);

impl CustomFunction {
    pub(crate) fn new(
        call: impl Fn(&mut HelperCall<'_>) -> Result<u64, String> + Send + Sync + 'static,
    ) -> CustomFunction {
        CustomFunction(Arc::new(call))
    }

    pub(crate) fn call(&self, call: &mut HelperCall<'_>) -> Result<u64, String> {
        (self.0)(call)
    }
}

impl fmt::Debug for CustomFunction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a function of a test")
    }
}

/// A call of a helper or kernel function that was registered with [`Builder::helper`](crate::Builder::helper) or
/// [`Builder::kfunc`](crate::Builder::kfunc): its arguments, and the memory that the program sees.
#[derive(Debug)]
pub struct HelperCall<'a> {
    vm: &'a mut Vm,
    args: [u64; 5],
}

impl<'a> HelperCall<'a> {
    pub(crate) fn new(vm: &'a mut Vm, args: [u64; 5]) -> HelperCall<'a> {
        HelperCall { vm, args }
    }

    /// `r1` to `r5`. A function that takes fewer arguments finds there what the registers held before.
    pub fn args(&self) -> [u64; 5] {
        self.args
    }

    /// The CPU that the program runs on.
    pub fn cpu(&self) -> u32 {
        self.vm.cpu
    }

    /// The kernel that the program runs in.
    pub fn kernel(&self) -> &SimKernel {
        &self.vm.kernel
    }

    /// Name of the program that runs.
    pub fn program(&self) -> &str {
        self.vm.prog().name()
    }

    /// Reads bytes at an address that the program knows.
    ///
    /// # Errors
    /// Says why the bytes cannot be read. Answered by the function, it ends the program with a fault.
    pub fn read(&mut self, address: u64, to: &mut [u8]) -> Result<(), String> {
        self.vm.memory.read(address, to).map_err(text)
    }

    /// Reads a string up to its NUL, at most `max` bytes of it.
    ///
    /// # Errors
    /// As [`read`](HelperCall::read).
    pub fn read_string(&mut self, address: u64, max: usize) -> Result<Vec<u8>, String> {
        self.vm.memory.string(address, max).map_err(text)
    }

    /// Writes bytes at an address that the program knows.
    ///
    /// # Errors
    /// Says why the bytes cannot be written. Answered by the function, it ends the program with a fault.
    pub fn write(&mut self, address: u64, from: &[u8]) -> Result<(), String> {
        self.vm.memory.write(address, from).map_err(text)
    }

    /// Calls a function of the program that it gave a pointer to, and answers what that returns.
    ///
    /// # Errors
    /// When there is no function at the address, or a fault ended it.
    pub fn call(&mut self, function: u64, args: [u64; 5]) -> Result<u64, String> {
        self.vm.call(function, args).map_err(text)
    }
}

fn text(trap: Trap) -> String {
    trap.into_kind().to_string()
}

//! Functions that a test gives to its kernel.

use std::fmt;
use std::sync::Arc;

use skep_sys::abi::{Errno, MapType, ProgType};

use crate::kernel::SimKernel;
use crate::map::Map;
use crate::vm::{Trap, Vm, What};
use crate::world::TraceLine;

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
/// [`Builder::kfunc`](crate::Builder::kfunc): its arguments, the memory and the maps that the program sees, and the kernel.
///
/// What the function answers goes to `r0`. Helpers answer errors as negative numbers, which [`errno`](HelperCall::errno)
/// makes; an `Err` is no answer but ends the program with [`FaultKind::Helper`](crate::FaultKind::Helper).
///
/// ```
/// use skep_asm::{Assembler, Reg};
/// use skep_sim::{HelperCall, SimKernel};
/// use skep_sys::abi::{Errno, MapType, ProgType};
/// use skep_sys::request::{MapCreate, ProgLoad, TestRun};
/// use skep_sys::Kernel;
///
/// // `bpf_get_current_uid_gid`, of whoever the test says; the second call finds nobody.
/// let sim = SimKernel::builder()
///     .helper(15, |call| {
///         let asked = call.map_named("asked")?;
///         let times = asked.lookup(&[0; 4]).map_or(0, |times| times[0]);
///         asked.update(&[0; 4], &[times + 1], 0).map_err(|errno| errno.to_string())?;
///         Ok(if times == 0 { 1000 } else { HelperCall::errno(Errno::ESRCH) })
///     })
///     .build()?;
/// let kernel = Kernel::new(sim);
/// let mut request = MapCreate::new(MapType::ARRAY, 4, 1, 1);
/// request.name = "asked";
/// let asked = kernel.map_create(&request)?;
///
/// let mut asm = Assembler::new();
/// asm.call_helper(15).exit();
/// let program = kernel.prog_load(&ProgLoad::new(ProgType::RAW_TRACEPOINT, &asm.finish()?, "GPL"), None)?;
/// let run = || program.test_run(&mut TestRun::default()).unwrap().retval as i32;
/// assert_eq!((run(), run()), (1000, -3));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
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

    /// The answer that stands for an errno.
    pub fn errno(errno: Errno) -> u64 {
        super::negative(errno)
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

    /// Kind of the program that runs.
    pub fn prog_type(&self) -> ProgType {
        self.vm.prog().prog_type
    }

    /// Reads bytes at an address that the program knows.
    ///
    /// # Errors
    /// Says why the bytes cannot be read. Answered by the function, it ends the program with a fault.
    pub fn read(&mut self, address: u64, to: &mut [u8]) -> Result<(), String> {
        self.vm.memory.read(address, to).map_err(text)
    }

    /// Reads so many bytes, such as a number: `u32::from_ne_bytes(call.read_bytes(address)?)`.
    ///
    /// # Errors
    /// As [`read`](HelperCall::read).
    pub fn read_bytes<const N: usize>(&mut self, address: u64) -> Result<[u8; N], String> {
        let mut bytes = [0; N];
        self.read(address, &mut bytes)?;
        Ok(bytes)
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

    /// Gives the program memory until its run ends, for a function that answers a pointer. Answers its address.
    ///
    /// # Errors
    /// When the run has as many pieces of memory as it may have.
    pub fn allocate(&mut self, bytes: &[u8], writable: bool) -> Result<u64, String> {
        self.vm.own(What::Other("memory of a helper of the test"), bytes.to_vec(), writable).map_err(text)
    }

    /// The map whose address is an argument.
    ///
    /// # Errors
    /// Says that it is no map.
    pub fn map(&self, address: u64) -> Result<HelperMap, String> {
        let map = self.vm.memory.map(address).map_err(text)?;
        Ok(HelperMap { map, cpu: self.vm.cpu })
    }

    /// The map of a name: the oldest one that has it.
    ///
    /// # Errors
    /// Says that the kernel has none.
    pub fn map_named(&self, name: &str) -> Result<HelperMap, String> {
        let maps: Vec<Arc<Map>> = self.vm.kernel.0.swept().maps.iter().collect();
        let found = maps.into_iter().find(|map| map.name == name);
        let map = found.ok_or_else(|| format!("the kernel has no map `{name}`"))?;
        Ok(HelperMap { map, cpu: self.vm.cpu })
    }

    /// The address of the value at a key of a map, as the program gets it from `bpf_map_lookup_elem`; 0 for none.
    ///
    /// # Errors
    /// When the run has as many pieces of memory as it may have.
    pub fn value_pointer(&mut self, map: &HelperMap, key: &[u8]) -> Result<u64, String> {
        match map.map.value(key, map.cpu) {
            Ok(Some(value)) => self.vm.value_address(&map.map, &value).map_err(text),
            _ => Ok(0),
        }
    }

    /// Calls the kernel's own helper of a number, such as the one that this function stands in for.
    ///
    /// # Errors
    /// When it is not simulated, or its arguments are a fault.
    pub fn helper(&mut self, number: i32, args: [u64; 5]) -> Result<u64, String> {
        let function = super::builtin(number).ok_or_else(|| format!("helper {number} is not simulated"))?;
        function(self.vm, args).map_err(text)
    }

    /// Calls the kernel's own function of a name.
    ///
    /// # Errors
    /// As [`helper`](HelperCall::helper).
    pub fn kfunc(&mut self, name: &str, args: [u64; 5]) -> Result<u64, String> {
        let function = super::kfunc(name).ok_or_else(|| format!("{name} is not simulated"))?;
        function(self.vm, args).map_err(text)
    }

    /// Adds a line to what programs print, which [`SimKernel::trace`] answers.
    pub fn print(&mut self, text: impl Into<String>) {
        let line = TraceLine::new(self.vm, text.into());
        self.vm.kernel.0.world().trace.add(line);
    }

    /// Calls a function of the program that it gave a pointer to, and answers what that returns.
    ///
    /// # Errors
    /// When there is no function at the address, or a fault ended it.
    pub fn call(&mut self, function: u64, args: [u64; 5]) -> Result<u64, String> {
        self.vm.call(function, args).map_err(text)
    }
}

/// A map as a program sees it, on the CPU that it runs on. Found with [`HelperCall::map`].
#[derive(Clone, Debug)]
pub struct HelperMap {
    map: Arc<Map>,
    cpu: u32,
}

impl HelperMap {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.map.name
    }

    /// Its kind.
    pub fn map_type(&self) -> MapType {
        self.map.shape.kind
    }

    /// A copy of the value at a key, of a per-CPU kind that of the program's CPU.
    pub fn lookup(&self, key: &[u8]) -> Option<Vec<u8>> {
        let value = self.map.value(key, self.cpu).ok()??;
        let mut bytes = vec![0; value.len()];
        value.read(0, &mut bytes).ok()?;
        Some(bytes)
    }

    /// `bpf_map_update_elem`.
    ///
    /// # Errors
    /// What the helper answers; [`Errno::EFAULT`] when key or value have another length than the map's.
    pub fn update(&self, key: &[u8], value: &[u8], flags: u64) -> Result<(), Errno> {
        self.map.program_update(key, value, flags, self.cpu)
    }

    /// `bpf_map_delete_elem`.
    ///
    /// # Errors
    /// As [`update`](HelperMap::update).
    pub fn delete(&self, key: &[u8]) -> Result<(), Errno> {
        self.map.program_delete(key)
    }
}

fn text(trap: Trap) -> String {
    trap.into_kind().to_string()
}

//! The memory of the kernel and of its processes, as far as a test described it.

use std::collections::BTreeMap;

use super::pages::{PAGE, Pages};

/// Where objects begin: the direct map of x86-64.
const OBJECTS: u64 = 0xffff_8880_0000_0000;
/// Where the variables of CPU 0 begin, and how far those of the next one are.
const PER_CPU: u64 = 0xffff_e8ff_0000_0000;
const PER_CPU_STRIDE: u64 = 1 << 32;
/// Where variables of the kernel lie that `/proc/kallsyms` does not know: in the space of modules.
const VARIABLES: u64 = 0xffff_ffff_c100_0000;
/// Where per-CPU variables lie that it does not know, from the start of a CPU's.
const PER_CPU_VARIABLES: u64 = 0x10_0000;
/// End of the addresses of processes (`TASK_SIZE_MAX`).
pub(crate) const TASK_SIZE: u64 = 0x7fff_ffff_f000;

/// Memory that programs read.
#[derive(Clone, Debug)]
pub(crate) struct MemoryImage {
    kernel: Pages,
    users: BTreeMap<u32, Pages>,
    /// Where the next object goes.
    next: u64,
    next_variable: u64,
    next_per_cpu: u64,
    /// Variables that were given a place here.
    variables: BTreeMap<String, u64>,
}

impl Default for MemoryImage {
    fn default() -> Self {
        MemoryImage {
            kernel: Pages::default(),
            users: BTreeMap::new(),
            next: OBJECTS,
            next_variable: VARIABLES,
            next_per_cpu: PER_CPU_VARIABLES,
            variables: BTreeMap::new(),
        }
    }
}

impl MemoryImage {
    /// Makes room for an object. What is behind it to the end of its page is there too and zero, as in a kernel
    /// something is.
    pub(crate) fn allocate(&mut self, len: usize) -> u64 {
        let address = self.next;
        self.kernel.map(address, len.max(1));
        self.next += len.max(1).next_multiple_of(PAGE) as u64 + PAGE as u64; // far from the end of memory
        address
    }

    /// Makes room at an address.
    pub(crate) fn map_kernel(&mut self, address: u64, len: usize) {
        self.kernel.map(address, len.max(1));
    }

    /// The place of a variable that has none in the kernel's symbols.
    pub(crate) fn variable(&mut self, name: &str, len: usize, per_cpu: bool) -> u64 {
        if let Some(&address) = self.variables.get(name) {
            return address;
        }
        let next = if per_cpu { &mut self.next_per_cpu } else { &mut self.next_variable };
        let address = *next;
        *next += len.next_multiple_of(PAGE) as u64 + PAGE as u64; // far from the end of memory
        self.variables.insert(name.to_owned(), address);
        address
    }

    /// The place that a variable was given.
    pub(crate) fn known_variable(&self, name: &str) -> Option<u64> {
        self.variables.get(name).copied()
    }

    pub(crate) fn read_kernel(&self, address: u64, to: &mut [u8]) -> Option<()> {
        self.kernel.read(address, to)
    }

    pub(crate) fn write_kernel(&mut self, address: u64, from: &[u8]) -> Option<()> {
        self.kernel.write(address, from)
    }

    pub(crate) fn kernel_string(&self, address: u64, to: &mut [u8]) -> Option<usize> {
        self.kernel.string(address, to)
    }

    /// Whether something is at an address of the kernel.
    pub(crate) fn is_kernel(&self, address: u64) -> bool {
        self.kernel.read(address, &mut [0]).is_some()
    }

    /// The pointer at an address.
    pub(crate) fn pointer(&self, address: u64) -> Option<u64> {
        let mut bytes = [0; 8];
        self.kernel.read(address, &mut bytes)?;
        Some(u64::from_ne_bytes(bytes))
    }

    /// The memory of a process, by its thread group.
    pub(crate) fn user(&self, tgid: u32) -> Option<&Pages> {
        self.users.get(&tgid)
    }

    pub(crate) fn user_mut(&mut self, tgid: u32) -> &mut Pages {
        self.users.entry(tgid).or_default()
    }
}

/// The address of a per-CPU variable of a CPU.
pub(crate) fn per_cpu(variable: u64, cpu: u32) -> u64 {
    PER_CPU.wrapping_add(u64::from(cpu) * PER_CPU_STRIDE).wrapping_add(variable)
}

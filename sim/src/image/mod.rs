//! The memory of the kernel and of processes, as far as a test describes it.

mod error;
mod layout;
mod memory;
mod object;
mod pages;
pub(crate) mod path;
mod value;

use std::sync::Arc;

use skep_btf::{Kind, TypeId};

pub use error::ImageError;
pub(crate) use layout::Layout;
pub(crate) use memory::{MemoryImage, TASK_SIZE, per_cpu};
pub use object::KernelObject;
pub use value::FieldValue;

use crate::btf::BtfObject;
use crate::event::near;
use crate::kernel::{Inner, SimKernel};

/// The memory of a simulated kernel, which programs read with `bpf_probe_read_kernel` and through typed pointers. Made by
/// [`SimKernel::memory`].
///
/// Nothing is there but what a test puts there: objects of the kernel's types, variables of the kernel, plain bytes.
#[derive(Debug)]
pub struct KernelMemory<'k> {
    sim: &'k SimKernel,
}

/// The memory of a process, which programs read with `bpf_probe_read_user` while it is the current one. Made by
/// [`SimKernel::process_memory`].
#[derive(Debug)]
pub struct ProcessMemory<'k> {
    sim: &'k SimKernel,
    tgid: u32,
}

impl SimKernel {
    /// The kernel's memory, to put objects there and look at them.
    pub fn memory(&self) -> KernelMemory<'_> {
        KernelMemory { sim: self }
    }

    /// The memory of a process, by the id of its thread group.
    ///
    /// ```
    /// # let sim = skep_sim::SimKernel::new();
    /// sim.process_memory(1000).write(0x40_0000, b"/etc/passwd\0")?;
    /// assert_eq!(sim.process_memory(1000).read(0x40_0005, 6)?, b"passwd");
    /// # Ok::<(), skep_sim::ImageError>(())
    /// ```
    pub fn process_memory(&self, tgid: u32) -> ProcessMemory<'_> {
        ProcessMemory { sim: self, tgid }
    }
}

impl KernelMemory<'_> {
    /// Adds the names that are similar to that of a type that is not there.
    fn with_similar(&self, error: ImageError) -> ImageError {
        let ImageError::NoType { name, .. } = error else { return error };
        let types = self.sim.0.kernel_btfs().flat_map(|btf| btf.btf.types());
        let structs = types.filter(|ty| matches!(ty.kind(), Kind::STRUCT | Kind::UNION));
        let near = near(&name, structs.map(|ty| ty.name().into_owned()));
        ImageError::NoType { name, near }
    }

    /// Makes an object of a type of the kernel's BTF, or of that of a module, all zero: `task_struct`, `sock`, `file`.
    ///
    /// # Errors
    /// [`ImageError::NoBtf`], [`ImageError::NoType`], [`ImageError::Declared`].
    pub fn object(&self, name: &str) -> Result<KernelObject, ImageError> {
        let (btf, ty) = self.sim.0.type_named(name).map_err(|error| self.with_similar(error))?;
        object::make(self.sim, &btf, ty, name, MemoryImage::allocate)
    }

    /// The object of a type at an address: one that lies there already, such as an object by an address that a program
    /// wrote, or room for a new one.
    ///
    /// # Errors
    /// As [`object`](KernelMemory::object); [`ImageError::Address`] for one that is not of the kernel.
    pub fn object_at(&self, name: &str, address: u64) -> Result<KernelObject, ImageError> {
        check_kernel(address)?;
        let (btf, ty) = self.sim.0.type_named(name).map_err(|error| self.with_similar(error))?;
        object::make(self.sim, &btf, ty, name, |memory, len| {
            memory.map_kernel(address, len);
            address
        })
    }

    /// A variable of the kernel, as a program has it with `extern ... __ksym`: of its type in BTF, at its address in
    /// [the symbols](crate::Builder::symbols), or somewhere when that has none. Of a per-CPU variable it is that of CPU 0.
    ///
    /// # Errors
    /// [`ImageError::NoBtf`], [`ImageError::NoVariable`].
    pub fn variable(&self, name: &str) -> Result<KernelObject, ImageError> {
        self.variable_of(name, 0)
    }

    /// As [`variable`](KernelMemory::variable), of a per-CPU variable the one of a CPU, as `bpf_per_cpu_ptr` finds it.
    ///
    /// # Errors
    /// As [`variable`](KernelMemory::variable); [`ImageError::Cpu`] when there is no such CPU.
    pub fn variable_of(&self, name: &str, cpu: u32) -> Result<KernelObject, ImageError> {
        let kernel = &*self.sim.0;
        let cpus = kernel.config().cpus;
        if cpu >= cpus {
            return Err(ImageError::Cpu { variable: name.to_owned(), cpu, cpus });
        }
        let mut btfs = kernel.kernel_btfs().peekable();
        if btfs.peek().is_none() {
            return Err(ImageError::NoBtf);
        }
        let found = btfs.find_map(|btf| Some((btf.btf.find(name.as_bytes(), Kind::VAR)?, btf)));
        let (var, btf) = found.ok_or_else(|| ImageError::NoVariable { name: name.to_owned() })?;
        let is_per_cpu = is_per_cpu(btf, var);
        let ty = btf.btf.ty(var).map_err(|error| path::broken(name, error))?.type_id();
        let known = kernel.symbol_address(name);
        object::make(self.sim, btf, ty, name, |memory, len| {
            let address = known.unwrap_or_else(|| memory.variable(name, len, is_per_cpu));
            let address = if is_per_cpu { per_cpu(address, cpu) } else { address };
            memory.map_kernel(address, len);
            address
        })
    }

    /// Puts bytes somewhere. Answers their address.
    pub fn put(&self, bytes: &[u8]) -> u64 {
        let mut world = self.sim.0.world();
        let address = world.memory.allocate(bytes.len());
        let _ = world.memory.write_kernel(address, bytes); // room was made for them
        address
    }

    /// Writes bytes at an address, where room is made for them.
    ///
    /// # Errors
    /// [`ImageError::Address`] for one that is not of the kernel.
    pub fn write(&self, address: u64, bytes: &[u8]) -> Result<(), ImageError> {
        check_kernel(address)?;
        let mut world = self.sim.0.world();
        world.memory.map_kernel(address, bytes.len());
        world.memory.write_kernel(address, bytes).ok_or_else(|| path::broken("", "no room"))
    }

    /// Reads bytes at an address.
    ///
    /// # Errors
    /// [`ImageError::Nothing`] when not all of them are there.
    pub fn read(&self, address: u64, len: usize) -> Result<Vec<u8>, ImageError> {
        let mut bytes = vec![0; len];
        let found = self.sim.0.world().memory.read_kernel(address, &mut bytes);
        found.map(|()| bytes).ok_or(ImageError::Nothing { path: String::new(), address })
    }
}

impl ProcessMemory<'_> {
    /// Writes bytes at an address, where room is made for them: whole pages, as processes have them.
    ///
    /// # Errors
    /// [`ImageError::Address`] for one that processes do not have.
    pub fn write(&self, address: u64, bytes: &[u8]) -> Result<(), ImageError> {
        let end = address.checked_add(bytes.len() as u64);
        if end.is_none_or(|end| end > TASK_SIZE) {
            return Err(ImageError::Address { address, of: "a process" });
        }
        let mut world = self.sim.0.world();
        let pages = world.memory.user_mut(self.tgid);
        pages.map(address, bytes.len());
        pages.write(address, bytes).ok_or_else(|| path::broken("", "no room"))
    }

    /// Reads bytes at an address.
    ///
    /// # Errors
    /// [`ImageError::Nothing`] when not all of them are there.
    pub fn read(&self, address: u64, len: usize) -> Result<Vec<u8>, ImageError> {
        let mut bytes = vec![0; len];
        let world = self.sim.0.world();
        let found = world.memory.user(self.tgid).and_then(|pages| pages.read(address, &mut bytes));
        found.map(|()| bytes).ok_or(ImageError::Nothing { path: String::new(), address })
    }
}

/// Lowest address of the kernel.
const KERNEL_START: u64 = 0xffff_8000_0000_0000;

fn check_kernel(address: u64) -> Result<(), ImageError> {
    if address >= KERNEL_START { Ok(()) } else { Err(ImageError::Address { address, of: "the kernel" }) }
}

/// Whether a variable lies in the section of those that each CPU has.
pub(crate) fn is_per_cpu(btf: &BtfObject, var: TypeId) -> bool {
    let sections =
        btf.btf.types().filter(|ty| ty.kind() == Kind::DATASEC && ty.name_bytes() == b".data..percpu");
    sections.into_iter().any(|section| section.vars().any(|entry| entry.type_id == var))
}

impl Inner {
    /// The BTF of the kernel and of its modules.
    pub(crate) fn kernel_btfs(&self) -> impl Iterator<Item = &Arc<BtfObject>> {
        self.vmlinux().into_iter().chain(self.modules())
    }

    /// A type by its name.
    pub(crate) fn type_named(&self, name: &str) -> Result<(Arc<BtfObject>, TypeId), ImageError> {
        const KINDS: [Kind; 6] =
            [Kind::STRUCT, Kind::UNION, Kind::TYPEDEF, Kind::INT, Kind::ENUM, Kind::ENUM64];

        let bare = ["struct ", "union ", "enum "].iter().find_map(|prefix| name.strip_prefix(prefix));
        let bare = bare.unwrap_or(name).as_bytes();
        let mut any = false;
        for btf in self.kernel_btfs() {
            any = true;
            if let Some(ty) = KINDS.iter().find_map(|kind| btf.btf.find(bare, *kind)) {
                return Ok((btf.clone(), ty));
            }
        }
        Err(if any {
            ImageError::NoType { name: name.to_owned(), near: Vec::new() }
        } else {
            ImageError::NoBtf
        })
    }
}

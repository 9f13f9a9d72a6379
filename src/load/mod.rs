//! Loads a [`Plan`] into a kernel. The only stage that touches one.

mod btf;
mod error;
mod hint;
mod map;
mod object;
mod pins;
mod program;
mod report;
mod struct_ops;
mod target;
mod verifier;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use skep_asm::Endian;
use skep_btf::Btf;
use skep_sys::abi::{Errno, MapType, UpdateFlags};
use skep_sys::{Feature, Kernel, LoadedProgram, MapFd};

pub use crate::reloc::SourceLine;
pub use error::LoadError;
pub use object::Object;
pub use report::{LoadReport, Note, NoteKind};
pub use target::KernelTarget;
pub use verifier::{FailedInstruction, ProgramError};

use self::map::Maker;
use self::object::{Arena, ObjectMap};
use self::pins::Pins;
use self::program::Context;
use self::struct_ops::Table;
use crate::error::Error;
use crate::map::Map;
use crate::program::Program;
use crate::reloc::{PlaceholderValue, Plan, ProgramPlan, RelocateError};
use crate::spec::{MapRole, SlotValue, Spec};

/// How to load: the kernel, and what differs from the usual.
///
/// ```
/// use skep::{Loader, Spec};
///
/// # fn main() -> Result<(), skep::Error> {
/// let bytes = include_bytes!("../../testdata/xdp_count.o");
/// let spec = Spec::parse("xdp_count", bytes)?;
/// let kernel = skep::sim::kernel();
/// let object = Loader::new(&kernel).load(&spec)?;
/// assert_eq!(object.programs().count(), 1);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Loader {
    kernel: Kernel,
    pin_root: PathBuf,
    log_level: u32,
    prune: bool,
    types: Option<Btf>,
    /// What programs attach to, by their names.
    programs: Vec<(String, Arc<LoadedProgram>)>,
}

impl Loader {
    /// Loads into this kernel.
    pub fn new(kernel: &Kernel) -> Self {
        Loader {
            kernel: kernel.clone(),
            pin_root: PathBuf::from(pins::DEFAULT_ROOT),
            log_level: 0,
            prune: false,
            types: None,
            programs: Vec::new(),
        }
    }

    /// Where maps that are pinned by their name are pinned: a directory on a bpffs, `/sys/fs/bpf` if nothing is said.
    /// It is made if it is not there; its parent must be.
    pub fn pin_root(mut self, path: impl AsRef<Path>) -> Self {
        self.pin_root = path.as_ref().to_owned();
        self
    }

    /// Asks for the verifier's log also of programs that load (`log_level`: 1 for branches, 2 for all, 4 for
    /// statistics, or-ed). It is in [`Program::log`] then. Of programs that do not load the log is in the error anyway.
    pub fn log_level(mut self, level: u32) -> Self {
        self.log_level = level;
        self
    }

    /// Leaves out what makes no difference to the programs ([`Plan::prune`]): code that constants lead around, and maps
    /// that no loaded program uses, which are not created then. The report says what.
    ///
    /// ```
    /// use skep::{Loader, Spec};
    ///
    /// # fn main() -> Result<(), skep::Error> {
    /// let spec = Spec::parse("maps_btf", include_bytes!("../../testdata/maps_btf.o"))?;
    /// let kernel = skep::sim::kernel();
    /// let all = Loader::new(&kernel).load(&spec)?;
    /// let used = Loader::new(&kernel).prune(true).load(&spec)?;
    /// assert!(used.maps().count() < all.maps().count());
    /// # Ok(())
    /// # }
    /// ```
    pub fn prune(mut self, prune: bool) -> Self {
        self.prune = prune;
        self
    }

    /// Relocates for these kernel types instead of those that the kernel says it has: for kernels without BTF.
    pub fn kernel_types(mut self, types: Btf) -> Self {
        self.types = Some(types);
        self
    }

    /// Binds a program of the object to a function of another, loaded program: for `freplace` (Linux 5.6), and `fentry`
    /// and `fexit` of programs (Linux 5.5). Which function, its section name says, or
    /// [`ProgramSpec::attach_to`](crate::spec::ProgramSpec::attach_to).
    ///
    /// ```no_run
    /// use skep::{Kernel, Loader, Spec};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let kernel = Kernel::linux();
    /// let dispatcher = Loader::new(&kernel).load(&Spec::open("dispatcher.bpf.o")?)?;
    /// let loader = Loader::new(&kernel).attach_target("my_filter", dispatcher.program("dispatch")?.loaded())?;
    /// let filter = loader.load(&Spec::open("filter.bpf.o")?)?;
    /// let _link = filter.program("my_filter")?.attach()?; // takes the place of the function
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// When the process has no descriptor left for a second handle of `to`, or it is in another kernel.
    pub fn attach_target(mut self, program: &str, to: &LoadedProgram) -> Result<Self, Error> {
        let same = if to.kernel().same(&self.kernel) { Ok(()) } else { Err(Errno::EXDEV) };
        let to = same.and_then(|()| to.try_clone()).map_err(|source| Error::Program {
            program: to.name().to_owned(),
            step: "keep it as what another program attaches to".into(),
            source,
        })?;
        self.programs.push((program.to_owned(), Arc::new(to)));
        Ok(self)
    }

    /// What the loader relocates for.
    pub fn target(&self) -> KernelTarget {
        let target = match &self.types {
            Some(types) => KernelTarget::with_types(&self.kernel, types.clone()),
            None => KernelTarget::new(&self.kernel),
        };
        target.with_programs(self.programs.clone())
    }

    /// Loads an object: relocates it for the kernel, makes its maps, loads its programs.
    ///
    /// Either everything is done, or nothing is left behind: when a step fails, every descriptor is closed and every pin
    /// that was made is removed.
    ///
    /// # Errors
    ///
    /// [`Error::Relocate`] when the object does not fit the kernel, [`Error::Load`] when the kernel refuses a map or a
    /// program.
    pub fn load(&self, spec: &Spec) -> Result<Object, Error> {
        let in_load = |source| Error::Load { object: spec.name.clone(), source };
        if spec.endian != Endian::NATIVE {
            let object = if spec.endian.is_little() { "little" } else { "big" };
            return Err(in_load(LoadError::ByteOrder { object }));
        }
        for (program, _) in &self.programs {
            if spec.program(program).is_none() {
                return Err(Error::NoSuch {
                    object: spec.name.clone(),
                    what: "program",
                    name: program.clone(),
                    there: spec.programs.iter().map(|program| program.name.clone()).collect(),
                });
            }
        }
        let target = self.target();
        let mut plan = spec
            .relocate(&target)
            .map_err(|source| Error::Relocate { object: spec.name.clone(), source: Box::new(source) })?;
        // A live kernel holds all answers. What it cannot give is an error, not something to leave open.
        if let Some(unknown) = plan.unknown.first() {
            let (name, reason) = (unknown.name.clone(), unknown.error.to_string());
            let source = Box::new(RelocateError::Extern { name, reason });
            return Err(Error::Relocate { object: spec.name.clone(), source });
        }
        if self.prune {
            let pruned = plan.prune();
            plan.notes.push(pruned.to_string());
        }
        let loaded = match self.load_plan(spec, &plan, &target) {
            // Before Linux 5.11 maps and programs count against a limit that is often too low.
            Err(error) if error.errno() == Some(Errno::EPERM) && self.raise_memlock() => {
                self.load_plan(spec, &plan, &target).map(|mut object| {
                    object.report.add(
                        NoteKind::Adapted,
                        &plan.name,
                        "raised RLIMIT_MEMLOCK, which this kernel counts maps against",
                    );
                    object
                })
            }
            loaded => loaded,
        };
        loaded.map_err(in_load)
    }

    /// Raises the limit of locked memory if this kernel counts maps against it. Answers whether it did.
    fn raise_memlock(&self) -> bool {
        self.kernel.has(Feature::MemcgAccount).is_unsupported()
            && self.kernel.backend().raise_memlock().unwrap_or(false)
    }

    fn load_plan(&self, spec: &Spec, plan: &Plan, target: &KernelTarget) -> Result<Object, LoadError> {
        let kernel = &self.kernel;
        let mut report = LoadReport::default();
        for note in &plan.notes {
            report.add(NoteKind::Skipped, &plan.name, note.as_str());
        }
        let btf_fd = plan.btf.as_ref().and_then(|btf| btf::load(kernel, btf, &mut report));
        let mut pins = Pins::new(kernel);

        let mut maps: Vec<Option<MapFd>> = Vec::with_capacity(plan.maps.len());
        let mut memories = Vec::with_capacity(plan.maps.len());
        let mut fresh = Vec::with_capacity(plan.maps.len());
        let mut maker = Maker {
            kernel,
            target,
            btf: btf_fd.as_ref(),
            pins: &mut pins,
            pin_root: &self.pin_root,
            report: &mut report,
        };
        for map in &plan.maps {
            if !map.spec.autocreate {
                maps.push(None);
                fresh.push(false);
                memories.push(None);
                continue;
            }
            let made = maker.make(map)?;
            let is_arena = map.spec.map_type == MapType::ARENA;
            memories.push(if is_arena { maker.map_arena(map, &made)? } else { None });
            fresh.push(!made.reused);
            maps.push(Some(made.fd));
        }
        for ((map, fd), fresh) in plan.maps.iter().zip(&maps).zip(&fresh) {
            if let (Some(fd), true) = (fd, fresh) {
                maker.fill_slots(map, fd, &maps)?;
            }
        }

        let context = Context {
            kernel,
            target,
            maps: &maps,
            modules: &plan.modules,
            license: &plan.license,
            version: plan.version,
            btf_fd: btf_fd.as_ref(),
            btf: plan.btf.as_ref(),
            log_level: self.log_level,
        };
        let mut programs: Vec<Program> = Vec::with_capacity(plan.programs.len());
        for program in &plan.programs {
            for missing in &program.missing {
                report.add(
                    NoteKind::Poisoned,
                    &program.name,
                    format!("instruction {}: no `{}`", missing.insn, missing.name),
                );
            }
            let taken = program::load(&context, program, &mut report)?;
            bind_constants(plan, program, &maps, &taken.program);
            programs.push(Program::new(program, taken.program, taken.log));
        }
        for (map, fd) in plan.maps.iter().zip(&maps).filter(|(map, _)| map.struct_ops.is_none()) {
            let Some(fd) = fd else { continue };
            for slot in &map.spec.slots {
                let SlotValue::Program(index) = slot.value else { continue };
                let held = plan.programs.iter().position(|program| program.program == index);
                let Some(held) = held.and_then(|at| programs.get(at)) else {
                    let text = format!("element {} stays empty: its program is not loaded", slot.index);
                    report.add(NoteKind::Skipped, &map.spec.name, text);
                    continue;
                };
                fd.update_program(&slot.index.to_ne_bytes(), held.loaded(), UpdateFlags::empty()).map_err(
                    |error| LoadError::MapDefinition {
                        map: map.spec.name.clone(),
                        reason: format!(
                            "its element {} cannot be program `{}`: {error}",
                            slot.index,
                            held.name()
                        ),
                    },
                )?;
            }
        }
        pins.keep();
        let maps = plan.maps.iter().zip(maps.into_iter().zip(memories));
        Ok(Object {
            name: plan.name.clone(),
            kernel: kernel.clone(),
            maps: maps
                .map(|(map, (fd, memory))| ObjectMap {
                    name: map.spec.name.clone(),
                    role: map.spec.role.clone(),
                    arena: memory.map(|memory| Arena { memory, contents: map.contents_offset as usize }),
                    table: map.struct_ops.as_ref().map(|plan| Table::new(map, plan)),
                    map: fd.map(|fd| Map::new(&map.spec.name, fd)),
                })
                .collect(),
            programs,
            globals: spec.globals.clone(),
            types: plan.btf.clone(),
            btf: btf_fd,
            report,
        })
    }
}

/// Binds the maps of constants that a program does not use to it (`BPF_PROG_BIND_MAP`), so that tools which look at
/// loaded programs find what an object says of itself there. It is no loss on kernels before 5.10.
fn bind_constants(plan: &Plan, program: &ProgramPlan, maps: &[Option<MapFd>], loaded: &LoadedProgram) {
    for (index, (map, fd)) in plan.maps.iter().zip(maps).enumerate() {
        let used = program.placeholders.iter().any(|placeholder| match placeholder.value {
            PlaceholderValue::Map(map) | PlaceholderValue::MapValue(map) => map.0 == index,
            _ => false,
        });
        if let (MapRole::Rodata, false, Some(fd)) = (&map.spec.role, used, fd) {
            let _ = loaded.bind_map(fd);
        }
    }
}

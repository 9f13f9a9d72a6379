//! Loads a [`Plan`] into a kernel. The only stage that touches one.

mod arg_ctx;
mod btf;
mod error;
mod fallback;
mod global_view;
pub(crate) mod hint;
mod map;
mod object;
pub(crate) mod pin_all;
pub(crate) mod pins;
pub(crate) mod program;
mod report;
mod reuse;
mod steps;
mod struct_ops;
mod target;
mod token;
mod verifier;

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use skep_asm::Endian;
use skep_btf::Btf;
use skep_sys::abi::Errno;
use skep_sys::{Feature, Kernel, LoadedProgram};

pub use crate::reloc::SourceLine;
pub use error::LoadError;
pub use global_view::GlobalView;
pub use object::Object;
pub use pin_all::ObjectPins;
pub use report::{LoadReport, Note, NoteKind};
pub use reuse::{Migration, OnMismatch};
pub use target::KernelTarget;
pub use verifier::{FailedInstruction, ProgramError};

use self::map::Maker;
use self::pins::Pins;
use self::program::Context;
use self::reuse::Reuse;
use crate::error::Error;
use crate::map::Map;
use crate::reloc::{Plan, RelocateError};
use crate::spec::Spec;

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
    /// Devices that programs are bound to, by the names of the programs.
    devices: Vec<(String, u32)>,
    reuse: Reuse,
    token_path: Option<PathBuf>,
    token: OnceLock<token::Found>,
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
            devices: Vec::new(),
            reuse: Reuse::default(),
            token_path: None,
            token: OnceLock::new(),
        }
    }

    /// Where maps that are pinned by their name are pinned: a directory on a bpffs, `/sys/fs/bpf` if nothing is said.
    /// It is made if it is not there; its parent must be.
    pub fn pin_root(mut self, path: impl AsRef<Path>) -> Self {
        self.pin_root = path.as_ref().to_owned();
        self
    }

    /// Asks for the verifier's log also of programs that load (`log_level`: 1 for branches, 2 for all, 4 for
    /// statistics, or-ed). It is in [`Program::log`](crate::program::Program::log) then. Of programs that do not load the
    /// log is in the error anyway.
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

    /// Binds an XDP program of the object to a network device, by its index (`BPF_F_XDP_DEV_BOUND_ONLY`, Linux 6.3). Only such programs call
    /// the functions of its driver that tell of packets (`bpf_xdp_metadata_rx_timestamp`, `_rx_hash`, `_rx_vlan_tag`), and they attach
    /// to no other device. They cannot be test-run.
    ///
    /// ```
    /// use skep::sim::{Receive, SimKernel};
    /// use skep::{Kernel, Loader, Spec};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let spec = Spec::parse("xdp_metadata", include_bytes!("../../testdata/run/xdp_metadata.o"))?;
    /// # let types = spec.btf.as_ref().unwrap().bytes().to_vec();
    /// let sim = SimKernel::builder().interface("eth0", 2).btf(types).build()?;
    /// let object = Loader::new(&Kernel::new(sim.clone())).device("hints", 2).load(&spec)?;
    /// let _link = object.program("hints")?.attach_xdp("eth0")?;
    ///
    /// let packet = Receive::new("eth0", [0; 64]).rx_timestamp(1234);
    /// let _ = sim.fire(packet)?;
    /// assert_eq!(object.global::<u64>("timestamp")?, 1234);
    /// # Ok(())
    /// # }
    /// ```
    pub fn device(mut self, program: &str, ifindex: u32) -> Self {
        self.devices.push((program.to_owned(), ifindex));
        self
    }

    /// Uses a map that is there instead of making one: of another object, opened from a pin, or made by hand. It must have
    /// the kind, sizes and flags that the object says, and keeps what is in it; one for constants is frozen if it is not.
    ///
    /// ```
    /// use skep::{Loader, Spec};
    ///
    /// # fn main() -> Result<(), skep::Error> {
    /// let kernel = skep::sim::kernel();
    /// let spec = Spec::parse("xdp_count", include_bytes!("../../testdata/xdp_count.o"))?;
    /// let first = Loader::new(&kernel).load(&spec)?;
    /// let second = Loader::new(&kernel).replace_map("flows", first.map("flows")?).load(&spec)?;
    /// assert_eq!(first.map("flows")?.id()?, second.map("flows")?.id()?);
    /// assert_ne!(first.map("packets")?.id()?, second.map("packets")?.id()?);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// Loads fail when the object has no map of the name, or the map does not fit.
    #[doc(alias = "bpf_map__reuse_fd")]
    #[doc(alias = "MapReplacements")]
    pub fn replace_map(mut self, name: &str, map: &Map) -> Self {
        self.reuse.replacements.retain(|(replaced, _)| replaced != name);
        self.reuse.replacements.push((name.to_owned(), map.clone()));
        self
    }

    /// What becomes of maps that are pinned by their names and do not fit the object's. If nothing is said, the load
    /// fails.
    ///
    /// New maps are made and filled first, pinned beside the old ones as `NAME_next`, and take the places of the old
    /// ones, each at once, when everything is loaded. A load that fails leaves the old ones.
    pub fn on_mismatch(mut self, policy: OnMismatch) -> Self {
        self.reuse.on_mismatch = policy;
        self
    }

    /// As [`on_mismatch`](Loader::on_mismatch), for one map.
    pub fn on_mismatch_of(mut self, map: &str, policy: OnMismatch) -> Self {
        self.reuse.on_mismatch_of.push((map.to_owned(), policy));
        self
    }

    /// Takes maps of an earlier version of the object where they fit, by their names.
    pub(crate) fn inherit(mut self, maps: Vec<(String, Map)>) -> Self {
        self.reuse.inherited = maps;
        self
    }

    /// The kernel that it loads into.
    pub fn kernel(&self) -> &Kernel {
        &self.kernel
    }

    /// Loads with the rights of a BPF token (Linux 6.9), which the bpffs at this path gives to processes of the user
    /// namespace that it was mounted for. Loads fail when it gives none; an empty path is for no token at all.
    ///
    /// Without this the environment variable `LIBBPF_BPF_TOKEN_PATH` counts, with the same meaning. Without that one, a
    /// token of `/sys/fs/bpf` is used if there is any. A kernel handle that [has a token](Kernel::with_token) is used as
    /// it is. All loads of a loader share their token.
    ///
    /// ```
    /// use skep::{Kernel, Loader, Spec};
    /// use skep::sim::SimKernel;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let kernel = Kernel::new(SimKernel::builder().delegating_bpffs("/run/bpf").build()?);
    /// let spec = Spec::parse("xdp_count", include_bytes!("../../testdata/xdp_count.o"))?;
    /// assert!(Loader::new(&kernel).load(&spec).is_err());
    /// assert!(Loader::new(&kernel).token_path("/run/bpf").load(&spec).is_ok());
    /// # Ok(())
    /// # }
    /// ```
    pub fn token_path(mut self, path: impl AsRef<Path>) -> Self {
        self.token_path = Some(path.as_ref().to_owned());
        self.token = OnceLock::new();
        self
    }

    /// What the loader relocates for.
    pub fn target(&self) -> KernelTarget {
        self.target_in(&self.kernel)
    }

    fn target_in(&self, kernel: &Kernel) -> KernelTarget {
        let target = match &self.types {
            Some(types) => KernelTarget::with_types(kernel, types.clone()),
            None => KernelTarget::new(kernel),
        };
        target.with_programs(self.programs.clone())
    }

    /// The token that loads use, found at the first of them.
    fn token(&self) -> Result<Option<&token::Found>, LoadError> {
        if self.kernel.token().is_some() {
            return Ok(None);
        }
        if self.token.get().is_none()
            && let Some(found) = token::find(&self.kernel, self.token_path.as_deref())?
        {
            // Another thread's is as good.
            let _ = self.token.set(found);
        }
        Ok(self.token.get())
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
        for map in self.reuse.names() {
            if spec.map(map).is_none() {
                return Err(Error::NoSuch {
                    object: spec.name.clone(),
                    what: "map",
                    name: map.to_owned(),
                    there: spec.maps.iter().map(|map| map.name.clone()).collect(),
                });
            }
        }
        let token = self.token().map_err(in_load)?;
        let kernel = &token.map_or_else(|| self.kernel.clone(), |found| self.kernel.with_token(&found.token));
        let target = self.target_in(kernel);
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
        let mut report = LoadReport::default();
        if let Some(found) = token {
            let text = format!("made with the token of {}", found.path.display());
            report.add(NoteKind::Delegated, &plan.name, text);
        }
        let loaded = match self.load_plan(kernel, spec, &plan, &target, report.clone()) {
            // Before Linux 5.11 maps and programs count against a limit that is often too low.
            Err(error) if error.errno() == Some(Errno::EPERM) && raise_memlock(kernel) => {
                self.load_plan(kernel, spec, &plan, &target, report).map(|mut object| {
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

    fn load_plan(
        &self,
        kernel: &Kernel,
        spec: &Spec,
        plan: &Plan,
        target: &KernelTarget,
        mut report: LoadReport,
    ) -> Result<Object, LoadError> {
        for note in &plan.notes {
            report.add(NoteKind::Skipped, &plan.name, note.as_str());
        }
        let rewritten =
            plan.btf.as_ref().and_then(|btf| arg_ctx::rewrite(kernel, btf, &plan.programs, &mut report));
        let types = rewritten.as_ref().map(|rewritten| &rewritten.btf).or(plan.btf.as_ref());
        let btf_fd = types.and_then(|btf| btf::load(kernel, btf, &mut report));
        let mut pins = Pins::new(kernel);
        let mut maker = Maker {
            kernel,
            target,
            btf: btf_fd.as_ref(),
            pins: &mut pins,
            pin_root: &self.pin_root,
            reuse: &self.reuse,
            report: &mut report,
        };
        let made = steps::make_maps(&mut maker, plan)?;
        let context = Context {
            kernel,
            target,
            maps: &made.fds,
            modules: &plan.modules,
            devices: &self.devices,
            license: &plan.license,
            version: plan.version,
            btf_fd: btf_fd.as_ref(),
            btf: types,
            log_level: self.log_level,
        };
        let programs = steps::load_programs(&context, plan, rewritten.as_ref(), &mut report)?;
        steps::fill_program_slots(plan, &made.fds, &programs, &mut report)?;
        pins.keep()?;
        Ok(Object {
            name: plan.name.clone(),
            kernel: kernel.clone(),
            maps: steps::object_maps(plan, made, types),
            programs,
            globals: spec.globals.clone(),
            types: types.cloned(),
            btf: btf_fd,
            report,
        })
    }
}

/// Raises the limit of locked memory if this kernel counts maps against it. Answers whether it did.
pub(crate) fn raise_memlock(kernel: &Kernel) -> bool {
    // Who has a token is on a kernel that does not, and has no right to raise it.
    kernel.token().is_none()
        && kernel.has(Feature::MemcgAccount).is_unsupported()
        && kernel.backend().raise_memlock().unwrap_or(false)
}

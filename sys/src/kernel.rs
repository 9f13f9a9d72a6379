use std::collections::BTreeMap;
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use skep_btf::{Btf, BtfError};

use crate::abi::{BtfObjectId, Errno, LinkId, MapId, OpenFlags, ProgId};
use crate::backend::{Backend, ObjectKind};
use crate::btf_fd::BtfFd;
use crate::link_fd::LinkFd;
use crate::map_fd::{MapFd, MapShape};
use crate::perf_event::PerfEventFd;
use crate::probe::{Feature, Probe};
use crate::program_fd::LoadedProgram;
use crate::request::{
    AttachedProgs, BtfLoad, LinkCreate, LogBuffer, MapCreate, OpenById, PerfEventOpen, ProgAttach,
    ProgDetach, ProgLoad, ProgQuery,
};
use crate::token::Token;

/// How many BTF objects are remembered.
const BTF_OBJECTS: usize = 16;

/// A handle of one kernel: the running one, or a simulated one.
///
/// It is cheap to clone, and all clones share what was found out about the kernel. Maps, programs, BTF objects and
/// links are made or opened through it and stay tied to it.
///
/// ```no_run
/// # #[cfg(target_os = "linux")] {
/// use skep_sys::Kernel;
/// use skep_sys::abi::{MapType, UpdateFlags};
/// use skep_sys::request::MapCreate;
///
/// let kernel = Kernel::linux();
/// let map = kernel.map_create(&MapCreate::new(MapType::HASH, 4, 8, 1024))?;
/// map.update(&1u32.to_ne_bytes(), &7u64.to_ne_bytes(), UpdateFlags::empty())?;
/// let mut value = vec![0; map.value_len()];
/// map.lookup(&1u32.to_ne_bytes(), &mut value, UpdateFlags::empty())?;
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Kernel {
    inner: Arc<Inner>,
    token: Option<Token>,
}

struct Inner {
    backend: Arc<dyn Backend>,
    btf: OnceLock<Btf>,
    possible_cpus: OnceLock<u32>,
    version_code: OnceLock<u32>,
    /// BTF objects that were read, the oldest first. Ids are not used twice.
    objects: Mutex<Vec<(BtfObjectId, Btf)>>,
    features: Mutex<BTreeMap<Feature, Probe>>,
    /// Which perf event was put last into a slot of a map, by the event's serial number.
    perf_slots: Mutex<PerfSlots>,
}

/// By map and key.
type PerfSlots = BTreeMap<(MapId, Box<[u8]>), u64>;

impl Kernel {
    /// A kernel behind `backend`. Two calls give two kernels, which do not share handles.
    pub fn new(backend: impl Backend + 'static) -> Kernel {
        Kernel::from_arc(Arc::new(backend))
    }

    /// The kernel that this process runs on. Nothing is asked yet.
    #[cfg(target_os = "linux")]
    pub fn linux() -> Kernel {
        Kernel::new(crate::linux::LinuxBackend::new())
    }

    /// As [`new`](Kernel::new), for a backend that is shared already.
    pub fn from_arc(backend: Arc<dyn Backend>) -> Kernel {
        let inner = Inner {
            backend,
            btf: OnceLock::new(),
            possible_cpus: OnceLock::new(),
            version_code: OnceLock::new(),
            objects: Mutex::new(Vec::new()),
            features: Mutex::new(BTreeMap::new()),
            perf_slots: Mutex::new(BTreeMap::new()),
        };
        Kernel { inner: Arc::new(inner), token: None }
    }

    /// Makes a token of the bpffs that is mounted at `bpffs` (`BPF_TOKEN_CREATE`, Linux 6.9): the right to what
    /// the mount delegates, for a process in the user namespace that it was mounted for.
    ///
    /// # Errors
    /// What the kernel answers: [`Errno::ENOENT`] when there is nothing at the path or it delegates nothing,
    /// [`Errno::EINVAL`] when it is no root of a bpffs or the kernel knows no tokens, [`Errno::EOPNOTSUPP`] in the first
    /// user namespace, where nobody needs any, [`Errno::EPERM`] in another one than that of the mount.
    pub fn token_create(&self, bpffs: impl AsRef<Path>) -> Result<Token, Errno> {
        Ok(Token::from_fd(self.backend().token_create(bpffs.as_ref())?))
    }

    /// A handle of the same kernel whose calls carry a token: making maps, loading programs and BTF, opening BTF, and
    /// probes, which remember apart from others what they find. Handles of both go together.
    #[must_use]
    pub fn with_token(&self, token: &Token) -> Kernel {
        Kernel { inner: self.inner.clone(), token: Some(token.clone()) }
    }

    /// The token that calls through this handle carry.
    pub fn token(&self) -> Option<&Token> {
        self.token.as_ref()
    }

    /// The backend, for calls that have no handle of their own.
    pub fn backend(&self) -> &dyn Backend {
        &*self.inner.backend
    }

    /// The backend to wrap: a kernel made of the wrapper shares no handles with this one.
    pub fn backend_arc(&self) -> Arc<dyn Backend> {
        Arc::clone(&self.inner.backend)
    }

    /// Whether both are handles of one kernel, so that descriptors of one mean something to the other.
    pub fn same(&self, other: &Kernel) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }

    /// The kernel's own BTF. Read and indexed when it is first asked for.
    ///
    /// # Errors
    /// When the kernel has none that can be read or understood; nothing is remembered then.
    pub fn btf(&self) -> Result<Btf, KernelBtfError> {
        once(&self.inner.btf, || Ok(Btf::parse(self.backend().kernel_btf()?)?))
    }

    /// Size of a page in bytes.
    pub fn page_size(&self) -> u32 {
        self.backend().page_size()
    }

    /// Number of possible CPUs: how many values an element of a per-CPU map has. Asked once.
    ///
    /// # Errors
    /// What the backend answers; nothing is remembered then.
    pub fn possible_cpus(&self) -> Result<u32, Errno> {
        once(&self.inner.possible_cpus, || self.backend().possible_cpus())
    }

    /// The version as kprobe programs on kernels before 5.0 must carry it (`KERNEL_VERSION(a, b, c)`). Asked once.
    ///
    /// # Errors
    /// What the backend answers; nothing is remembered then.
    pub fn version_code(&self) -> Result<u32, Errno> {
        once(&self.inner.version_code, || self.backend().version_code())
    }

    /// Creates a map (`BPF_MAP_CREATE`). Its shape is what was asked for: no further call is made.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn map_create(&self, request: &MapCreate<'_>) -> Result<MapFd, Errno> {
        let shape = MapShape::of_request(request);
        let cpus = self.cpus_of(&shape)?;
        let fd = match &self.token {
            Some(token) if request.token.is_none() => {
                self.backend().map_create(&MapCreate { token: Some(token.as_fd()), ..request.clone() })?
            }
            _ => self.backend().map_create(request)?,
        };
        Ok(MapFd::new(fd, self.clone(), shape, cpus))
    }

    /// Takes a map's descriptor that came from elsewhere and asks the kernel for its shape.
    ///
    /// # Errors
    /// What the kernel answers, [`Errno::EINVAL`] when it is no map.
    pub fn map_from_fd(&self, fd: OwnedFd) -> Result<MapFd, Errno> {
        let shape = MapShape::of_info(&self.backend().map_info(fd.as_fd())?);
        let cpus = self.cpus_of(&shape)?;
        Ok(MapFd::new(fd, self.clone(), shape, cpus))
    }

    /// Opens a pinned map (`BPF_OBJ_GET`).
    ///
    /// # Errors
    /// What the kernel answers, [`Errno::EINVAL`] when something else is pinned there.
    pub fn map_open_pinned(&self, path: impl AsRef<Path>, flags: OpenFlags) -> Result<MapFd, Errno> {
        self.map_from_fd(self.backend().open_pinned(path.as_ref(), flags)?)
    }

    /// Opens a map by its id (`BPF_MAP_GET_FD_BY_ID`, Linux 4.13).
    ///
    /// # Errors
    /// What the kernel answers, [`Errno::ENOENT`] when there is no such map.
    pub fn map_by_id(&self, id: MapId, flags: OpenFlags) -> Result<MapFd, Errno> {
        let request = OpenById { flags, ..OpenById::new(ObjectKind::Map, id.0) };
        self.map_from_fd(self.backend().open_by_id(&request)?)
    }

    /// Loads a program (`BPF_PROG_LOAD`). With a log buffer the kernel's text is in it afterwards, whatever the
    /// outcome.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn prog_load(
        &self,
        request: &ProgLoad<'_>,
        log: Option<&mut LogBuffer>,
    ) -> Result<LoadedProgram, Errno> {
        let fd = match &self.token {
            Some(token) if request.token.is_none() => {
                self.backend().prog_load(&ProgLoad { token: Some(token.as_fd()), ..request.clone() }, log)?
            }
            _ => self.backend().prog_load(request, log)?,
        };
        let attach_type = Some(request.expected_attach_type);
        Ok(LoadedProgram::new(fd, self.clone(), request.prog_type, attach_type, request.name.to_owned()))
    }

    /// Takes a program's descriptor that came from elsewhere and asks the kernel for its kind and name.
    ///
    /// # Errors
    /// What the kernel answers, [`Errno::EINVAL`] when it is no program.
    pub fn prog_from_fd(&self, fd: OwnedFd) -> Result<LoadedProgram, Errno> {
        let info = self.backend().prog_info(fd.as_fd())?;
        Ok(LoadedProgram::new(fd, self.clone(), info.prog_type, None, info.name))
    }

    /// Opens a pinned program (`BPF_OBJ_GET`).
    ///
    /// # Errors
    /// What the kernel answers, [`Errno::EINVAL`] when something else is pinned there.
    pub fn prog_open_pinned(&self, path: impl AsRef<Path>) -> Result<LoadedProgram, Errno> {
        self.prog_from_fd(self.backend().open_pinned(path.as_ref(), OpenFlags::empty())?)
    }

    /// Opens a program by its id (`BPF_PROG_GET_FD_BY_ID`, Linux 4.13).
    ///
    /// # Errors
    /// What the kernel answers, [`Errno::ENOENT`] when there is no such program.
    pub fn prog_by_id(&self, id: ProgId) -> Result<LoadedProgram, Errno> {
        self.prog_from_fd(self.backend().open_by_id(&OpenById::new(ObjectKind::Program, id.0))?)
    }

    /// Loads BTF (`BPF_BTF_LOAD`, Linux 4.18).
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn btf_load(&self, btf: &[u8], log: Option<&mut LogBuffer>) -> Result<BtfFd, Errno> {
        let request = BtfLoad { token: self.token.as_ref().map(AsFd::as_fd), ..BtfLoad::new(btf) };
        Ok(BtfFd::new(self.backend().btf_load(&request, log)?, self.clone()))
    }

    /// Opens loaded BTF by its id (`BPF_BTF_GET_FD_BY_ID`, Linux 4.18).
    ///
    /// # Errors
    /// What the kernel answers, [`Errno::ENOENT`] when there is no such object.
    pub fn btf_by_id(&self, id: BtfObjectId) -> Result<BtfFd, Errno> {
        let plain = OpenById::new(ObjectKind::Btf, id.0);
        let request = OpenById { token: self.token.as_ref().map(AsFd::as_fd), ..plain.clone() };
        let fd = match self.backend().open_by_id(&request) {
            // Before Linux 6.15 this command takes no token.
            Err(Errno::EINVAL) if request.token.is_some() => self.backend().open_by_id(&plain)?,
            answer => answer?,
        };
        Ok(BtfFd::new(fd, self.clone()))
    }

    /// The types of a loaded BTF object, by its id: a program's, a module's, or the kernel's own. The last ones that were
    /// asked for are remembered.
    ///
    /// # Errors
    /// What the kernel answers: [`Errno::ENOENT`] when there is no such object, [`Errno::EPERM`] without `CAP_SYS_ADMIN`.
    pub fn btf_object(&self, id: BtfObjectId) -> Result<Btf, KernelBtfError> {
        let objects = || self.inner.objects.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, btf)) = objects().iter().find(|(known, _)| *known == id) {
            return Ok(btf.clone());
        }
        let fd = self.btf_by_id(id)?;
        let info = fd.info()?;
        let btf = match (info.kernel, info.name.as_str()) {
            (true, "vmlinux") => return self.btf(),
            (true, _) => Btf::parse_split(fd.bytes()?, &self.btf()?)?,
            (false, _) => Btf::parse(fd.bytes()?)?,
        };
        let mut objects = objects();
        if objects.len() >= BTF_OBJECTS {
            objects.remove(0);
        }
        objects.push((id, btf.clone()));
        Ok(btf)
    }

    /// Attaches a program by a link (`BPF_LINK_CREATE`, Linux 5.7).
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn link_create(&self, request: &LinkCreate<'_>) -> Result<LinkFd, Errno> {
        Ok(LinkFd::new(self.backend().link_create(request)?, self.clone()))
    }

    /// Attaches a program without a link (`BPF_PROG_ATTACH`, Linux 4.10), until it is detached or the place goes.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn prog_attach(&self, request: &ProgAttach<'_>) -> Result<(), Errno> {
        self.backend().prog_attach(request)
    }

    /// Detaches a program that was attached without a link (`BPF_PROG_DETACH`, Linux 4.10).
    ///
    /// # Errors
    /// What the kernel answers, [`Errno::ENOENT`] when it is not attached.
    pub fn prog_detach(&self, request: &ProgDetach<'_>) -> Result<(), Errno> {
        self.backend().prog_detach(request)
    }

    /// What is attached to a place (`BPF_PROG_QUERY`, Linux 4.15).
    ///
    /// # Errors
    /// What the kernel answers, [`Errno::EINVAL`] for places that it cannot tell of.
    pub fn prog_query(&self, request: &ProgQuery<'_>) -> Result<AttachedProgs, Errno> {
        self.backend().prog_query(request)
    }

    /// Attaches a program to a raw tracepoint (`BPF_RAW_TRACEPOINT_OPEN`, Linux 4.17), or without a name to what it
    /// named at load. The cookie needs Linux 6.10 when it is not 0.
    ///
    /// # Errors
    /// What the kernel answers, [`Errno::EXDEV`] when the program is another kernel's.
    pub fn raw_tracepoint_open(
        &self,
        prog: &LoadedProgram,
        name: Option<&str>,
        cookie: u64,
    ) -> Result<LinkFd, Errno> {
        self.check_same(prog.kernel())?;
        Ok(LinkFd::new(self.backend().raw_tracepoint_open(prog.as_fd(), name, cookie)?, self.clone()))
    }

    /// Opens a pinned link (`BPF_OBJ_GET`, Linux 5.7).
    ///
    /// # Errors
    /// What the kernel answers, [`Errno::EINVAL`] when something else is pinned there.
    pub fn link_open_pinned(&self, path: impl AsRef<Path>) -> Result<LinkFd, Errno> {
        self.link_from_fd(self.backend().open_pinned(path.as_ref(), OpenFlags::empty())?)
    }

    /// Opens a link by its id (`BPF_LINK_GET_FD_BY_ID`, Linux 5.8).
    ///
    /// # Errors
    /// What the kernel answers, [`Errno::ENOENT`] when there is no such link.
    pub fn link_by_id(&self, id: LinkId) -> Result<LinkFd, Errno> {
        let fd = self.backend().open_by_id(&OpenById::new(ObjectKind::Link, id.0))?;
        Ok(LinkFd::new(fd, self.clone()))
    }

    /// Takes a link's descriptor that came from elsewhere, after asking the kernel whether it is one.
    ///
    /// # Errors
    /// What the kernel answers, [`Errno::EINVAL`] when it is no link.
    pub fn link_from_fd(&self, fd: OwnedFd) -> Result<LinkFd, Errno> {
        self.backend().link_info(fd.as_fd())?;
        Ok(LinkFd::new(fd, self.clone()))
    }

    /// Opens a perf event (`perf_event_open`): a counter, or what programs write records to.
    ///
    /// # Errors
    /// What the kernel answers: [`Errno::ENODEV`] for a CPU that is offline, [`Errno::ENOENT`] for what the machine
    /// does not count, [`Errno::EACCES`] without the right (`CAP_PERFMON`, before Linux 5.8 `CAP_SYS_ADMIN`).
    pub fn perf_event_open(&self, request: &PerfEventOpen<'_>) -> Result<PerfEventFd, Errno> {
        Ok(PerfEventFd::new(self.backend().perf_event_open(request)?, self.clone(), request))
    }

    /// The CPUs that are online now, ascending. They can come and go, so nothing is remembered.
    ///
    /// # Errors
    /// What the backend answers.
    pub fn online_cpus(&self) -> Result<Vec<u32>, Errno> {
        self.backend().online_cpus()
    }

    /// What a descriptor is: a map, a program, BTF or a link of this kernel; none for something else.
    ///
    /// # Errors
    /// What the kernel answers, [`Errno::EMFILE`] and the like: not that it is something else.
    pub fn kind_of(&self, fd: BorrowedFd<'_>) -> Result<Option<ObjectKind>, Errno> {
        let backend = self.backend();
        let answers = [
            (ObjectKind::Map, backend.map_info(fd).map(drop)),
            (ObjectKind::Program, backend.prog_info(fd).map(drop)),
            (ObjectKind::Link, backend.link_info(fd).map(drop)),
            (ObjectKind::Btf, backend.btf_info(fd).map(drop)),
        ];
        for (kind, answer) in answers {
            match answer {
                Ok(()) => return Ok(Some(kind)),
                // What the kernels answer for an object of another kind.
                Err(Errno::EINVAL) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(None)
    }

    /// The ids of all objects of a kind, ascending (`BPF_*_GET_NEXT_ID`). Objects can come and go meanwhile.
    pub fn ids(&self, kind: ObjectKind) -> Ids {
        Ids { kernel: self.clone(), kind, last: Some(0) }
    }

    /// [`Errno::EXDEV`] unless both are handles of one kernel.
    pub(crate) fn check_same(&self, other: &Kernel) -> Result<(), Errno> {
        if self.same(other) { Ok(()) } else { Err(Errno::EXDEV) }
    }

    /// What [`has`](Kernel::has) found out before.
    pub(crate) fn known_feature(&self, feature: Feature) -> Option<Probe> {
        self.features().get(&feature).copied()
    }

    pub(crate) fn remember_feature(&self, feature: Feature, probe: Probe) {
        self.features().insert(feature, probe);
    }

    pub(crate) fn perf_slots(&self) -> MutexGuard<'_, PerfSlots> {
        self.inner.perf_slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn features(&self) -> MutexGuard<'_, BTreeMap<Feature, Probe>> {
        let features = self.token.as_ref().map_or(&self.inner.features, Token::features);
        features.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn cpus_of(&self, shape: &MapShape) -> Result<u32, Errno> {
        if shape.map_type.is_per_cpu() { self.possible_cpus() } else { Ok(1) }
    }
}

impl fmt::Debug for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Kernel").field(&self.backend().name()).finish()
    }
}

/// Why the BTF of a kernel cannot be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KernelBtfError {
    /// It cannot be read. [`Errno::ESRCH`]: there is none, neither in sysfs nor in a debug file.
    #[error("cannot read the kernel's BTF")]
    Unavailable(#[from] Errno),
    /// It can be read but is not well-formed.
    #[error("cannot understand the kernel's BTF")]
    Malformed(#[from] BtfError),
}

/// What is in `cell`, or what `ask` answers; an error is not kept.
fn once<T: Clone, E>(cell: &OnceLock<T>, ask: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
    if let Some(value) = cell.get() {
        return Ok(value.clone());
    }
    let value = ask()?;
    Ok(cell.get_or_init(|| value).clone())
}

/// Iterator over the ids of a kernel's objects, from [`Kernel::ids`].
///
/// It ends after the last id, and after the first error.
#[derive(Clone, Debug)]
pub struct Ids {
    kernel: Kernel,
    kind: ObjectKind,
    last: Option<u32>,
}

impl Iterator for Ids {
    type Item = Result<u32, Errno>;

    fn next(&mut self) -> Option<Self::Item> {
        let last = self.last.take()?;
        match self.kernel.backend().next_id(self.kind, last) {
            // A backend that does not go up would never end.
            Ok(id) if id > last => {
                self.last = Some(id);
                Some(Ok(id))
            }
            Ok(_) | Err(Errno::ENOENT) => None,
            Err(errno) => Some(Err(errno)),
        }
    }
}

const _: fn() = || {
    fn shared<T: Send + Sync>() {}
    shared::<Kernel>();
    shared::<MapFd>();
    shared::<LoadedProgram>();
    shared::<BtfFd>();
    shared::<LinkFd>();
};

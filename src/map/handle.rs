use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use skep_btf::{Btf, TypeId};
use skep_sys::abi::{BtfObjectId, Errno, MapId, MapType, OpenFlags, UpdateFlags};
use skep_sys::request::{MapCreate, MapInfo};
use skep_sys::{Kernel, MapFd, MapShape, SharedMemory};

use super::error::{MapError, MapOperation, MapPart};
use super::keys::ByteKeys;
use super::label::MapLabel;
use crate::load::pins;

/// An open map of any kind, with keys and values as bytes.
///
/// It is cheap to clone: clones and typed views share one descriptor, which is closed with the last of them. All
/// operations take `&self` and may be called from several threads.
///
/// A value is as user space passes it (see [`value_len`](Map::value_len)): for per-CPU kinds one value per possible
/// CPU, each padded to a multiple of 8 bytes. Lengths are checked before the kernel is asked, which takes none.
#[derive(Clone, Debug)]
pub struct Map(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    name: Arc<str>,
    /// What its errors call it, once there was one.
    label: OnceLock<MapLabel>,
    fd: MapFd,
    /// What its keys and values are, once it is known whether that is known.
    types: OnceLock<Option<MapTypes>>,
    /// The memory of an arena, which a process maps once.
    memory: Mutex<Option<Arc<SharedMemory>>>,
}

/// What the keys and values of a map are, by its BTF.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MapTypes {
    /// The BTF.
    pub btf: Btf,
    /// The type of keys, if it is known.
    pub key: Option<TypeId>,
    /// The type of values, if it is known.
    pub value: Option<TypeId>,
}

impl MapTypes {
    pub(super) fn of(&self, part: MapPart) -> Option<TypeId> {
        match part {
            MapPart::Key => self.key,
            MapPart::Value => self.value,
        }
    }

    /// Without the types that have other sizes than the map: those describe something else.
    fn fitting(self, shape: MapShape) -> Option<MapTypes> {
        let fits = |id: &TypeId, size: u32| self.btf.resolve_size(*id) == Ok(size);
        let key = self.key.filter(|id| fits(id, shape.key_size));
        let value = self.value.filter(|id| fits(id, shape.value_size));
        (key.is_some() || value.is_some()).then_some(MapTypes { btf: self.btf, key, value })
    }
}

impl Map {
    /// A map that is open, under the name that its errors say.
    pub fn new(name: impl AsRef<str>, fd: MapFd) -> Map {
        Map::with_cell(name.as_ref(), fd, OnceLock::new())
    }

    /// As [`new`](Map::new), for a map whose types are known: the kernel is not asked for them.
    pub fn with_types(name: impl AsRef<str>, fd: MapFd, types: Option<MapTypes>) -> Map {
        let types = types.and_then(|types| types.fitting(fd.shape()));
        Map::with_cell(name.as_ref(), fd, OnceLock::from(types))
    }

    fn with_cell(name: &str, fd: MapFd, types: OnceLock<Option<MapTypes>>) -> Map {
        Map(Arc::new(Inner {
            name: name.into(),
            label: OnceLock::new(),
            fd,
            types,
            memory: Mutex::default(),
        }))
    }

    /// Creates a map (`BPF_MAP_CREATE`, Linux 3.18).
    ///
    /// # Errors
    /// [`MapError::Unavailable`].
    pub fn create(kernel: &Kernel, request: &MapCreate<'_>) -> Result<Map, MapError> {
        match kernel.map_create(request) {
            Ok(fd) if request.btf.is_none() => Ok(Map::with_types(request.name, fd, None)),
            Ok(fd) => Ok(Map::new(request.name, fd)),
            Err(errno) => {
                let label = MapLabel::of(request.name, request.map_type);
                Err(MapError::unavailable(label, MapOperation::Create, errno))
            }
        }
    }

    /// Opens a pinned map (`BPF_OBJ_GET`, Linux 4.4). Its name is the kernel's.
    ///
    /// ```
    /// use skep::map::Map;
    /// use skep::sys::abi::{MapType, OpenFlags};
    /// use skep::sys::request::MapCreate;
    ///
    /// let kernel = skep::sim::kernel();
    /// let mut request = MapCreate::new(MapType::ARRAY, 4, 8, 1);
    /// request.name = "total";
    /// Map::create(&kernel, &request)?.pin("/sys/fs/bpf/total")?;
    /// let map = Map::open_pinned(&kernel, "/sys/fs/bpf/total", OpenFlags::empty())?;
    /// assert_eq!(map.name(), "total");
    /// # Ok::<(), skep::map::MapError>(())
    /// ```
    ///
    /// # Errors
    /// [`MapError::Unavailable`]: nothing is pinned there, or something else than a map.
    pub fn open_pinned(kernel: &Kernel, path: impl AsRef<Path>, flags: OpenFlags) -> Result<Map, MapError> {
        let path = path.as_ref();
        opened(kernel.map_open_pinned(path, flags), || MapLabel::at(path))
    }

    /// Opens a map by its id (`BPF_MAP_GET_FD_BY_ID`, Linux 4.13). Its name is the kernel's.
    ///
    /// # Errors
    /// [`MapError::Unavailable`]: there is no such map, or the process lacks `CAP_SYS_ADMIN`.
    pub fn by_id(kernel: &Kernel, id: MapId, flags: OpenFlags) -> Result<Map, MapError> {
        opened(kernel.map_by_id(id, flags), || MapLabel::with_id(id))
    }

    /// Takes a map's descriptor that came from elsewhere, such as another process. Its name is the kernel's.
    ///
    /// # Errors
    /// [`MapError::Unavailable`]: it is no map.
    pub fn from_fd(kernel: &Kernel, fd: OwnedFd) -> Result<Map, MapError> {
        opened(kernel.map_from_fd(fd), MapLabel::from_descriptor)
    }

    /// A typed view of the map, which shares its descriptor: [`HashMap`](super::HashMap), [`Array`](super::Array) and
    /// the other views of this module, each of which is also a `TryFrom<Map>`.
    ///
    /// ```
    /// use skep::map::{Array, HashMap, Map, MapErrorKind};
    /// use skep::sys::abi::MapType;
    /// use skep::sys::request::MapCreate;
    ///
    /// let mut request = MapCreate::new(MapType::ARRAY, 4, 8, 16);
    /// request.name = "totals";
    /// let map = Map::create(&skep::sim::kernel(), &request)?;
    /// assert!(map.typed::<Array<u64>>().is_ok());
    /// let error = map.typed::<Array<u32>>().unwrap_err();
    /// assert_eq!(error.to_string(), "map `totals` has values of 8 bytes, and the value type has 4");
    /// let error = map.typed::<HashMap<u32, u64>>().unwrap_err();
    /// assert_eq!(error.to_string(), "map `totals` is of type array, and HashMap takes hash or lru_hash");
    /// assert_eq!(error.kind(), MapErrorKind::Mismatch);
    /// # Ok::<(), skep::map::MapError>(())
    /// ```
    ///
    /// Where the map has BTF ([`types`](Map::types)), its keys and values are compared with the Rust types member by
    /// member:
    /// - members lie at the same offsets, whatever they are called; a struct that only wraps one thing is that thing, and
    ///   structs may be flat on one side and nested on the other;
    /// - an integer is one of the same size and sign; an enumeration is one of any sign, a pointer an unsigned one, bit
    ///   fields are the integers that they lie in, `char` and `bool` are bytes;
    /// - of a union, one arm has to fit;
    /// - Rust bytes (`[u8; N]`, [`Opaque`](super::Opaque)) stand for anything of their size, spin locks and timers among it;
    /// - where C has padding, Rust has bytes, or a field whose name has `pad` in it or begins with `_`.
    ///
    /// ```
    /// # use skep::{Loader, Spec};
    /// use skep::map::{Array, PlainData};
    /// use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};
    ///
    /// #[derive(FromBytes, IntoBytes, Immutable, KnownLayout, PlainData)]
    /// #[repr(C)]
    /// struct Execution {
    ///     at_ns: u64,
    ///     pid: u32, // it is signed
    ///     tgid: i32,
    ///     parent_tgid: i32,
    ///     uid: u32,
    ///     comm: [u8; 16],
    ///     filename: [u8; 128],
    /// }
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let types = std::fs::read("testdata/btf/6.12.btf")?;
    /// # let kernel = skep::Kernel::new(skep::sim::SimKernel::builder().btf(types).build()?);
    /// let object = Loader::new(&kernel).load(&Spec::open("examples/exec_watch.bpf.o")?)?;
    /// let error = object.map("recent")?.typed::<Array<Execution>>().unwrap_err();
    /// let table = "\
    /// values of map `recent` are not laid out as `Execution`: at offset 8, `s32` is signed, and `u32` is not
    ///     offset  size  struct execution    size  Execution
    ///          0     8  u64 at_ns              8  at_ns: u64
    ///   >      8     4  s32 pid                4  pid: u32
    ///         12     4  s32 tgid               4  tgid: i32
    ///         16     4  s32 parent_tgid        4  parent_tgid: i32
    ///         20     4  u32 uid                4  uid: u32
    ///         24    16  char[16] comm         16  comm: [u8; 16]
    ///         40   128  char[128] filename   128  filename: [u8; 128]";
    /// assert_eq!(error.to_string(), table);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// The map has another kind or other sizes than the view, or other types.
    pub fn typed<V: TryFrom<Map, Error = MapError>>(&self) -> Result<V, MapError> {
        V::try_from(self.clone())
    }

    /// Name: as the object file has it, or as the kernel reports it for an opened map.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// What errors call the map. The kernel is asked once for the id of one without a name.
    pub(crate) fn label(&self) -> MapLabel {
        let label = || {
            if !self.0.name.is_empty() {
                return MapLabel::from(self.0.name.clone());
            }
            match self.0.fd.info() {
                Ok(info) if info.id != MapId::default() => MapLabel::with_id(info.id),
                _ => MapLabel::of("", self.map_type()),
            }
        };
        self.0.label.get_or_init(label).clone()
    }

    /// What its keys and values are: as the object file says, or as the kernel does. None for a map without BTF, and where
    /// the process may not read the kernel's answer (`BPF_BTF_GET_FD_BY_ID` needs `CAP_SYS_ADMIN`).
    ///
    /// The kernel is asked once.
    pub fn types(&self) -> Option<MapTypes> {
        if let Some(types) = self.0.types.get() {
            return types.clone();
        }
        let info = self.0.fd.info().ok()?;
        let types = if info.btf_id == BtfObjectId::default() {
            None
        } else {
            let known = |id: u32| (id != 0).then_some(TypeId(id));
            let (key, value) = (known(info.btf_key_type_id), known(info.btf_value_type_id));
            let btf = self.kernel().btf_object(info.btf_id).ok()?;
            MapTypes { btf, key, value }.fitting(self.shape())
        };
        self.0.types.get_or_init(|| types).clone()
    }

    /// The open map as `sys` knows it.
    pub fn as_map_fd(&self) -> &MapFd {
        &self.0.fd
    }

    /// The kernel that the map lives in.
    pub fn kernel(&self) -> &Kernel {
        self.0.fd.kernel()
    }

    /// Kind and sizes.
    pub fn shape(&self) -> MapShape {
        self.0.fd.shape()
    }

    /// Kind.
    pub fn map_type(&self) -> MapType {
        self.0.fd.map_type()
    }

    /// Length of a key in bytes; 0 for kinds without keys.
    pub fn key_len(&self) -> usize {
        self.0.fd.key_len()
    }

    /// Length in bytes of a value as user space passes it: the value size, or for per-CPU kinds
    /// `possible CPUs * value size rounded up to 8`.
    pub fn value_len(&self) -> usize {
        self.0.fd.value_len()
    }

    /// Capacity; its unit depends on the kind.
    pub fn max_entries(&self) -> u32 {
        self.shape().max_entries
    }

    /// Number of values in an element: possible CPUs for per-CPU kinds, else 1.
    pub fn values_per_element(&self) -> u32 {
        self.0.fd.values_per_element()
    }

    /// What the kernel says of the map (`BPF_OBJ_GET_INFO_BY_FD`, Linux 4.13).
    ///
    /// # Errors
    /// [`MapError::Failed`].
    pub fn info(&self) -> Result<MapInfo, MapError> {
        self.0.fd.info().map_err(|error| self.failed(MapOperation::Info, error))
    }

    /// Id of the map (Linux 4.13). Asks the kernel.
    ///
    /// # Errors
    /// [`MapError::Failed`].
    pub fn id(&self) -> Result<MapId, MapError> {
        self.info().map(|info| info.id)
    }

    /// Pins the map at a path on a bpffs, so that it outlives its descriptors (`BPF_OBJ_PIN`, Linux 4.4).
    ///
    /// # Errors
    /// [`MapError::Pin`], of kind [`Exists`](super::MapErrorKind::Exists) when the path is taken.
    pub fn pin(&self, path: impl AsRef<Path>) -> Result<(), MapError> {
        let path = path.as_ref();
        self.0.fd.pin(path).map_err(|error| {
            let errno = error.errno().unwrap_or(Errno::EINVAL);
            let hint = pins::hint(self.kernel(), path, errno);
            MapError::Pin { map: self.label(), path: path.to_owned(), hint, errno }
        })
    }

    /// Forbids user space to write from now on (`BPF_MAP_FREEZE`, Linux 5.2).
    ///
    /// # Errors
    /// [`MapError::Failed`], of kind [`Denied`](super::MapErrorKind::Denied) or, on older kernels,
    /// [`Busy`](super::MapErrorKind::Busy) when it is frozen already; [`Busy`](super::MapErrorKind::Busy) when it is
    /// mapped for writing.
    pub fn freeze(&self) -> Result<(), MapError> {
        self.0.fd.freeze().map_err(|error| self.failed(MapOperation::Freeze, error))
    }

    /// Reads the value at `key` into `value` (`BPF_MAP_LOOKUP_ELEM`, Linux 3.19). Answers whether there is one.
    ///
    /// # Errors
    /// [`MapError::Failed`], of kind [`Length`](super::MapErrorKind::Length) for a slice of a wrong length.
    pub fn lookup_into(&self, key: &[u8], value: &mut [u8], flags: UpdateFlags) -> Result<bool, MapError> {
        self.found(MapOperation::Lookup, self.0.fd.lookup(key, value, flags))
    }

    /// The value at `key`, in memory of its own (`BPF_MAP_LOOKUP_ELEM`, Linux 3.19).
    ///
    /// # Errors
    /// As [`lookup_into`](Map::lookup_into).
    pub fn lookup(&self, key: &[u8]) -> Result<Option<Vec<u8>>, MapError> {
        let mut value = vec![0; self.value_len()];
        Ok(self.lookup_into(key, &mut value, UpdateFlags::empty())?.then_some(value))
    }

    /// Writes the value at `key` (`BPF_MAP_UPDATE_ELEM`, Linux 3.19).
    ///
    /// # Errors
    /// [`MapError::Failed`], of kind [`Full`](super::MapErrorKind::Full), and
    /// [`Exists`](super::MapErrorKind::Exists) or [`NotFound`](super::MapErrorKind::NotFound) by the flags.
    pub fn update(&self, key: &[u8], value: &[u8], flags: UpdateFlags) -> Result<(), MapError> {
        self.0.fd.update(key, value, flags).map_err(|error| self.failed(MapOperation::Update, error))
    }

    /// Removes the element at `key` (`BPF_MAP_DELETE_ELEM`, Linux 3.19). Answers whether there was one.
    ///
    /// # Errors
    /// [`MapError::Failed`], of kind [`Invalid`](super::MapErrorKind::Invalid) for arrays.
    pub fn delete(&self, key: &[u8]) -> Result<bool, MapError> {
        self.found(MapOperation::Delete, self.0.fd.delete(key))
    }

    /// Reads and removes the element at `key`, or the next one of a queue or stack
    /// (`BPF_MAP_LOOKUP_AND_DELETE_ELEM`, Linux 4.20; hashes 5.14). Answers whether there was one.
    ///
    /// # Errors
    /// [`MapError::Failed`], of kind [`Unsupported`](super::MapErrorKind::Unsupported) where the kind of map or the
    /// kernel does not have it.
    pub fn lookup_and_delete(
        &self,
        key: &[u8],
        value: &mut [u8],
        flags: UpdateFlags,
    ) -> Result<bool, MapError> {
        let result = self.0.fd.lookup_and_delete(key, value, flags);
        self.found(MapOperation::LookupAndDelete, result)
    }

    /// Writes the key after `key`, or the first one, into `next` (`BPF_MAP_GET_NEXT_KEY`, Linux 3.19; first key by
    /// none 4.12). Answers whether there is one. A hash begins anew when `key` is gone.
    ///
    /// # Errors
    /// [`MapError::Failed`].
    pub fn next_key(&self, key: Option<&[u8]>, next: &mut [u8]) -> Result<bool, MapError> {
        self.found(MapOperation::NextKey, self.0.fd.next_key(key, next))
    }

    /// All keys, with the guarantees of [`Keys`](super::Keys).
    pub fn keys(&self) -> ByteKeys<'_> {
        ByteKeys::new(self)
    }

    pub(super) fn unsupported(&self, operation: MapOperation, why: &'static str) -> MapError {
        MapError::Unsupported { map: self.label(), operation, why }
    }

    /// Whether the element was there: the kernel's [`Errno::ENOENT`] is an answer, not a failure.
    pub(super) fn found(
        &self,
        operation: MapOperation,
        result: Result<(), skep_sys::MapError>,
    ) -> Result<bool, MapError> {
        match result {
            Ok(()) => Ok(true),
            Err(error) if error.errno() == Some(Errno::ENOENT) => Ok(false),
            Err(error) => Err(self.failed(operation, error)),
        }
    }

    /// The memory of an arena, mapped by `map` where it is not yet. All handles that came of this one share it.
    pub(super) fn shared_memory(
        &self,
        map: impl FnOnce() -> Result<SharedMemory, MapError>,
    ) -> Result<Arc<SharedMemory>, MapError> {
        let mut memory = self.0.memory.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = &*memory {
            return Ok(known.clone());
        }
        let mapped = Arc::new(map()?);
        *memory = Some(mapped.clone());
        Ok(mapped)
    }

    /// Keeps the memory of an arena that was mapped already.
    pub(crate) fn keep_memory(&self, memory: &Arc<SharedMemory>) {
        *self.0.memory.lock().unwrap_or_else(PoisonError::into_inner) = Some(memory.clone());
    }

    /// Opens a map that this one holds; none when it is gone by now.
    pub(super) fn inner(&self, id: MapId) -> Result<Option<Map>, MapError> {
        match Map::by_id(self.kernel(), id, OpenFlags::empty()) {
            Ok(map) => Ok(Some(map)),
            Err(error) if error.errno() == Some(Errno::ENOENT) => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(crate) fn failed(&self, operation: MapOperation, error: skep_sys::MapError) -> MapError {
        MapError::failed(&self.label(), self.map_type(), operation, error)
    }
}

fn opened(fd: Result<MapFd, Errno>, from: impl FnOnce() -> MapLabel) -> Result<Map, MapError> {
    let name = |fd: MapFd| match fd.info() {
        Ok(info) => Ok((fd, info.name)),
        Err(error) => Err(error.errno().unwrap_or(Errno::EIO)),
    };
    match fd.and_then(name) {
        Ok((fd, name)) => Ok(Map::new(name, fd)),
        Err(errno) => Err(MapError::unavailable(from(), MapOperation::Open, errno)),
    }
}

impl AsFd for Map {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.fd.as_fd()
    }
}

const _: fn() = || {
    fn shared<T: Send + Sync>() {}
    shared::<Map>();
};

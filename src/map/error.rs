use std::fmt;
use std::path::PathBuf;

use skep_sys::abi::{Errno, MapType};

use super::traits::EventFault;

use super::label::MapLabel;
use super::layout::LayoutMismatch;

/// Why something could not be done with a map.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MapError {
    /// The map is of another kind than the view takes.
    #[error("map {map} is of type {there}, and {view} takes {}", either(asked))]
    WrongType {
        /// The map.
        map: MapLabel,
        /// The view that was asked for.
        view: &'static str,
        /// The kinds that it takes.
        asked: &'static [MapType],
        /// The kind that the map has.
        there: MapType,
    },
    /// The key type has another size than the map's keys.
    #[error("map {map} has keys of {there} bytes, and the key type has {asked}")]
    WrongKeySize {
        /// The map.
        map: MapLabel,
        /// Size of the type in bytes.
        asked: usize,
        /// Size of the map's keys in bytes.
        there: usize,
    },
    /// The value type has another size than the map's values.
    #[error("map {map} has values of {there} bytes, and the value type has {asked}")]
    WrongValueSize {
        /// The map.
        map: MapLabel,
        /// Size of the type in bytes.
        asked: usize,
        /// Size of the map's values in bytes (of one CPU's value for per-CPU kinds).
        there: usize,
    },
    /// The map has BTF, and its keys or values lie otherwise than those of the type.
    #[error("{part}s of map {map} are not laid out as `{}`: {mismatch}", mismatch.rust_type)]
    WrongLayout {
        /// The map.
        map: MapLabel,
        /// Whether it is about keys or values.
        part: MapPart,
        /// Both layouts, and where they begin to differ.
        mismatch: Box<LayoutMismatch>,
    },
    /// There have to be as many values as the kernel has possible CPUs.
    #[error("elements of map {map} have {there} values, one per possible CPU, and {asked} were given")]
    WrongCpuCount {
        /// The map.
        map: MapLabel,
        /// Number of values given.
        asked: usize,
        /// Number of possible CPUs.
        there: usize,
    },
    /// Bytes that are to be the keys or values of many elements are of another number.
    #[error("{part}s of {asked} bytes in all were given to map {map}, where {count} have {there} each")]
    WrongTotal {
        /// The map.
        map: MapLabel,
        /// Whether it is about keys or values.
        part: MapPart,
        /// Number of bytes given.
        asked: usize,
        /// How many elements there are, by the keys.
        count: usize,
        /// Size of one in bytes, as user space passes it.
        there: usize,
    },
    /// An event is shorter than the type that it was to be read as.
    #[error("event of map {map} has {there} bytes, and the event type has {asked}")]
    WrongEventSize {
        /// The map.
        map: MapLabel,
        /// Size of the type in bytes.
        asked: usize,
        /// Length of the event in bytes.
        there: usize,
    },
    /// Events could not be read.
    #[error("cannot read events of map {map}")]
    Events {
        /// The map.
        map: MapLabel,
        /// What the reader says.
        source: EventFault,
    },
    /// Keys went away while they were gone through, so that the kernel began anew.
    #[error("keys of map {map} were removed while it was iterated: it began anew after {seen} keys")]
    IterationAborted {
        /// The map.
        map: MapLabel,
        /// Number of keys that were given out.
        seen: u64,
    },
    /// There is no such CPU.
    #[error("map {map} has values for {there} CPUs, and CPU {cpu} is none of them")]
    NoSuchCpu {
        /// The map.
        map: MapLabel,
        /// The CPU that was asked for.
        cpu: u32,
        /// Number of possible CPUs.
        there: u32,
    },
    /// The kernel or the map lacks what an operation needs, and nothing else does the same.
    #[error("cannot {operation} map {map}: {why}")]
    Unsupported {
        /// The map.
        map: MapLabel,
        /// What was tried.
        operation: MapOperation,
        /// What is lacking.
        why: &'static str,
    },
    /// Memory that is shared with the kernel cannot be accessed as asked.
    #[error("cannot access the memory of map {map}")]
    Memory {
        /// The map.
        map: MapLabel,
        /// Why.
        source: skep_sys::SharedMemoryError,
    },
    /// An operation was refused.
    #[error("cannot {operation} map {map}{}", colon(*hint))]
    Failed {
        /// The map.
        map: MapLabel,
        /// What was tried.
        operation: MapOperation,
        /// Why, where it is known.
        hint: Option<&'static str>,
        /// What was answered.
        source: skep_sys::MapError,
    },
    /// A map could not be pinned.
    #[error("cannot pin map {map} at {}{hint}", path.display())]
    Pin {
        /// The map.
        map: MapLabel,
        /// Where.
        path: PathBuf,
        /// What may help, with its own separator; empty when nothing is known.
        hint: String,
        /// What the kernel answered.
        #[source]
        errno: Errno,
    },
    /// A map could not be created or opened.
    #[error("cannot {operation} map {map}{}", colon(*hint))]
    Unavailable {
        /// The map: its name, path or id.
        map: MapLabel,
        /// [`MapOperation::Create`] or [`MapOperation::Open`].
        operation: MapOperation,
        /// Why, where it is known.
        hint: Option<&'static str>,
        /// What the kernel answered.
        #[source]
        errno: Errno,
    },
}

/// A part of the elements of a map.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum MapPart {
    /// Keys.
    Key,
    /// Values.
    Value,
}

impl fmt::Display for MapPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            MapPart::Key => "key",
            MapPart::Value => "value",
        })
    }
}

/// What was tried with a map.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum MapOperation {
    /// `BPF_MAP_LOOKUP_ELEM`.
    Lookup,
    /// `BPF_MAP_UPDATE_ELEM`.
    Update,
    /// `BPF_MAP_DELETE_ELEM`.
    Delete,
    /// `BPF_MAP_GET_NEXT_KEY`.
    NextKey,
    /// `BPF_MAP_LOOKUP_AND_DELETE_ELEM`.
    LookupAndDelete,
    /// `BPF_MAP_LOOKUP_BATCH`.
    LookupBatch,
    /// `BPF_MAP_LOOKUP_AND_DELETE_BATCH`.
    LookupAndDeleteBatch,
    /// `BPF_MAP_UPDATE_BATCH`.
    UpdateBatch,
    /// `BPF_MAP_DELETE_BATCH`.
    DeleteBatch,
    /// `BPF_MAP_FREEZE`.
    Freeze,
    /// `BPF_OBJ_GET_INFO_BY_FD`.
    Info,
    /// mmap(2).
    Mmap,
    /// `BPF_OBJ_PIN`.
    Pin,
    /// `BPF_MAP_CREATE`.
    Create,
    /// `BPF_OBJ_GET` or `BPF_MAP_GET_FD_BY_ID`.
    Open,
    /// Waiting for events of a ring or perf buffer, and reading them.
    ReadEvents,
    /// Sending events from user space.
    SendEvents,
}

impl fmt::Display for MapOperation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            MapOperation::Lookup => "look up an element of",
            MapOperation::Update => "update an element of",
            MapOperation::Delete => "delete an element of",
            MapOperation::NextKey => "find the next key of",
            MapOperation::LookupAndDelete => "look up and delete an element of",
            MapOperation::LookupBatch => "read elements of",
            MapOperation::LookupAndDeleteBatch => "read and delete elements of",
            MapOperation::UpdateBatch => "update elements of",
            MapOperation::DeleteBatch => "delete elements of",
            MapOperation::Mmap => "map the memory of",
            MapOperation::Freeze => "freeze",
            MapOperation::Info => "inspect",
            MapOperation::Pin => "pin",
            MapOperation::Create => "create",
            MapOperation::Open => "open",
            MapOperation::ReadEvents => "read events of",
            MapOperation::SendEvents => "send events to",
        })
    }
}

/// What an error means, for code that goes on by it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum MapErrorKind {
    /// There is no such element ([`Errno::ENOENT`]).
    NotFound,
    /// There is such an element already ([`Errno::EEXIST`]).
    Exists,
    /// The map takes no more elements ([`Errno::E2BIG`], [`Errno::ENOSPC`]), which is also what arrays answer to an
    /// index that they do not have.
    Full,
    /// Another CPU is changing the same place ([`Errno::EBUSY`], [`Errno::EAGAIN`]), or has its lock for a quarter of a second,
    /// as one that a machine lets wait ([`Errno::ETIMEDOUT`], Linux 6.15): try again.
    Busy,
    /// The map is frozen or opened for less, or the process lacks the right ([`Errno::EPERM`], [`Errno::EACCES`]).
    Denied,
    /// The kernel has no memory for it ([`Errno::ENOMEM`]).
    NoMemory,
    /// Maps of this kind, or this kernel, do not have the operation ([`Errno::EOPNOTSUPP`], [`Errno::ENOTSUPP`],
    /// [`Errno::ENOSYS`]).
    Unsupported,
    /// The kernel calls an argument invalid ([`Errno::EINVAL`], [`Errno::ERANGE`]), as deleting from an array.
    Invalid,
    /// A key or value has another length, or there are another number of values, than the map demands; or an event is
    /// too short.
    Length,
    /// The map has another kind, other sizes or other types than the view.
    Mismatch,
    /// Iteration began anew because of concurrent removals.
    IterationAborted,
    /// Anything else; see [`MapError::errno`].
    Other,
}

impl MapError {
    /// The error of an operation that a kernel refused, for mocks and maps of one's own.
    ///
    /// ```
    /// use skep::map::{MapError, MapErrorKind, MapOperation};
    /// use skep::sys::abi::Errno;
    ///
    /// let error = MapError::refused("blocked", MapOperation::Update, Errno::E2BIG);
    /// assert_eq!(error.kind(), MapErrorKind::Full);
    /// assert_eq!(error.to_string(), "cannot update an element of map `blocked`: it is full");
    /// ```
    pub fn refused(map: impl AsRef<str>, operation: MapOperation, errno: Errno) -> MapError {
        match operation {
            MapOperation::Create | MapOperation::Open => {
                MapError::unavailable(MapLabel::from(map.as_ref()), operation, errno)
            }
            _ => MapError::refused_type(&map.as_ref().into(), MapType::UNSPEC, operation, errno),
        }
    }

    /// The error of a source of events, for readers of one's own.
    ///
    /// ```
    /// use skep::map::MapError;
    ///
    /// let closed = std::io::Error::from(std::io::ErrorKind::UnexpectedEof);
    /// let error = MapError::events("trace_pipe", closed);
    /// assert_eq!(error.to_string(), "cannot read events of map `trace_pipe`");
    /// assert_eq!(std::error::Error::source(&error).unwrap().to_string(), "unexpected end of file");
    /// ```
    pub fn events(map: impl AsRef<str>, fault: impl std::error::Error + Send + Sync + 'static) -> MapError {
        MapError::Events { map: map.as_ref().into(), source: EventFault::new(fault) }
    }

    /// The same as [`refused`](MapError::refused) of a map whose kind is known.
    pub(super) fn refused_type(
        map: &MapLabel,
        map_type: MapType,
        operation: MapOperation,
        errno: Errno,
    ) -> MapError {
        let name = match operation {
            MapOperation::Lookup => "lookup",
            MapOperation::Update => "update",
            MapOperation::Delete => "delete",
            MapOperation::NextKey => "next key",
            MapOperation::LookupAndDelete => "lookup and delete",
            MapOperation::Freeze => "freeze",
            _ => "operation",
        };
        MapError::failed(map, map_type, operation, skep_sys::MapError::Kernel { operation: name, errno })
    }

    /// What the error means.
    pub fn kind(&self) -> MapErrorKind {
        match self {
            MapError::WrongType { .. }
            | MapError::WrongKeySize { .. }
            | MapError::WrongValueSize { .. }
            | MapError::WrongLayout { .. } => MapErrorKind::Mismatch,
            MapError::WrongCpuCount { .. }
            | MapError::WrongTotal { .. }
            | MapError::WrongEventSize { .. } => MapErrorKind::Length,
            MapError::Events { .. } => MapErrorKind::Other,
            MapError::NoSuchCpu { .. } => MapErrorKind::Invalid,
            MapError::Unsupported { .. } => MapErrorKind::Unsupported,
            MapError::Memory { source, .. } => match source {
                skep_sys::SharedMemoryError::OutOfRange { .. } => MapErrorKind::NotFound,
                skep_sys::SharedMemoryError::ReadOnly => MapErrorKind::Denied,
                _ => MapErrorKind::Invalid,
            },
            MapError::IterationAborted { .. } => MapErrorKind::IterationAborted,
            MapError::Failed { source, .. } => match source {
                skep_sys::MapError::KeyLength { .. }
                | skep_sys::MapError::ValueLength { .. }
                | skep_sys::MapError::CursorLength { .. } => MapErrorKind::Length,
                _ => source.errno().map_or(MapErrorKind::Other, kind_of),
            },
            MapError::Unavailable { errno, .. } | MapError::Pin { errno, .. } => kind_of(*errno),
        }
    }

    /// Name of the map; what else it is called in errors when it has none, or could not be opened: `with id 17`.
    pub fn map(&self) -> &str {
        self.label()
    }

    /// What the error calls the map.
    pub fn label(&self) -> &MapLabel {
        match self {
            MapError::WrongType { map, .. }
            | MapError::WrongKeySize { map, .. }
            | MapError::WrongValueSize { map, .. }
            | MapError::WrongLayout { map, .. }
            | MapError::WrongCpuCount { map, .. }
            | MapError::WrongTotal { map, .. }
            | MapError::WrongEventSize { map, .. }
            | MapError::Events { map, .. }
            | MapError::IterationAborted { map, .. }
            | MapError::NoSuchCpu { map, .. }
            | MapError::Unsupported { map, .. }
            | MapError::Memory { map, .. }
            | MapError::Failed { map, .. }
            | MapError::Pin { map, .. }
            | MapError::Unavailable { map, .. } => map,
        }
    }

    /// What the kernel answered, if it was asked.
    pub fn errno(&self) -> Option<Errno> {
        match self {
            MapError::Failed { source, .. } => source.errno(),
            MapError::Unavailable { errno, .. } | MapError::Pin { errno, .. } => Some(*errno),
            _ => None,
        }
    }

    /// Why it was refused, for error numbers whose meaning is known here.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            MapError::Failed { hint, .. } | MapError::Unavailable { hint, .. } => *hint,
            MapError::Unsupported { why, .. } => Some(why),
            _ => None,
        }
    }

    pub(super) fn failed(
        map: &MapLabel,
        map_type: MapType,
        operation: MapOperation,
        source: skep_sys::MapError,
    ) -> MapError {
        let hint = source.errno().and_then(|errno| hint(map_type, operation, errno));
        MapError::Failed { map: map.clone(), operation, hint, source }
    }

    pub(super) fn unavailable(map: MapLabel, operation: MapOperation, errno: Errno) -> MapError {
        let hint = match errno {
            Errno::ENOENT => Some("there is none"),
            Errno::EINVAL if operation == MapOperation::Open => Some("that is something else than a map"),
            Errno::EPERM => {
                Some("the process lacks the right, which is CAP_BPF, before Linux 5.8 CAP_SYS_ADMIN")
            }
            _ => None,
        };
        MapError::Unavailable { map, operation, hint, errno }
    }
}

fn kind_of(errno: Errno) -> MapErrorKind {
    match errno {
        Errno::ENOENT => MapErrorKind::NotFound,
        Errno::EEXIST => MapErrorKind::Exists,
        Errno::E2BIG | Errno::ENOSPC => MapErrorKind::Full,
        Errno::EBUSY | Errno::EAGAIN | Errno::ETIMEDOUT => MapErrorKind::Busy,
        Errno::EPERM | Errno::EACCES => MapErrorKind::Denied,
        Errno::ENOMEM => MapErrorKind::NoMemory,
        Errno::EOPNOTSUPP | Errno::ENOTSUPP | Errno::ENOSYS => MapErrorKind::Unsupported,
        Errno::EINVAL | Errno::ERANGE => MapErrorKind::Invalid,
        _ => MapErrorKind::Other,
    }
}

const HASHES: &[MapType] =
    &[MapType::HASH, MapType::LRU_HASH, MapType::PERCPU_HASH, MapType::LRU_PERCPU_HASH];

fn hint(map_type: MapType, operation: MapOperation, errno: Errno) -> Option<&'static str> {
    if let Some(hint) = super::hints::of_descriptors(map_type, operation, errno) {
        return Some(hint);
    }
    let array = matches!(map_type, MapType::ARRAY | MapType::PERCPU_ARRAY);
    let indexed =
        array || matches!(map_type, MapType::PROG_ARRAY | MapType::ARRAY_OF_MAPS | MapType::INSN_ARRAY);
    let of_maps = matches!(map_type, MapType::ARRAY_OF_MAPS | MapType::HASH_OF_MAPS);
    let rings = [MapType::RINGBUF, MapType::USER_RINGBUF];
    // What is said of one element holds for the one that ends a batch.
    let operation = match operation {
        MapOperation::UpdateBatch => MapOperation::Update,
        MapOperation::DeleteBatch => MapOperation::Delete,
        operation => operation,
    };
    let writes = matches!(
        operation,
        MapOperation::Update
            | MapOperation::Delete
            | MapOperation::LookupAndDelete
            | MapOperation::LookupAndDeleteBatch
    );
    Some(match (operation, errno) {
        (MapOperation::Update | MapOperation::Delete, Errno::E2BIG) if indexed => {
            "the index is not below the number of elements"
        }
        (MapOperation::Update, Errno::EINVAL) if of_maps => {
            "maps in it have another kind, other sizes or flags than that one, or another number of elements"
        }
        (MapOperation::Update, Errno::EINVAL) if map_type == MapType::PROG_ARRAY => {
            "programs in it are of another type than that one, or that one may not be jumped to"
        }
        (MapOperation::Update | MapOperation::Delete, Errno::EINVAL) if map_type == MapType::LPM_TRIE => {
            "the prefix has more bits than the key, or the flags are unknown"
        }
        (MapOperation::Update, Errno::EINVAL) if array || HASHES.contains(&map_type) => {
            "the flags are unknown or do not go together, or ask for a lock that values do not have"
        }
        (MapOperation::Update, Errno::E2BIG | Errno::ENOSPC) => "it is full",
        (MapOperation::Update, Errno::EEXIST) if array => "elements of an array always exist",
        (MapOperation::Update, Errno::EEXIST) => "there is such an element already",
        (MapOperation::Update, Errno::ENOENT) => "there is no such element",
        (MapOperation::Delete, Errno::EINVAL) if array => "elements of an array cannot be deleted",
        (MapOperation::LookupBatch | MapOperation::LookupAndDeleteBatch, Errno::ENOSPC) => {
            "a bucket has more elements than the map was made for"
        }
        (MapOperation::Mmap, Errno::EBUSY) => {
            "it is used in this process already, and one end of a ring has one user"
        }
        (MapOperation::Mmap, Errno::EACCES) if rings.contains(&map_type) => {
            "it was opened for less than reading and writing"
        }
        (MapOperation::Mmap, Errno::EINVAL) => "it is opened for reading only, and then no kernel maps it",
        (MapOperation::Mmap, Errno::EPERM | Errno::EACCES) => {
            "it is frozen, opened for writing only, or read-only for programs"
        }
        (MapOperation::Freeze, Errno::EPERM) => "it is frozen already, or opened for reading",
        (MapOperation::Freeze, Errno::EBUSY) => "it is frozen already, or mapped for writing",
        (_, Errno::EPERM) if writes => "it is frozen or opened for reading, or the process lacks the right",
        (_, Errno::EPERM) => "it is opened for writing only, or the process lacks the right",
        (MapOperation::LookupAndDelete, Errno::EOPNOTSUPP | Errno::ENOTSUPP | Errno::EINVAL) => {
            "maps of this kind do not have that, or it needs a newer kernel (Linux 5.14 for hashes)"
        }
        _ => return None,
    })
}

fn colon(hint: Option<&'static str>) -> String {
    hint.map(|hint| format!(": {hint}")).unwrap_or_default()
}

fn either(kinds: &[MapType]) -> String {
    let names: Vec<String> = kinds.iter().map(ToString::to_string).collect();
    names.join(" or ")
}

const _: fn() = || {
    fn shared<T: Send + Sync>() {}
    shared::<MapError>();
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_errno_has_its_kind() {
        use MapErrorKind as K;
        let kinds = [
            (Errno::ENOENT, K::NotFound),
            (Errno::EEXIST, K::Exists),
            (Errno::E2BIG, K::Full),
            (Errno::ENOSPC, K::Full),
            (Errno::EBUSY, K::Busy),
            (Errno::ETIMEDOUT, K::Busy),
            (Errno::EAGAIN, K::Busy),
            (Errno::EPERM, K::Denied),
            (Errno::EACCES, K::Denied),
            (Errno::ENOMEM, K::NoMemory),
            (Errno::EOPNOTSUPP, K::Unsupported),
            (Errno::ENOTSUPP, K::Unsupported),
            (Errno::ENOSYS, K::Unsupported),
            (Errno::EINVAL, K::Invalid),
            (Errno::ERANGE, K::Invalid),
            (Errno::EIO, K::Other),
            (Errno(9999), K::Other),
        ];
        for (errno, kind) in kinds {
            let source = skep_sys::MapError::Kernel { operation: "update", errno };
            let error = MapError::failed(&"m".into(), MapType::HASH, MapOperation::Update, source);
            assert_eq!((error.kind(), error.errno(), error.map()), (kind, Some(errno), "m"));
            assert_eq!(MapError::unavailable("m".into(), MapOperation::Open, errno).kind(), kind);
        }
    }
}

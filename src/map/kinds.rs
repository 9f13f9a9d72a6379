use skep_sys::abi::MapType;

use super::error::{MapError, MapPart};
use super::handle::Map;
use super::layout::compare;
use super::plain::PlainData;

/// What a typed view takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct ViewKind {
    /// Name of the view's type.
    pub view: &'static str,
    /// The kinds of maps that it takes.
    pub map_types: &'static [MapType],
    /// First Linux version with each of them.
    pub since: &'static [&'static str],
}

pub(super) const HASH: ViewKind =
    ViewKind { view: "HashMap", map_types: &[MapType::HASH, MapType::LRU_HASH], since: &["3.19", "4.10"] };

pub(super) const ARRAY: ViewKind = ViewKind { view: "Array", map_types: &[MapType::ARRAY], since: &["3.19"] };

pub(super) const PER_CPU_HASH: ViewKind = ViewKind {
    view: "PerCpuHashMap",
    map_types: &[MapType::PERCPU_HASH, MapType::LRU_PERCPU_HASH],
    since: &["4.6", "4.10"],
};

pub(super) const PER_CPU_ARRAY: ViewKind =
    ViewKind { view: "PerCpuArray", map_types: &[MapType::PERCPU_ARRAY], since: &["4.6"] };

pub(super) const DEV_MAP: ViewKind =
    ViewKind { view: "DevMap", map_types: &[MapType::DEVMAP], since: &["4.14"] };

pub(super) const DEV_MAP_HASH: ViewKind =
    ViewKind { view: "DevMapHash", map_types: &[MapType::DEVMAP_HASH], since: &["5.4"] };

pub(super) const CPU_MAP: ViewKind =
    ViewKind { view: "CpuMap", map_types: &[MapType::CPUMAP], since: &["4.15"] };

pub(super) const XSK_MAP: ViewKind =
    ViewKind { view: "XskMap", map_types: &[MapType::XSKMAP], since: &["4.18"] };

pub(super) const SOCK_MAP: ViewKind =
    ViewKind { view: "SockMap", map_types: &[MapType::SOCKMAP], since: &["4.14"] };

pub(super) const SOCK_HASH: ViewKind =
    ViewKind { view: "SockHash", map_types: &[MapType::SOCKHASH], since: &["4.18"] };

pub(super) const REUSEPORT_ARRAY: ViewKind =
    ViewKind { view: "ReuseportArray", map_types: &[MapType::REUSEPORT_SOCKARRAY], since: &["4.19"] };

pub(super) const CGROUP_ARRAY: ViewKind =
    ViewKind { view: "CgroupArray", map_types: &[MapType::CGROUP_ARRAY], since: &["4.8"] };

pub(super) const SK_STORAGE: ViewKind =
    ViewKind { view: "SkStorage", map_types: &[MapType::SK_STORAGE], since: &["5.2"] };

pub(super) const TASK_STORAGE: ViewKind =
    ViewKind { view: "TaskStorage", map_types: &[MapType::TASK_STORAGE], since: &["5.11"] };

pub(super) const INODE_STORAGE: ViewKind =
    ViewKind { view: "InodeStorage", map_types: &[MapType::INODE_STORAGE], since: &["5.10"] };

pub(super) const CGRP_STORAGE: ViewKind =
    ViewKind { view: "CgroupStorage", map_types: &[MapType::CGRP_STORAGE], since: &["6.2"] };

pub(super) const ATTACHED_CGROUP_STORAGE: ViewKind =
    ViewKind { view: "AttachedCgroupStorage", map_types: &[MapType::CGROUP_STORAGE], since: &["4.19"] };

pub(super) const PER_CPU_ATTACHED_CGROUP_STORAGE: ViewKind = ViewKind {
    view: "PerCpuAttachedCgroupStorage",
    map_types: &[MapType::PERCPU_CGROUP_STORAGE],
    since: &["4.20"],
};
pub(super) const LPM_TRIE: ViewKind =
    ViewKind { view: "LpmTrie", map_types: &[MapType::LPM_TRIE], since: &["4.11"] };

pub(super) const QUEUE: ViewKind = ViewKind { view: "Queue", map_types: &[MapType::QUEUE], since: &["4.20"] };

pub(super) const STACK: ViewKind = ViewKind { view: "Stack", map_types: &[MapType::STACK], since: &["4.20"] };

pub(super) const BLOOM_FILTER: ViewKind =
    ViewKind { view: "BloomFilter", map_types: &[MapType::BLOOM_FILTER], since: &["5.16"] };

pub(super) const PROGRAM_ARRAY: ViewKind =
    ViewKind { view: "ProgramArray", map_types: &[MapType::PROG_ARRAY], since: &["4.2"] };

pub(super) const ARRAY_OF_MAPS: ViewKind =
    ViewKind { view: "ArrayOfMaps", map_types: &[MapType::ARRAY_OF_MAPS], since: &["4.12"] };

pub(super) const HASH_OF_MAPS: ViewKind =
    ViewKind { view: "HashOfMaps", map_types: &[MapType::HASH_OF_MAPS], since: &["4.12"] };

pub(super) const INSTRUCTION_ARRAY: ViewKind =
    ViewKind { view: "InstructionArray", map_types: &[MapType::INSN_ARRAY], since: &["6.19"] };

pub(super) const PERF_EVENT_ARRAY: ViewKind =
    ViewKind { view: "PerfEventArray", map_types: &[MapType::PERF_EVENT_ARRAY], since: &["4.3"] };

pub(super) const STACK_TRACES: ViewKind =
    ViewKind { view: "StackTraces", map_types: &[MapType::STACK_TRACE], since: &["4.6"] };

pub(super) const ARENA: ViewKind = ViewKind { view: "Arena", map_types: &[MapType::ARENA], since: &["6.9"] };

pub(super) const STRUCT_OPS: ViewKind =
    ViewKind { view: "StructOpsMap", map_types: &[MapType::STRUCT_OPS], since: &["5.6"] };

pub(crate) const RING_BUFFER: ViewKind =
    ViewKind { view: "RingBuffer", map_types: &[MapType::RINGBUF], since: &["5.8"] };

pub(crate) const USER_RING_BUFFER: ViewKind =
    ViewKind { view: "UserRingBuffer", map_types: &[MapType::USER_RINGBUF], since: &["6.1"] };

/// One row per typed view.
pub const KINDS: &[ViewKind] = &[
    HASH,
    ARRAY,
    PER_CPU_HASH,
    PER_CPU_ARRAY,
    PERF_EVENT_ARRAY,
    DEV_MAP,
    DEV_MAP_HASH,
    CPU_MAP,
    XSK_MAP,
    SOCK_MAP,
    SOCK_HASH,
    REUSEPORT_ARRAY,
    CGROUP_ARRAY,
    SK_STORAGE,
    TASK_STORAGE,
    INODE_STORAGE,
    CGRP_STORAGE,
    ATTACHED_CGROUP_STORAGE,
    PER_CPU_ATTACHED_CGROUP_STORAGE,
    LPM_TRIE,
    QUEUE,
    STACK,
    BLOOM_FILTER,
    PROGRAM_ARRAY,
    ARRAY_OF_MAPS,
    HASH_OF_MAPS,
    INSTRUCTION_ARRAY,
    STACK_TRACES,
    ARENA,
    STRUCT_OPS,
    RING_BUFFER,
    USER_RING_BUFFER,
];

impl ViewKind {
    /// Refuses a map that has another kind than the view, or other keys or values than its types.
    pub(super) fn check<K: PlainData, V: PlainData>(&self, map: &Map) -> Result<(), MapError> {
        self.check_kind(map)?;
        check_part::<K>(map, MapPart::Key)?;
        check_part::<V>(map, MapPart::Value)
    }

    /// Refuses a map that has another kind than the view, other keys than its type, or whose values are no descriptors and
    /// ids, which have no types.
    pub(super) fn check_fds<K: PlainData>(&self, map: &Map) -> Result<(), MapError> {
        self.check_kind(map)?;
        check_part::<K>(map, MapPart::Key)?;
        let (asked, there) = (size_of::<u32>(), map.shape().value_size as usize);
        if asked == there {
            return Ok(());
        }
        Err(MapError::WrongValueSize { map: map.label(), asked, there })
    }

    /// Refuses a map that has another kind than the view.
    pub(crate) fn check_kind(&self, map: &Map) -> Result<(), MapError> {
        if self.map_types.contains(&map.map_type()) { Ok(()) } else { Err(self.wrong_type(map)) }
    }

    /// Says that a map has another kind than the view.
    pub(crate) fn wrong_type(&self, map: &Map) -> MapError {
        let (there, asked) = (map.map_type(), self.map_types);
        MapError::WrongType { map: map.label(), view: self.view, asked, there }
    }
}

/// Refuses a map whose keys or values are not as the type: of another size or, where the map has types, otherwise laid
/// out.
pub(super) fn check_part<T: PlainData>(map: &Map, part: MapPart) -> Result<(), MapError> {
    let shape = map.shape();
    let (asked, there) = match part {
        MapPart::Key => (size_of::<T>(), shape.key_size as usize),
        MapPart::Value => (size_of::<T>(), shape.value_size as usize),
    };
    if (asked, there) == (0, 0) {
        return Ok(());
    }
    if let Some(types) = map.types()
        && let Some(id) = types.of(part)
        && let Err(mismatch) = compare(&types.btf, id, T::SHAPE)
    {
        return Err(MapError::WrongLayout { map: map.label(), part, mismatch: mismatch.into() });
    }
    let map = map.label();
    match part {
        _ if asked == there => Ok(()),
        MapPart::Key => Err(MapError::WrongKeySize { map, asked, there }),
        MapPart::Value => Err(MapError::WrongValueSize { map, asked, there }),
    }
}

/// What every view has beside its operations: how it is made of a [`Map`] and back.
///
/// After the view stand its row and the types of its keys and values, or what checks a map (`|map| check`).
macro_rules! view {
    ($view:ident<$($param:ident),+>, $kind:expr, $key:ty, $value:ty) => {
        view!($view<$($param),+>, $kind, |map| $kind.check::<$key, $value>(map));
    };
    ($view:ident<$($param:ident),+>, $kind:expr, |$map:ident| $check:expr) => {
        impl<$($param: PlainData),+> TryFrom<Map> for $view<$($param),+> {
            type Error = MapError;

            fn try_from(map: Map) -> Result<Self, MapError> {
                let $map = &map;
                $check?;
                Ok($view { map, types: PhantomData })
            }
        }

        impl<$($param),+> $view<$($param),+> {
            /// The map, of which this is a view.
            pub fn as_map(&self) -> &Map {
                &self.map
            }
        }

        impl<$($param),+> From<$view<$($param),+>> for Map {
            fn from(view: $view<$($param),+>) -> Map {
                view.map
            }
        }

        impl<$($param),+> Clone for $view<$($param),+> {
            fn clone(&self) -> Self {
                $view { map: self.map.clone(), types: PhantomData }
            }
        }

        impl<$($param),+> fmt::Debug for $view<$($param),+> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_tuple($kind.view).field(&self.map).finish()
            }
        }
    };
    ($view:ident, $kind:expr, |$map:ident| $check:expr) => {
        impl TryFrom<Map> for $view {
            type Error = MapError;

            fn try_from(map: Map) -> Result<Self, MapError> {
                let $map = &map;
                $check?;
                Ok($view { map })
            }
        }

        impl $view {
            /// The map, of which this is a view.
            pub fn as_map(&self) -> &Map {
                &self.map
            }
        }

        impl From<$view> for Map {
            fn from(view: $view) -> Map {
                view.map
            }
        }

        impl Clone for $view {
            fn clone(&self) -> Self {
                $view { map: self.map.clone() }
            }
        }

        impl fmt::Debug for $view {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_tuple($kind.view).field(&self.map).finish()
            }
        }
    };
}
pub(super) use view;

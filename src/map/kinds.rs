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

/// One row per typed view.
pub const KINDS: &[ViewKind] = &[HASH, ARRAY, PER_CPU_HASH, PER_CPU_ARRAY];

impl ViewKind {
    /// Refuses a map that has another kind than the view, or other keys or values than its types.
    pub(super) fn check<K: PlainData, V: PlainData>(&self, map: &Map) -> Result<(), MapError> {
        self.check_kind(map)?;
        check_part::<K>(map, MapPart::Key)?;
        check_part::<V>(map, MapPart::Value)
    }

    /// Refuses a map that has another kind than the view.
    pub(super) fn check_kind(&self, map: &Map) -> Result<(), MapError> {
        let there = map.map_type();
        if self.map_types.contains(&there) {
            return Ok(());
        }
        let (map, asked) = (map.shared_name(), self.map_types);
        Err(MapError::WrongType { map, view: self.view, asked, there })
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
        return Err(MapError::WrongLayout { map: map.shared_name(), part, mismatch: mismatch.into() });
    }
    let map = map.shared_name();
    match part {
        _ if asked == there => Ok(()),
        MapPart::Key => Err(MapError::WrongKeySize { map, asked, there }),
        MapPart::Value => Err(MapError::WrongValueSize { map, asked, there }),
    }
}

/// What every view has beside its operations: how it is made of a [`Map`] and back.
macro_rules! view {
    ($view:ident<$($param:ident),+>, $kind:expr, $key:ty, $value:ty) => {
        impl<$($param: PlainData),+> TryFrom<Map> for $view<$($param),+> {
            type Error = MapError;

            fn try_from(map: Map) -> Result<Self, MapError> {
                $kind.check::<$key, $value>(&map)?;
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
}
pub(super) use view;

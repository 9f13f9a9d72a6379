use skep_sys::abi::MapType;

use super::error::MapError;
use super::handle::Map;

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
    /// Refuses a map that has another kind than the view, or other sizes than its types.
    pub(super) fn check<K, V>(&self, map: &Map) -> Result<(), MapError> {
        let shape = map.shape();
        if !self.map_types.contains(&shape.map_type) {
            return Err(MapError::WrongType {
                map: map.shared_name(),
                view: self.view,
                asked: self.map_types,
                there: shape.map_type,
            });
        }
        let (asked, there) = (size_of::<K>(), shape.key_size as usize);
        if asked != there {
            return Err(MapError::WrongKeySize { map: map.shared_name(), asked, there });
        }
        let (asked, there) = (size_of::<V>(), shape.value_size as usize);
        if asked != there {
            return Err(MapError::WrongValueSize { map: map.shared_name(), asked, there });
        }
        Ok(())
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

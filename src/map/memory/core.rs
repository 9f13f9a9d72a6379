use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, PoisonError};

use skep_sim::BareMap;
use skep_sys::abi::{Errno, UpdateFlags};
use skep_sys::request::MapCreate;

use crate::map::{MapError, MapLabel, MapOperation, PerCpuValues, PlainData};

/// What all maps in memory are: bytes that keep the kernel's rules, and a name.
#[derive(Clone, Debug)]
pub(super) struct Core {
    name: MapLabel,
    map: BareMap,
    /// What is to be refused once.
    refused: Arc<Mutex<Vec<(MapOperation, Errno)>>>,
}

impl Core {
    pub(super) fn new(request: &MapCreate<'_>, cpus: u32) -> Result<Core, MapError> {
        match BareMap::new(request, cpus) {
            Ok(map) => Ok(Core { name: "memory".into(), map, refused: Arc::default() }),
            Err(errno) => Err(MapError::refused("memory", MapOperation::Create, errno)),
        }
    }

    pub(super) fn rename(&mut self, name: &str) {
        self.name = name.into();
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn map(&self) -> &BareMap {
        &self.map
    }

    pub(super) fn refuse_next(&self, operation: MapOperation, errno: Errno) {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner).push((operation, errno));
    }

    /// Does an operation, unless it is to be refused.
    fn run<T>(
        &self,
        operation: MapOperation,
        call: impl FnOnce(&BareMap) -> Result<T, Errno>,
    ) -> Result<T, MapError> {
        let refused = {
            let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
            let place = refused.iter().position(|(refused, _)| *refused == operation);
            place.map(|place| refused.remove(place).1)
        };
        let result = match refused {
            Some(errno) => Err(errno),
            None => call(&self.map),
        };
        result.map_err(|errno| MapError::refused_type(&self.name, self.map.map_type(), operation, errno))
    }

    /// As [`run`](Core::run), where "there is none" is an answer.
    fn find(
        &self,
        operation: MapOperation,
        call: impl FnOnce(&BareMap) -> Result<(), Errno>,
    ) -> Result<bool, MapError> {
        self.run(operation, |map| match call(map) {
            Ok(()) => Ok(true),
            Err(Errno::ENOENT) => Ok(false),
            Err(errno) => Err(errno),
        })
    }

    pub(super) fn lookup(&self, key: &[u8], value: &mut [u8]) -> Result<bool, MapError> {
        self.find(MapOperation::Lookup, |map| map.lookup(key, value, 0))
    }

    pub(super) fn update(&self, key: &[u8], value: &[u8], flags: UpdateFlags) -> Result<(), MapError> {
        self.run(MapOperation::Update, |map| map.update(key, value, flags.bits()))
    }

    pub(super) fn delete(&self, key: &[u8]) -> Result<bool, MapError> {
        self.find(MapOperation::Delete, |map| map.delete(key))
    }

    pub(super) fn take(&self, key: &[u8], value: &mut [u8]) -> Result<bool, MapError> {
        self.find(MapOperation::LookupAndDelete, |map| map.lookup_and_delete(key, value, 0))
    }

    pub(super) fn freeze(&self) -> Result<(), MapError> {
        self.run(MapOperation::Freeze, BareMap::freeze)
    }

    /// Calls `each` with the keys of this moment.
    pub(super) fn walk<K: PlainData>(
        &self,
        mut each: impl FnMut(K) -> Result<ControlFlow<()>, MapError>,
    ) -> Result<(), MapError> {
        for key in self.run(MapOperation::NextKey, BareMap::keys)? {
            // A key has the size of the type.
            if let Ok(key) = K::read_from_bytes(&key)
                && each(key)?.is_break()
            {
                break;
            }
        }
        Ok(())
    }
}

/// Elements of one value.
pub(super) mod one {
    use super::{Core, MapError, PlainData};

    pub(in crate::map::memory) fn zeroed<V: PlainData>(_: &Core) -> V {
        V::new_zeroed()
    }

    pub(in crate::map::memory) fn bytes<'v, V: PlainData>(
        _: &Core,
        value: &'v V,
    ) -> Result<&'v [u8], MapError> {
        Ok(value.as_bytes())
    }

    pub(in crate::map::memory) fn bytes_mut<V: PlainData>(value: &mut V) -> &mut [u8] {
        value.as_mut_bytes()
    }
}

/// Elements of a value for each CPU.
pub(super) mod per_cpu {
    use super::{Core, MapError, PerCpuValues, PlainData};

    pub(in crate::map::memory) fn zeroed<V: PlainData>(core: &Core) -> PerCpuValues<V> {
        PerCpuValues::zeroed(core.map.values_per_element())
    }

    /// Refuses values for another number of CPUs.
    pub(in crate::map::memory) fn bytes<'v, V: PlainData>(
        core: &Core,
        values: &'v PerCpuValues<V>,
    ) -> Result<&'v [u8], MapError> {
        let (asked, there) = (values.len(), core.map.values_per_element() as usize);
        if asked == there {
            Ok(values.as_bytes())
        } else {
            Err(MapError::WrongCpuCount { map: core.name.clone(), asked, there })
        }
    }

    pub(in crate::map::memory) fn bytes_mut<V: PlainData>(values: &mut PerCpuValues<V>) -> &mut [u8] {
        values.bytes_mut()
    }
}

/// What every map in memory has beside the traits, and how it is printed.
macro_rules! memory {
    ($map:ident<$($param:ident),+>) => {
        impl<$($param),+> $map<$($param),+> {
            /// The same map under the name that errors of this handle, and of its clones, say. Without it that is
            /// `memory`.
            pub fn named(mut self, name: impl AsRef<str>) -> Self {
                self.core.rename(name.as_ref());
                self
            }

            /// Name.
            pub fn name(&self) -> &str {
                self.core.name()
            }

            /// Capacity in elements.
            pub fn max_entries(&self) -> u32 {
                self.core.map().max_entries()
            }

            /// Forbids writing from now on, as [`Map::freeze`](crate::map::Map::freeze).
            ///
            /// # Errors
            /// Of kind [`Denied`](crate::map::MapErrorKind::Denied) when it is frozen already.
            pub fn freeze(&self) -> Result<(), MapError> {
                self.core.freeze()
            }

            /// Has the next `operation` answered with `errno`; called again, the one after that. Others are done.
            /// [`MapOperation::NextKey`] stands for going through all elements.
            pub fn refuse_next(&self, operation: MapOperation, errno: Errno) {
                self.core.refuse_next(operation, errno);
            }
        }

        impl<$($param),+> Clone for $map<$($param),+> {
            fn clone(&self) -> Self {
                $map { core: self.core.clone(), types: PhantomData }
            }
        }

        impl<$($param),+> fmt::Debug for $map<$($param),+> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($map))
                    .field("name", &self.name())
                    .field("max_entries", &self.max_entries())
                    .finish_non_exhaustive()
            }
        }
    };
}
pub(super) use memory;

/// Reading, writing and going through the elements, whose bytes are as module `$as` has them.
macro_rules! elements {
    ($map:ident<$($param:ident),+>, $key:ty, $element:ty, $as:ident) => {
        impl<$($param: PlainData),+> MapRead<$key, $element> for $map<$($param),+> {
            fn get(&self, key: &$key) -> Result<Option<$element>, MapError> {
                let mut value: $element = $as::zeroed(&self.core);
                Ok(self.core.lookup(key.as_bytes(), $as::bytes_mut(&mut value))?.then_some(value))
            }
        }

        impl<$($param: PlainData),+> MapWrite<$key, $element> for $map<$($param),+> {
            fn insert(&self, key: &$key, value: &$element, flags: UpdateFlags) -> Result<(), MapError> {
                self.core.update(key.as_bytes(), $as::bytes(&self.core, value)?, flags)
            }
        }

        impl<$($param: PlainData),+> MapIter<$key, $element> for $map<$($param),+> {
            fn visit(&self, each: &mut dyn FnMut($key, $element) -> ControlFlow<()>) -> Result<(), MapError> {
                self.core.walk(|key: $key| {
                    Ok(match self.get(&key)? {
                        Some(value) => each(key, value),
                        None => ControlFlow::Continue(()),
                    })
                })
            }
        }
    };
}
pub(super) use elements;

//! The typed views of kernel maps.

use std::ops::ControlFlow;

use skep_sys::abi::UpdateFlags;

use super::{MapDrain, MapIter, MapRead, MapRemove, MapTake, MapWrite, PerCpu};
use crate::map::{Array, HashMap, MapError, PerCpuArray, PerCpuHashMap, PerCpuValues, PlainData};

/// What tables with keys have.
macro_rules! table {
    ($view:ident<$key:ident, $value:ident>: $element:ty) => {
        impl<$key: PlainData, $value: PlainData> MapRead<$key, $element> for $view<$key, $value> {
            fn get(&self, key: &$key) -> Result<Option<$element>, MapError> {
                $view::get(self, key)
            }
        }

        impl<$key: PlainData, $value: PlainData> MapWrite<$key, $element> for $view<$key, $value> {
            fn insert(&self, key: &$key, value: &$element, flags: UpdateFlags) -> Result<(), MapError> {
                $view::insert(self, key, value, flags)
            }
        }

        impl<$key: PlainData, $value: PlainData> MapRemove<$key> for $view<$key, $value> {
            fn remove(&self, key: &$key) -> Result<bool, MapError> {
                $view::remove(self, key)
            }
        }

        impl<$key: PlainData, $value: PlainData> MapIter<$key, $element> for $view<$key, $value> {
            fn visit(&self, each: &mut dyn FnMut($key, $element) -> ControlFlow<()>) -> Result<(), MapError> {
                for element in self.iter() {
                    let (key, value) = element?;
                    if each(key, value).is_break() {
                        break;
                    }
                }
                Ok(())
            }
        }
    };
}

/// What hashes have besides.
macro_rules! hash {
    ($view:ident<$key:ident, $value:ident>: $element:ty) => {
        table!($view<$key, $value>: $element);

        impl<$key: PlainData, $value: PlainData> MapTake<$key, $element> for $view<$key, $value> {
            fn take(&self, key: &$key) -> Result<Option<$element>, MapError> {
                self.lookup_and_delete(key)
            }
        }

        impl<$key: PlainData, $value: PlainData> MapDrain<$key, $element> for $view<$key, $value> {
            fn drain(
                &self,
                each: &mut dyn FnMut($key, $element) -> ControlFlow<()>,
            ) -> Result<(), MapError> {
                for key in self.keys() {
                    let key = key?;
                    if let Some(value) = self.lookup_and_delete(&key)?
                        && each(key, value).is_break()
                    {
                        break;
                    }
                }
                Ok(())
            }
        }
    };
}

hash!(HashMap<K, V>: V);
hash!(PerCpuHashMap<K, V>: PerCpuValues<V>);

/// What arrays have.
macro_rules! array {
    ($view:ident<$value:ident>: $element:ty) => {
        impl<$value: PlainData> MapRead<u32, $element> for $view<$value> {
            fn get(&self, index: &u32) -> Result<Option<$element>, MapError> {
                $view::get(self, *index)
            }
        }

        impl<$value: PlainData> MapWrite<u32, $element> for $view<$value> {
            fn insert(&self, index: &u32, value: &$element, flags: UpdateFlags) -> Result<(), MapError> {
                self.set(*index, value, flags)
            }
        }

        impl<$value: PlainData> MapIter<u32, $element> for $view<$value> {
            fn visit(&self, each: &mut dyn FnMut(u32, $element) -> ControlFlow<()>) -> Result<(), MapError> {
                for (index, value) in (0..self.len()).zip(self.iter()) {
                    if each(index, value?).is_break() {
                        break;
                    }
                }
                Ok(())
            }
        }
    };
}

array!(Array<V>: V);
array!(PerCpuArray<V>: PerCpuValues<V>);

impl<K, V> PerCpu for PerCpuHashMap<K, V> {
    fn cpus(&self) -> u32 {
        self.as_map().values_per_element()
    }
}

impl<V> PerCpu for PerCpuArray<V> {
    fn cpus(&self) -> u32 {
        self.as_map().values_per_element()
    }
}

//! What points to a map is what the map is.

use std::ops::ControlFlow;
use std::os::fd::BorrowedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use skep_sys::abi::UpdateFlags;

use super::{
    Contains, EventSource, MapDrain, MapIter, MapRead, MapRemove, MapTake, MapWrite, PerCpu, Pop, Push,
};
use crate::map::MapError;

macro_rules! forward {
    ($($pointer:ty),*) => {$(
        impl<K, V, M: MapRead<K, V> + ?Sized> MapRead<K, V> for $pointer {
            fn get(&self, key: &K) -> Result<Option<V>, MapError> {
                (**self).get(key)
            }

            fn contains(&self, key: &K) -> Result<bool, MapError> {
                (**self).contains(key)
            }
        }

        impl<K, V, M: MapWrite<K, V> + ?Sized> MapWrite<K, V> for $pointer {
            fn insert(&self, key: &K, value: &V, flags: UpdateFlags) -> Result<(), MapError> {
                (**self).insert(key, value, flags)
            }
        }

        impl<K, M: MapRemove<K> + ?Sized> MapRemove<K> for $pointer {
            fn remove(&self, key: &K) -> Result<bool, MapError> {
                (**self).remove(key)
            }
        }

        impl<K, V, M: MapIter<K, V> + ?Sized> MapIter<K, V> for $pointer {
            fn visit(&self, each: &mut dyn FnMut(K, V) -> ControlFlow<()>) -> Result<(), MapError> {
                (**self).visit(each)
            }

            fn to_vec(&self) -> Result<Vec<(K, V)>, MapError> {
                (**self).to_vec()
            }
        }

        impl<K, V, M: MapTake<K, V> + ?Sized> MapTake<K, V> for $pointer {
            fn take(&self, key: &K) -> Result<Option<V>, MapError> {
                (**self).take(key)
            }
        }

        impl<K, V, M: MapDrain<K, V> + ?Sized> MapDrain<K, V> for $pointer {
            fn drain_all(&self, each: &mut dyn FnMut(K, V)) -> Result<(), MapError> {
                (**self).drain_all(each)
            }
        }

        impl<M: PerCpu + ?Sized> PerCpu for $pointer {
            fn cpus(&self) -> u32 {
                (**self).cpus()
            }
        }

        impl<V: ?Sized, M: Push<V> + ?Sized> Push<V> for $pointer {
            fn push(&self, value: &V, flags: UpdateFlags) -> Result<(), MapError> {
                (**self).push(value, flags)
            }
        }

        impl<V, M: Pop<V> + ?Sized> Pop<V> for $pointer {
            fn pop(&self) -> Result<Option<V>, MapError> {
                (**self).pop()
            }

            fn peek(&self) -> Result<Option<V>, MapError> {
                (**self).peek()
            }
        }

        impl<V: ?Sized, M: Contains<V> + ?Sized> Contains<V> for $pointer {
            fn contains(&self, value: &V) -> Result<bool, MapError> {
                (**self).contains(value)
            }
        }
    )*};
}

forward!(&M, Box<M>, Rc<M>, Arc<M>);

macro_rules! forward_events {
    ($($pointer:ty),*) => {$(
        impl<S: EventSource + ?Sized> EventSource for $pointer {
            fn poll_events(
                &mut self,
                timeout: Option<Duration>,
                each: &mut dyn FnMut(&[u8]) -> ControlFlow<()>,
            ) -> Result<usize, MapError> {
                (**self).poll_events(timeout, each)
            }

            fn next_event(&mut self, timeout: Option<Duration>) -> Result<Option<Vec<u8>>, MapError> {
                (**self).next_event(timeout)
            }

            fn lost(&self) -> u64 {
                (**self).lost()
            }

            fn name(&self) -> &str {
                (**self).name()
            }

            fn readiness(&self) -> Option<BorrowedFd<'_>> {
                (**self).readiness()
            }
        }
    )*};
}

forward_events!(&mut S, Box<S>);

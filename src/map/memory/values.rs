use std::fmt;
use std::marker::PhantomData;

use skep_sys::abi::{Errno, MapType, UpdateFlags};
use skep_sys::request::MapCreate;

use super::core::{Core, memory};
use crate::map::traits::{Contains, Pop, Push};
use crate::map::{MapError, MapOperation, PlainData};

macro_rules! without_keys {
    ($map:ident, $map_type:expr) => {
        impl<V: PlainData> $map<V> {
            /// One for that many values.
            ///
            /// # Errors
            /// [`MapError::Unavailable`] for what no kernel creates: no values, or values without size.
            pub fn new(max_entries: u32) -> Result<$map<V>, MapError> {
                let value_size = u32::try_from(size_of::<V>()).unwrap_or(u32::MAX);
                let request = MapCreate::new($map_type, 0, value_size, max_entries);
                Ok($map { core: Core::new(&request, 1)?, types: PhantomData })
            }
        }

        memory!($map<V>);

        impl<V: PlainData> Push<V> for $map<V> {
            fn push(&self, value: &V, flags: UpdateFlags) -> Result<(), MapError> {
                self.core.update(&[], value.as_bytes(), flags)
            }
        }
    };
}

macro_rules! pop {
    ($map:ident) => {
        impl<V: PlainData> Pop<V> for $map<V> {
            fn pop(&self) -> Result<Option<V>, MapError> {
                let mut value = V::new_zeroed();
                Ok(self.core.take(&[], value.as_mut_bytes())?.then_some(value))
            }

            fn peek(&self) -> Result<Option<V>, MapError> {
                let mut value = V::new_zeroed();
                Ok(self.core.lookup(&[], value.as_mut_bytes())?.then_some(value))
            }
        }
    };
}

/// A queue in memory (`BPF_MAP_TYPE_QUEUE`): what was put in first comes out first.
pub struct Queue<V> {
    core: Core,
    types: PhantomData<fn() -> V>,
}

without_keys!(Queue, MapType::QUEUE);
pop!(Queue);

/// A stack in memory (`BPF_MAP_TYPE_STACK`): what was put in last comes out first.
pub struct Stack<V> {
    core: Core,
    types: PhantomData<fn() -> V>,
}

without_keys!(Stack, MapType::STACK);
pop!(Stack);

/// A bloom filter in memory (`BPF_MAP_TYPE_BLOOM_FILTER`). It takes any number of values and claims none that it was not
/// given.
///
/// ```
/// use skep::map::memory;
/// use skep::map::traits::{Contains, Push};
/// use skep::sys::abi::UpdateFlags;
///
/// let seen = memory::BloomFilter::<u32>::new(8)?;
/// seen.push(&7, UpdateFlags::empty())?;
/// assert!(seen.contains(&7)? && !seen.contains(&8)?);
/// # Ok::<(), skep::map::MapError>(())
/// ```
pub struct BloomFilter<V> {
    core: Core,
    types: PhantomData<fn() -> V>,
}

without_keys!(BloomFilter, MapType::BLOOM_FILTER);

impl<V: PlainData> Contains<V> for BloomFilter<V> {
    fn contains(&self, value: &V) -> Result<bool, MapError> {
        // The kernel reads the value from where another map's would be written to.
        let mut asked = V::new_zeroed();
        asked.as_mut_bytes().copy_from_slice(value.as_bytes());
        self.core.lookup(&[], asked.as_mut_bytes())
    }
}

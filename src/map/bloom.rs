use std::fmt;
use std::marker::PhantomData;

use skep_sys::abi::UpdateFlags;

use super::error::MapError;
use super::handle::Map;
use super::kinds::{BLOOM_FILTER, view};
use super::plain::PlainData;

/// How many hash functions the kernel takes when none are asked for.
const DEFAULT_HASHES: u32 = 5;

/// A set that can only grow, and can claim to hold what nobody put in (`BPF_MAP_TYPE_BLOOM_FILTER`, Linux 5.16). Made by
/// [`Map::typed`].
///
/// How often it claims so depends on the number of values that it was made for
/// ([`max_entries`](Map::max_entries)), of those that are in it, and of its [hash functions](BloomFilter::hashes), which
/// [`MapCreate::map_extra`](skep_sys::request::MapCreate::map_extra) chooses. The simulated kernel's never does.
///
/// ```
/// use skep::map::{BloomFilter, Map};
/// use skep::sys::abi::MapType;
/// use skep::sys::request::MapCreate;
///
/// let mut request = MapCreate::new(MapType::BLOOM_FILTER, 0, 4, 1000);
/// request.map_extra = 3;
/// let map = Map::create(&skep::sim::kernel(), &request)?;
/// let seen: BloomFilter<[u8; 4]> = map.typed()?;
/// seen.insert(&[10, 0, 0, 1])?;
/// assert!(seen.may_contain(&[10, 0, 0, 1])?);
/// assert!(!seen.may_contain(&[10, 0, 0, 2])?);
/// assert_eq!(seen.hashes()?, 3);
/// # Ok::<(), skep::map::MapError>(())
/// ```
#[doc(alias = "BPF_MAP_TYPE_BLOOM_FILTER")]
pub struct BloomFilter<V> {
    map: Map,
    types: PhantomData<fn() -> V>,
}

view!(BloomFilter<V>, BLOOM_FILTER, (), V);

impl<V> BloomFilter<V> {
    /// How many values it was made for. It takes more, and answers wrongly more often then.
    pub fn capacity(&self) -> u32 {
        self.map.max_entries()
    }

    /// Number of hash functions, from 1 to 15; the kernel takes 5 when none are asked for. Asks the kernel.
    ///
    /// # Errors
    /// [`MapError::Failed`].
    pub fn hashes(&self) -> Result<u32, MapError> {
        let hashes = (self.map.info()?.map_extra & 0xf) as u32; // four bits
        Ok(if hashes == 0 { DEFAULT_HASHES } else { hashes })
    }
}

impl<V: PlainData> BloomFilter<V> {
    /// Puts a value in, for ever.
    ///
    /// # Errors
    /// [`MapError::Failed`], of kind [`Denied`](super::MapErrorKind::Denied) for a frozen map.
    pub fn insert(&self, value: &V) -> Result<(), MapError> {
        self.map.update(&[], value.as_bytes(), UpdateFlags::empty())
    }

    /// Whether a value may be in it. When not, it is certain that nobody put it in.
    ///
    /// # Errors
    /// [`MapError::Failed`].
    pub fn may_contain(&self, value: &V) -> Result<bool, MapError> {
        // The kernel reads the value where it otherwise writes one, so it gets a copy of its own.
        let mut asked = V::new_zeroed();
        asked.as_mut_bytes().copy_from_slice(value.as_bytes()); // of one type, so of one length
        self.map.lookup_into(&[], asked.as_mut_bytes(), UpdateFlags::empty())
    }
}

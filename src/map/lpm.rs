use std::fmt;
use std::iter::FusedIterator;
use std::marker::PhantomData;

use skep_sys::abi::UpdateFlags;

use super::error::MapError;
use super::handle::Map;
use super::keys::Keys;
use super::kinds::{LPM_TRIE, view};
use super::plain::PlainData;
use super::prefix::same_bits;

/// A trie that finds the longest prefix of what is looked up (`BPF_MAP_TYPE_LPM_TRIE`, Linux 4.11). Made by
/// [`Map::typed`].
///
/// Keys are [`Prefix`](super::Prefix)es, [`Ipv4Prefix`](super::Ipv4Prefix) and [`Ipv6Prefix`](super::Ipv6Prefix) among
/// them, or any plain data that begin with the length in bits as a `u32`. The map has to be created with
/// [`MapFlags::NO_PREALLOC`](skep_sys::abi::MapFlags::NO_PREALLOC).
///
/// ```
/// use skep::map::{Ipv4Prefix, LpmTrie, Map};
/// use skep::sys::abi::{MapFlags, MapType, UpdateFlags};
/// use skep::sys::request::MapCreate;
/// use std::net::Ipv4Addr;
///
/// let mut request = MapCreate::new(MapType::LPM_TRIE, 8, 4, 100);
/// request.flags = MapFlags::NO_PREALLOC;
/// let map = Map::create(&skep::sim::kernel(), &request)?;
/// let routes: LpmTrie<Ipv4Prefix, u32> = map.typed()?;
/// routes.insert(&"10.0.0.0/8".parse()?, &1, UpdateFlags::empty())?;
/// routes.insert(&"10.1.0.0/16".parse()?, &2, UpdateFlags::empty())?;
///
/// let next_hop = |address: Ipv4Addr| routes.longest_match(&address.into());
/// assert_eq!(next_hop(Ipv4Addr::new(10, 1, 2, 3))?, Some(2));
/// assert_eq!(next_hop(Ipv4Addr::new(10, 2, 2, 3))?, Some(1));
/// assert_eq!(next_hop(Ipv4Addr::new(11, 1, 2, 3))?, None);
/// assert_eq!(routes.get_exact(&"10.1.2.0/24".parse()?)?, None);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias = "BPF_MAP_TYPE_LPM_TRIE")]
pub struct LpmTrie<P, V> {
    map: Map,
    types: PhantomData<fn() -> (P, V)>,
}

view!(LpmTrie<P, V>, LPM_TRIE, P, V);

impl<P: PlainData, V: PlainData> LpmTrie<P, V> {
    /// The value of the longest prefix in the trie that `key` begins with, as programs find it: for the network of one
    /// address that is the most specific network that the address is in. `key` itself counts.
    ///
    /// # Errors
    /// [`MapError::Failed`].
    pub fn longest_match(&self, key: &P) -> Result<Option<V>, MapError> {
        let mut value = V::new_zeroed();
        Ok(self.longest_match_into(key, &mut value)?.then_some(value))
    }

    /// As [`longest_match`](LpmTrie::longest_match), into `value`. Answers whether there is a match; if not, `value` is as
    /// before.
    ///
    /// # Errors
    /// [`MapError::Failed`].
    pub fn longest_match_into(&self, key: &P, value: &mut V) -> Result<bool, MapError> {
        self.map.lookup_into(key.as_bytes(), value.as_mut_bytes(), UpdateFlags::empty())
    }

    /// The value of this prefix and no shorter one.
    ///
    /// The kernel has no call for that, and its answer to a lookup does not tell which prefix matched: this goes through
    /// the [keys](LpmTrie::keys) until it is there.
    ///
    /// # Errors
    /// [`MapError::Failed`], [`MapError::IterationAborted`].
    pub fn get_exact(&self, key: &P) -> Result<Option<V>, MapError> {
        for there in self.keys() {
            if same(&there?, key) {
                return self.longest_match(key);
            }
        }
        Ok(None)
    }

    /// Writes the value of a prefix: whether or not there is one, unless the flags say otherwise.
    ///
    /// # Errors
    /// [`MapError::Failed`] of kind [`Full`](super::MapErrorKind::Full);
    /// [`Exists`](super::MapErrorKind::Exists) with [`UpdateFlags::NOEXIST`];
    /// [`NotFound`](super::MapErrorKind::NotFound) with [`UpdateFlags::EXIST`], where the kernel looks at these flags
    /// (Linux 6.13 and stable versions before it; others take them and insert);
    /// [`Invalid`](super::MapErrorKind::Invalid) for a length of more bits than the key has;
    /// [`Denied`](super::MapErrorKind::Denied) for a frozen map.
    pub fn insert(&self, key: &P, value: &V, flags: UpdateFlags) -> Result<(), MapError> {
        self.map.update(key.as_bytes(), value.as_bytes(), flags)
    }

    /// Removes a prefix and no other. Answers whether it was there.
    ///
    /// # Errors
    /// [`MapError::Failed`].
    pub fn remove(&self, key: &P) -> Result<bool, MapError> {
        self.map.delete(key.as_bytes())
    }

    /// All prefixes (Linux 4.16), those within another before it; see [`Keys`] for what holds while the map changes.
    pub fn keys(&self) -> Keys<'_, P> {
        Keys::new(&self.map)
    }

    /// All elements, in the order and with the guarantees of [`keys`](LpmTrie::keys). One whose prefix is removed before it
    /// is read has the value of the shorter one around it, or is left out where there is none.
    pub fn iter(&self) -> LpmTrieIter<'_, P, V> {
        LpmTrieIter { view: self, keys: self.keys() }
    }
}

/// Whether two keys are the same to the kernel, which does not look at what is behind the prefix.
fn same<P: PlainData>(a: &P, b: &P) -> bool {
    match (a.as_bytes().split_first_chunk(), b.as_bytes().split_first_chunk()) {
        (Some((bits, a)), Some((other, b))) => bits == other && same_bits(a, b, u32::from_ne_bytes(*bits)),
        _ => false,
    }
}

impl<'a, P: PlainData, V: PlainData> IntoIterator for &'a LpmTrie<P, V> {
    type Item = Result<(P, V), MapError>;
    type IntoIter = LpmTrieIter<'a, P, V>;

    fn into_iter(self) -> LpmTrieIter<'a, P, V> {
        self.iter()
    }
}

/// The elements of an [`LpmTrie`], from [`LpmTrie::iter`].
#[derive(Debug)]
pub struct LpmTrieIter<'a, P, V> {
    view: &'a LpmTrie<P, V>,
    keys: Keys<'a, P>,
}

impl<P: PlainData, V: PlainData> Iterator for LpmTrieIter<'_, P, V> {
    type Item = Result<(P, V), MapError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let key = match self.keys.next()? {
                Ok(key) => key,
                Err(error) => return Some(Err(error)),
            };
            match self.view.longest_match(&key) {
                Ok(Some(value)) => return Some(Ok((key, value))),
                Ok(None) => {}
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

impl<P: PlainData, V: PlainData> FusedIterator for LpmTrieIter<'_, P, V> {}

//! Maps that are there already: which of them a load takes, and what becomes of one that does not fit.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

use skep_sys::abi::{MapFlags, MapType, UpdateFlags};
use skep_sys::request::MapInfo;

use crate::map::{Map, MapError, MapOperation, usual_batch};
use crate::spec::MapSpec;

/// What a load does with a map that is there under a map's name and does not fit the object's: another kind, other sizes
/// or flags.
///
/// ```
/// use skep::load::{Migration, OnMismatch};
/// use skep::map::HashMap;
/// use skep::sys::abi::UpdateFlags;
/// use skep::{Loader, Spec};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let kernel = skep::sim::kernel();
/// let mut spec = Spec::parse("pinned", include_bytes!("../../testdata/pinned.o"))?;
/// let old: HashMap<u32, u64> = Loader::new(&kernel).load(&spec)?.map("skep_pinned")?.typed()?;
/// old.insert(&7, &1, UpdateFlags::empty())?;
///
/// // A later version of the object has room for more.
/// spec.map_mut("skep_pinned").ok_or("no such map")?.max_entries *= 2;
/// assert!(Loader::new(&kernel).load(&spec).is_err());
/// let loader = Loader::new(&kernel).on_mismatch(OnMismatch::Migrate(Migration::grow()));
/// let new: HashMap<u32, u64> = loader.load(&spec)?.map("skep_pinned")?.typed()?;
/// assert_eq!(new.get(&7)?, Some(1));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub enum OnMismatch {
    /// The load fails, and says what differs.
    #[default]
    Fail,
    /// A new, empty map takes its place.
    Replace,
    /// A new map takes its place, and gets what is in the old one.
    Migrate(Migration),
}

/// How what is in a map comes into the map that takes its place.
///
/// The old map's programs may run meanwhile: what they write after its turn is not in the new map.
#[derive(Clone)]
pub struct Migration(Arc<Fill>);

type Failure = Box<dyn StdError + Send + Sync>;
type Fill = dyn Fn(&Map, &Map) -> Result<(), Failure> + Send + Sync;

/// How often the keys of a map that others change are gone through before the copy is given up.
const PASSES: usize = 8;

impl Migration {
    /// Copies each entry, many in one call where the kernel can (Linux 5.6). Keys and values that are longer in the new map end with zeroes there, as structs do whose new
    /// members are at their end; every value of a per-CPU map for itself.
    ///
    /// It is for hashes, arrays, their LRU and per-CPU kinds, and tries. The load fails for others, for shorter keys or
    /// values, and when the new map has no room for all.
    pub fn grow() -> Migration {
        Migration::with(|old, new| Ok(grow(old, new)?))
    }

    /// Writes for each entry of the old map the entry that the function makes of it, or nothing for none. Keys and values
    /// are as user space passes them ([`Map::value_len`]). The function may see an entry more than once. The load fails when
    /// what it makes has another length than the new map's keys or values.
    ///
    /// ```
    /// use skep::load::Migration;
    ///
    /// // Counters grew from 32 to 64 bits.
    /// let wider = Migration::entries(|key, value| {
    ///     let count = u32::from_ne_bytes(value.try_into().ok()?);
    ///     Some((key.to_vec(), u64::from(count).to_ne_bytes().to_vec()))
    /// });
    /// ```
    pub fn entries(
        convert: impl Fn(&[u8], &[u8]) -> Option<(Vec<u8>, Vec<u8>)> + Send + Sync + 'static,
    ) -> Migration {
        Migration::with(move |old, new| {
            let mut each = |key: &[u8], value: &[u8], made: &mut Made| match convert(key, value) {
                Some((key, value)) => add(new, made, &key, &value),
                None => Ok(()),
            };
            Ok(copy(old, new, Some(&mut each))?)
        })
    }

    /// Calls the function with the old map and the new one, which is empty. An error fails the load.
    pub fn with(fill: impl Fn(&Map, &Map) -> Result<(), Failure> + Send + Sync + 'static) -> Migration {
        Migration(Arc::new(fill))
    }

    pub(super) fn run(&self, old: &Map, new: &Map) -> Result<(), Failure> {
        (self.0)(old, new)
    }
}

impl fmt::Debug for Migration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Migration")
    }
}

/// Why entries could not be copied.
#[derive(Debug, thiserror::Error)]
enum CopyError {
    #[error(
        "entries of a map of type {0} cannot be copied: replace it, or give a function that fills the new one"
    )]
    Kind(MapType),
    #[error("a {there} cannot become a {wanted}: replace it, or give a function that fills the new one")]
    OtherKind { there: MapType, wanted: MapType },
    #[error(
        "its {what}s have {there} bytes and the new one's {wanted}: give a function that makes them shorter"
    )]
    Shorter { what: &'static str, there: u32, wanted: u32 },
    #[error("programs change it faster than it can be copied")]
    Restless,
    #[error(transparent)]
    Map(#[from] MapError),
}

/// Kinds whose entries mean the same in another map.
const COPIED: &[MapType] = &[
    MapType::HASH,
    MapType::LRU_HASH,
    MapType::PERCPU_HASH,
    MapType::LRU_PERCPU_HASH,
    MapType::ARRAY,
    MapType::PERCPU_ARRAY,
    MapType::LPM_TRIE,
];

fn grow(old: &Map, new: &Map) -> Result<(), CopyError> {
    let (there, wanted) = (old.shape(), new.shape());
    if !COPIED.contains(&there.map_type) {
        return Err(CopyError::Kind(there.map_type));
    }
    let alike = |kind: MapType| (kind.is_per_cpu(), kind == MapType::LPM_TRIE);
    if !COPIED.contains(&wanted.map_type) || alike(there.map_type) != alike(wanted.map_type) {
        return Err(CopyError::OtherKind { there: there.map_type, wanted: wanted.map_type });
    }
    for (what, there, wanted) in
        [("key", there.key_size, wanted.key_size), ("value", there.value_size, wanted.value_size)]
    {
        if wanted < there {
            return Err(CopyError::Shorter { what, there, wanted });
        }
    }
    let values = old.values_per_element().max(1) as usize;
    let (part, longer) = (old.value_len() / values, new.value_len() / values);
    if there.key_size == wanted.key_size && part == longer {
        return copy(old, new, None);
    }
    copy(
        old,
        new,
        Some(&mut |key, value, made| {
            made.keys.extend_from_slice(key);
            made.keys.resize(made.keys.len() + new.key_len().saturating_sub(key.len()), 0);
            for one in value.chunks(part.max(1)) {
                // What pads a value of a per-CPU map is zero.
                made.values.extend_from_slice(one);
                made.values.resize(made.values.len() + longer.saturating_sub(one.len()), 0);
            }
            Ok(())
        }),
    )
}

/// Entries of the new map, one behind the other, which are written in one go.
#[derive(Default)]
struct Made {
    keys: Vec<u8>,
    values: Vec<u8>,
}

/// Adds to what was made what becomes of an entry.
type Convert<'a> = &'a mut dyn FnMut(&[u8], &[u8], &mut Made) -> Result<(), MapError>;

/// What a function made of an entry, whose lengths have to be those of the map: behind one another they would not tell.
fn add(new: &Map, made: &mut Made, key: &[u8], value: &[u8]) -> Result<(), MapError> {
    let wrong = |source| Err(new.failed(MapOperation::Update, source));
    if key.len() != new.key_len() {
        return wrong(skep_sys::MapError::KeyLength { got: key.len(), want: new.key_len() });
    }
    if value.len() != new.value_len() {
        return wrong(skep_sys::MapError::ValueLength { got: value.len(), want: new.value_len() });
    }
    made.keys.extend_from_slice(key);
    made.values.extend_from_slice(value);
    Ok(())
}

/// Copies each entry, or what the function makes of it.
fn copy(old: &Map, new: &Map, mut convert: Option<Convert<'_>>) -> Result<(), CopyError> {
    for _ in 0..PASSES {
        match copy_once(old, new, &mut convert) {
            Err(CopyError::Map(MapError::IterationAborted { .. })) => {}
            done => return done,
        }
    }
    Err(CopyError::Restless)
}

fn copy_once(old: &Map, new: &Map, convert: &mut Option<Convert<'_>>) -> Result<(), CopyError> {
    let mut batches = old.batches(usual_batch(old));
    let mut made = Made::default();
    while let Some(batch) = batches.next_batch()? {
        let written = match convert {
            None => new.insert_many(batch.keys(), batch.values(), UpdateFlags::empty()),
            Some(convert) => {
                made.keys.clear();
                made.values.clear();
                for (key, value) in batch.iter() {
                    convert(key, value, &mut made)?;
                }
                new.insert_many(&made.keys, &made.values, UpdateFlags::empty())
            }
        };
        written.map_err(MapError::from)?;
    }
    Ok(())
}

/// The maps that a load takes instead of making them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reuse {
    /// They have to fit.
    pub(crate) replacements: Vec<(String, Map)>,
    /// They are an earlier version's, and may not fit.
    pub(crate) inherited: Vec<(String, Map)>,
    pub(crate) on_mismatch: OnMismatch,
    pub(crate) on_mismatch_of: Vec<(String, OnMismatch)>,
}

impl Reuse {
    pub(super) fn policy(&self, map: &str) -> &OnMismatch {
        let said = self.on_mismatch_of.iter().rev().find(|(name, _)| name == map);
        said.map_or(&self.on_mismatch, |(_, policy)| policy)
    }

    /// Names that the options name.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        let replaced = self.replacements.iter().map(|(name, _)| name.as_str());
        replaced.chain(self.on_mismatch_of.iter().map(|(name, _)| name.as_str()))
    }
}

/// What differs between a map that was asked for and one that is there.
pub(super) fn differences(spec: &MapSpec, max_entries: u32, there: &MapInfo) -> Vec<String> {
    let access = MapFlags::RDONLY | MapFlags::WRONLY;
    let (mut flags, wanted) = (there.flags - access, spec.flags - access);
    // The kernel sets this one by itself.
    if matches!(there.map_type, MapType::DEVMAP | MapType::DEVMAP_HASH)
        && !spec.flags.contains(MapFlags::RDONLY_PROG)
    {
        flags -= MapFlags::RDONLY_PROG;
    }
    let mut differences = Vec::new();
    let mut compare = |what: &str, pinned: String, wanted: String| {
        if pinned != wanted {
            differences.push(format!("{what} {pinned} there, {wanted} wanted"));
        }
    };
    compare("type", there.map_type.to_string(), spec.map_type.to_string());
    compare("key size", there.key_size.to_string(), spec.key_size.to_string());
    compare("value size", there.value_size.to_string(), spec.value_size.to_string());
    compare("max entries", there.max_entries.to_string(), max_entries.to_string());
    compare("flags", format!("{:#x}", flags.bits()), format!("{:#x}", wanted.bits()));
    compare("map_extra", there.map_extra.to_string(), spec.map_extra.to_string());
    differences
}

//! The one pass over all type records that parsing makes.

use skep_asm::Endian;

use crate::names::Fingerprint;
use crate::wire::{self, MAX_COUNT, RECORD, Shapes};
use crate::{Btf, BtfError, StrOffset, TypeId};

/// One offset is kept for every `1 << STEP_BITS` types; the ones between are walked to.
const STEP_BITS: u32 = 2;

/// What the walk finds out.
pub(crate) struct Index {
    /// Offset within the section of every `1 << STEP_BITS`-th record.
    offsets: Vec<u32>,
    /// Fingerprint of the name of each type.
    pub(crate) names: Vec<Fingerprint>,
}

impl Index {
    /// Offset of the record of the `nth` type or of one shortly before it, and how many to go on.
    #[inline]
    pub(crate) fn near(&self, nth: u32) -> Option<(u32, u32)> {
        let offset = *self.offsets.get((nth >> STEP_BITS) as usize)?;
        Some((offset, nth & ((1 << STEP_BITS) - 1)))
    }
}

/// What is walked.
pub(crate) struct Walk<'a> {
    pub(crate) types: &'a [u8],
    pub(crate) strings: &'a [u8],
    pub(crate) start_id: u32,
    pub(crate) start_str: u32,
    pub(crate) base: Option<&'a Btf>,
    pub(crate) shapes: &'a Shapes,
}

impl Walk<'_> {
    /// Checks that every record lies within the section, and notes where some of them are and how
    /// they are named.
    pub(crate) fn run(&self, endian: Endian) -> Result<Index, BtfError> {
        match (endian, self.base) {
            (Endian::Little, None) => self.go::<true, false>(),
            (Endian::Big, None) => self.go::<false, false>(),
            (Endian::Little, Some(_)) => self.go::<true, true>(),
            (Endian::Big, Some(_)) => self.go::<false, true>(),
        }
    }

    // Where a record ends is known only when its length is. That chain of loads and a multiplication
    // takes most of the time, and the fingerprints are made in its shadow.
    fn go<const LITTLE: bool, const SPLIT: bool>(&self) -> Result<Index, BtfError> {
        let endian = Endian::from_is_little(LITTLE);
        let Self { types, strings, shapes, .. } = *self;
        // A kernel's types take 25 bytes on the average. Growth takes care of others.
        let guess = types.len() / 24;
        let mut offsets = Vec::with_capacity((guess >> STEP_BITS) + 1);
        let mut names = Vec::with_capacity(guess);
        let mut at = 0;
        let mut last = 0;
        while at < types.len() {
            let header = types.get(at..).and_then(|rest| wire::words(rest, endian));
            let Some([name, info]) = header else { return Err(self.truncated(names.len(), at)) };
            let Some(shape) = shapes.fast(info) else {
                return Err(match shapes.record_len(self.id(names.len()), info) {
                    Err(error) if types.len() - at >= RECORD => error,
                    _ => self.truncated(names.len(), at),
                });
            };
            if names.len() & ((1 << STEP_BITS) - 1) == 0 {
                offsets.push(at as u32); // the section is shorter than 4 GiB
            }
            names.push(if SPLIT {
                self.split_name(StrOffset(name), shape.declaration)
            } else {
                Fingerprint::at(strings, name as usize, shape.declaration)
            });
            last = at;
            at += shape.len; // below 2^32 more, and nothing is read behind the end
        }
        if at > types.len() {
            return Err(self.truncated(names.len().saturating_sub(1), last));
        }
        if u64::from(self.start_id) + names.len() as u64 > u64::from(MAX_COUNT) {
            return Err(BtfError::TooMany { what: "types", limit: MAX_COUNT });
        }
        Ok(Index { offsets, names })
    }

    fn split_name(&self, name: StrOffset, declaration: bool) -> Fingerprint {
        let (mut strings, mut start, mut base) = (self.strings, self.start_str, self.base);
        loop {
            match (name.0.checked_sub(start), base) {
                (Some(at), _) => return Fingerprint::at(strings, at as usize, declaration),
                (None, Some(next)) => {
                    (strings, start, base) = (next.own_strings(), next.start_str().0, next.base());
                }
                (None, None) => return Fingerprint::at(&[], 0, declaration),
            }
        }
    }

    fn id(&self, nth: usize) -> TypeId {
        TypeId(self.start_id.saturating_add(u32::try_from(nth).unwrap_or(u32::MAX)))
    }

    #[cold]
    fn truncated(&self, nth: usize, offset: usize) -> BtfError {
        BtfError::TruncatedType { id: self.id(nth), offset: offset as u32 }
    }
}

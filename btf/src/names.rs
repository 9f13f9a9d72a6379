//! A fingerprint of each type's name, so that looking for a name reads few of them.

use crate::wire::u64_le_at;

const LOW: u64 = 0x0101_0101_0101_0101;
const HIGH: u64 = LOW << 7;

/// What is kept of a name: fifteen bits of a hash of its start, and whether it is that of a
/// [declaration](crate::Kind::is_declaration).
///
/// It takes the first eight bytes, up to a NUL or `___`, where what lies behind the eight counts as
/// underscores. So a name and its flavours have the same one: whatever comes first, a `___` within
/// the essential name or the one behind it, cuts both, and an essential name that has flavours does
/// not end with an underscore.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Fingerprint(u16);

impl Fingerprint {
    /// That of a whole name, without NUL.
    pub(crate) fn of(name: &[u8], declaration: bool) -> Self {
        Self::at(name, 0, declaration)
    }

    /// That of the name at `at` of a string section; of the empty one when it is outside.
    #[inline(always)]
    pub(crate) fn at(strings: &[u8], at: usize, declaration: bool) -> Self {
        let hash = match u64_le_at(strings, at) {
            Some(word) => hash(word),
            None => hash_near_end(strings, at),
        };
        Self(hash << 1 | u16::from(declaration))
    }

    /// Whether both may be the same name, of a declaration or not.
    #[inline(always)]
    pub(crate) fn same_name(self, other: Self) -> bool {
        (self.0 ^ other.0) < 2
    }
}

/// Fifteen bits for the name whose first eight bytes (then zeros) are `word`, the first one lowest.
#[inline(always)]
fn hash(word: u64) -> u16 {
    // Zero where an underscore, and two more behind it, are. Zeros come in from behind the word.
    let marks = word ^ (LOW * b'_' as u64);
    let marks = marks | marks >> 8 | marks >> 16;
    // The lowest bit that is set is exact; those above it do not matter.
    let ends = (word.wrapping_sub(LOW) & !word | marks.wrapping_sub(LOW) & !marks) & HIGH;
    let before_end = ((ends & ends.wrapping_neg()) >> 7).wrapping_sub(1);
    let key = word & before_end;
    (key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 49) as u16
}

#[cold]
fn hash_near_end(strings: &[u8], at: usize) -> u16 {
    let tail = strings.get(at..).unwrap_or_default();
    hash(tail.iter().take(8).rev().fold(0, |word, &byte| word << 8 | u64::from(byte)))
}

/// A set of fingerprints.
pub(crate) struct Fingerprints(Vec<u64>);

impl Fingerprints {
    pub(crate) fn new() -> Self {
        Self(vec![0; 1 << 10])
    }

    pub(crate) fn insert(&mut self, Fingerprint(bits): Fingerprint) {
        if let Some(word) = self.0.get_mut(usize::from(bits >> 6)) {
            *word |= 1 << (bits & 63);
        }
    }

    #[inline(always)]
    pub(crate) fn contains(&self, Fingerprint(bits): Fingerprint) -> bool {
        let word = self.0.get(usize::from(bits >> 6)).copied().unwrap_or(0);
        word >> (bits & 63) & 1 != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::essential_name;

    #[test]
    fn flavours_share_the_fingerprint_of_their_essential_name() {
        let bases = [
            "a",
            "ab",
            "abc",
            "abcd",
            "abcde",
            "abcdef",
            "abcdefg",
            "abcdefgh",
            "a_b",
            "a__b",
            "_",
            "___a",
            "n___x",
            "abcd___e",
            "abcde__f",
            "a___b___c",
            "abcde_f",
            "task_struct",
            "abcdef_g",
            "abcdefg_",
            "abcdefg_h",
            "abcdef__g",
            "abcde___f",
            "abcdef_",
            "abcdefg__h",
        ];
        for base in bases {
            for flavour in ["", "___x", "___old", "___a___b"] {
                let name = format!("{base}{flavour}");
                let essential = essential_name(name.as_bytes());
                assert_eq!(
                    Fingerprint::of(name.as_bytes(), false),
                    Fingerprint::of(essential, false),
                    "{name}"
                );
                // Where it lies in a section, and what comes behind it, does not matter.
                for (before, behind) in
                    [("", "\0"), ("x", "\0y"), ("", "\0___more"), ("yz", "\0\0\0\0\0\0\0\0\0")]
                {
                    let section = format!("{before}{name}{behind}");
                    let found = Fingerprint::at(section.as_bytes(), before.len(), false);
                    assert_eq!(found, Fingerprint::of(essential, false), "{section:?}");
                }
            }
        }
        assert_ne!(Fingerprint::of(b"abcdefgh", false), Fingerprint::of(b"abcdefgi", false));
        assert_ne!(Fingerprint::of(b"abcdef", false), Fingerprint::of(b"abcdeg", false));
        assert_ne!(Fingerprint::of(b"abcde", false), Fingerprint::of(b"abcdef", false));
    }

    #[test]
    fn outside_is_empty() {
        assert_eq!(Fingerprint::at(b"abc\0", 9, false), Fingerprint::of(b"", false));
        assert_eq!(Fingerprint::at(b"", usize::MAX, false), Fingerprint::of(b"", false));
    }
}

//! A 16-bit fingerprint of each type's name, so that looking for a name reads few of them.

use crate::wire::u64_le_at;

/// Bytes of a name that its fingerprint is made of. Two fewer than are read at once, so that the
/// three underscores before a flavour are seen wherever they cut the name short.
const KEY_LEN: u32 = 6;
const LOW: u64 = 0x0101_0101_0101_0101;
const HIGH: u64 = LOW << 7;

/// Marks the bytes of `word` that are zero by their highest bit.
#[inline(always)]
fn zero_bytes(word: u64) -> u64 {
    !(((word & !HIGH) + !HIGH) | word | !HIGH)
}

/// Fingerprint of the name whose first eight bytes (then zeros) are `word`, first byte lowest.
///
/// It takes the first six bytes, up to a NUL or `___`. So a name and its flavours have the same one:
/// whatever comes first of a `___` within the essential name and the one behind it cuts both.
#[inline(always)]
fn fingerprint_of(word: u64) -> u16 {
    let underscores = zero_bytes(word ^ (LOW * b'_' as u64));
    let ends = zero_bytes(word) | (underscores & underscores >> 8 & underscores >> 16);
    // Bits below the first end, and at most those of the key.
    let before_end = (ends & ends.wrapping_neg()) >> 7;
    let key = word & before_end.wrapping_sub(1) & ((1 << (8 * KEY_LEN)) - 1);
    (key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 48) as u16
}

/// Fingerprint of a whole name, without NUL.
pub(crate) fn fingerprint(name: &[u8]) -> u16 {
    fingerprint_at(name, 0)
}

/// Fingerprint of the name at `at` of a string section; that of the empty one when it is outside.
#[inline(always)]
pub(crate) fn fingerprint_at(strings: &[u8], at: usize) -> u16 {
    match u64_le_at(strings, at) {
        Some(word) => fingerprint_of(word),
        None => fingerprint_near_end(strings, at),
    }
}

#[cold]
fn fingerprint_near_end(strings: &[u8], at: usize) -> u16 {
    let tail = strings.get(at..).unwrap_or_default();
    let word = tail.iter().take(8).rev().fold(0, |word, &byte| word << 8 | u64::from(byte));
    fingerprint_of(word)
}

/// A set of fingerprints.
pub(crate) struct Fingerprints(Vec<u64>);

impl Fingerprints {
    pub(crate) fn new() -> Self {
        Self(vec![0; 1 << 10])
    }

    pub(crate) fn insert(&mut self, fingerprint: u16) {
        if let Some(word) = self.0.get_mut(usize::from(fingerprint >> 6)) {
            *word |= 1 << (fingerprint & 63);
        }
    }

    #[inline(always)]
    pub(crate) fn contains(&self, fingerprint: u16) -> bool {
        let word = self.0.get(usize::from(fingerprint >> 6)).copied().unwrap_or(0);
        word >> (fingerprint & 63) & 1 != 0
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
        ];
        for base in bases {
            for flavour in ["", "___x", "___old", "___a___b"] {
                let name = format!("{base}{flavour}");
                let essential = essential_name(name.as_bytes());
                assert_eq!(fingerprint(name.as_bytes()), fingerprint(essential), "{name}");
                // Where it lies in a section, and what comes behind it, does not matter.
                for (before, behind) in
                    [("", "\0"), ("x", "\0y"), ("", "\0___more"), ("yz", "\0\0\0\0\0\0\0\0\0")]
                {
                    let section = format!("{before}{name}{behind}");
                    let found = fingerprint_at(section.as_bytes(), before.len());
                    assert_eq!(found, fingerprint(essential), "{section:?}");
                }
            }
        }
        assert_ne!(fingerprint(b"abcdef"), fingerprint(b"abcdeg"));
        assert_ne!(fingerprint(b"abcde"), fingerprint(b"abcdef"));
    }

    #[test]
    fn outside_is_empty() {
        assert_eq!(fingerprint_at(b"abc\0", 9), fingerprint(b""));
        assert_eq!(fingerprint_at(b"", usize::MAX), fingerprint(b""));
    }
}

//! Numbers in bytes, and bytes in words that are shared.

use std::sync::atomic::{AtomicU64, Ordering};

#[inline]
pub(super) fn widen<const N: usize>(bytes: &[u8]) -> u64 {
    match N {
        1 => u64::from(bytes[0]),                                 // callers give N bytes
        2 => u64::from(u16::from_ne_bytes([bytes[0], bytes[1]])), // callers give N bytes
        4 => u64::from(bytes.first_chunk().map_or(0, |b: &[u8; 4]| u32::from_ne_bytes(*b))),
        _ => bytes.first_chunk().map_or(0, |b: &[u8; 8]| u64::from_ne_bytes(*b)),
    }
}

#[inline]
pub(super) fn narrow<const N: usize>(value: u64, bytes: &mut [u8]) {
    match N {
        1 => bytes.copy_from_slice(&(value as u8).to_ne_bytes()),
        2 => bytes.copy_from_slice(&(value as u16).to_ne_bytes()),
        4 => bytes.copy_from_slice(&(value as u32).to_ne_bytes()),
        _ => bytes.copy_from_slice(&value.to_ne_bytes()),
    }
}

/// The number that 1, 2, 4 or 8 bytes are.
pub(crate) fn widen_any(bytes: &[u8]) -> u64 {
    match bytes.len() {
        1 => widen::<1>(bytes),
        2 => widen::<2>(bytes),
        4 => widen::<4>(bytes),
        _ => widen::<8>(bytes),
    }
}

/// Writes a number as 1, 2, 4 or 8 bytes.
pub(crate) fn narrow_any(value: u64, bytes: &mut [u8]) {
    match bytes.len() {
        1 => narrow::<1>(value, bytes),
        2 => narrow::<2>(value, bytes),
        4 => narrow::<4>(value, bytes),
        8 => narrow::<8>(value, bytes),
        _ => {}
    }
}

#[inline]
pub(super) fn load_shared<const N: usize>(words: &[AtomicU64], at: usize) -> u64 {
    let word = |index: usize| words.get(index).map_or(0, |word| word.load(Ordering::Relaxed));
    if N == 8 && at.is_multiple_of(8) {
        return word(at / 8);
    }
    if at % 8 + N <= 8 {
        let bytes = word(at / 8).to_ne_bytes();
        return widen::<N>(&bytes[at % 8..at % 8 + N]); // inside of the word, as just checked
    }
    let mut bytes = [0; N];
    read_shared(words, at, &mut bytes);
    widen::<N>(&bytes)
}

#[inline]
pub(super) fn store_shared<const N: usize>(words: &[AtomicU64], at: usize, value: u64) {
    if N == 8 && at.is_multiple_of(8) {
        if let Some(word) = words.get(at / 8) {
            word.store(value, Ordering::Relaxed);
        }
        return;
    }
    let mut bytes = [0; N];
    narrow::<N>(value, &mut bytes);
    write_shared(words, at, &bytes);
}

/// Copies bytes out of words.
pub(crate) fn read_shared(words: &[AtomicU64], at: usize, to: &mut [u8]) {
    let mut done = 0;
    while done < to.len() {
        let (index, skip) = ((at + done) / 8, (at + done) % 8);
        let Some(word) = words.get(index) else { return };
        let bytes = word.load(Ordering::Relaxed).to_ne_bytes();
        let count = (8 - skip).min(to.len() - done);
        if let (Some(to), Some(from)) = (to.get_mut(done..done + count), bytes.get(skip..skip + count)) {
            to.copy_from_slice(from);
        }
        done += count;
    }
}

/// Copies bytes into words. What lies beside them in their words is kept, whoever else writes it.
pub(crate) fn write_shared(words: &[AtomicU64], at: usize, from: &[u8]) {
    let mut done = 0;
    while done < from.len() {
        let (index, skip) = ((at + done) / 8, (at + done) % 8);
        let Some(word) = words.get(index) else { return };
        let count = (8 - skip).min(from.len() - done);
        let Some(part) = from.get(done..done + count) else { return };
        if let Ok(whole) = part.try_into() {
            word.store(u64::from_ne_bytes(whole), Ordering::Relaxed);
        } else {
            let _ = word.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |word| {
                let mut bytes = word.to_ne_bytes();
                bytes.get_mut(skip..skip + count)?.copy_from_slice(part);
                Some(u64::from_ne_bytes(bytes))
            });
        }
        done += count;
    }
}

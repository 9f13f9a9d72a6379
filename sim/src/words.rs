//! Numbers in bytes, and bytes in words that are shared.

use std::sync::atomic::{AtomicU64, Ordering};

#[inline]
pub(crate) fn widen<const N: usize>(bytes: &[u8]) -> u64 {
    match N {
        1 => u64::from(bytes[0]),                                 // callers give N bytes
        2 => u64::from(u16::from_ne_bytes([bytes[0], bytes[1]])), // callers give N bytes
        4 => u64::from(bytes.first_chunk().map_or(0, |b: &[u8; 4]| u32::from_ne_bytes(*b))),
        _ => bytes.first_chunk().map_or(0, |b: &[u8; 8]| u64::from_ne_bytes(*b)),
    }
}

#[inline]
pub(crate) fn narrow<const N: usize>(value: u64, bytes: &mut [u8]) {
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
pub(crate) fn load_shared<const N: usize>(words: &[AtomicU64], at: usize) -> u64 {
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
pub(crate) fn store_shared<const N: usize>(words: &[AtomicU64], at: usize, value: u64) {
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

/// Copies bytes out of words, from the byte `at` on, as far as there are words.
pub(crate) fn read_shared(words: &[AtomicU64], at: usize, to: &mut [u8]) {
    let skip = at % 8;
    let mut words = words.iter().skip(at / 8).map(|word| word.load(Ordering::Relaxed).to_ne_bytes());
    let (head, rest) = to.split_at_mut(((8 - skip) % 8).min(to.len()));
    if !head.is_empty()
        && let Some(word) = words.next()
    {
        for (to, from) in head.iter_mut().zip(word.iter().skip(skip)) {
            *to = *from;
        }
    }
    let (whole, tail) = rest.as_chunks_mut::<8>();
    for (to, from) in whole.iter_mut().zip(&mut words) {
        *to = from;
    }
    if !tail.is_empty()
        && let Some(word) = words.next()
    {
        for (to, from) in tail.iter_mut().zip(word) {
            *to = from;
        }
    }
}

/// Copies bytes into words, from the byte `at` on, as far as there are words.
pub(crate) fn write_shared(words: &[AtomicU64], at: usize, from: &[u8]) {
    let skip = at % 8;
    let mut words = words.iter().skip(at / 8);
    let (head, rest) = from.split_at(((8 - skip) % 8).min(from.len()));
    if !head.is_empty()
        && let Some(word) = words.next()
    {
        write_part(word, skip, head);
    }
    let (whole, tail) = rest.as_chunks::<8>();
    for (from, to) in whole.iter().zip(&mut words) {
        to.store(u64::from_ne_bytes(*from), Ordering::Relaxed);
    }
    if !tail.is_empty()
        && let Some(word) = words.next()
    {
        write_part(word, 0, tail);
    }
}

/// Writes some bytes of a word; what others write to the rest of it at the same time stays.
fn write_part(word: &AtomicU64, skip: usize, from: &[u8]) {
    let (mut bits, mut mask) = ([0; 8], [0; 8]);
    for ((bits, mask), from) in bits.iter_mut().zip(&mut mask).skip(skip).zip(from) {
        (*bits, *mask) = (*from, 0xff);
    }
    let (bits, mask) = (u64::from_ne_bytes(bits), u64::from_ne_bytes(mask));
    // It always answers with a new word.
    let _ = word.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |old| Some(old & !mask | bits));
}

//! Mutations that keep BTF readable: fields of records change to what stands in other records, and lengths stay.

use std::ops::Range;

use fastrand::Rng;
use libfuzzer_sys::fuzzer_mutate;

use crate::mutate::interesting;

/// Bytes before the types of the kernel in an input of `relocate_target`.
const PREFIX: usize = 6;
const HEADER: usize = 24;
/// Most records that are looked at.
const MAX_RECORDS: usize = 4096;
/// Length of the part that all records have.
const COMMON: usize = 12;

/// Mutates an input of `relocate_target`. Answers the new size.
pub fn kernel(data: &mut [u8], size: usize, max_size: usize, seed: u32) -> usize {
    let mut rng = Rng::with_seed(seed.into());
    let Some(prefix) = data[..size].first_chunk::<PREFIX>() else {
        return fuzzer_mutate(data, size, max_size);
    };
    let len = u32::from_le_bytes([prefix[2], prefix[3], prefix[4], prefix[5]]) as usize;
    let end = PREFIX + len.min(size - PREFIX);
    match rng.u8(..32) {
        0 => return fuzzer_mutate(data, size, max_size),
        // The object, or which of its programs.
        1 => data[0] = rng.u8(..),
        2 => data[1] = rng.u8(..64),
        _ => {}
    }
    for _ in 0..rng.usize(1..=4) {
        let module = end < size && rng.u8(..3) == 0;
        let blob = if module { &mut data[end..size] } else { &mut data[PREFIX..end] };
        btf(blob, &mut rng);
    }
    size
}

/// A BTF blob as far as mutations need to know it.
struct Shape {
    big: bool,
    /// Where each record is.
    records: Vec<Range<usize>>,
    strings: Range<usize>,
}

impl Shape {
    fn of(blob: &[u8]) -> Option<Shape> {
        let big = match blob.get(..2)? {
            [0x9f, 0xeb] => false,
            [0xeb, 0x9f] => true,
            _ => return None,
        };
        let word = |at: usize| word(blob, at, big).map(|word| word as usize);
        let start = word(4)?;
        let types = start.checked_add(word(8)?)?;
        let types_end = types.checked_add(word(12)?)?.min(blob.len());
        let strings = start.checked_add(word(16)?)?;
        let strings = strings..strings.checked_add(word(20)?)?.min(blob.len());
        if start < HEADER || strings.start > strings.end {
            return None;
        }
        let mut records = Vec::new();
        let mut at = types;
        while records.len() < MAX_RECORDS && at + COMMON <= types_end {
            let len = COMMON + extra(word(at + 4)? as u32);
            if at + len > types_end {
                break;
            }
            records.push(at..at + len);
            at += len;
        }
        Some(Shape { big, records, strings })
    }
}

fn word(blob: &[u8], at: usize, big: bool) -> Option<u32> {
    let bytes = *blob.get(at..)?.first_chunk::<4>()?;
    Some(if big { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) })
}

/// Length of what follows the common part, by the kind and count in `info`.
fn extra(info: u32) -> usize {
    let count = (info & 0xffff) as usize;
    match info >> 24 & 0x1f {
        1 | 14 | 17 => 4,
        3 => 12,
        4 | 5 | 15 | 19 => count * 12,
        6 | 13 => count * 8,
        _ => 0,
    }
}

/// Changes one thing of a blob in place.
fn btf(blob: &mut [u8], rng: &mut Rng) {
    let Some(Shape { big, records, strings }) = Shape::of(blob) else {
        if !blob.is_empty() {
            let len = blob.len();
            fuzzer_mutate(blob, len, len);
        }
        return;
    };
    if records.is_empty() || rng.u8(..16) == 0 {
        return text(&mut blob[strings], rng);
    }
    let put = |blob: &mut [u8], at: usize, value: u32| {
        let bytes = if big { value.to_be_bytes() } else { value.to_le_bytes() };
        blob[at..at + 4].copy_from_slice(&bytes);
    };
    let get = |blob: &[u8], at: usize| word(blob, at, big).unwrap_or(0);
    let this = records[rng.usize(..records.len())].clone();
    let other = records[rng.usize(..records.len())].clone();
    let id = rng.u32(..=records.len() as u32 + 1);
    match rng.u8(..16) {
        0..=2 => put(blob, this.start, get(blob, other.start)),
        3 => {
            // Another kind whose records are as long, the flag, or a count.
            let info = get(blob, this.start + 4);
            let kind = rng.u32(..20);
            let new = match rng.u8(..4) {
                0 => info ^ 1 << 31,
                1 => info.wrapping_add([1, u32::MAX][rng.usize(..2)]),
                _ => info & !(0x1f << 24) | kind << 24,
            };
            if extra(new) == this.len() - COMMON || rng.u8(..8) == 0 {
                put(blob, this.start + 4, new);
            }
        }
        4 | 5 => put(blob, this.start + 8, id),
        6 => put(blob, this.start + 8, get(blob, other.start + 8)),
        7 => put(blob, this.start + 8, interesting(rng) as u32),
        8 if this.len() == other.len() => {
            for at in 0..this.len() {
                blob.swap(this.start + at, other.start + at);
            }
        }
        9 if this.len() == other.len() => blob.copy_within(other, this.start),
        _ if this.len() > COMMON => {
            // A word of a member, parameter, enumerator, array: ids, names, offsets, values.
            let at = this.start + COMMON + rng.usize(..(this.len() - COMMON) / 4) * 4;
            let value = match rng.u8(..6) {
                0 if other.len() > COMMON => {
                    get(blob, other.start + COMMON + rng.usize(..(other.len() - COMMON) / 4) * 4)
                }
                1 => get(blob, this.start + COMMON + rng.usize(..(this.len() - COMMON) / 4) * 4),
                2 => id,
                3 => interesting(rng) as u32,
                4 => get(blob, at).wrapping_add([1, 8, 32, 64][rng.usize(..4)]),
                _ => get(blob, at).wrapping_sub([1, 8, 32, 64][rng.usize(..4)]),
            };
            put(blob, at, value);
        }
        _ => put(blob, this.start, get(blob, other.start)),
    }
}

/// Changes a letter of a name, cuts it in two, or joins it with the next.
fn text(strings: &mut [u8], rng: &mut Rng) {
    if strings.len() < 2 {
        return;
    }
    let at = rng.usize(1..strings.len());
    strings[at] = match rng.u8(..4) {
        0 => 0,
        1 => b'_',
        2 => rng.alphanumeric() as u8,
        _ => strings[rng.usize(1..strings.len())],
    };
}

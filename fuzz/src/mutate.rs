//! Mutations that keep an object an object.
//!
//! libFuzzer's own insert and erase bytes, which moves every table of an ELF file away from where its header says it is, so
//! most of its inputs end at the first check. These change entries of tables and bytes of sections in place.

use std::ops::Range;

use fastrand::Rng;
use libfuzzer_sys::fuzzer_mutate;

const HEADER: usize = 64;
const SECTION_HEADER: usize = 64;
/// Most section headers that are looked at.
const MAX_SECTIONS: usize = 512;
/// Sizes of table entries: words of BTF, instructions and pointers, relocations, symbols.
const ENTRIES: [usize; 6] = [4, 8, 12, 16, 24, 64];

/// Mutates an input that is an object. Answers the new size.
pub fn object(data: &mut [u8], size: usize, max_size: usize, seed: u32) -> usize {
    let mut rng = Rng::with_seed(seed.into());
    let regions = regions(&data[..size]);
    if regions.is_empty() || rng.u8(..16) == 0 {
        return fuzzer_mutate(data, size, max_size);
    }
    for _ in 0..rng.usize(1..=4) {
        let region = regions[rng.usize(..regions.len())].clone();
        in_place(&mut data[region], &mut rng);
    }
    size
}

/// Mutates an input of the relocation target: an object behind its length, then a target.
pub fn object_and_target(data: &mut [u8], size: usize, max_size: usize, seed: u32) -> usize {
    let mut rng = Rng::with_seed(u64::from(seed) << 8);
    let Some(len) = data[..size].first_chunk::<4>().map(|len| u32::from_le_bytes(*len) as usize) else {
        return fuzzer_mutate(data, size, max_size);
    };
    let end = 4 + len.min(size - 4);
    let target = size - end;
    match rng.u8(..16) {
        // libFuzzer refuses to mutate within no bytes.
        _ if end == 4 => fuzzer_mutate(data, size, max_size),
        0 => fuzzer_mutate(data, size, max_size),
        1..=4 if target > 24 => {
            in_place(&mut data[end + 24..size], &mut rng);
            size
        }
        5 if target > 0 => end + fuzzer_mutate(&mut data[end..max_size], target, max_size - end),
        _ => {
            let same = end - 4;
            object(&mut data[4..end], same, same, rng.u32(..));
            size
        }
    }
}

/// Where the sections of an ELF file are, the headers of all of them, and each header alone.
fn regions(object: &[u8]) -> Vec<Range<usize>> {
    let mut regions = Vec::new();
    if object.len() < HEADER || !object.starts_with(b"\x7fELF\x02") {
        return regions;
    }
    let big = object[5] == 2;
    let number = |at: usize, len: usize| -> Option<usize> {
        let bytes = object.get(at..at.checked_add(len)?)?;
        let fold = |value: u64, byte: &u8| value << 8 | u64::from(*byte);
        let value = if big { bytes.iter().fold(0, fold) } else { bytes.iter().rev().fold(0, fold) };
        usize::try_from(value).ok()
    };
    let (Some(table), Some(count)) = (number(0x28, 8), number(0x3c, 2)) else { return regions };
    if table >= object.len() {
        return regions;
    }
    for index in 0..count.min(MAX_SECTIONS) {
        let at = table + index * SECTION_HEADER;
        if at + SECTION_HEADER > object.len() {
            break;
        }
        let (Some(offset), Some(len)) = (number(at + 0x18, 8), number(at + 0x20, 8)) else { break };
        if offset.checked_add(len).is_some_and(|end| len > 0 && end <= object.len()) {
            // Contents are worth more tries than headers.
            regions.extend([offset..offset + len, offset..offset + len, at..at + SECTION_HEADER]);
        }
    }
    regions
}

/// Changes some bytes and keeps the length.
fn in_place(region: &mut [u8], rng: &mut Rng) {
    let len = region.len();
    let entry = ENTRIES[rng.usize(..ENTRIES.len())];
    let count = len / entry;
    match rng.u8(..8) {
        0 if count > 1 => {
            let (from, to) = (rng.usize(..count) * entry, rng.usize(..count) * entry);
            region.copy_within(from..from + entry, to);
        }
        1 if count > 1 => {
            let (from, to) = (rng.usize(..count) * entry, rng.usize(..count) * entry);
            for i in 0..entry {
                region.swap(from + i, to + i);
            }
        }
        2..=4 => {
            // A field of an entry becomes the same field of another, or a number of its own.
            let width = [1, 2, 4, 8][rng.usize(..4)].min(len);
            let fields = len / width;
            let to = rng.usize(..fields) * width;
            if rng.bool() {
                let from = rng.usize(..fields) * width;
                region.copy_within(from..from + width, to);
            } else {
                let value = interesting(rng).to_le_bytes();
                let field = &mut region[to..to + width];
                field.copy_from_slice(&value[..width]);
                if rng.u8(..4) == 0 {
                    field.reverse();
                }
            }
        }
        5 => {
            // Small steps: offsets, counts and ids beside the right ones.
            let at = rng.usize(..len);
            region[at] = region[at].wrapping_add([1, 255, 4, 252, 8, 248, 16, 128][rng.usize(..8)]);
        }
        _ => {
            fuzzer_mutate(region, len, len);
        }
    }
}

/// A number at which something may change.
pub(crate) fn interesting(rng: &mut Rng) -> u64 {
    match rng.u8(..6) {
        0 => 0,
        1 => u64::MAX,
        2 => 1 << rng.u8(..64),
        3 => (1 << rng.u8(..64)) - 1,
        _ => rng.u64(..64),
    }
}

//! Finds BPF objects in files: a file that is one, and those that skeletons and `embed` put into executables.

use memchr::memmem;

/// `\x7fELF` and `ELFCLASS64`.
const MAGIC: &[u8] = b"\x7fELF\x02";
const ET_REL: u64 = 1;
const EM_BPF: u64 = 247;
const SHT_NOBITS: u64 = 8;

/// A BPF object inside some bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Found<'a> {
    /// Where it begins.
    pub(super) offset: usize,
    pub(super) bytes: &'a [u8],
}

/// All relocatable BPF objects in `data`, in order. Their length is what their section headers reach to.
pub(super) fn carve(data: &[u8]) -> Vec<Found<'_>> {
    memmem::find_iter(data, MAGIC)
        .filter_map(|offset| {
            let rest = data.get(offset..)?;
            let bytes = rest.get(..extent(rest)?)?;
            Some(Found { offset, bytes })
        })
        .collect()
}

/// How long the BPF object is that begins here; `None` when it is something else.
fn extent(elf: &[u8]) -> Option<usize> {
    let big = match elf.get(5)? {
        1 => false,
        2 => true,
        _ => return None,
    };
    let read = |at: usize, size: usize| -> Option<u64> {
        let field = elf.get(at..at.checked_add(size)?)?;
        let push = |value: u64, byte: &u8| value << 8 | u64::from(*byte);
        Some(if big { field.iter().fold(0, push) } else { field.iter().rev().fold(0, push) })
    };
    if read(16, 2)? != ET_REL || read(18, 2)? != EM_BPF {
        return None;
    }
    let (table, entry, count) = (read(40, 8)?, read(58, 2)?, read(60, 2)?);
    let mut end = table.checked_add(entry.checked_mul(count)?)?;
    for index in 0..count {
        let header = usize::try_from(table.checked_add(entry.checked_mul(index)?)?).ok()?;
        if read(header.checked_add(4)?, 4)? != SHT_NOBITS {
            let offset = read(header.checked_add(24)?, 8)?;
            end = end.max(offset.checked_add(read(header.checked_add(32)?, 8)?)?);
        }
    }
    usize::try_from(end).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An object with one section of four bytes behind its header, then the section table.
    fn object(big: bool, machine: u16) -> Vec<u8> {
        let mut elf = vec![0u8; 68 + 2 * 64];
        elf[..5].copy_from_slice(MAGIC);
        elf[5] = if big { 2 } else { 1 };
        let mut put = |at: usize, size: usize, value: u64| {
            let bytes = if big { value.to_be_bytes() } else { value.to_le_bytes() };
            elf[at..at + size].copy_from_slice(if big { &bytes[8 - size..] } else { &bytes[..size] });
        };
        put(16, 2, 1);
        put(18, 2, machine.into());
        put(40, 8, 68);
        put(58, 2, 64);
        put(60, 2, 2);
        put(68 + 64 + 4, 4, 1);
        put(68 + 64 + 24, 8, 64);
        put(68 + 64 + 32, 8, 4);
        elf
    }

    #[test]
    fn finds_objects_of_both_endians_between_other_bytes() {
        let (little, big) = (object(false, 247), object(true, 247));
        let file = [b"code".as_slice(), &little, b"\x7fELF\x02\x01 not one", &big, b"tail"].concat();
        let found = carve(&file);
        assert_eq!(
            found,
            [Found { offset: 4, bytes: &little }, Found { offset: 4 + little.len() + 14, bytes: &big }]
        );
    }

    #[test]
    fn leaves_other_machines_and_cut_objects_alone() {
        assert_eq!(carve(&object(false, 62)), []);
        let whole = object(false, 247);
        assert_eq!(carve(&whole[..whole.len() - 1]), []);
        let mut endless = whole.clone();
        endless[68 + 64 + 32..68 + 64 + 40].fill(0xff);
        assert_eq!(carve(&endless), []);
    }
}

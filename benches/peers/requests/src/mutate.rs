//! Objects with something wrong in them: the same seed and number make the same bytes.

/// A small generator of numbers (SplitMix64).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        if limit == 0 { 0 } else { (self.next() % limit as u64) as usize }
    }
}

struct Section {
    name: String,
    kind: u32,
    offset: usize,
    size: usize,
}

const SYMBOLS: u32 = 2;
const STRINGS: u32 = 3;
const NO_BITS: u32 = 8;
const RELOCATIONS: u32 = 9;

/// Fields of `Elf64_Shdr`, `Elf64_Sym`, `Elf64_Rel` and the headers of `.BTF` and `.BTF.ext`: offset, length, name.
type Fields = &'static [(usize, usize, &'static str)];
const HEADER: Fields = &[
    (0, 4, "name"),
    (4, 4, "type"),
    (8, 8, "flags"),
    (16, 8, "addr"),
    (24, 8, "offset"),
    (32, 8, "size"),
    (40, 4, "link"),
    (44, 4, "info"),
    (48, 8, "addralign"),
    (56, 8, "entsize"),
];
const SYMBOL: Fields =
    &[(0, 4, "name"), (4, 1, "info"), (5, 1, "other"), (6, 2, "shndx"), (8, 8, "value"), (16, 8, "size")];
const RELOCATION: Fields = &[(0, 8, "offset"), (8, 4, "type"), (12, 4, "symbol")];
const BTF: Fields = &[
    (0, 2, "magic"),
    (2, 1, "version"),
    (3, 1, "flags"),
    (4, 4, "hdr_len"),
    (8, 4, "type_off"),
    (12, 4, "type_len"),
    (16, 4, "str_off"),
    (20, 4, "str_len"),
];
const EXT: Fields = &[
    (0, 2, "magic"),
    (2, 1, "version"),
    (4, 4, "hdr_len"),
    (8, 4, "func_info_off"),
    (12, 4, "func_info_len"),
    (16, 4, "line_info_off"),
    (20, 4, "line_info_len"),
    (24, 4, "core_relo_off"),
    (28, 4, "core_relo_len"),
];

/// The `number`-th mutant of an object, and what was done to it. `None` when it is no ELF file of this byte order.
pub(crate) fn mutant(base: &[u8], number: u64) -> Option<(Vec<u8>, String)> {
    let sections = sections(base)?;
    let mut numbers = Numbers(number.wrapping_mul(0x1000_0001) ^ base.len() as u64);
    let mut bytes = base.to_vec();
    let mut done = Vec::new();
    // One change finds what is checked, two what is checked against each other.
    for _ in 0..=usize::from(number % 4 == 3) {
        done.push(change(&mut bytes, &sections, &mut numbers));
    }
    Some((bytes, done.join(", ")))
}

fn change(bytes: &mut [u8], sections: &[Section], numbers: &mut Numbers) -> String {
    let of = |kind: u32| {
        sections.iter().filter(|section| section.kind == kind && section.size > 0).collect::<Vec<_>>()
    };
    let named = |name: &str| sections.iter().find(|section| section.name == name && section.kind != NO_BITS);
    match numbers.below(10) {
        0 | 1 => {
            let index = 1 + numbers.below(sections.len().saturating_sub(1));
            let start = headers(bytes) + index * 64;
            let name = sections.get(index).map_or("", |section| &section.name);
            field(bytes, start, HEADER, numbers, &format!("header {index} {name}"))
        }
        2 | 3 => {
            let Some(table) = of(SYMBOLS).first().copied() else { return "nothing".to_owned() };
            let index = numbers.below(table.size / 24);
            field(bytes, table.offset + index * 24, SYMBOL, numbers, &format!("symbol {index}"))
        }
        4 | 5 => {
            let tables = of(RELOCATIONS);
            let Some(table) = tables.get(numbers.below(tables.len())) else { return "nothing".to_owned() };
            let index = numbers.below(table.size / 16);
            field(bytes, table.offset + index * 16, RELOCATION, numbers, &format!("{} {index}", table.name))
        }
        6 => match named(".BTF") {
            Some(section) if numbers.below(3) == 0 => {
                field(bytes, section.offset, BTF, numbers, ".BTF header")
            }
            Some(section) => word(bytes, section, numbers),
            None => "nothing".to_owned(),
        },
        7 => match named(".BTF.ext") {
            Some(section) if numbers.below(3) == 0 => {
                field(bytes, section.offset, EXT, numbers, ".BTF.ext header")
            }
            Some(section) => word(bytes, section, numbers),
            None => "nothing".to_owned(),
        },
        8 => {
            let all: Vec<&Section> = sections
                .iter()
                .filter(|section| ![0, NO_BITS, STRINGS].contains(&section.kind) && section.size > 0)
                .filter(|section| !section.name.starts_with(".debug"))
                .collect();
            let Some(section) = all.get(numbers.below(all.len())) else { return "nothing".to_owned() };
            byte(bytes, section, numbers)
        }
        _ => {
            let tables = of(STRINGS);
            match tables.get(numbers.below(tables.len() + 1)) {
                Some(section) => byte(bytes, section, numbers),
                None => {
                    let at = numbers.below(64);
                    set(bytes, at, 1, numbers, "ELF header")
                }
            }
        }
    }
}

fn field(bytes: &mut [u8], start: usize, fields: Fields, numbers: &mut Numbers, what: &str) -> String {
    let (at, len, name) = fields[numbers.below(fields.len())];
    set(bytes, start + at, len, numbers, &format!("{what} {name}"))
}

fn word(bytes: &mut [u8], section: &Section, numbers: &mut Numbers) -> String {
    let at = numbers.below(section.size / 4) * 4;
    set(bytes, section.offset + at, 4, numbers, &format!("{}+{at:#x}", section.name))
}

fn byte(bytes: &mut [u8], section: &Section, numbers: &mut Numbers) -> String {
    let at = numbers.below(section.size);
    set(bytes, section.offset + at, 1, numbers, &format!("{}+{at:#x}", section.name))
}

/// Changes a number of `len` bytes: a little, by a bit, or to one that is often forgotten.
fn set(bytes: &mut [u8], at: usize, len: usize, numbers: &mut Numbers, what: &str) -> String {
    let Some(place) = bytes.get_mut(at..at + len) else { return "nothing".to_owned() };
    let old = place.iter().rev().fold(0u64, |number, &byte| number << 8 | u64::from(byte));
    let most = u64::MAX >> (64 - 8 * len as u32);
    let new = match numbers.below(10) {
        0 => old.wrapping_add(1),
        1 => old.wrapping_sub(1),
        2 => old.wrapping_add(8),
        3 => 0,
        4 => most,
        5 => most >> 1,
        6 => old ^ 1 << numbers.below(8 * len),
        7 => old.wrapping_mul(2),
        8 => numbers.next() & 0xff,
        _ => numbers.next(),
    } & most;
    for (byte, n) in place.iter_mut().zip(0u32..) {
        *byte = (new >> (8 * n)) as u8;
    }
    format!("{what}: {old:#x} -> {new:#x}")
}

fn number(bytes: &[u8], at: usize, len: usize) -> Option<usize> {
    let bytes = bytes.get(at..at.checked_add(len)?)?;
    Some(bytes.iter().rev().fold(0, |number, &byte| number << 8 | usize::from(byte)))
}

fn headers(bytes: &[u8]) -> usize {
    number(bytes, 40, 8).unwrap_or(0)
}

fn sections(bytes: &[u8]) -> Option<Vec<Section>> {
    if !bytes.starts_with(b"\x7fELF\x02\x01") {
        return None;
    }
    let (start, count, names) = (headers(bytes), number(bytes, 60, 2)?, number(bytes, 62, 2)?);
    let names = number(bytes, start + names * 64 + 24, 8)?;
    let mut sections = Vec::new();
    for index in 0..count {
        let at = start + index * 64;
        let name = bytes.get(names + number(bytes, at, 4)?..)?;
        let end = name.iter().position(|&b| b == 0)?;
        sections.push(Section {
            name: String::from_utf8_lossy(&name[..end]).into_owned(),
            kind: number(bytes, at + 4, 4)? as u32,
            offset: number(bytes, at + 24, 8)?,
            size: number(bytes, at + 32, 8)?,
        });
    }
    Some(sections)
}

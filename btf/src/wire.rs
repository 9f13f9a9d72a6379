//! The bytes: numbers in either byte order, the header, the sizes of records.

use skep_asm::Endian;

use crate::{BtfError, Kind, TypeId};

/// `BTF_MAGIC`.
pub(crate) const MAGIC: u16 = 0xeb9f;
/// Header without the layout fields.
pub(crate) const MIN_HEADER: usize = 24;
/// Header with the layout fields.
pub(crate) const LAYOUT_HEADER: usize = 32;
/// Bytes of the part that all records share: name, info, size or type.
pub(crate) const RECORD: usize = 12;
/// Largest count of types and largest string offset, as libbpf has it.
pub(crate) const MAX_COUNT: u32 = 0x7fff_ffff;
/// Bits of `info` that hold `vlen`.
pub(crate) const VLEN_MASK: u32 = 0x00ff_ffff;
/// The kind flag in `info`.
pub(crate) const KIND_FLAG: u32 = 1 << 31;

/// The byte order that is not the machine's.
pub(crate) fn swapped() -> Endian {
    match Endian::NATIVE {
        Endian::Little => Endian::Big,
        Endian::Big => Endian::Little,
    }
}

/// Reads a `u16` at `at`, when it is there.
pub(crate) fn u16_at(data: &[u8], at: usize, endian: Endian) -> Option<u16> {
    let bytes = *data.get(at..)?.first_chunk()?;
    Some(match endian {
        Endian::Little => u16::from_le_bytes(bytes),
        Endian::Big => u16::from_be_bytes(bytes),
    })
}

/// Reads a `u32` at `at`, when it is there.
#[inline(always)]
pub(crate) fn u32_at(data: &[u8], at: usize, endian: Endian) -> Option<u32> {
    let bytes = *data.get(at..)?.first_chunk()?;
    Some(match endian {
        Endian::Little => u32::from_le_bytes(bytes),
        Endian::Big => u32::from_be_bytes(bytes),
    })
}

/// Reads eight bytes at `at`, the first one lowest, when they are there.
#[inline(always)]
pub(crate) fn u64_le_at(data: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*data.get(at..)?.first_chunk()?))
}

/// Reads the `N` words of a record, when they are all there.
#[inline(always)]
pub(crate) fn words<const N: usize>(data: &[u8], endian: Endian) -> Option<[u32; N]> {
    let mut out = [0; N];
    for (word, bytes) in out.iter_mut().zip(data.get(..N * 4)?.as_chunks().0) {
        *word = match endian {
            Endian::Little => u32::from_le_bytes(*bytes),
            Endian::Big => u32::from_be_bytes(*bytes),
        };
    }
    Some(out)
}

/// `kind` of an `info` word.
#[inline(always)]
pub(crate) fn info_kind(info: u32) -> Kind {
    Kind((info >> 24 & 0x7f) as u8)
}

/// Where the sections of a blob are. Ranges were checked to lie in it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Header {
    pub(crate) endian: Endian,
    pub(crate) types: (usize, usize),
    pub(crate) layout: (usize, usize),
    pub(crate) strings: (usize, usize),
}

impl Header {
    /// Reads and checks the header of `data`; `split` allows what only split BTF may have.
    pub(crate) fn parse(data: &[u8], split: bool) -> Result<Self, BtfError> {
        let short = BtfError::TooShort { len: data.len(), need: MIN_HEADER };
        if data.len() < MIN_HEADER {
            return Err(short);
        }
        let native = u16_at(data, 0, Endian::NATIVE).unwrap_or(0);
        let endian = match native {
            MAGIC => Endian::NATIVE,
            other if other.swap_bytes() == MAGIC => swapped(),
            magic => return Err(BtfError::BadMagic { magic }),
        };
        let word = |at| u32_at(data, at, endian).ok_or(short.clone());
        let hdr_len = word(4)?;
        let len = hdr_len as usize;
        if len < MIN_HEADER {
            return Err(BtfError::BadHeader { len: hdr_len, reason: "it is less than 24" });
        }
        if len > data.len() {
            return Err(BtfError::BadHeader { len: hdr_len, reason: "it is more than there are bytes" });
        }
        let (type_off, type_len, str_off, str_len) = (word(8)?, word(12)?, word(16)?, word(20)?);
        let (layout_off, layout_len) = if len >= LAYOUT_HEADER { (word(24)?, word(28)?) } else { (0, 0) };

        let rest = (data.len() - len) as u64;
        let end = |off: u32, len: u32| u64::from(off) + u64::from(len);
        let bad = |section, offset, len, reason| BtfError::BadSection { section, offset, len, reason };
        if end(str_off, str_len) > rest {
            return Err(bad("string", str_off, str_len, "runs past the end of the data"));
        }
        if end(type_off, type_len) > u64::from(str_off) {
            return Err(bad("type", type_off, type_len, "overlaps the string section"));
        }
        if type_off % 4 != 0 {
            return Err(bad("type", type_off, type_len, "is not 4-byte aligned"));
        }
        if layout_len > 0 {
            let reason = if layout_off % 4 != 0 {
                Some("is not 4-byte aligned")
            } else if u64::from(layout_off) < end(type_off, type_len) {
                Some("overlaps the type section")
            } else if end(layout_off, layout_len) > u64::from(str_off) {
                Some("overlaps the string section")
            } else if layout_len % 4 != 0 {
                Some("has a length that is not a multiple of 4")
            } else {
                None
            };
            if let Some(reason) = reason {
                return Err(bad("layout", layout_off, layout_len, reason));
            }
        }
        let range = |off: u32, size: u32| {
            let start = len + off as usize;
            (start, start + size as usize)
        };
        let strings = range(str_off, str_len);
        let text = data.get(strings.0..strings.1).unwrap_or_default();
        let reason = match (text.first(), text.last()) {
            (None, _) if !split => Some("is empty"),
            (_, Some(&last)) if last != 0 => Some("does not end with NUL"),
            (Some(&first), _) if first != 0 && !split => Some("does not start with an empty string"),
            _ if str_len > MAX_COUNT => Some("is too long"),
            _ => None,
        };
        if let Some(reason) = reason {
            return Err(bad("string", str_off, str_len, reason));
        }
        // The offset of an empty layout section may be anything.
        let layout = if layout_len > 0 { range(layout_off, layout_len) } else { (len, len) };
        Ok(Self { endian, types: range(type_off, type_len), layout, strings })
    }
}

/// Bytes of a record beyond the common part: fixed ones, and those of each element.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) info: u8,
    pub(crate) elem: u8,
}

/// The record shapes of the known kinds, from INT on.
const SHAPES: [(u8, u8); Kind::LAST.0 as usize] = [
    (4, 0),  // INT
    (0, 0),  // PTR
    (12, 0), // ARRAY
    (0, 12), // STRUCT
    (0, 12), // UNION
    (0, 8),  // ENUM
    (0, 0),  // FWD
    (0, 0),  // TYPEDEF
    (0, 0),  // VOLATILE
    (0, 0),  // CONST
    (0, 0),  // RESTRICT
    (0, 0),  // FUNC
    (0, 8),  // FUNC_PROTO
    (4, 0),  // VAR
    (0, 12), // DATASEC
    (0, 0),  // FLOAT
    (4, 0),  // DECL_TAG
    (0, 0),  // TYPE_TAG
    (0, 12), // ENUM64
];

/// For each known kind, two bits: how many words follow the common part.
const FIXED: u64 = packed(true);
/// For each known kind, two bits: how many words an element has.
const ELEMENT: u64 = packed(false);
/// For each known kind, one bit: whether it is a declaration.
const DECLARATIONS: u32 = {
    let mut bits = 0;
    let mut kind = 0;
    while kind <= Kind::LAST.0 {
        bits |= (Kind(kind).is_declaration() as u32) << kind;
        kind += 1;
    }
    bits
};

/// Word counts of [`SHAPES`], two bits for each kind.
const fn packed(fixed: bool) -> u64 {
    let mut bits = 0;
    let mut at = 0;
    while at < SHAPES.len() {
        let (info, elem) = SHAPES[at]; // `at` is below its length
        bits |= ((if fixed { info } else { elem }) as u64 / 4) << (2 * (at + 1));
        at += 1;
    }
    bits
}

/// Shapes of all 128 kinds of one BTF: the known ones, and what its layout section adds.
#[derive(Clone)]
pub(crate) struct Shapes {
    shapes: Box<[Option<Shape>; 128]>,
    /// `info << 8 | elem` for each kind, with [`DECLARATION`](Self::DECLARATION), or
    /// [`INVALID`](Self::INVALID).
    fast: Box<[u16; 128]>,
}

/// What the walk needs to know about a record.
#[derive(Clone, Copy)]
pub(crate) struct Fast {
    /// Size of the whole record in bytes, below 2^32.
    pub(crate) len: usize,
    /// Whether it declares something instead of being a type.
    pub(crate) declaration: bool,
}

impl core::fmt::Debug for Shapes {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Shapes")
    }
}

impl Shapes {
    /// In an entry of a kind that declares something. Sizes are multiples of 4.
    const DECLARATION: u16 = 1;
    /// In an entry of a kind without usable shape.
    const INVALID: u16 = 2;

    /// The known kinds, then the entries of `layout` (`{u8 info, u8 elem, u16 flags}` each, by
    /// kind), then those of the base BTF.
    pub(crate) fn new(layout: &[u8], base: Option<&Self>) -> Self {
        let mut shapes = match base {
            Some(base) => base.shapes.clone(),
            None => Box::new([None; 128]),
        };
        for (&[info, elem, _, _], slot) in layout.as_chunks().0.iter().zip(shapes.iter_mut()) {
            *slot = Some(Shape { info, elem });
        }
        for ((info, elem), slot) in SHAPES.into_iter().zip(shapes.iter_mut().skip(1)) {
            *slot = Some(Shape { info, elem });
        }
        let mut fast = Box::new([Self::INVALID; 128]);
        for ((kind, shape), slot) in (0..).map(Kind).zip(shapes.iter()).zip(fast.iter_mut()) {
            if let Some(Shape { info, elem }) = shape
                && (info | elem) % 4 == 0
            {
                let flag = if kind.is_declaration() { Self::DECLARATION } else { 0 };
                *slot = u16::from(*info) << 8 | u16::from(*elem) | flag;
            }
        }
        Self { shapes, fast }
    }

    /// Length of the record with this `info`, when its kind has a usable shape.
    #[inline(always)]
    pub(crate) fn fast(&self, info: u32) -> Option<Fast> {
        let kind = info_kind(info);
        // Shifts, since the walk waits for each length and a table is one more load to wait for.
        if kind.0.wrapping_sub(1) < Kind::LAST.0 {
            let twice = u32::from(kind.0) * 2;
            let fixed = (FIXED >> twice & 3) as usize;
            let element = (ELEMENT >> twice & 3) as usize;
            let len = RECORD + fixed * 4 + (info & VLEN_MASK) as usize * element * 4;
            return Some(Fast { len, declaration: DECLARATIONS >> kind.0 & 1 != 0 });
        }
        let entry = self.fast[usize::from(kind.0)]; // 128 entries, 7 bits
        if entry & Self::INVALID != 0 {
            return None;
        }
        let elements = (info & VLEN_MASK) as usize * usize::from(entry & 0xfc);
        let len = RECORD + usize::from(entry >> 8) + elements;
        Some(Fast { len, declaration: entry & Self::DECLARATION != 0 })
    }

    /// Size of the whole record with this `info`, in bytes, or what is wrong with its kind.
    pub(crate) fn record_len(&self, id: TypeId, info: u32) -> Result<u64, BtfError> {
        let kind = info_kind(info);
        let Some(Shape { info: info_size, elem: elem_size }) = self.get(kind) else {
            return Err(BtfError::UnknownKind { id, kind });
        };
        if (info_size | elem_size) % 4 != 0 {
            return Err(BtfError::BadLayout { kind, info_size, elem_size });
        }
        Ok(RECORD as u64 + u64::from(info_size) + u64::from(info & VLEN_MASK) * u64::from(elem_size))
    }

    /// Shape of a kind, when there is one.
    pub(crate) fn get(&self, kind: Kind) -> Option<Shape> {
        self.shapes.get(usize::from(kind.0)).copied().flatten()
    }
}

/// What a word of a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Word {
    /// A size, an offset, a value.
    Plain,
    /// A type id.
    Type,
    /// A string offset.
    Str,
}

/// What the words of a record of this kind are: its third word, the fixed ones behind it, and those
/// of each element.
fn word_classes(kind: Kind) -> (Word, &'static [Word], &'static [Word]) {
    use Word::{Plain, Str, Type};
    let third = if kind.has_type() { Type } else { Plain };
    let (fixed, element): (&[Word], &[Word]) = match kind {
        Kind::INT | Kind::VAR | Kind::DECL_TAG => (&[Plain], &[]),
        Kind::ARRAY => (&[Type, Type, Plain], &[]),
        Kind::STRUCT | Kind::UNION => (&[], &[Str, Type, Plain]),
        Kind::ENUM => (&[], &[Str, Plain]),
        Kind::FUNC_PROTO => (&[], &[Str, Type]),
        Kind::DATASEC => (&[], &[Type, Plain, Plain]),
        Kind::ENUM64 => (&[], &[Str, Plain, Plain]),
        _ => (&[], &[]),
    };
    (third, fixed, element)
}

/// What each word of a record of this kind is. It goes on for ever where there are elements, and is
/// short for kinds that are not known.
pub(crate) fn record_words(kind: Kind) -> impl Iterator<Item = Word> {
    let (third, fixed, element) = word_classes(kind);
    let head = [Word::Str, Word::Plain, third];
    head.into_iter().chain(fixed.iter().copied()).chain(element.iter().copied().cycle())
}

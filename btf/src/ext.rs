//! `.BTF.ext`: what belongs to instructions.

use core::fmt;
use core::marker::PhantomData;

use bytes::Bytes;
use skep_asm::Endian;

use crate::wire::{self, MAGIC, u16_at, u32_at};
use crate::{Btf, BtfError, StrOffset, TypeId};

/// Header without the CO-RE fields.
const MIN_HEADER: usize = 24;
/// Header with the CO-RE fields.
const CORE_HEADER: usize = 32;
/// Section name and record count before the records of a block.
const BLOCK_HEADER: usize = 8;

/// The contents of a `.BTF.ext` section: function, line and CO-RE records, by code section.
///
/// The records stay bytes until they are iterated over; [`parse`](Self::parse) checks the layout of
/// all of them. Records longer than the known ones keep their tails.
#[derive(Debug, Clone)]
pub struct ExtInfo {
    bytes: Bytes,
    endian: Endian,
    func: Part,
    line: Part,
    core: Part,
}

/// Blocks of one kind of record, already checked.
#[derive(Debug, Clone, Copy, Default)]
struct Part {
    start: usize,
    end: usize,
    record_size: u32,
}

impl ExtInfo {
    /// Reads a `.BTF.ext` section of either byte order.
    ///
    /// # Errors
    /// When the header, a record size or a block of records is not as the format wants it.
    pub fn parse(bytes: impl Into<Bytes>) -> Result<Self, BtfError> {
        let bytes = bytes.into();
        let short = |need| BtfError::TooShort { len: bytes.len(), need };
        let native = u16_at(&bytes, 0, Endian::NATIVE).ok_or(short(8))?;
        let endian = match native {
            MAGIC => Endian::NATIVE,
            other if other.swap_bytes() == MAGIC => wire::swapped(),
            magic => return Err(BtfError::BadMagic { magic }),
        };
        let word = |at, need| u32_at(&bytes, at, endian).ok_or(short(need));
        let hdr_len = word(4, 8)?;
        let (version, flags) = (u32::from(bytes[2]), u32::from(bytes[3])); // 8 bytes are there
        if version != 1 {
            return Err(BtfError::Unsupported { field: "version", value: version });
        }
        if flags != 0 {
            return Err(BtfError::Unsupported { field: "flags", value: flags });
        }
        let header = hdr_len as usize;
        let reason = if header < MIN_HEADER {
            Some("it is less than 24")
        } else if header > bytes.len() {
            Some("it is more than there are bytes")
        } else if header == bytes.len() {
            Some("nothing follows the header")
        } else {
            None
        };
        if let Some(reason) = reason {
            return Err(BtfError::BadHeader { len: hdr_len, reason });
        }
        let part = |name, at, known: u32| {
            let (off, len) = (word(at, MIN_HEADER)?, word(at + 4, MIN_HEADER)?);
            Part::parse(&bytes, name, header, off, len, known, endian)
        };
        let func = part("func_info", 8, FuncInfo::SIZE)?;
        let line = part("line_info", 16, LineInfo::SIZE)?;
        let core =
            if header >= CORE_HEADER { part("core_relo", 24, CoreRelo::SIZE)? } else { Part::default() };
        Ok(Self { endian, func, line, core, bytes })
    }

    /// Byte order of the section.
    pub fn endian(&self) -> Endian {
        self.endian
    }

    /// The bytes that this was parsed from.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Which function starts at which instruction.
    pub fn func_info(&self) -> ExtSection<'_, FuncInfo> {
        self.section(self.func)
    }

    /// Which source line an instruction comes from.
    pub fn line_info(&self) -> ExtSection<'_, LineInfo> {
        self.section(self.line)
    }

    /// The CO-RE relocations.
    pub fn core_relos(&self) -> ExtSection<'_, CoreRelo> {
        self.section(self.core)
    }

    fn section<R>(&self, part: Part) -> ExtSection<'_, R> {
        let data = self.bytes.get(part.start..part.end).unwrap_or_default();
        ExtSection { data, record_size: part.record_size, endian: self.endian, record: PhantomData }
    }
}

impl Part {
    fn parse(
        bytes: &[u8],
        section: &'static str,
        header: usize,
        off: u32,
        len: u32,
        known: u32,
        endian: Endian,
    ) -> Result<Self, BtfError> {
        if len == 0 {
            return Ok(Self::default());
        }
        let begin = header as u64 + u64::from(off);
        let bad = |offset: u64, reason| BtfError::BadExt { section, offset, reason };
        if !off.is_multiple_of(4) {
            return Err(bad(begin, "it is not 4-byte aligned"));
        }
        let end = begin + u64::from(len);
        if end > bytes.len() as u64 {
            return Err(bad(begin, "it runs past the end of the data"));
        }
        let (begin, end) = (begin as usize, end as usize); // within `bytes`
        let data = bytes.get(begin..end).unwrap_or_default();
        let Some(record_size) = u32_at(data, 0, endian) else {
            return Err(bad(begin as u64, "it is too short for a record size"));
        };
        if record_size < known || record_size % 4 != 0 {
            return Err(bad(begin as u64, "its record size is too small or not a multiple of 4"));
        }
        if endian != Endian::NATIVE && record_size != known {
            return Err(bad(begin as u64, "its records are of unknown form in foreign byte order"));
        }
        let start = begin + 4;
        let mut at = 4usize;
        if at == data.len() {
            return Err(bad(start as u64, "it has no records"));
        }
        while at < data.len() {
            let here = (begin + at) as u64;
            let Some(count) = u32_at(data, at + 4, endian) else {
                return Err(bad(here, "a block's header runs past the end"));
            };
            if count == 0 {
                return Err(bad(here, "a block has no records"));
            }
            let size = BLOCK_HEADER as u64 + u64::from(count) * u64::from(record_size);
            if size > (data.len() - at) as u64 {
                return Err(bad(here, "a block's records run past the end"));
            }
            at += size as usize;
        }
        Ok(Self { start, end, record_size })
    }
}

/// All records of one kind, by code section.
#[derive(Debug, Clone, Copy)]
pub struct ExtSection<'a, R> {
    data: &'a [u8],
    record_size: u32,
    endian: Endian,
    record: PhantomData<R>,
}

impl<'a, R: ExtRecord> ExtSection<'a, R> {
    /// Bytes of each record as stored, at least [`ExtRecord::SIZE`]; 0 when there are none.
    pub fn record_size(&self) -> u32 {
        self.record_size
    }

    /// Whether there are no records.
    pub fn is_empty(&self) -> bool {
        self.data.is_empty()
    }

    /// The blocks of records, one or more for each code section that has any.
    pub fn blocks(&self) -> Blocks<'a, R> {
        Blocks(*self)
    }

    /// How many records there are in all blocks.
    pub fn record_count(&self) -> usize {
        self.blocks().map(|block| block.len()).sum()
    }
}

/// Iterator over the blocks of an [`ExtSection`].
#[derive(Debug, Clone, Copy)]
pub struct Blocks<'a, R>(ExtSection<'a, R>);

impl<'a, R: ExtRecord> Iterator for Blocks<'a, R> {
    type Item = Block<'a, R>;

    fn next(&mut self) -> Option<Block<'a, R>> {
        let ExtSection { data, record_size, endian, .. } = self.0;
        let (head, rest) = data.split_at_checked(BLOCK_HEADER)?;
        let [name, count] = wire::words(head, endian)?;
        let (records, rest) = rest.split_at_checked((count as usize).checked_mul(record_size as usize)?)?;
        self.0.data = rest;
        let records = ExtSection { data: records, ..self.0 };
        Some(Block { section_name: StrOffset(name), records })
    }
}

/// Records of one code section.
#[derive(Debug, Clone, Copy)]
pub struct Block<'a, R> {
    section_name: StrOffset,
    records: ExtSection<'a, R>,
}

impl<'a, R: ExtRecord> Block<'a, R> {
    /// Where the name of the code section is in the object's BTF.
    pub fn section_name_offset(&self) -> StrOffset {
        self.section_name
    }

    /// The name of the code section, looked up in the object's BTF.
    ///
    /// # Errors
    /// [`BtfError::NoSuchString`].
    pub fn section_name<'b>(&self, btf: &'b Btf) -> Result<&'b [u8], BtfError> {
        btf.str_at(self.section_name)
    }

    /// How many records there are.
    pub fn len(&self) -> usize {
        self.records.data.len().checked_div(self.records.record_size as usize).unwrap_or(0)
    }

    /// Whether there are no records; a parsed block has at least one.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of each record as stored.
    pub fn record_size(&self) -> u32 {
        self.records.record_size
    }

    /// The records, in the order of the file.
    pub fn records(&self) -> Records<'a, R> {
        Records(self.records)
    }
}

/// Iterator over the records of a [`Block`].
#[derive(Debug, Clone, Copy)]
pub struct Records<'a, R>(ExtSection<'a, R>);

impl<'a, R: ExtRecord> Iterator for Records<'a, R> {
    type Item = Record<'a, R>;

    fn next(&mut self) -> Option<Record<'a, R>> {
        let (raw, rest) = self.0.data.split_at_checked(self.0.record_size as usize)?;
        let info = R::read(raw, self.0.endian)?;
        self.0.data = rest;
        Some(Record { info, raw })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.0.data.len().checked_div(self.0.record_size as usize).unwrap_or(0);
        (left, Some(left))
    }
}

impl<R: ExtRecord> ExactSizeIterator for Records<'_, R> {}

/// A record: its known fields, and its bytes as stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a, R> {
    /// The known fields.
    pub info: R,
    /// The whole record in the byte order of the file, with what newer compilers may add.
    pub raw: &'a [u8],
}

impl<R: ExtRecord> Record<'_, R> {
    /// The record in the machine's byte order: `info` in place of its known fields, then the rest of
    /// `raw`.
    pub fn to_native(&self, info: &R) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.raw.len());
        info.write(&mut out);
        out.extend_from_slice(self.raw.get(R::SIZE as usize..).unwrap_or_default());
        out
    }
}

/// A kind of record in `.BTF.ext`. Implemented by [`FuncInfo`], [`LineInfo`] and [`CoreRelo`].
pub trait ExtRecord: Copy {
    /// Bytes of the known fields.
    const SIZE: u32;

    /// Reads the known fields from the start of `raw`.
    fn read(raw: &[u8], endian: Endian) -> Option<Self>;

    /// Appends the known fields in the machine's byte order.
    fn write(&self, out: &mut Vec<u8>);
}

fn put(out: &mut Vec<u8>, words: &[u32]) {
    out.extend(words.iter().flat_map(|word| word.to_ne_bytes()));
}

/// Which function starts at an instruction: `struct bpf_func_info`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[doc(alias = "bpf_func_info")]
pub struct FuncInfo {
    /// Offset of the instruction: bytes from the start of its section in a file, instructions from
    /// the start of the program for the kernel.
    pub insn_off: u32,
    /// The function's type.
    pub type_id: TypeId,
}

impl ExtRecord for FuncInfo {
    const SIZE: u32 = 8;

    fn read(raw: &[u8], endian: Endian) -> Option<Self> {
        let [insn_off, type_id] = wire::words(raw, endian)?;
        Some(Self { insn_off, type_id: TypeId(type_id) })
    }

    fn write(&self, out: &mut Vec<u8>) {
        put(out, &[self.insn_off, self.type_id.0]);
    }
}

/// Which source line an instruction comes from: `struct bpf_line_info`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[doc(alias = "bpf_line_info")]
pub struct LineInfo {
    /// Offset of the instruction, as in [`FuncInfo`].
    pub insn_off: u32,
    /// Where the file's name is.
    pub file_off: StrOffset,
    /// Where the text of the line is.
    pub line_off: StrOffset,
    /// Number of the line, from 1.
    pub line: u32,
    /// Number of the column, at most 1023.
    pub col: u32,
}

impl ExtRecord for LineInfo {
    const SIZE: u32 = 16;

    fn read(raw: &[u8], endian: Endian) -> Option<Self> {
        let [insn_off, file, line, at] = wire::words(raw, endian)?;
        let (file_off, line_off) = (StrOffset(file), StrOffset(line));
        Some(Self { insn_off, file_off, line_off, line: at >> 10, col: at & 0x3ff })
    }

    fn write(&self, out: &mut Vec<u8>) {
        let at = self.line << 10 | self.col & 0x3ff;
        put(out, &[self.insn_off, self.file_off.0, self.line_off.0, at]);
    }
}

/// A CO-RE relocation: `struct bpf_core_relo`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[doc(alias = "bpf_core_relo")]
pub struct CoreRelo {
    /// Offset of the instruction, in bytes from the start of its section.
    pub insn_off: u32,
    /// The local type that the access starts from.
    pub type_id: TypeId,
    /// Where the access string is, such as `0:1:2`.
    pub access_str_off: StrOffset,
    /// What is asked.
    pub kind: CoreReloKind,
}

impl ExtRecord for CoreRelo {
    const SIZE: u32 = 16;

    fn read(raw: &[u8], endian: Endian) -> Option<Self> {
        let [insn_off, type_id, access, kind] = wire::words(raw, endian)?;
        let (type_id, access_str_off) = (TypeId(type_id), StrOffset(access));
        Some(Self { insn_off, type_id, access_str_off, kind: CoreReloKind(kind) })
    }

    fn write(&self, out: &mut Vec<u8>) {
        put(out, &[self.insn_off, self.type_id.0, self.access_str_off.0, self.kind.0]);
    }
}

/// What a CO-RE relocation asks: `enum bpf_core_relo_kind`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[doc(alias = "bpf_core_relo_kind")]
pub struct CoreReloKind(pub u32);

macro_rules! relo_kinds {
    ($($(#[$doc:meta])* $name:ident = $number:literal $text:literal $alias:literal,)*) => {
        impl CoreReloKind {
            $($(#[$doc])* #[doc(alias = $alias)] pub const $name: Self = Self($number);)*

            /// The name that libbpf prints, when the kind is a known one.
            pub fn known_name(self) -> Option<&'static str> {
                match self {
                    $(Self::$name => Some($text),)*
                    _ => None,
                }
            }
        }
    };
}

relo_kinds! {
    /// Offset of a field in bytes.
    FIELD_BYTE_OFFSET = 0 "byte_off" "BPF_CORE_FIELD_BYTE_OFFSET",
    /// Size of a field in bytes.
    FIELD_BYTE_SIZE = 1 "byte_sz" "BPF_CORE_FIELD_BYTE_SIZE",
    /// Whether the field exists.
    FIELD_EXISTS = 2 "field_exists" "BPF_CORE_FIELD_EXISTS",
    /// Whether the field is signed.
    FIELD_SIGNED = 3 "signed" "BPF_CORE_FIELD_SIGNED",
    /// Left shift that moves a bit field to the top of 64 bits.
    FIELD_LSHIFT_U64 = 4 "lshift_u64" "BPF_CORE_FIELD_LSHIFT_U64",
    /// Right shift that moves it down from there.
    FIELD_RSHIFT_U64 = 5 "rshift_u64" "BPF_CORE_FIELD_RSHIFT_U64",
    /// Id of the type in the object's BTF.
    TYPE_ID_LOCAL = 6 "local_type_id" "BPF_CORE_TYPE_ID_LOCAL",
    /// Id of the type in the kernel's BTF.
    TYPE_ID_TARGET = 7 "target_type_id" "BPF_CORE_TYPE_ID_TARGET",
    /// Whether the type exists.
    TYPE_EXISTS = 8 "type_exists" "BPF_CORE_TYPE_EXISTS",
    /// Size of the type.
    TYPE_SIZE = 9 "type_size" "BPF_CORE_TYPE_SIZE",
    /// Whether the enumerator exists.
    ENUMVAL_EXISTS = 10 "enumval_exists" "BPF_CORE_ENUMVAL_EXISTS",
    /// Value of the enumerator.
    ENUMVAL_VALUE = 11 "enumval_value" "BPF_CORE_ENUMVAL_VALUE",
    /// Whether the type matches.
    TYPE_MATCHES = 12 "type_matches" "BPF_CORE_TYPE_MATCHES",
}

impl fmt::Display for CoreReloKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.known_name() {
            Some(name) => f.pad(name),
            None => write!(f, "kind {}", self.0),
        }
    }
}

impl fmt::Debug for CoreReloKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

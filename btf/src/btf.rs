//! A BTF blob, read where it lies.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use skep_asm::Endian;

use crate::names::Fingerprint;
use crate::types::Type;
use crate::walk::{Index, Walk};
use crate::wire::{self, Header, Shapes};
use crate::{BtfError, StrOffset, TypeId};

/// BTF type information: the bytes as they came, and a small index over them.
///
/// Nothing is decoded ahead of time: a [`Type`] is a view of its record, in either byte order, and
/// every reference is checked when it is followed. [`check`](Btf::check) looks at all of it at once.
/// The index costs three bytes per type. Clones share both.
///
/// Split BTF (of a kernel module, say) continues the ids and strings of its base and holds on to it.
#[derive(Clone)]
pub struct Btf(Arc<Inner>);

struct Inner {
    bytes: Bytes,
    types: Bytes,
    strings: Bytes,
    header: Header,
    shapes: Shapes,
    base: Option<Btf>,
    start_id: u32,
    end_id: u32,
    start_str: u32,
    index: Index,
    pointer_size: OnceLock<u32>,
}

impl Btf {
    /// Reads a blob that stands alone, such as `/sys/kernel/btf/vmlinux` or the `.BTF` section of an
    /// object file.
    ///
    /// # Errors
    /// When the header or its sections are out of place, a type record runs past its section, or a
    /// kind is unknown and no layout section says how long its records are.
    pub fn parse(bytes: impl Into<Bytes>) -> Result<Self, BtfError> {
        Self::new(bytes.into(), None)
    }

    /// Reads split BTF, whose ids and string offsets go on where those of `base` end.
    ///
    /// # Errors
    /// As [`parse`](Self::parse), and when the two differ in byte order.
    pub fn parse_split(bytes: impl Into<Bytes>, base: &Btf) -> Result<Self, BtfError> {
        Self::new(bytes.into(), Some(base))
    }

    fn new(bytes: Bytes, base: Option<&Btf>) -> Result<Self, BtfError> {
        let header = Header::parse(&bytes, base.is_some())?;
        if base.is_some_and(|base| base.endian() != header.endian) {
            return Err(BtfError::OtherByteOrder { endian: header.endian });
        }
        let part = |(start, end): (usize, usize)| bytes.slice(start..end);
        let (types, strings) = (part(header.types), part(header.strings));
        let shapes = Shapes::new(&part(header.layout), base.map(|base| &base.0.shapes));
        let (start_id, start_str) = base
            .map_or((1, 0), |base| (base.0.end_id, base.0.start_str.saturating_add(base.own_strings_len())));
        if u64::from(start_str) + strings.len() as u64 > u64::from(wire::MAX_COUNT) {
            return Err(BtfError::TooMany { what: "bytes of strings", limit: wire::MAX_COUNT });
        }
        let walk = Walk { types: &types, strings: &strings, start_id, start_str, base, shapes: &shapes };
        let index = walk.run(header.endian)?;
        Ok(Self(Arc::new(Inner {
            types,
            strings,
            header,
            shapes,
            base: base.cloned(),
            start_id,
            end_id: start_id + index.names.len() as u32, // the walk keeps it below MAX_COUNT
            start_str,
            index,
            pointer_size: OnceLock::new(),
            bytes,
        })))
    }

    /// The bytes that this was parsed from.
    pub fn bytes(&self) -> &Bytes {
        &self.0.bytes
    }

    /// Byte order of the blob.
    pub fn endian(&self) -> Endian {
        self.0.header.endian
    }

    /// What this is split from.
    pub fn base(&self) -> Option<&Btf> {
        self.0.base.as_ref()
    }

    /// Id of the first type of its own: 1, or where the base ends.
    pub fn start_id(&self) -> TypeId {
        TypeId(self.0.start_id)
    }

    /// The first id that does not exist.
    pub fn end_id(&self) -> TypeId {
        TypeId(self.0.end_id)
    }

    /// How many types of its own there are, without `void` and without those of the base.
    pub fn len(&self) -> usize {
        (self.0.end_id - self.0.start_id) as usize
    }

    /// Whether there is no type of its own.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether `other` is the same BTF in memory.
    pub fn same(&self, other: &Btf) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// The type with this id, of its own or of the base. Id 0 is a view of `void`.
    ///
    /// # Errors
    /// [`BtfError::NoSuchType`].
    pub fn ty(&self, id: TypeId) -> Result<Type<'_>, BtfError> {
        if id.is_void() {
            return Ok(Type::void(self));
        }
        let mut btf = self;
        while id.0 < btf.0.start_id {
            // Ids start at 1 where there is no base, so each step down finds one.
            match btf.base() {
                Some(base) => btf = base,
                None => return Err(self.no_such_type(id)),
            }
        }
        btf.own(id).ok_or_else(|| self.no_such_type(id))
    }

    fn no_such_type(&self, id: TypeId) -> BtfError {
        BtfError::NoSuchType { id, end: self.end_id() }
    }

    fn own(&self, id: TypeId) -> Option<Type<'_>> {
        if id.0 >= self.0.end_id {
            return None;
        }
        let nth = id.0.checked_sub(self.0.start_id)?;
        let (mut offset, steps) = self.0.index.near(nth)?;
        for _ in 0..steps {
            let info = wire::u32_at(&self.0.types, offset as usize + 4, self.endian())?;
            offset = offset.checked_add(u32::try_from(self.0.shapes.fast(info)?.len).ok()?)?;
        }
        Type::read(self, id, offset)
    }

    /// The types of its own, in the order of their ids.
    pub fn types(&self) -> Types<'_> {
        Types { btf: self, next: self.0.start_id, offset: 0 }
    }

    /// Offset of the first own string; those below belong to the base.
    pub fn start_str(&self) -> StrOffset {
        StrOffset(self.0.start_str)
    }

    /// The first string offset that does not exist.
    pub fn end_str(&self) -> StrOffset {
        StrOffset(self.0.start_str.saturating_add(self.own_strings_len()))
    }

    fn own_strings_len(&self) -> u32 {
        u32::try_from(self.0.strings.len()).unwrap_or(u32::MAX)
    }

    /// The string at `offset`, without its NUL.
    ///
    /// # Errors
    /// [`BtfError::NoSuchString`].
    pub fn str_at(&self, offset: StrOffset) -> Result<&[u8], BtfError> {
        let tail = self.strings_from(offset);
        match memchr::memchr(0, tail) {
            Some(end) => Ok(tail.get(..end).unwrap_or_default()),
            None => Err(self.no_such_string(offset)),
        }
    }

    /// All that is behind `offset` in the section that it is in.
    pub(crate) fn strings_from(&self, offset: StrOffset) -> &[u8] {
        let mut btf = self;
        while offset.0 < btf.0.start_str {
            match btf.base() {
                Some(base) => btf = base,
                None => return &[],
            }
        }
        btf.0.strings.get((offset.0 - btf.0.start_str) as usize..).unwrap_or_default()
    }

    pub(crate) fn no_such_string(&self, offset: StrOffset) -> BtfError {
        BtfError::NoSuchString { offset, end: self.end_str() }
    }

    pub(crate) fn pointer_size_cell(&self) -> &OnceLock<u32> {
        &self.0.pointer_size
    }

    pub(crate) fn header(&self) -> &Header {
        &self.0.header
    }

    pub(crate) fn shapes(&self) -> &Shapes {
        &self.0.shapes
    }

    /// The type section.
    pub(crate) fn type_bytes(&self) -> &[u8] {
        &self.0.types
    }

    /// The string section of its own.
    pub(crate) fn own_strings(&self) -> &[u8] {
        &self.0.strings
    }

    /// Fingerprints of the names of the own types.
    pub(crate) fn names(&self) -> &[Fingerprint] {
        &self.0.index.names
    }

    /// The `nth` own type.
    pub(crate) fn nth(&self, nth: usize) -> Option<Type<'_>> {
        self.own(TypeId(self.0.start_id.checked_add(u32::try_from(nth).ok()?)?))
    }
}

/// The same bytes over the same base are equal.
impl PartialEq for Btf {
    fn eq(&self, other: &Self) -> bool {
        self.same(other) || (self.bytes() == other.bytes() && self.base() == other.base())
    }
}

impl Eq for Btf {}

impl core::fmt::Debug for Btf {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Btf")
            .field("bytes", &self.0.bytes.len())
            .field("endian", &self.endian())
            .field("ids", &(self.0.start_id..self.0.end_id))
            .field("split", &self.0.base.is_some())
            .finish()
    }
}

/// Iterator over the types of one BTF, made by [`Btf::types`].
#[derive(Debug, Clone)]
pub struct Types<'a> {
    btf: &'a Btf,
    next: u32,
    offset: u32,
}

impl<'a> Iterator for Types<'a> {
    type Item = Type<'a>;

    fn next(&mut self) -> Option<Type<'a>> {
        let ty = Type::read(self.btf, TypeId(self.next), self.offset)?;
        self.next += 1;
        self.offset = ty.end_offset();
        Some(ty)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.btf.0.end_id.saturating_sub(self.next) as usize;
        (left, Some(left))
    }
}

impl ExactSizeIterator for Types<'_> {}

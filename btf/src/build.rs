//! Making BTF.

use std::collections::HashMap;

use skep_asm::Endian;

use crate::wire::{self, KIND_FLAG, LAYOUT_HEADER, MAGIC, MAX_COUNT, MIN_HEADER, Shapes, VLEN_MASK, Word};
use crate::{Btf, BtfError, IntEncoding, Kind, Linkage, SectionVar, StrOffset, Type, TypeId};

/// Collects types and strings and encodes them, in either byte order.
///
/// Types that consist of several parts are begun and then added to: [`add_struct`](Self::add_struct),
/// then [`add_member`](Self::add_member) for each member, and so on. Equal strings are stored once.
/// Ids may refer to types that come later.
///
/// ```
/// use skep_btf::{BtfBuilder, IntEncoding, Kind};
/// let mut builder = BtfBuilder::new();
/// let int = builder.add_int("int", 4, IntEncoding::SIGNED)?;
/// let point = builder.add_struct("point", 8)?;
/// builder.add_member("x", int, 0, 0)?;
/// builder.add_member("y", int, 32, 0)?;
/// let btf = builder.finish()?;
/// assert_eq!(btf.find(b"point", Kind::STRUCT), Some(point));
/// # Ok::<(), skep_btf::BtfError>(())
/// ```
#[derive(Debug, Clone)]
pub struct BtfBuilder {
    base: Option<Btf>,
    start_id: u32,
    start_str: u32,
    pub(crate) types: Vec<u32>,
    /// Index in `types` of each record.
    pub(crate) records: Vec<u32>,
    strings: Vec<u8>,
    /// Offsets of the strings; made when the first string is added.
    known: Option<HashMap<Box<[u8]>, u32>>,
    shapes: Shapes,
    /// Version and flags of the header, which are for the kernel to judge.
    marks: [u8; 2],
}

impl Default for BtfBuilder {
    fn default() -> Self {
        Self::new()
    }
}

impl BtfBuilder {
    /// Nothing yet; the first type will have id 1.
    pub fn new() -> Self {
        Self {
            base: None,
            start_id: 1,
            start_str: 0,
            types: Vec::new(),
            records: Vec::new(),
            strings: vec![0],
            known: None,
            shapes: Shapes::new(&[], None),
            marks: [1, 0],
        }
    }

    /// Nothing yet, to be split BTF over `base`.
    pub fn split(base: &Btf) -> Self {
        Self {
            base: Some(base.clone()),
            start_id: base.end_id().0,
            start_str: base.end_str().0,
            strings: Vec::new(),
            shapes: base.shapes().clone(),
            ..Self::new()
        }
    }

    /// A copy of `btf` to add to. Ids and string offsets stay what they are.
    pub fn from_btf(btf: &Btf) -> Self {
        let mut types = Vec::with_capacity(btf.type_bytes().len() / 4);
        let mut records = Vec::with_capacity(btf.len());
        for ty in btf.types() {
            records.push(types.len() as u32); // a section is shorter than 4 GiB
            types.extend(ty.words().map(|(word, _)| word));
        }
        Self {
            base: btf.base().cloned(),
            start_id: btf.start_id().0,
            start_str: btf.start_str().0,
            types,
            records,
            strings: btf.own_strings().to_vec(),
            known: None,
            shapes: btf.shapes().clone(),
            marks: [2, 3].map(|at| btf.bytes().get(at).copied().unwrap_or(0)),
        }
    }

    /// The id that the next type will have.
    pub fn next_id(&self) -> TypeId {
        TypeId(self.start_id.saturating_add(u32::try_from(self.records.len()).unwrap_or(u32::MAX)))
    }

    /// Adds a string, or finds it among those that were added.
    ///
    /// # Errors
    /// When it holds a NUL, or the section would exceed 2 GiB.
    pub fn add_str(&mut self, text: impl AsRef<[u8]>) -> Result<StrOffset, BtfError> {
        self.intern(text.as_ref())
    }

    fn intern(&mut self, text: &[u8]) -> Result<StrOffset, BtfError> {
        if text.is_empty() {
            return Ok(StrOffset::EMPTY);
        }
        if let Some(at) = memchr::memchr(0, text) {
            let limit = text.len() as u64;
            return Err(BtfError::OutOfRange { what: "a NUL in a name, at", value: at as u64, limit });
        }
        let strings = &self.strings;
        let known = self.known.get_or_insert_with(|| index_strings(strings));
        if let Some(&at) = known.get(text) {
            return Ok(StrOffset(self.start_str + at));
        }
        let at = self.strings.len();
        let end = self.start_str as usize + at + text.len() + 1;
        if end > MAX_COUNT as usize {
            return Err(BtfError::TooMany { what: "bytes of strings", limit: MAX_COUNT });
        }
        self.strings.extend_from_slice(text);
        self.strings.push(0);
        known.insert(text.into(), at as u32);
        Ok(StrOffset(self.start_str + at as u32))
    }

    /// Begins a record.
    fn push(
        &mut self,
        kind: Kind,
        flag: bool,
        vlen: u32,
        name: &[u8],
        size_or_type: u32,
        rest: &[u32],
    ) -> Result<TypeId, BtfError> {
        let name = self.intern(name)?;
        let id = self.next_id();
        if id.0 >= MAX_COUNT || self.types.len() + 3 + rest.len() > (u32::MAX / 4) as usize {
            return Err(BtfError::TooMany { what: "types", limit: MAX_COUNT });
        }
        let flag = if flag { KIND_FLAG } else { 0 };
        let info = flag | u32::from(kind.0) << 24 | vlen & VLEN_MASK;
        self.records.push(self.types.len() as u32);
        self.types.extend([name.0, info, size_or_type]);
        self.types.extend_from_slice(rest);
        Ok(id)
    }

    /// Adds an element to the last record, which must be of a kind that `fits`.
    fn extend(
        &mut self,
        wanted: &'static str,
        fits: impl Fn(Kind) -> bool,
        words: &[u32],
    ) -> Result<(), BtfError> {
        let info = self.last_info(wanted, fits)?;
        if info & VLEN_MASK == VLEN_MASK {
            return Err(BtfError::TooMany { what: "elements of a type", limit: VLEN_MASK });
        }
        if self.types.len() + words.len() > (u32::MAX / 4) as usize {
            return Err(BtfError::TooMany { what: "types", limit: MAX_COUNT });
        }
        self.set_last_info(info + 1);
        self.types.extend_from_slice(words);
        Ok(())
    }

    fn last_info(&self, wanted: &'static str, fits: impl Fn(Kind) -> bool) -> Result<u32, BtfError> {
        let id = TypeId(self.next_id().0.saturating_sub(1));
        let at = self.records.last().map(|&at| at as usize + 1);
        let info = at.and_then(|at| self.types.get(at)).copied().unwrap_or(0);
        let kind = wire::info_kind(info);
        if fits(kind) { Ok(info) } else { Err(BtfError::WrongKind { id, kind, wanted }) }
    }

    fn set_last_info(&mut self, info: u32) {
        let at = self.records.last().map(|&at| at as usize + 1);
        if let Some(word) = at.and_then(|at| self.types.get_mut(at)) {
            *word = info;
        }
    }

    /// Adds an integer of `size` bytes, all of whose bits count.
    ///
    /// # Errors
    /// When the size is not 1, 2, 4, 8 or 16. Like every method that adds something, also when the
    /// name holds a NUL or there are too many types or strings.
    pub fn add_int(
        &mut self,
        name: impl AsRef<[u8]>,
        size: u32,
        encoding: IntEncoding,
    ) -> Result<TypeId, BtfError> {
        if !matches!(size, 1 | 2 | 4 | 8 | 16) {
            return Err(BtfError::OutOfRange { what: "integer size", value: size.into(), limit: 16 });
        }
        self.push(
            Kind::INT,
            false,
            0,
            name.as_ref(),
            size,
            &[(u32::from(encoding.0 & 0xf) << 24) | (size * 8)],
        )
    }

    /// Adds a pointer.
    ///
    /// # Errors
    /// When there are too many types.
    pub fn add_ptr(&mut self, to: TypeId) -> Result<TypeId, BtfError> {
        self.push(Kind::PTR, false, 0, b"", to.0, &[])
    }

    /// Adds an array.
    ///
    /// # Errors
    /// When there are too many types.
    pub fn add_array(&mut self, element: TypeId, index: TypeId, len: u32) -> Result<TypeId, BtfError> {
        self.push(Kind::ARRAY, false, 0, b"", 0, &[element.0, index.0, len])
    }

    /// Begins a structure of `size` bytes.
    ///
    /// # Errors
    /// As [`add_int`](Self::add_int).
    pub fn add_struct(&mut self, name: impl AsRef<[u8]>, size: u32) -> Result<TypeId, BtfError> {
        self.push(Kind::STRUCT, false, 0, name.as_ref(), size, &[])
    }

    /// Begins a union of `size` bytes.
    ///
    /// # Errors
    /// As [`add_int`](Self::add_int).
    pub fn add_union(&mut self, name: impl AsRef<[u8]>, size: u32) -> Result<TypeId, BtfError> {
        self.push(Kind::UNION, false, 0, name.as_ref(), size, &[])
    }

    /// Adds a member to the structure or union that was begun last. `bitfield_size` is 0 for a
    /// member that is no bit field.
    ///
    /// # Errors
    /// When the last type is neither, or has bit fields and an offset exceeds 24 bits, or a bit
    /// field is wider than 255 bits.
    pub fn add_member(
        &mut self,
        name: impl AsRef<[u8]>,
        ty: TypeId,
        bit_offset: u32,
        bitfield_size: u32,
    ) -> Result<(), BtfError> {
        const WANTED: &str = "STRUCT or UNION";
        let name = self.intern(name.as_ref())?;
        let info = self.last_info(WANTED, Kind::is_composite)?;
        let mut offset = bit_offset;
        if bitfield_size > 0 || info & KIND_FLAG != 0 {
            let start = self.records.last().map_or(0, |&at| at as usize + 3);
            let old = self.types.get(start..).unwrap_or_default().as_chunks::<3>().0;
            // What has a bit field already has its offsets packed.
            let old = old.iter().map(|&[_, _, offset]| offset).filter(|_| info & KIND_FLAG == 0);
            if let Some(value) = old.chain([bit_offset]).find(|&offset| offset > 0x00ff_ffff) {
                let what = "bit offset beside a bit field";
                return Err(BtfError::OutOfRange { what, value: value.into(), limit: 0x00ff_ffff });
            }
            if bitfield_size > 255 {
                let what = "bit field size";
                return Err(BtfError::OutOfRange { what, value: bitfield_size.into(), limit: 255 });
            }
            offset |= bitfield_size << 24;
        }
        self.extend(WANTED, Kind::is_composite, &[name.0, ty.0, offset])?;
        if bitfield_size > 0 {
            let info = self.last_info(WANTED, Kind::is_composite)?;
            self.set_last_info(info | KIND_FLAG);
        }
        Ok(())
    }

    /// Begins an enumeration of 32-bit values, stored in `size` bytes.
    ///
    /// # Errors
    /// As [`add_int`](Self::add_int).
    pub fn add_enum(&mut self, name: impl AsRef<[u8]>, size: u32, signed: bool) -> Result<TypeId, BtfError> {
        self.push(Kind::ENUM, signed, 0, name.as_ref(), size, &[])
    }

    /// Begins an enumeration of 64-bit values, stored in `size` bytes.
    ///
    /// # Errors
    /// As [`add_int`](Self::add_int).
    pub fn add_enum64(
        &mut self,
        name: impl AsRef<[u8]>,
        size: u32,
        signed: bool,
    ) -> Result<TypeId, BtfError> {
        self.push(Kind::ENUM64, signed, 0, name.as_ref(), size, &[])
    }

    /// Adds a value to the enumeration that was begun last. An unsigned value above `i64::MAX` is
    /// given by its bits.
    ///
    /// # Errors
    /// When the last type is not an enumeration, or the value does not fit in 32 bits and has to.
    pub fn add_enumerator(&mut self, name: impl AsRef<[u8]>, value: i64) -> Result<(), BtfError> {
        let name = self.intern(name.as_ref())?;
        let bits = value.cast_unsigned();
        let (low, high) = (bits as u32, (bits >> 32) as u32);
        let info = self.last_info("ENUM or ENUM64", Kind::is_enum)?;
        if wire::info_kind(info) == Kind::ENUM64 {
            return self.extend("ENUM64", Kind::is_enum, &[name.0, low, high]);
        }
        if i32::try_from(value).is_err() && u32::try_from(value).is_err() {
            let limit = u32::MAX.into();
            return Err(BtfError::OutOfRange { what: "32-bit enumerator", value: bits, limit });
        }
        self.extend("ENUM", Kind::is_enum, &[name.0, low])
    }

    /// Adds a forward declaration of a structure or union.
    ///
    /// # Errors
    /// As [`add_int`](Self::add_int).
    pub fn add_fwd(&mut self, name: impl AsRef<[u8]>, is_union: bool) -> Result<TypeId, BtfError> {
        self.push(Kind::FWD, is_union, 0, name.as_ref(), 0, &[])
    }

    /// Adds a type alias.
    ///
    /// # Errors
    /// As [`add_int`](Self::add_int).
    pub fn add_typedef(&mut self, name: impl AsRef<[u8]>, to: TypeId) -> Result<TypeId, BtfError> {
        self.push(Kind::TYPEDEF, false, 0, name.as_ref(), to.0, &[])
    }

    /// Adds a qualifier: `kind` is [`Kind::CONST`], [`Kind::VOLATILE`] or [`Kind::RESTRICT`].
    ///
    /// # Errors
    /// When the kind is another.
    pub fn add_modifier(&mut self, kind: Kind, of: TypeId) -> Result<TypeId, BtfError> {
        if !matches!(kind, Kind::CONST | Kind::VOLATILE | Kind::RESTRICT) {
            let wanted = "CONST, VOLATILE or RESTRICT";
            return Err(BtfError::WrongKind { id: self.next_id(), kind, wanted });
        }
        self.push(kind, false, 0, b"", of.0, &[])
    }

    /// Adds a tag on a type; `attribute` makes it `__attribute__((name))` instead of a BTF tag.
    ///
    /// # Errors
    /// As [`add_int`](Self::add_int).
    pub fn add_type_tag(
        &mut self,
        name: impl AsRef<[u8]>,
        of: TypeId,
        attribute: bool,
    ) -> Result<TypeId, BtfError> {
        self.push(Kind::TYPE_TAG, attribute, 0, name.as_ref(), of.0, &[])
    }

    /// Adds a tag on a declaration or, with a component index, on its member or parameter.
    ///
    /// # Errors
    /// When the index exceeds `i32::MAX`.
    pub fn add_decl_tag(
        &mut self,
        name: impl AsRef<[u8]>,
        of: TypeId,
        component: Option<u32>,
        attribute: bool,
    ) -> Result<TypeId, BtfError> {
        let limit = i32::MAX.cast_unsigned();
        if let Some(value) = component.filter(|&component| component > limit) {
            let (value, limit) = (value.into(), limit.into());
            return Err(BtfError::OutOfRange { what: "component index", value, limit });
        }
        let component = component.unwrap_or(u32::MAX);
        self.push(Kind::DECL_TAG, attribute, 0, name.as_ref(), of.0, &[component])
    }

    /// Adds a floating-point number of `size` bytes.
    ///
    /// # Errors
    /// When the size is not 2, 4, 8, 12 or 16.
    pub fn add_float(&mut self, name: impl AsRef<[u8]>, size: u32) -> Result<TypeId, BtfError> {
        if !matches!(size, 2 | 4 | 8 | 12 | 16) {
            return Err(BtfError::OutOfRange { what: "float size", value: size.into(), limit: 16 });
        }
        self.push(Kind::FLOAT, false, 0, name.as_ref(), size, &[])
    }

    /// Adds a function with the type `proto`.
    ///
    /// # Errors
    /// When the linkage does not fit in 24 bits.
    pub fn add_func(
        &mut self,
        name: impl AsRef<[u8]>,
        linkage: Linkage,
        proto: TypeId,
    ) -> Result<TypeId, BtfError> {
        if linkage.0 > VLEN_MASK {
            let (what, value) = ("linkage", linkage.0.into());
            return Err(BtfError::OutOfRange { what, value, limit: VLEN_MASK.into() });
        }
        self.push(Kind::FUNC, false, linkage.0, name.as_ref(), proto.0, &[])
    }

    /// Begins the type of a function.
    ///
    /// # Errors
    /// When there are too many types.
    pub fn add_func_proto(&mut self, returns: TypeId) -> Result<TypeId, BtfError> {
        self.push(Kind::FUNC_PROTO, false, 0, b"", returns.0, &[])
    }

    /// Adds a parameter to the prototype that was begun last; one without name and type is `...`.
    ///
    /// # Errors
    /// When the last type is not a prototype.
    pub fn add_param(&mut self, name: impl AsRef<[u8]>, ty: TypeId) -> Result<(), BtfError> {
        let name = self.intern(name.as_ref())?;
        self.extend("FUNC_PROTO", |kind| kind == Kind::FUNC_PROTO, &[name.0, ty.0])
    }

    /// Adds a variable.
    ///
    /// # Errors
    /// As [`add_int`](Self::add_int).
    pub fn add_var(
        &mut self,
        name: impl AsRef<[u8]>,
        linkage: Linkage,
        ty: TypeId,
    ) -> Result<TypeId, BtfError> {
        self.push(Kind::VAR, false, 0, name.as_ref(), ty.0, &[linkage.0])
    }

    /// Begins a data section of `size` bytes.
    ///
    /// # Errors
    /// As [`add_int`](Self::add_int).
    pub fn add_datasec(&mut self, name: impl AsRef<[u8]>, size: u32) -> Result<TypeId, BtfError> {
        self.push(Kind::DATASEC, false, 0, name.as_ref(), size, &[])
    }

    /// Adds a variable to the data section that was begun last.
    ///
    /// # Errors
    /// When the last type is not a data section.
    pub fn add_section_var(&mut self, var: SectionVar) -> Result<(), BtfError> {
        self.extend("DATASEC", |kind| kind == Kind::DATASEC, &[var.type_id.0, var.offset, var.size])
    }

    /// Adds a copy of a type of another BTF, its strings with it. `map` says which id each type that
    /// it refers to has here.
    ///
    /// # Errors
    /// What `map` gives, when a name is out of bounds, and for kinds that are not known, since what
    /// they refer to is not known either.
    pub fn add_copy(
        &mut self,
        ty: &Type<'_>,
        mut map: impl FnMut(TypeId) -> Result<TypeId, BtfError>,
    ) -> Result<TypeId, BtfError> {
        if ty.is_void() || ty.kind().known_name().is_none() {
            return Err(ty.wrong_kind("a known kind"));
        }
        let mut words = Vec::with_capacity(ty.record().len() / 4);
        for (word, class) in ty.words() {
            words.push(match class {
                Word::Plain => word,
                Word::Type => map(TypeId(word))?.0,
                Word::Str => {
                    let text = ty.btf().str_at(StrOffset(word))?;
                    self.intern(text)?.0
                }
            });
        }
        let id = self.next_id();
        if id.0 >= MAX_COUNT || self.types.len() + words.len() > (u32::MAX / 4) as usize {
            return Err(BtfError::TooMany { what: "types", limit: MAX_COUNT });
        }
        self.records.push(self.types.len() as u32);
        self.types.append(&mut words);
        Ok(id)
    }

    /// The bytes, in the given byte order.
    ///
    /// With `layout` the header has 32 bytes and a layout section says how long the records of each
    /// kind are, for readers that don't know all of them. It is also written where there is a type of
    /// a kind that this crate does not know.
    pub fn encode(&self, endian: Endian, layout: bool) -> Vec<u8> {
        let info = |&at: &u32| self.types.get(at as usize + 1).copied().unwrap_or(0);
        let newest = self.records.iter().map(|at| wire::info_kind(info(at))).max().unwrap_or(Kind::VOID);
        let last = newest.max(Kind::LAST);
        let layout = layout || newest > Kind::LAST;
        let layout_len = if layout { (usize::from(last.0) + 1) * 4 } else { 0 };
        let header_len = if layout { LAYOUT_HEADER } else { MIN_HEADER };
        let types_len = self.types.len() * 4;

        let mut out = Out { bytes: Vec::new(), endian };
        out.bytes.reserve_exact(header_len + types_len + layout_len + self.strings.len());
        out.half(MAGIC);
        out.bytes.extend(self.marks);
        out.word(header_len as u32);
        out.word(0);
        out.word(types_len as u32); // all lengths were kept below 4 GiB
        out.word((types_len + layout_len) as u32);
        out.word(self.strings.len() as u32);
        if layout {
            out.word(types_len as u32);
            out.word(layout_len as u32);
        }
        for &word in &self.types {
            out.word(word);
        }
        if layout {
            for kind in 0..=last.0 {
                let shape = self.shapes.get(Kind(kind));
                out.bytes.extend(shape.map_or([0, 0], |shape| [shape.info, shape.elem]));
                out.half(0);
            }
        }
        out.bytes.extend_from_slice(&self.strings);
        out.bytes
    }

    /// The BTF, in the byte order of its base or the machine, without a layout section.
    ///
    /// # Errors
    /// None that the methods above let through. Whether ids that were given exist is for
    /// [`Btf::check`] to say.
    pub fn finish(&self) -> Result<Btf, BtfError> {
        let endian = self.base.as_ref().map_or(Endian::NATIVE, Btf::endian);
        let bytes = self.encode(endian, false);
        match &self.base {
            Some(base) => Btf::parse_split(bytes, base),
            None => Btf::parse(bytes),
        }
    }
}

/// Offsets of the strings of a section; the first of equal ones.
fn index_strings(strings: &[u8]) -> HashMap<Box<[u8]>, u32> {
    let mut known = HashMap::new();
    let mut at = 0;
    for text in strings.split_inclusive(|&byte| byte == 0) {
        if let Some(name) = text.strip_suffix(&[0]) {
            known.entry(name.into()).or_insert(at);
        }
        at += text.len() as u32; // a section is shorter than 4 GiB
    }
    known
}

/// Bytes in a byte order.
struct Out {
    bytes: Vec<u8>,
    endian: Endian,
}

impl Out {
    fn half(&mut self, value: u16) {
        self.bytes.extend(match self.endian {
            Endian::Little => value.to_le_bytes(),
            Endian::Big => value.to_be_bytes(),
        });
    }

    fn word(&mut self, value: u32) {
        self.bytes.extend(match self.endian {
            Endian::Little => value.to_le_bytes(),
            Endian::Big => value.to_be_bytes(),
        });
    }
}

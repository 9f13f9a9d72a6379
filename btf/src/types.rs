//! Views of type records and of what they hold.

use std::borrow::Cow;

use skep_asm::Endian;

use crate::wire::{self, KIND_FLAG, RECORD, VLEN_MASK, Word};
use crate::{Btf, BtfError, IntEncoding, Kind, Linkage, StrOffset, TypeId};

/// A view of one type: a few words, free to copy.
///
/// Accessors of things that the kind does not have give `None`, zero or an empty iterator.
#[derive(Clone, Copy)]
pub struct Type<'a> {
    btf: &'a Btf,
    id: TypeId,
    offset: u32,
    name: StrOffset,
    info: u32,
    size_or_type: u32,
}

impl<'a> Type<'a> {
    pub(crate) fn void(btf: &'a Btf) -> Self {
        Self { btf, id: TypeId::VOID, offset: 0, name: StrOffset::EMPTY, info: 0, size_or_type: 0 }
    }

    /// The record at `offset` of the type section of `btf`, whose bounds were checked by parsing.
    #[inline]
    pub(crate) fn read(btf: &'a Btf, id: TypeId, offset: u32) -> Option<Self> {
        let data = btf.type_bytes().get(offset as usize..)?;
        let [name, info, size_or_type] = wire::words(data, btf.endian())?;
        Some(Self { btf, id, offset, name: StrOffset(name), info, size_or_type })
    }

    /// The BTF that holds the record: the base, for a base type reached through split BTF.
    pub fn btf(&self) -> &'a Btf {
        self.btf
    }

    /// Its id.
    pub fn id(&self) -> TypeId {
        self.id
    }

    /// Its kind.
    pub fn kind(&self) -> Kind {
        wire::info_kind(self.info)
    }

    /// The kind flag: bit fields in a composite, signed values in an enumeration, a union behind a
    /// forward declaration, an attribute as a tag.
    pub fn kind_flag(&self) -> bool {
        self.info & KIND_FLAG != 0
    }

    /// The 24-bit count of elements; for a function, its linkage.
    pub fn vlen(&self) -> u32 {
        self.info & VLEN_MASK
    }

    /// The name as text, with replacement characters where it is not UTF-8. Empty when anonymous.
    pub fn name(&self) -> Cow<'a, str> {
        String::from_utf8_lossy(self.name_bytes())
    }

    /// The bytes of the name, without its NUL. Empty when anonymous or out of bounds.
    pub fn name_bytes(&self) -> &'a [u8] {
        self.btf.str_at(self.name).unwrap_or_default()
    }

    /// Where the name is.
    pub fn name_offset(&self) -> StrOffset {
        self.name
    }

    /// The third word, for kinds that keep a size in bytes there; otherwise 0.
    /// [`Btf::resolve_size`] answers for any type.
    pub fn size(&self) -> u32 {
        if self.kind().has_size() { self.size_or_type } else { 0 }
    }

    /// The third word, for kinds that keep a type there; otherwise `void`.
    pub fn type_id(&self) -> TypeId {
        if self.kind().has_type() { TypeId(self.size_or_type) } else { TypeId::VOID }
    }

    /// The third word of the record, whatever it means.
    pub fn size_or_type(&self) -> u32 {
        self.size_or_type
    }

    /// Whether this is `void`.
    pub fn is_void(&self) -> bool {
        self.id.is_void()
    }

    /// Offset of the record within the type section.
    pub(crate) fn offset(&self) -> u32 {
        self.offset
    }

    /// Offset just behind the record within the type section.
    pub(crate) fn end_offset(&self) -> u32 {
        // Parsing has seen that it has a shape and where it ends.
        let len = self.btf.shapes().fast(self.info).map_or(RECORD, |shape| shape.len);
        self.offset.saturating_add(len as u32)
    }

    /// The whole record.
    pub fn record(&self) -> &'a [u8] {
        if self.is_void() {
            return &[];
        }
        self.btf.type_bytes().get(self.offset as usize..self.end_offset() as usize).unwrap_or_default()
    }

    fn elements(&self, fits: bool) -> Elements<'a> {
        let data = if fits { self.tail() } else { &[] };
        Elements { btf: self.btf, data, kind: self.kind(), kind_flag: self.kind_flag() }
    }

    fn tail(&self) -> &'a [u8] {
        self.record().get(RECORD..).unwrap_or_default()
    }

    /// Members of a structure or union.
    pub fn members(&self) -> Members<'a> {
        Members(self.elements(self.kind().is_composite()))
    }

    /// Parameters of a function prototype.
    pub fn params(&self) -> Params<'a> {
        Params(self.elements(self.kind() == Kind::FUNC_PROTO))
    }

    /// Values of an enumeration of either width.
    pub fn enumerators(&self) -> Enumerators<'a> {
        Enumerators(self.elements(self.kind().is_enum()))
    }

    /// Variables (and functions) of a data section.
    pub fn vars(&self) -> SectionVars<'a> {
        SectionVars(self.elements(self.kind() == Kind::DATASEC))
    }

    /// The member with this index.
    pub fn member(&self, index: u32) -> Option<Member<'a>> {
        self.members().nth(index as usize)
    }

    /// What an array is made of.
    pub fn array(&self) -> Option<Array> {
        if self.kind() != Kind::ARRAY {
            return None;
        }
        let [element, index, len] = wire::words(self.tail(), self.btf.endian())?;
        Some(Array { element: TypeId(element), index: TypeId(index), len })
    }

    /// What an integer looks like.
    pub fn int(&self) -> Option<Int> {
        if self.kind() != Kind::INT {
            return None;
        }
        let [word] = wire::words(self.tail(), self.btf.endian())?;
        Some(Int {
            bits: word & 0xff,
            offset: word >> 16 & 0xff,
            encoding: IntEncoding((word >> 24 & 0xf) as u8),
        })
    }

    /// Linkage of a function or variable.
    pub fn linkage(&self) -> Option<Linkage> {
        match self.kind() {
            Kind::FUNC => Some(Linkage(self.vlen())),
            Kind::VAR => {
                let [linkage] = wire::words(self.tail(), self.btf.endian())?;
                Some(Linkage(linkage))
            }
            _ => None,
        }
    }

    /// Which member or parameter a declaration tag is for; -1 is the whole declaration.
    pub fn component_index(&self) -> Option<i32> {
        if self.kind() != Kind::DECL_TAG {
            return None;
        }
        let [index] = wire::words(self.tail(), self.btf.endian())?;
        Some(index.cast_signed())
    }

    /// An error that says that this type is not what `wanted` says.
    pub(crate) fn wrong_kind(&self, wanted: &'static str) -> BtfError {
        BtfError::WrongKind { id: self.id, kind: self.kind(), wanted }
    }
}

impl PartialEq for Type<'_> {
    /// Same id of the same BTF in memory.
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id && (self.is_void() || self.btf.same(other.btf))
    }
}

impl Eq for Type<'_> {}

impl core::fmt::Debug for Type<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{} {} '{}'", self.id, self.kind(), self.name().escape_debug())
    }
}

/// What an array is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Array {
    /// Type of an element.
    pub element: TypeId,
    /// Type of the index.
    pub index: TypeId,
    /// Number of elements; 0 for a flexible array.
    pub len: u32,
}

/// What an integer looks like within its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Int {
    /// Bits that hold the value.
    pub bits: u32,
    /// First of them, in an old style bit field; otherwise 0.
    pub offset: u32,
    /// How the bits are meant.
    pub encoding: IntEncoding,
}

/// The elements behind a record.
#[derive(Debug, Clone, Copy)]
struct Elements<'a> {
    btf: &'a Btf,
    data: &'a [u8],
    kind: Kind,
    kind_flag: bool,
}

impl<'a> Elements<'a> {
    #[inline]
    fn next<const N: usize>(&mut self) -> Option<[u32; N]> {
        let words = wire::words(self.data, self.btf.endian())?;
        self.data = self.data.get(N * 4..).unwrap_or_default();
        Some(words)
    }

    fn skip(&mut self, n: usize, size: usize) {
        self.data = n.checked_mul(size).and_then(|at| self.data.get(at..)).unwrap_or_default();
    }

    fn name(&self, at: u32) -> Name<'a> {
        Name { btf: self.btf, offset: StrOffset(at) }
    }
}

/// A name that has not been looked at yet.
#[derive(Clone, Copy)]
struct Name<'a> {
    btf: &'a Btf,
    offset: StrOffset,
}

impl<'a> Name<'a> {
    fn bytes(&self) -> &'a [u8] {
        self.btf.str_at(self.offset).unwrap_or_default()
    }
}

impl core::fmt::Debug for Name<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{:?}", String::from_utf8_lossy(self.bytes()))
    }
}

macro_rules! named {
    ($($view:ident)*) => {$(
        impl<'a> $view<'a> {
            /// The bytes of the name, without its NUL. Empty when anonymous or out of bounds.
            pub fn name_bytes(&self) -> &'a [u8] {
                self.name.bytes()
            }

            /// The name as text, with replacement characters where it is not UTF-8.
            pub fn name(&self) -> Cow<'a, str> {
                String::from_utf8_lossy(self.name.bytes())
            }

            /// Where the name is.
            pub fn name_offset(&self) -> StrOffset {
                self.name.offset
            }
        }
    )*};
}

named!(Member Param Enumerator);

macro_rules! elements {
    ($($(#[$doc:meta])* $iter:ident: $view:ty, $size:literal, |$self:ident, $words:ident| $make:expr;)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy)]
        pub struct $iter<'a>(Elements<'a>);

        impl<'a> Iterator for $iter<'a> {
            type Item = $view;

            #[inline]
            fn next(&mut self) -> Option<$view> {
                let $words = self.0.next()?;
                let $self = &self.0;
                Some($make)
            }

            fn nth(&mut self, n: usize) -> Option<$view> {
                self.0.skip(n, self.0.size($size));
                self.next()
            }

            fn size_hint(&self) -> (usize, Option<usize>) {
                let left = self.0.data.len() / self.0.size($size);
                (left, Some(left))
            }
        }

        impl ExactSizeIterator for $iter<'_> {}
    )*};
}

impl Elements<'_> {
    /// Bytes of an element; `usual` but for the narrow enumerations.
    fn size(&self, usual: usize) -> usize {
        if self.kind == Kind::ENUM { 8 } else { usual }
    }
}

/// A member of a structure or union.
#[derive(Debug, Clone, Copy)]
pub struct Member<'a> {
    name: Name<'a>,
    /// Its type.
    pub type_id: TypeId,
    /// Where it starts, in bits from the start of the composite.
    pub bit_offset: u32,
    /// Its width in bits when it is a bit field, otherwise 0.
    pub bitfield_size: u32,
}

/// A parameter of a function prototype.
#[derive(Debug, Clone, Copy)]
pub struct Param<'a> {
    name: Name<'a>,
    /// Its type.
    pub type_id: TypeId,
}

impl Param<'_> {
    /// Whether this stands for `...`: the last parameter, without name and type.
    pub fn is_vararg(&self) -> bool {
        self.type_id.is_void() && self.name.offset == StrOffset::EMPTY
    }
}

/// A named value of an enumeration.
#[derive(Debug, Clone, Copy)]
pub struct Enumerator<'a> {
    name: Name<'a>,
    /// The value as CO-RE takes it: a 32-bit one is sign-extended, whatever the enumeration says;
    /// a 64-bit one is these bits.
    pub value: i64,
    /// Whether the enumeration is marked as signed.
    pub signed: bool,
    wide: bool,
}

impl Enumerator<'_> {
    /// The value in C: negative only where the enumeration is signed.
    pub fn c_value(&self) -> i128 {
        match (self.signed, self.wide) {
            (true, _) => self.value.into(),
            (false, true) => self.value.cast_unsigned().into(),
            (false, false) => (self.value.cast_unsigned() as u32).into(),
        }
    }
}

/// A variable (or function) of a data section.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SectionVar {
    /// The variable's type.
    pub type_id: TypeId,
    /// Where it is within the section, in bytes.
    pub offset: u32,
    /// Its size in bytes.
    pub size: u32,
}

elements! {
    /// Iterator over members, made by [`Type::members`].
    Members: Member<'a>, 12, |elements, words| {
        let [name, ty, offset] = words;
        let (bit_offset, bitfield_size) =
            if elements.kind_flag { (offset & 0x00ff_ffff, offset >> 24) } else { (offset, 0) };
        Member { name: elements.name(name), type_id: TypeId(ty), bit_offset, bitfield_size }
    };
    /// Iterator over parameters, made by [`Type::params`].
    Params: Param<'a>, 8, |elements, words| {
        let [name, ty] = words;
        Param { name: elements.name(name), type_id: TypeId(ty) }
    };
    /// Iterator over variables, made by [`Type::vars`].
    SectionVars: SectionVar, 12, |_elements, words| {
        let [ty, offset, size] = words;
        SectionVar { type_id: TypeId(ty), offset, size }
    };
}

/// Iterator over enumerators, made by [`Type::enumerators`].
#[derive(Debug, Clone, Copy)]
pub struct Enumerators<'a>(Elements<'a>);

impl<'a> Iterator for Enumerators<'a> {
    type Item = Enumerator<'a>;

    fn next(&mut self) -> Option<Enumerator<'a>> {
        let (name, value) = if self.0.kind == Kind::ENUM {
            let [name, value] = self.0.next()?;
            (name, value.cast_signed().into())
        } else {
            let [name, low, high] = self.0.next()?;
            (name, (u64::from(high) << 32 | u64::from(low)).cast_signed())
        };
        let wide = self.0.kind != Kind::ENUM;
        Some(Enumerator { name: self.0.name(name), value, signed: self.0.kind_flag, wide })
    }

    fn nth(&mut self, n: usize) -> Option<Enumerator<'a>> {
        self.0.skip(n, self.0.size(12));
        self.next()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.0.data.len() / self.0.size(12);
        (left, Some(left))
    }
}

impl ExactSizeIterator for Enumerators<'_> {}

impl<'a> Type<'a> {
    /// The words of the record in the machine's byte order, and what each one is.
    pub(crate) fn words(&self) -> impl Iterator<Item = (u32, Word)> + use<'a> {
        let endian = self.btf.endian();
        let numbers = self.record().as_chunks().0.iter().map(move |&bytes| match endian {
            Endian::Little => u32::from_le_bytes(bytes),
            Endian::Big => u32::from_be_bytes(bytes),
        });
        numbers.zip(wire::record_words(self.kind()).chain(core::iter::repeat(Word::Plain)))
    }

    /// The ids of the types that the record refers to, `void` included, in the order of its words.
    pub fn referenced_types(&self) -> impl Iterator<Item = TypeId> + use<'a> {
        self.words().filter(|&(_, class)| class == Word::Type).map(|(word, _)| TypeId(word))
    }

    /// The strings that the record refers to: its own name, then those of its elements.
    pub fn referenced_strings(&self) -> impl Iterator<Item = StrOffset> + use<'a> {
        self.words().filter(|&(_, class)| class == Word::Str).map(|(word, _)| StrOffset(word))
    }
}

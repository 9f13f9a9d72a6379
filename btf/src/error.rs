//! What can be wrong with BTF bytes, and where.

use skep_asm::Endian;

use crate::{Kind, StrOffset, TypeId};

/// Why BTF or `.BTF.ext` bytes were refused, or why a question about a type has no answer.
///
/// Offsets are in bytes from the start of the blob unless a field says otherwise.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BtfError {
    /// The blob ends inside its header.
    #[error("{len} bytes are too few for a header of {need} bytes")]
    TooShort {
        /// Bytes that there are.
        len: usize,
        /// Bytes that the header needs.
        need: usize,
    },
    /// The magic number is not 0xeb9f in either byte order.
    #[error("magic {magic:#06x} is not the BTF magic 0xeb9f")]
    BadMagic {
        /// The number that is there, read in the machine's byte order.
        magic: u16,
    },
    /// A version or flags field that this crate cannot know the meaning of.
    #[error("unsupported {field} {value}")]
    Unsupported {
        /// Name of the header field.
        field: &'static str,
        /// Its value.
        value: u32,
    },
    /// The header says a length that cannot be.
    #[error("header length {len} is impossible: {reason}")]
    BadHeader {
        /// `hdr_len` as found.
        len: u32,
        /// What it breaks.
        reason: &'static str,
    },
    /// Split BTF in the byte order that its base does not have.
    #[error("split BTF is {endian}-endian, its base is not")]
    OtherByteOrder {
        /// Byte order of the split BTF.
        endian: Endian,
    },
    /// A section of the blob is out of place.
    #[error("{section} section ({len} bytes at {offset}) {reason}")]
    BadSection {
        /// Which section.
        section: &'static str,
        /// Its offset from the end of the header.
        offset: u32,
        /// Its length in bytes.
        len: u32,
        /// What is wrong.
        reason: &'static str,
    },
    /// A type record runs past the end of the type section.
    #[error("type {id} at offset {offset} of the type section runs past its end")]
    TruncatedType {
        /// Id of the record.
        id: TypeId,
        /// Offset within the type section.
        offset: u32,
    },
    /// A kind that is neither known nor described by a layout section.
    #[error("type {id} is of {kind}, which is unknown and has no layout entry")]
    UnknownKind {
        /// Id of the record.
        id: TypeId,
        /// Its kind.
        kind: Kind,
    },
    /// A layout entry whose sizes are not multiples of four.
    #[error("layout of {kind} has sizes {info_size} and {elem_size}, which are not multiples of 4")]
    BadLayout {
        /// The kind that the entry describes.
        kind: Kind,
        /// Bytes that follow the common part of a record.
        info_size: u8,
        /// Bytes of each of its `vlen` elements.
        elem_size: u8,
    },
    /// More types or larger offsets than a 31-bit number can count.
    #[error("too many {what}: more than {limit}")]
    TooMany {
        /// What there is too much of.
        what: &'static str,
        /// The limit.
        limit: u32,
    },
    /// No type has this id.
    #[error("no type {id}: ids end at {end}")]
    NoSuchType {
        /// The id that was asked for.
        id: TypeId,
        /// The first id that does not exist.
        end: TypeId,
    },
    /// A string offset outside the string section.
    #[error("string offset {offset} is outside the string section, which ends at {end}")]
    NoSuchString {
        /// The offset that was asked for.
        offset: StrOffset,
        /// The first offset that does not exist.
        end: StrOffset,
    },
    /// A type refers to another that is not there or may not be there.
    #[error("type {id} ({kind}) refers to type {target}: {reason}")]
    BadReference {
        /// The type that refers.
        id: TypeId,
        /// Its kind.
        kind: Kind,
        /// The type that it refers to.
        target: TypeId,
        /// What is wrong with that.
        reason: &'static str,
    },
    /// A type's name, or that of one of its members, is outside the string section.
    #[error("type {id} ({kind}) has a name at {offset}, outside the string section")]
    BadName {
        /// The type.
        id: TypeId,
        /// Its kind.
        kind: Kind,
        /// The offset.
        offset: StrOffset,
    },
    /// A type is reached from itself where C would not allow it.
    #[error("type {id} contains or aliases itself")]
    Cycle {
        /// One of the types on the cycle.
        id: TypeId,
    },
    /// A chain of references is longer than any real one.
    #[error("type {id} nests deeper than {limit} levels")]
    TooDeep {
        /// The type from which the chain was followed.
        id: TypeId,
        /// The limit.
        limit: u32,
    },
    /// The type has no size: `void`, a forward declaration or a function.
    #[error("type {id} ({kind}) has no size")]
    NoSize {
        /// The type.
        id: TypeId,
        /// Its kind.
        kind: Kind,
    },
    /// The size of the type does not fit in 32 bits.
    #[error("size of type {id} does not fit in 32 bits")]
    SizeOverflow {
        /// The type.
        id: TypeId,
    },
    /// A type has a kind that the operation does not apply to.
    #[error("type {id} is {kind}, not {wanted}")]
    WrongKind {
        /// The type.
        id: TypeId,
        /// Its kind.
        kind: Kind,
        /// What the operation needs.
        wanted: &'static str,
    },
    /// An index of a member, variable or parameter that the type does not have.
    #[error("type {id} has {len} elements, no element {index}")]
    NoSuchElement {
        /// The type.
        id: TypeId,
        /// The index that was asked for.
        index: u32,
        /// How many there are.
        len: u32,
    },
    /// A value that does not fit in its field of the format.
    #[error("{what} {value} does not fit: the most is {limit}")]
    OutOfRange {
        /// What the value is.
        what: &'static str,
        /// The value.
        value: u64,
        /// The largest possible one.
        limit: u64,
    },
    /// Something in a `.BTF.ext` section is out of place.
    #[error("{section} at offset {offset}: {reason}")]
    BadExt {
        /// Which part: `header`, `func_info`, `line_info` or `core_relo`.
        section: &'static str,
        /// Offset from the start of the blob.
        offset: u64,
        /// What is wrong.
        reason: &'static str,
    },
}

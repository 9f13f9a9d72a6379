//! Bytes as the values that a type says they are.

use core::fmt;

use crate::{Btf, BtfError, IntEncoding, Kind, Type, TypeId};

/// Types in types beyond which the bytes are shown as they are.
const DEPTH_MAX: u32 = 16;
/// Elements of an array, or members, beyond which the rest is left out.
const PARTS_MAX: usize = 4096;

/// A value of some type: what a debugger prints.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Datum {
    /// An integer, or an enumeration's value without a name.
    Int(i128),
    /// A `bool`.
    Bool(bool),
    /// A floating-point number.
    Float(f64),
    /// Characters up to the first zero byte, of an array of `char`.
    Text(String),
    /// An enumeration's value by its name.
    Name(String, i128),
    /// A pointer.
    Pointer(u64),
    /// Members of a structure or union by their names; those of members without a name are among them.
    Struct(Vec<(String, Datum)>),
    /// Elements of an array.
    Array(Vec<Datum>),
    /// What the types do not tell more of.
    Bytes(Vec<u8>),
}

impl Btf {
    /// Reads a value of a type from its bytes, in the byte order of these types. Bytes that are missing are shown as far as
    /// they are there.
    ///
    /// ```
    /// use skep_btf::{BtfBuilder, Datum, IntEncoding};
    ///
    /// let mut builder = BtfBuilder::new();
    /// let int = builder.add_int("unsigned int", 4, IntEncoding::NONE)?;
    /// let pair = builder.add_struct("pair", 8)?;
    /// builder.add_member("a", int, 0, 0)?;
    /// builder.add_member("b", int, 32, 0)?;
    /// let btf = builder.finish()?;
    /// let bytes = [7u32.to_ne_bytes(), 9u32.to_ne_bytes()].concat();
    /// assert_eq!(btf.datum(pair, &bytes)?.to_string(), "{.a = 7, .b = 9}");
    /// assert_eq!(btf.datum(int, &bytes)?, Datum::Int(7));
    /// # Ok::<(), skep_btf::BtfError>(())
    /// ```
    ///
    /// # Errors
    /// When a type on the way does not exist.
    pub fn datum(&self, id: TypeId, bytes: &[u8]) -> Result<Datum, BtfError> {
        self.datum_in(id, bytes, &mut Budget { depth: 0, parts: PARTS_MAX })
    }

    fn datum_in(&self, id: TypeId, bytes: &[u8], budget: &mut Budget) -> Result<Datum, BtfError> {
        let ty = self.peel(id)?;
        if budget.depth >= DEPTH_MAX || budget.parts == 0 {
            return Ok(Datum::Bytes(bytes.to_vec()));
        }
        budget.depth += 1; // below the limit
        budget.parts -= 1; // not 0
        let datum = self.peeled(&ty, bytes, budget);
        budget.depth -= 1; // it was added
        datum
    }

    fn peeled(&self, ty: &Type<'_>, bytes: &[u8], budget: &mut Budget) -> Result<Datum, BtfError> {
        let whole = |size: u32| bytes.get(..size as usize);
        Ok(match ty.kind() {
            Kind::INT => match (ty.int(), whole(ty.size())) {
                (Some(int), Some(bytes)) => {
                    number(self.bits(bytes, int.offset, int.bits), int.bits, int.encoding)
                }
                _ => Datum::Bytes(bytes.to_vec()),
            },
            Kind::ENUM | Kind::ENUM64 => match whole(ty.size()) {
                Some(held) => {
                    named(ty, self.bits(held, 0, ty.size().saturating_mul(8)), ty.size().saturating_mul(8))
                }
                None => Datum::Bytes(bytes.to_vec()),
            },
            Kind::PTR => match whole(self.pointer_size()) {
                Some(held) => {
                    Datum::Pointer(self.bits(held, 0, self.pointer_size().saturating_mul(8)) as u64)
                }
                None => Datum::Bytes(bytes.to_vec()),
            },
            Kind::FLOAT => match (ty.size(), whole(ty.size())) {
                (4, Some(held)) => Datum::Float(f32::from_bits(self.bits(held, 0, 32) as u32).into()),
                (8, Some(held)) => Datum::Float(f64::from_bits(self.bits(held, 0, 64) as u64)),
                _ => Datum::Bytes(bytes.to_vec()),
            },
            Kind::VAR => self.datum_in(ty.type_id(), bytes, budget)?,
            Kind::ARRAY => {
                let Some(array) = ty.array() else { return Ok(Datum::Bytes(bytes.to_vec())) };
                if self.is_char(array.element)
                    && bytes.first().is_none_or(|&first| first != 0 || is_zero(bytes))
                {
                    let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
                    let (text, rest) = bytes.split_at(end);
                    if is_zero(rest)
                        && let Ok(text) = core::str::from_utf8(text)
                    {
                        return Ok(Datum::Text(text.to_owned()));
                    }
                }
                let size = self.resolve_size(array.element)? as usize;
                if size == 0 {
                    return Ok(Datum::Array(Vec::new()));
                }
                let mut elements = Vec::new();
                for element in bytes.chunks(size).take(array.len as usize) {
                    if budget.parts == 0 {
                        break;
                    }
                    elements.push(self.datum_in(array.element, element, budget)?);
                }
                Datum::Array(elements)
            }
            Kind::STRUCT | Kind::UNION => {
                let mut members = Vec::new();
                for member in ty.members() {
                    if budget.parts == 0 {
                        break;
                    }
                    let datum = if member.bitfield_size == 0 {
                        let rest = bytes.get(member.bit_offset as usize / 8..).unwrap_or_default();
                        let size = self.resolve_size(member.type_id).unwrap_or(0) as usize;
                        self.datum_in(member.type_id, rest.get(..size).unwrap_or(rest), budget)?
                    } else {
                        self.bit_field(member.type_id, bytes, member.bit_offset, member.bitfield_size)?
                    };
                    match (member.name_bytes().is_empty(), datum) {
                        (true, Datum::Struct(inner)) => members.extend(inner),
                        (_, datum) => members.push((member.name().into_owned(), datum)),
                    }
                }
                Datum::Struct(members)
            }
            Kind::DATASEC => {
                let mut variables = Vec::new();
                for var in ty.vars() {
                    if budget.parts == 0 {
                        break;
                    }
                    let variable = self.ty(var.type_id)?;
                    let start = var.offset as usize;
                    let rest = bytes.get(start..).unwrap_or_default();
                    let held = rest.get(..var.size as usize).unwrap_or(rest);
                    variables.push((variable.name().into_owned(), self.datum_in(var.type_id, held, budget)?));
                }
                Datum::Struct(variables)
            }
            _ => Datum::Bytes(bytes.to_vec()),
        })
    }

    fn bit_field(&self, id: TypeId, bytes: &[u8], offset: u32, width: u32) -> Result<Datum, BtfError> {
        let ty = self.peel(id)?;
        let start = offset as usize / 8;
        let end = (offset.saturating_add(width) as usize).div_ceil(8);
        let Some(held) = bytes.get(start..end) else { return Ok(Datum::Bytes(Vec::new())) };
        let bits = self.bits(held, offset % 8, width);
        Ok(match (ty.kind(), ty.int()) {
            (Kind::ENUM | Kind::ENUM64, _) => named(&ty, bits, width),
            (_, Some(int)) => number(bits, width, int.encoding),
            _ => number(bits, width, IntEncoding::NONE),
        })
    }

    /// Bits of bytes as a number: from the lowest byte on in little endian, from the highest in big endian.
    fn bits(&self, bytes: &[u8], offset: u32, width: u32) -> u128 {
        let (mut number, mut bits) = (0_u128, 0_u32);
        let push = |number: u128, byte: &u8| number << 8 | u128::from(*byte);
        let few = bytes.get(..bytes.len().min(16)).unwrap_or_default();
        if self.endian() == skep_asm::Endian::Little {
            number = few.iter().rev().fold(number, push);
        } else {
            number = few.iter().fold(number, push);
            bits = (few.len() as u32).saturating_mul(8).saturating_sub(offset.saturating_add(width));
        }
        let shift = if self.endian() == skep_asm::Endian::Little { offset } else { bits };
        let mask = if width >= 128 { u128::MAX } else { (1 << width) - 1 };
        number.checked_shr(shift).unwrap_or(0) & mask
    }

    fn is_char(&self, id: TypeId) -> bool {
        self.peel(id).is_ok_and(|ty| {
            ty.kind() == Kind::INT
                && ty.size() == 1
                && (ty.name_bytes() == b"char" || ty.int().is_some_and(|int| int.encoding.is_char()))
        })
    }
}

/// How much may still be shown.
struct Budget {
    depth: u32,
    parts: usize,
}

fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|&byte| byte == 0)
}

/// A number of so many bits that may have a sign.
fn number(bits: u128, width: u32, encoding: IntEncoding) -> Datum {
    if encoding.is_bool() {
        return Datum::Bool(bits != 0);
    }
    let unused = 128_u32.saturating_sub(width.clamp(1, 128));
    let signed = (bits << unused).cast_signed() >> unused; // below 128
    Datum::Int(if encoding.is_signed() { signed } else { bits.cast_signed() })
}

fn named(ty: &Type<'_>, bits: u128, width: u32) -> Datum {
    let Datum::Int(unsigned) = number(bits, width, IntEncoding::NONE) else { return Datum::Int(0) };
    let Datum::Int(signed) = number(bits, width, IntEncoding::SIGNED) else { return Datum::Int(0) };
    let found =
        ty.enumerators().find(|one| one.c_value() == unsigned || one.signed && one.c_value() == signed);
    match found {
        Some(one) => Datum::Name(one.name().into_owned(), one.c_value()),
        None => Datum::Int(unsigned),
    }
}

/// As C writes it, on one line: `{.proto = 6, .flags = {1, 2}, .name = "eth0"}`.
impl fmt::Display for Datum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Datum::Int(number) => write!(f, "{number}"),
            Datum::Bool(flag) => write!(f, "{flag}"),
            Datum::Float(number) => write!(f, "{number}"),
            Datum::Text(text) => write!(f, "{text:?}"),
            Datum::Name(name, _) => f.write_str(name),
            Datum::Pointer(address) => write!(f, "{address:#x}"),
            Datum::Struct(members) => {
                f.write_str("{")?;
                for (at, (name, member)) in members.iter().enumerate() {
                    let comma = if at == 0 { "" } else { ", " };
                    write!(f, "{comma}.{name} = {member}")?;
                }
                f.write_str("}")
            }
            Datum::Array(elements) => {
                f.write_str("{")?;
                for (at, element) in elements.iter().enumerate() {
                    let comma = if at == 0 { "" } else { ", " };
                    write!(f, "{comma}{element}")?;
                }
                f.write_str("}")
            }
            Datum::Bytes(bytes) => {
                f.write_str("[")?;
                bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
                f.write_str("]")
            }
        }
    }
}

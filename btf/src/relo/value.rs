//! What an access comes to: the number that is put into the instruction.

use skep_asm::Endian;

use super::access::{Access, Work};
use super::error::CoreErrorKind;
use crate::{BtfError, CoreReloKind, Type, TypeId};

/// The value of an access on one side.
#[derive(Debug, Clone, Copy)]
pub(super) struct Value {
    pub(super) value: u64,
    /// Whether the instruction must hold this value before it is patched. Only what the object's side says counts.
    pub(super) validate: bool,
    /// Size of what a load or store accesses, and its type; 0 when that is not known.
    pub(super) size: u32,
    pub(super) type_id: TypeId,
}

impl Value {
    fn new(value: u64) -> Self {
        Value { value, validate: true, size: 0, type_id: TypeId::VOID }
    }
}

/// The value without a counterpart in the target; `None` when the instruction must not run then.
pub(super) fn absent(kind: CoreReloKind) -> Option<u64> {
    let has_answer =
        kind.is_type() || matches!(kind, CoreReloKind::FIELD_EXISTS | CoreReloKind::ENUMVAL_EXISTS);
    has_answer.then_some(0)
}

impl Access {
    /// The value of this access. `endian` is that of the program, which says at which end bit fields start.
    pub(super) fn value(&self, endian: Endian, work: &mut Work) -> Result<Value, CoreErrorKind> {
        match self.kind {
            CoreReloKind::FIELD_EXISTS
            | CoreReloKind::ENUMVAL_EXISTS
            | CoreReloKind::TYPE_EXISTS
            | CoreReloKind::TYPE_MATCHES => Ok(Value::new(1)),
            CoreReloKind::TYPE_ID_LOCAL | CoreReloKind::TYPE_ID_TARGET => {
                Ok(Value { validate: false, ..Value::new(self.root.0.into()) })
            }
            CoreReloKind::TYPE_SIZE => Ok(Value::new(self.size_of(self.root, work)?.into())),
            CoreReloKind::ENUMVAL_VALUE => self.enumerator(work),
            kind if kind.is_field() => self.field(endian, work),
            kind => Err(CoreErrorKind::UnknownKind { kind }),
        }
    }

    fn size_of(&self, id: TypeId, work: &mut Work) -> Result<u32, CoreErrorKind> {
        work.step()?;
        self.btf.resolve_size(id).map_err(|e| self.malformed(e))
    }

    fn peel(&self, id: TypeId, work: &mut Work) -> Result<Type<'_>, CoreErrorKind> {
        work.peel(&self.btf, self.side, id)
    }

    fn no_element(&self) -> CoreErrorKind {
        self.malformed(BtfError::NoSuchType { id: self.root, end: self.btf.end_id() })
    }

    fn enumerator(&self, work: &mut Work) -> Result<Value, CoreErrorKind> {
        let step = self.accessors.first().ok_or_else(|| self.no_element())?;
        let ty = self.peel(step.type_id, work)?;
        let value = ty.enumerators().nth(step.index as usize).ok_or_else(|| self.no_element())?;
        Ok(Value::new(value.value.cast_unsigned()))
    }

    /// What a load of the type reads: of an array, one element of the innermost.
    fn load_size(&self, id: TypeId, work: &mut Work) -> Result<u32, CoreErrorKind> {
        let mut ty = self.peel(id, work)?;
        // As many as sizes are resolved through.
        for _ in 0..32 {
            match ty.array() {
                Some(array) => ty = self.peel(array.element, work)?,
                None => return self.size_of(ty.id(), work),
            }
        }
        Err(CoreErrorKind::TooDeep { limit: 32 })
    }

    fn field(&self, endian: Endian, work: &mut Work) -> Result<Value, CoreErrorKind> {
        let last = self.accessors.last().ok_or_else(|| self.no_element())?;
        if !last.named {
            return match self.kind {
                CoreReloKind::FIELD_BYTE_OFFSET => {
                    let size = self.load_size(last.type_id, work)?;
                    Ok(Value { size, type_id: last.type_id, ..Value::new((self.bit_offset / 8).into()) })
                }
                CoreReloKind::FIELD_BYTE_SIZE => Ok(Value::new(self.size_of(last.type_id, work)?.into())),
                kind => Err(CoreErrorKind::ArrayElement { kind }),
            };
        }
        let composite = self.btf.ty(last.type_id).map_err(|e| self.malformed(e))?;
        let member = composite.member(last.index).ok_or_else(|| self.no_element())?;
        let ty = self.peel(member.type_id, work)?;
        let bit_field = member.bitfield_size > 0;
        let (byte_offset, byte_size, bits);
        if bit_field {
            bits = member.bitfield_size;
            (byte_offset, byte_size) = self.covering_load(ty.size(), bits)?;
        } else {
            byte_size = self.size_of(ty.id(), work)?;
            byte_offset = self.bit_offset / 8;
            bits = byte_size.wrapping_mul(8);
        }
        // From here on numbers are 32 bits wide and wrap, as in libbpf: a shift for a field of more than 8 bytes means
        // nothing, but must not stop the load.
        let skipped = self.bit_offset.wrapping_sub(byte_offset.wrapping_mul(8));
        let value = match self.kind {
            CoreReloKind::FIELD_BYTE_OFFSET => byte_offset,
            CoreReloKind::FIELD_BYTE_SIZE => byte_size,
            CoreReloKind::FIELD_SIGNED => {
                let int = ty.int().is_some_and(|int| int.encoding.is_signed());
                u32::from(int || (ty.kind().is_enum() && ty.kind_flag()))
            }
            CoreReloKind::FIELD_LSHIFT_U64 => match endian {
                Endian::Little => 64u32.wrapping_sub(skipped.wrapping_add(bits)),
                Endian::Big => 8u32.wrapping_sub(byte_size).wrapping_mul(8).wrapping_add(skipped),
            },
            CoreReloKind::FIELD_RSHIFT_U64 => 64u32.wrapping_sub(bits),
            kind => return Err(CoreErrorKind::UnknownKind { kind }),
        };
        let mut value = Value::new(value.into());
        // Where a bit field is loaded from is for the compiler to choose, and it may have chosen otherwise.
        value.validate =
            !bit_field || matches!(self.kind, CoreReloKind::FIELD_SIGNED | CoreReloKind::FIELD_RSHIFT_U64);
        if self.kind == CoreReloKind::FIELD_BYTE_OFFSET && !bit_field {
            value.size = self.load_size(ty.id(), work)?;
            value.type_id = ty.id();
        }
        Ok(value)
    }

    /// Offset and size of the smallest aligned load of at least `size` bytes that covers a bit field.
    fn covering_load(&self, size: u32, bits: u32) -> Result<(u32, u32), CoreErrorKind> {
        let too_wide = CoreErrorKind::WideBitField { side: self.side, bit_offset: self.bit_offset, bits };
        let mut size = size;
        loop {
            let Some(at) = (self.bit_offset / 8).checked_div(size) else { return Err(too_wide) };
            let offset = at * size; // at most what was divided
            let end = u64::from(self.bit_offset) + u64::from(bits) - u64::from(offset) * 8;
            if end <= u64::from(size) * 8 {
                return Ok((offset, size));
            }
            if size >= 8 {
                return Err(too_wide);
            }
            size *= 2; // less than 16
        }
    }
}

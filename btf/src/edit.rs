//! Small changes to BTF: sizes, offsets, types and linkages of records that are there.

use bytes::Bytes;
use skep_asm::Endian;

use crate::wire::{KIND_FLAG, RECORD, VLEN_MASK};
use crate::{Btf, BtfError, Kind, Linkage, SectionVar, StrOffset, Type, TypeId};

/// A copy of a BTF in which words of records can be changed in place.
///
/// No record grows or moves. [`BtfBuilder`](crate::BtfBuilder) adds types and strings.
///
/// ```
/// use skep_btf::{BtfBuilder, BtfEdit, Linkage};
/// let mut builder = BtfBuilder::new();
/// let int = builder.add_int("int", 4, Default::default())?;
/// let var = builder.add_var("counter", Linkage::GLOBAL, int)?;
/// let btf = builder.finish()?;
///
/// let mut edit = BtfEdit::new(&btf);
/// edit.set_linkage(var, Linkage::STATIC)?;
/// assert_eq!(edit.finish()?.ty(var)?.linkage(), Some(Linkage::STATIC));
/// # Ok::<(), skep_btf::BtfError>(())
/// ```
#[derive(Debug)]
pub struct BtfEdit<'a> {
    btf: &'a Btf,
    bytes: Vec<u8>,
    /// Where the type section starts in `bytes`.
    types: usize,
    changed: bool,
}

impl<'a> BtfEdit<'a> {
    /// Copies the bytes of `btf`. Types of its base cannot be changed.
    pub fn new(btf: &'a Btf) -> Self {
        Self { btf, bytes: btf.bytes().to_vec(), types: btf.header().types.0, changed: false }
    }

    /// The BTF as it was before any change.
    pub fn original(&self) -> &'a Btf {
        self.btf
    }

    /// Sets the size of a type that has one in its record.
    ///
    /// # Errors
    /// When there is no such own type, or its kind has no size.
    pub fn set_size(&mut self, id: TypeId, size: u32) -> Result<(), BtfError> {
        let ty = self.own(id, "a kind with a size", Kind::has_size)?;
        self.put(&ty, 2, size)
    }

    /// Sets the type that a pointer, alias, variable or the like refers to.
    ///
    /// # Errors
    /// When there is no such own type, its kind refers to none, or the new one does not exist.
    pub fn set_type(&mut self, id: TypeId, target: TypeId) -> Result<(), BtfError> {
        let ty = self.own(id, "a kind that refers to a type", Kind::has_type)?;
        self.btf.ty(target)?;
        self.put(&ty, 2, target.0)
    }

    /// Sets the name of a type to a string that is there.
    ///
    /// # Errors
    /// When there is no such own type or no such string.
    pub fn set_name(&mut self, id: TypeId, name: StrOffset) -> Result<(), BtfError> {
        let ty = self.own(id, "a type", |_| true)?;
        self.btf.str_at(name)?;
        self.put(&ty, 0, name.0)
    }

    /// Sets the name of a parameter of a prototype to a string that is there.
    ///
    /// # Errors
    /// When there is no such own type, parameter or string.
    pub fn set_param_name(&mut self, id: TypeId, index: u32, name: StrOffset) -> Result<(), BtfError> {
        let ty = self.own(id, "FUNC_PROTO", |kind| kind == Kind::FUNC_PROTO)?;
        self.btf.str_at(name)?;
        let at = element(&ty, index, 2)?;
        self.put(&ty, at, name.0)
    }

    /// Sets the number of elements of an array.
    ///
    /// # Errors
    /// When there is no such own type or it is not an array.
    pub fn set_array_len(&mut self, id: TypeId, len: u32) -> Result<(), BtfError> {
        let ty = self.own(id, "ARRAY", |kind| kind == Kind::ARRAY)?;
        self.put(&ty, 5, len)
    }

    /// Sets the linkage of a function or variable.
    ///
    /// # Errors
    /// When there is no such own type or it is neither, or the number does not fit.
    pub fn set_linkage(&mut self, id: TypeId, linkage: Linkage) -> Result<(), BtfError> {
        let ty = self.own(id, "FUNC or VAR", |kind| matches!(kind, Kind::FUNC | Kind::VAR))?;
        if ty.kind() == Kind::VAR {
            return self.put(&ty, 3, linkage.0);
        }
        if linkage.0 > VLEN_MASK {
            let (what, value) = ("linkage", linkage.0.into());
            return Err(BtfError::OutOfRange { what, value, limit: VLEN_MASK.into() });
        }
        let flag = if ty.kind_flag() { KIND_FLAG } else { 0 };
        self.put(&ty, 1, flag | u32::from(Kind::FUNC.0) << 24 | linkage.0)
    }

    /// Sets size and contents of a data section; `vars` must be as many as there are.
    ///
    /// The compiler leaves sizes and offsets of sections at zero for the loader to fill in. The
    /// kernel wants the variables in the order of their offsets: this does not sort them.
    ///
    /// # Errors
    /// When there is no such own type, it is not a data section or has another number of variables,
    /// or one of the types does not exist.
    pub fn set_datasec(&mut self, id: TypeId, size: u32, vars: &[SectionVar]) -> Result<(), BtfError> {
        let ty = self.own(id, "DATASEC", |kind| kind == Kind::DATASEC)?;
        if vars.len() as u64 != u64::from(ty.vlen()) {
            let index = u32::try_from(vars.len()).unwrap_or(u32::MAX);
            return Err(BtfError::NoSuchElement { id, index, len: ty.vlen() });
        }
        for var in vars {
            self.btf.ty(var.type_id)?;
        }
        self.put(&ty, 2, size)?;
        for (index, var) in (0..).zip(vars) {
            let at = element(&ty, index, 3)?;
            self.put(&ty, at, var.type_id.0)?;
            self.put(&ty, at + 1, var.offset)?;
            self.put(&ty, at + 2, var.size)?;
        }
        Ok(())
    }

    /// The changed BTF; a clone of the original when nothing was changed.
    ///
    /// # Errors
    /// None that the changes above could cause.
    pub fn finish(self) -> Result<Btf, BtfError> {
        if !self.changed {
            return Ok(self.btf.clone());
        }
        let bytes = Bytes::from(self.bytes);
        match self.btf.base() {
            Some(base) => Btf::parse_split(bytes, base),
            None => Btf::parse(bytes),
        }
    }

    fn own(
        &self,
        id: TypeId,
        wanted: &'static str,
        fits: impl Fn(Kind) -> bool,
    ) -> Result<Type<'a>, BtfError> {
        let ty = self.btf.ty(id)?;
        if id < self.btf.start_id() {
            return Err(ty.wrong_kind("a type of its own"));
        }
        if fits(ty.kind()) { Ok(ty) } else { Err(ty.wrong_kind(wanted)) }
    }

    /// Writes a word of a record.
    fn put(&mut self, ty: &Type<'_>, word: usize, value: u32) -> Result<(), BtfError> {
        let start = self.types + ty.offset() as usize;
        let record = self.bytes.get_mut(start..start + ty.record().len());
        let truncated = BtfError::TruncatedType { id: ty.id(), offset: ty.offset() };
        let slot = record.and_then(|record| record.as_chunks_mut().0.get_mut(word)).ok_or(truncated)?;
        let new = match self.btf.endian() {
            Endian::Little => value.to_le_bytes(),
            Endian::Big => value.to_be_bytes(),
        };
        self.changed |= *slot != new;
        *slot = new;
        Ok(())
    }
}

/// Index of the first word of an element.
fn element(ty: &Type<'_>, index: u32, words: usize) -> Result<usize, BtfError> {
    if index >= ty.vlen() {
        return Err(BtfError::NoSuchElement { id: ty.id(), index, len: ty.vlen() });
    }
    Ok(RECORD / 4 + index as usize * words)
}

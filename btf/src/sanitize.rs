//! Making BTF that an older kernel accepts.

use skep_asm::Endian;

use crate::wire::VLEN_MASK;
use crate::{Btf, BtfBuilder, BtfError, IntEncoding, Kind, Type, TypeId};

/// What a kernel understands in BTF that is loaded into it. [`Default`] is everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct KernelBtfFeatures {
    /// Functions and their prototypes (Linux 5.0).
    pub func: bool,
    /// Variables and data sections (Linux 5.2).
    pub datasec: bool,
    /// Functions of global linkage (Linux 5.6).
    pub global_func: bool,
    /// Floating-point types (Linux 5.13).
    pub float: bool,
    /// Declaration tags (Linux 5.16).
    pub decl_tag: bool,
    /// Type tags (Linux 5.17).
    pub type_tag: bool,
    /// 64-bit enumerations and the sign of 32-bit ones (Linux 6.0).
    pub enum64: bool,
    /// Data sections with other names than of letters, digits, underscores and dots: with `?`, or `/` (Linux 6.9).
    pub qmark_datasec: bool,
    /// The layout section (Linux 7.1).
    pub layout: bool,
}

impl KernelBtfFeatures {
    /// Everything that this crate knows of.
    pub const ALL: Self = Self {
        func: true,
        datasec: true,
        global_func: true,
        float: true,
        decl_tag: true,
        type_tag: true,
        enum64: true,
        qmark_datasec: true,
        layout: true,
    };

    /// The first BTF (Linux 4.18), to switch things on from.
    pub const NONE: Self = Self {
        func: false,
        datasec: false,
        global_func: false,
        float: false,
        decl_tag: false,
        type_tag: false,
        enum64: false,
        qmark_datasec: false,
        layout: false,
    };
}

impl Default for KernelBtfFeatures {
    fn default() -> Self {
        Self::ALL
    }
}

/// Replaces what `kernel` does not understand by something of the same size that it does, as libbpf
/// does before it loads BTF, and brings the bytes into the machine's byte order.
///
/// Ids stay what they are; types may be added at the end. `None` means that `btf` can be loaded as it
/// is.
///
/// # Errors
/// When the name of a data section or the type of a variable in it is out of bounds, or there is no room for one more type.
pub fn sanitize(btf: &Btf, kernel: &KernelBtfFeatures) -> Result<Option<Vec<u8>>, BtfError> {
    let has_layout = btf.header().layout.0 < btf.header().layout.1;
    let foreign = btf.endian() != Endian::NATIVE || has_layout && !kernel.layout;
    if !foreign && !btf.types().any(|ty| concerns(&ty, kernel)) {
        return Ok(None);
    }
    let mut work = Work { out: BtfBuilder::from_btf(btf), btf, kernel, placeholder: None };
    for nth in 0..btf.len() {
        work.replace(nth)?;
    }
    Ok(Some(work.out.encode(Endian::NATIVE, has_layout && kernel.layout)))
}

/// Whether `kernel` misunderstands a type.
fn concerns(ty: &Type<'_>, kernel: &KernelBtfFeatures) -> bool {
    match ty.kind() {
        Kind::VAR => !kernel.datasec,
        Kind::DATASEC => !kernel.datasec || !kernel.qmark_datasec && !ty.name_bytes().iter().all(is_plain),
        Kind::DECL_TAG => !kernel.decl_tag,
        Kind::FUNC_PROTO => !kernel.func,
        Kind::FUNC => !kernel.func || !kernel.global_func && ty.vlen() != 0,
        Kind::FLOAT => !kernel.float,
        Kind::TYPE_TAG => !kernel.type_tag,
        Kind::ENUM => !kernel.enum64 && ty.kind_flag(),
        Kind::ENUM64 => !kernel.enum64,
        _ => false,
    }
}

/// Whether every kernel that knows data sections takes a character in their names.
fn is_plain(c: &u8) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, b'_' | b'.')
}

struct Work<'a> {
    out: BtfBuilder,
    btf: &'a Btf,
    kernel: &'a KernelBtfFeatures,
    /// The integer that stands for the values of 64-bit enumerations.
    placeholder: Option<TypeId>,
}

/// An `info` word without kind flag.
fn info(kind: Kind, vlen: u32) -> u32 {
    u32::from(kind.0) << 24 | vlen & VLEN_MASK
}

impl Work<'_> {
    fn replace(&mut self, nth: usize) -> Result<(), BtfError> {
        let Some(ty) = self.btf.nth(nth) else { return Ok(()) };
        if !concerns(&ty, self.kernel) {
            return Ok(());
        }
        match ty.kind() {
            Kind::VAR | Kind::DECL_TAG => {
                // One byte: no more than the variable can be.
                self.put(nth, 1, info(Kind::INT, 0));
                self.put(nth, 2, 1);
                self.put(nth, 3, 8);
            }
            Kind::DATASEC if !self.kernel.datasec => self.section_to_struct(nth)?,
            Kind::DATASEC => {
                let name = self.btf.str_at(ty.name_offset())?;
                let plain: Vec<u8> = name.iter().map(|c| if is_plain(c) { *c } else { b'_' }).collect();
                let name = self.out.add_str(plain)?;
                self.put(nth, 0, name.0);
            }
            Kind::FUNC_PROTO => {
                // Its parameters, name and type, read as enumerators.
                self.put(nth, 1, info(Kind::ENUM, ty.vlen()));
                self.put(nth, 2, 4);
            }
            Kind::FUNC if !self.kernel.func => self.put(nth, 1, info(Kind::TYPEDEF, 0)),
            Kind::FUNC => self.put(nth, 1, info(Kind::FUNC, 0)),
            Kind::FLOAT => {
                self.put(nth, 0, 0);
                self.put(nth, 1, info(Kind::STRUCT, 0));
            }
            Kind::TYPE_TAG => {
                self.put(nth, 0, 0);
                self.put(nth, 1, info(Kind::CONST, 0));
            }
            Kind::ENUM => self.put(nth, 1, info(Kind::ENUM, ty.vlen())),
            Kind::ENUM64 => {
                let int = match self.placeholder {
                    Some(int) => int,
                    None => self.out.add_int("enum64_placeholder", 1, IntEncoding::NONE)?,
                };
                self.placeholder = Some(int);
                self.put(nth, 1, info(Kind::UNION, ty.vlen()));
                for at in (3..).step_by(3).take(ty.vlen() as usize) {
                    self.put(nth, at + 1, int.0);
                    self.put(nth, at + 2, 0);
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// A data section becomes a structure with the variables as members, its name one that a
    /// structure may have.
    fn section_to_struct(&mut self, nth: usize) -> Result<(), BtfError> {
        let Some(ty) = self.btf.nth(nth) else { return Ok(()) };
        let name = self.btf.str_at(ty.name_offset())?;
        let name: Vec<u8> = name.iter().map(|c| if is_plain(c) && *c != b'.' { *c } else { b'_' }).collect();
        let name = self.out.add_str(name)?;
        self.put(nth, 0, name.0);
        self.put(nth, 1, info(Kind::STRUCT, ty.vlen()));
        for (at, var) in (3..).step_by(3).zip(ty.vars()) {
            let bits = var.offset.checked_mul(8).ok_or(BtfError::SizeOverflow { id: ty.id() })?;
            self.put(nth, at, self.btf.ty(var.type_id)?.name_offset().0);
            self.put(nth, at + 1, var.type_id.0);
            self.put(nth, at + 2, bits);
        }
        Ok(())
    }

    fn put(&mut self, nth: usize, word: usize, value: u32) {
        let start = self.out.records.get(nth).map(|&at| at as usize);
        if let Some(slot) = start.and_then(|start| self.out.types.get_mut(start + word)) {
            *slot = value;
        }
    }
}

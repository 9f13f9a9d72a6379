//! Following types to what they stand for: aliases, sizes, alignment.

use std::collections::BTreeMap;

use crate::{Btf, BtfError, Kind, Type, TypeId};

/// How many references are followed for a size or an alignment. libbpf and the kernel stop there too.
const MAX_DEPTH: u32 = 32;
/// How many modifiers and typedefs may stand before a type. The kernel refuses more than 32.
const MAX_CHAIN: u32 = 256;

/// The names that compilers give to `long`, from whose size libbpf tells the size of a pointer.
const LONG: [&str; 11] = [
    "long int",
    "long",
    "int long",
    "unsigned long",
    "long unsigned",
    "unsigned long int",
    "unsigned int long",
    "long unsigned int",
    "long int unsigned",
    "int unsigned long",
    "int long unsigned",
];

impl Btf {
    /// The first type behind `id` that is neither a modifier nor a typedef.
    ///
    /// # Errors
    /// When a type on the way does not exist, or they form a cycle or an absurdly long chain.
    pub fn peel(&self, id: TypeId) -> Result<Type<'_>, BtfError> {
        let mut ty = self.ty(id)?;
        for _ in 0..MAX_CHAIN {
            if !ty.kind().is_modifier() && ty.kind() != Kind::TYPEDEF {
                return Ok(ty);
            }
            let next = self.ty(ty.type_id())?;
            if next.id() == id {
                return Err(BtfError::Cycle { id });
            }
            ty = next;
        }
        Err(BtfError::TooDeep { id, limit: MAX_CHAIN })
    }

    /// Size of a pointer in bytes, told by the size of `long`; 8, as for BPF, where there is none.
    pub fn pointer_size(&self) -> u32 {
        if let Some(base) = self.base() {
            return base.pointer_size();
        }
        *self.pointer_size_cell().get_or_init(|| {
            let is_long = |ty: &Type<'_>| {
                ty.kind() == Kind::INT
                    && matches!(ty.size(), 4 | 8)
                    && LONG.iter().any(|name| name.as_bytes() == ty.name_bytes())
            };
            self.types().find(is_long).map_or(8, |ty| ty.size())
        })
    }

    /// Size of a type in bytes: through aliases, qualifiers, variables and arrays.
    ///
    /// # Errors
    /// When the type has none (`void`, forward declarations, functions), it exceeds 32 bits, or more
    /// than 32 references have to be followed.
    pub fn resolve_size(&self, id: TypeId) -> Result<u32, BtfError> {
        let mut ty = self.ty(id)?;
        let mut count = 1u32;
        for _ in 0..MAX_DEPTH {
            let kind = ty.kind();
            let next = match kind {
                Kind::PTR => return self.scaled(id, count, self.pointer_size()),
                _ if kind.has_size() => return self.scaled(id, count, ty.size()),
                Kind::ARRAY => {
                    let array = ty.array().ok_or(BtfError::NoSize { id, kind })?;
                    count = self.scaled(id, count, array.len)?;
                    array.element
                }
                Kind::TYPEDEF | Kind::VAR | Kind::DECL_TAG => ty.type_id(),
                _ if kind.is_modifier() => ty.type_id(),
                _ => return Err(BtfError::NoSize { id: ty.id(), kind }),
            };
            ty = self.ty(next)?;
        }
        Err(BtfError::TooDeep { id, limit: MAX_DEPTH })
    }

    fn scaled(&self, id: TypeId, count: u32, size: u32) -> Result<u32, BtfError> {
        count.checked_mul(size).ok_or(BtfError::SizeOverflow { id })
    }

    /// Alignment of a type in bytes, as libbpf tells it: at most that of a pointer for numbers, that
    /// of the strictest member for composites, and 1 for a composite that must be packed.
    ///
    /// # Errors
    /// As [`resolve_size`](Self::resolve_size).
    pub fn align_of(&self, id: TypeId) -> Result<u32, BtfError> {
        self.align_at(id, MAX_DEPTH, &mut BTreeMap::new())
    }

    /// `known` holds the composites that were seen, so that one that is contained many times is
    /// looked at once; `depth` ends cycles.
    fn align_at(&self, id: TypeId, depth: u32, known: &mut BTreeMap<TypeId, u32>) -> Result<u32, BtfError> {
        let depth = depth.checked_sub(1).ok_or(BtfError::TooDeep { id, limit: MAX_DEPTH })?;
        if let Some(&align) = known.get(&id) {
            return Ok(align);
        }
        let ty = self.ty(id)?;
        let kind = ty.kind();
        match kind {
            Kind::INT | Kind::ENUM | Kind::ENUM64 | Kind::FLOAT if ty.size() > 0 => {
                Ok(ty.size().min(self.pointer_size()))
            }
            Kind::PTR => Ok(self.pointer_size()),
            Kind::ARRAY => {
                let array = ty.array().ok_or(BtfError::NoSize { id, kind })?;
                self.align_at(array.element, depth, known)
            }
            Kind::STRUCT | Kind::UNION => {
                let mut strictest = 1;
                let mut packed = false;
                for member in ty.members() {
                    let align = self.align_at(member.type_id, depth, known)?;
                    strictest = strictest.max(align);
                    let bits = u64::from(align) * 8;
                    packed |= member.bitfield_size == 0 && u64::from(member.bit_offset) % bits != 0;
                    if packed {
                        break;
                    }
                }
                let align = if packed || ty.size() % strictest != 0 { 1 } else { strictest };
                known.insert(id, align);
                Ok(align)
            }
            Kind::TYPEDEF | Kind::VAR | Kind::DECL_TAG => self.align_at(ty.type_id(), depth, known),
            _ if kind.is_modifier() => self.align_at(ty.type_id(), depth, known),
            _ => Err(BtfError::NoSize { id, kind }),
        }
    }
}

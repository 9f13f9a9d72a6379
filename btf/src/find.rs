//! Finding types by name.

use crate::{Btf, BtfError, Kind, TypeId};

/// What is left of a name without its flavour: the text before the last `___` that has something
/// other than an underscore on both sides. `task_struct___old` is a flavour of `task_struct`.
///
/// ```
/// use skep_btf::essential_name;
/// assert_eq!(essential_name(b"task_struct___old"), b"task_struct");
/// assert_eq!(essential_name(b"n___x___loc"), b"n___x");
/// assert_eq!(essential_name(b"___x"), b"___x");
/// ```
pub fn essential_name(name: &[u8]) -> &[u8] {
    let is_flavor = |at: &[u8]| matches!(at, [a, b'_', b'_', b'_', z] if *a != b'_' && *z != b'_');
    match name.windows(5).rposition(is_flavor) {
        Some(at) => name.get(..at + 1).unwrap_or(name),
        None => name,
    }
}

impl Btf {
    /// The lowest id of a type with this name and kind: of the base first, then of its own.
    /// The name `void` and the kind [`Kind::VOID`] give `void`.
    pub fn find(&self, name: &[u8], kind: Kind) -> Option<TypeId> {
        if kind == Kind::VOID || name == b"void" {
            return Some(TypeId::VOID);
        }
        self.base().and_then(|base| base.find(name, kind)).or_else(|| self.find_own(name, kind))
    }

    /// As [`find`](Self::find), without looking at the base.
    pub fn find_own(&self, name: &[u8], kind: Kind) -> Option<TypeId> {
        if kind == Kind::VOID || name == b"void" {
            return Some(TypeId::VOID);
        }
        self.types().find(|ty| ty.kind() == kind && ty.name_bytes() == name).map(|ty| ty.id())
    }

    /// The lowest id of a type with this name, of any kind: of the base first, then of its own.
    pub fn find_any(&self, name: &[u8]) -> Option<TypeId> {
        if name == b"void" {
            return Some(TypeId::VOID);
        }
        let base = self.base().and_then(|base| base.find_any(name));
        base.or_else(|| self.types().find(|ty| ty.name_bytes() == name).map(|ty| ty.id()))
    }

    /// For each of `names`, the ids of all own types whose [essential name](essential_name) it is,
    /// ascending. Types of the base are not looked at; anonymous names find nothing.
    ///
    /// # Errors
    /// When the name of a type that was looked at is out of bounds.
    pub fn candidates(&self, names: &[&[u8]]) -> Result<Vec<Vec<TypeId>>, BtfError> {
        let mut found = vec![Vec::new(); names.len()];
        for ty in self.types() {
            let name = self.str_at(ty.name_offset())?;
            if name.is_empty() {
                continue;
            }
            let name = essential_name(name);
            for (wanted, ids) in names.iter().zip(&mut found) {
                if *wanted == name {
                    ids.push(ty.id());
                }
            }
        }
        Ok(found)
    }
}

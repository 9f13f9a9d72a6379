//! Finding types by name.

use crate::names::{Fingerprints, fingerprint};
use crate::{Btf, BtfError, Kind, Type, TypeId};

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
        self.named(name).find(|ty| ty.kind() == kind).map(|ty| ty.id())
    }

    /// The lowest id of a type with this name, of any kind: of the base first, then of its own.
    pub fn find_any(&self, name: &[u8]) -> Option<TypeId> {
        if name == b"void" {
            return Some(TypeId::VOID);
        }
        let base = self.base().and_then(|base| base.find_any(name));
        base.or_else(|| self.named(name).next().map(|ty| ty.id()))
    }

    /// The own types with this name, in the order of their ids.
    pub fn named<'a>(&'a self, name: &'a [u8]) -> impl Iterator<Item = Type<'a>> {
        let wanted = fingerprint(name);
        let at = move |(nth, &found): (usize, &u16)| if found == wanted { self.nth(nth) } else { None };
        self.names().iter().enumerate().filter_map(at).filter(move |ty| ty.name_bytes() == name)
    }

    /// For each of `names`, the ids of all own types whose [essential name](essential_name) it is,
    /// ascending. Types of the base are not looked at; anonymous names find nothing.
    ///
    /// # Errors
    /// When the name of a type that was looked at is out of bounds.
    pub fn candidates(&self, names: &[&[u8]]) -> Result<Vec<Vec<TypeId>>, BtfError> {
        let mut found = vec![Vec::new(); names.len()];
        let mut wanted = Fingerprints::new();
        let mut by_name: Vec<(u16, &[u8], usize)> = Vec::with_capacity(names.len());
        for (at, name) in names.iter().enumerate().filter(|(_, name)| !name.is_empty()) {
            let fingerprint = fingerprint(name);
            wanted.insert(fingerprint);
            by_name.push((fingerprint, name, at));
        }
        by_name.sort_unstable();
        for (nth, &fingerprint) in self.names().iter().enumerate() {
            if !wanted.contains(fingerprint) {
                continue;
            }
            let Some(ty) = self.nth(nth) else { continue };
            let name = self.str_at(ty.name_offset())?;
            let first = by_name.partition_point(|&(other, ..)| other < fingerprint);
            let same = by_name.iter().skip(first).take_while(|&&(other, ..)| other == fingerprint);
            for &(_, wanted, at) in same.filter(|(_, wanted, _)| name.starts_with(wanted)) {
                if let Some(ids) = found.get_mut(at)
                    && essential_name(name) == wanted
                {
                    ids.push(ty.id());
                }
            }
        }
        Ok(found)
    }
}

//! Finding types by name.

use crate::names::{Fingerprint, Fingerprints};
use crate::{Btf, BtfError, Kind, StrOffset, Type, TypeId};

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
        let wanted = Fingerprint::of(name, kind.is_declaration());
        let found = self.fingerprinted(move |found| found == wanted);
        found.filter(|ty| ty.kind() == kind).find(|ty| ty.name_bytes() == name).map(|ty| ty.id())
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
        let wanted = Fingerprint::of(name, false);
        self.fingerprinted(move |found| found.same_name(wanted)).filter(move |ty| ty.name_bytes() == name)
    }

    fn fingerprinted(&self, wanted: impl Fn(Fingerprint) -> bool) -> impl Iterator<Item = Type<'_>> {
        let at = move |(nth, &found)| if wanted(found) { self.nth(nth) } else { None };
        self.names().iter().enumerate().filter_map(at)
    }

    /// For each of `names`, the ids of all own types whose [essential name](essential_name) it is,
    /// ascending. [Declarations](Kind::is_declaration) are left out, and types of the base are not
    /// looked at; anonymous names find nothing.
    ///
    /// All names are looked for in one pass.
    ///
    /// # Errors
    /// When the name of a type that was looked at is out of bounds.
    pub fn candidates(&self, names: &[&[u8]]) -> Result<Vec<Vec<TypeId>>, BtfError> {
        let mut found = vec![Vec::new(); names.len()];
        let mut wanted = Fingerprints::new();
        let mut by_name: Vec<(Fingerprint, &[u8], usize)> = Vec::with_capacity(names.len());
        for (at, name) in names.iter().enumerate().filter(|(_, name)| !name.is_empty()) {
            let fingerprint = Fingerprint::of(name, false);
            wanted.insert(fingerprint);
            by_name.push((fingerprint, name, at));
        }
        by_name.sort_unstable();
        let hits = self.names().iter().enumerate().filter(|&(_, &found)| wanted.contains(found));
        let mut hits = hits.filter_map(|(nth, &found)| Some((found, self.nth(nth)?)));
        // In batches, so that the reads of one do not wait for those of another.
        let mut batch = [(Fingerprint::of(b"", false), TypeId::VOID, StrOffset::EMPTY); 128];
        loop {
            let mut len = 0;
            for (slot, (fingerprint, ty)) in batch.iter_mut().zip(&mut hits) {
                *slot = (fingerprint, ty.id(), ty.name_offset());
                len += 1;
            }
            for &(fingerprint, id, offset) in batch.iter().take(len) {
                let tail = self.strings_from(offset);
                if tail.is_empty() {
                    return Err(self.no_such_string(offset));
                }
                let first = by_name.partition_point(|&(other, ..)| other < fingerprint);
                let same = by_name.iter().skip(first).take_while(|&&(other, ..)| other == fingerprint);
                for &(_, wanted, at) in same.filter(|(_, wanted, _)| tail.starts_with(wanted)) {
                    if let Some(ids) = found.get_mut(at)
                        && essential_name(self.str_at(offset)?) == wanted
                    {
                        ids.push(id);
                    }
                }
            }
            if len < batch.len() {
                break;
            }
        }
        Ok(found)
    }
}

//! When a type of the object and a type of the target are the same.

use super::access::Work;
use super::decision::Mismatch;
use super::error::{CoreErrorKind, Side};
use crate::{Btf, Kind, Type, TypeId, essential_name};

/// How deep function prototypes (and, for a match, composites) are entered.
const MAX_LEVEL: u32 = 32;
/// How many pointers, arrays and return types are followed within one level.
const MAX_CHAIN: u32 = 32;

/// A comparison of types of two BTFs.
pub(super) struct Walk<'a> {
    pub(super) local: &'a Btf,
    pub(super) target: &'a Btf,
    pub(super) work: &'a mut Work,
    /// The first pair of types found to differ.
    pub(super) why: Option<Mismatch>,
}

/// Whether types of these kinds can be candidates for each other: enumerations of either width are one kind.
pub(super) fn same_kind(a: Kind, b: Kind) -> bool {
    a == b || (a.is_enum() && b.is_enum())
}

/// Whether a type of an object and one of a kernel are roughly the same, as the declaration of a kernel function or
/// variable must be: kinds, and for prototypes the number and kinds of parameters. Names are not compared.
///
/// # Errors
/// When a type does not exist, or prototypes nest too deep to compare.
pub fn types_compatible(
    local: &Btf,
    local_id: TypeId,
    target: &Btf,
    target_id: TypeId,
) -> Result<bool, CoreErrorKind> {
    Walk::new(local, target, &mut Work::new()).types_compatible(local_id, target_id)
}

const TOO_DEEP: CoreErrorKind = CoreErrorKind::TooDeep { limit: MAX_LEVEL as usize };

impl<'a> Walk<'a> {
    pub(super) fn new(local: &'a Btf, target: &'a Btf, work: &'a mut Work) -> Self {
        Walk { local, target, work, why: None }
    }

    fn peel(&mut self, side: Side, id: TypeId) -> Result<Type<'a>, CoreErrorKind> {
        let btf = match side {
            Side::Local => self.local,
            Side::Target => self.target,
        };
        self.work.peel(btf, side, id)
    }

    /// The first types of both sides that are neither modifiers nor typedefs.
    fn peel_both(&mut self, local: TypeId, target: TypeId) -> Result<(Type<'a>, Type<'a>), CoreErrorKind> {
        Ok((self.peel(Side::Local, local)?, self.peel(Side::Target, target)?))
    }

    fn verdict(&mut self, same: bool, local: Type<'_>, target: Type<'_>, reason: &'static str) -> bool {
        if !same && self.why.is_none() {
            self.why = Some(Mismatch::Types { local: local.id(), target: target.id(), reason });
        }
        same
    }

    fn essential(&mut self, name: &'a [u8]) -> Result<&'a [u8], CoreErrorKind> {
        self.work.spend(name)?;
        Ok(essential_name(name))
    }

    /// Whether a field of one type can be read as the other: sizes and signs may differ, integers may not have the
    /// old bit field form.
    pub(super) fn fields_compatible(&mut self, local: TypeId, target: TypeId) -> Result<bool, CoreErrorKind> {
        let (mut local, mut target) = (local, target);
        for _ in 0..MAX_CHAIN {
            let (l, t) = self.peel_both(local, target)?;
            if l.kind().is_composite() && t.kind().is_composite() {
                return Ok(true);
            }
            if !same_kind(l.kind(), t.kind()) {
                return Ok(self.verdict(false, l, t, "are of different kinds"));
            }
            let same = match l.kind() {
                Kind::PTR | Kind::FLOAT => true,
                Kind::FWD | Kind::ENUM | Kind::ENUM64 => {
                    let (a, b) = (self.essential(l.name_bytes())?, self.essential(t.name_bytes())?);
                    a.is_empty() || b.is_empty() || a == b
                }
                Kind::INT => plain_ints(&l, &t),
                Kind::ARRAY => {
                    (local, target) = (element(&l), element(&t));
                    continue;
                }
                _ => false,
            };
            return Ok(self.verdict(same, l, t, "differ"));
        }
        Err(TOO_DEEP)
    }

    /// Whether the types are roughly the same: what composites, enumerations and arrays hold is not looked at. The
    /// caller has compared the names.
    pub(super) fn types_compatible(&mut self, local: TypeId, target: TypeId) -> Result<bool, CoreErrorKind> {
        let l = self.local.ty(local).map_err(|source| CoreErrorKind::Btf { side: Side::Local, source })?;
        let t = self.target.ty(target).map_err(|source| CoreErrorKind::Btf { side: Side::Target, source })?;
        if !same_kind(l.kind(), t.kind()) {
            return Ok(self.verdict(false, l, t, "are of different kinds"));
        }
        self.compatible(local, target, MAX_LEVEL)
    }

    fn compatible(&mut self, local: TypeId, target: TypeId, level: u32) -> Result<bool, CoreErrorKind> {
        let (mut local, mut target) = (local, target);
        for _ in 0..MAX_CHAIN {
            let (l, t) = self.peel_both(local, target)?;
            if !same_kind(l.kind(), t.kind()) {
                return Ok(self.verdict(false, l, t, "are of different kinds"));
            }
            match l.kind() {
                Kind::VOID | Kind::STRUCT | Kind::UNION | Kind::ENUM | Kind::FWD | Kind::ENUM64 => {
                    return Ok(true);
                }
                Kind::INT => {
                    let same = plain_ints(&l, &t);
                    return Ok(self.verdict(same, l, t, "are not both plain integers"));
                }
                Kind::PTR => (local, target) = (l.type_id(), t.type_id()),
                Kind::ARRAY => (local, target) = (element(&l), element(&t)),
                Kind::FUNC_PROTO => {
                    if l.vlen() != t.vlen() {
                        return Ok(self.verdict(false, l, t, "have different numbers of parameters"));
                    }
                    for (a, b) in l.params().zip(t.params()) {
                        let below = level.checked_sub(1).ok_or(TOO_DEEP)?;
                        if !self.compatible(a.type_id, b.type_id, below)? {
                            return Ok(false);
                        }
                    }
                    (local, target) = (l.type_id(), t.type_id());
                }
                _ => return Ok(self.verdict(false, l, t, "are of a kind that is never relocated")),
            }
        }
        Err(TOO_DEEP)
    }

    /// Whether the target's type has everything that the object's has, by name and type.
    pub(super) fn types_match(&mut self, local: TypeId, target: TypeId) -> Result<bool, CoreErrorKind> {
        self.matches(local, target, false, MAX_LEVEL)
    }

    fn matches(
        &mut self,
        local: TypeId,
        target: TypeId,
        behind_pointer: bool,
        level: u32,
    ) -> Result<bool, CoreErrorKind> {
        let (mut local, mut target, mut behind_pointer) = (local, target, behind_pointer);
        let below = level.checked_sub(1).ok_or(TOO_DEEP)?;
        for _ in 0..MAX_CHAIN {
            let (l, t) = self.peel_both(local, target)?;
            if !self.names_match(l.name_bytes(), t.name_bytes())? {
                return Ok(self.verdict(false, l, t, "have different names"));
            }
            let (lk, tk) = (l.kind(), t.kind());
            match lk {
                Kind::FWD if tk == Kind::FWD => {
                    let same = l.kind_flag() == t.kind_flag();
                    return Ok(self.verdict(same, l, t, "declare different kinds"));
                }
                Kind::FWD if behind_pointer => {
                    let same = tk == declared(&l);
                    return Ok(self.verdict(same, l, t, "are of different kinds"));
                }
                Kind::STRUCT | Kind::UNION if behind_pointer => {
                    let same = lk == tk || (tk == Kind::FWD && lk == declared(&t));
                    return Ok(self.verdict(same, l, t, "are of different kinds"));
                }
                Kind::ENUM | Kind::ENUM64 if tk.is_enum() => return self.enums_match(l, t),
                _ if lk != tk => return Ok(self.verdict(false, l, t, "are of different kinds")),
                Kind::VOID => return Ok(true),
                Kind::STRUCT | Kind::UNION => return self.composites_match(l, t, below),
                Kind::INT => {
                    let signed = |ty: &Type<'_>| ty.int().is_some_and(|int| int.encoding.is_signed());
                    let same = l.size() == t.size() && signed(&l) == signed(&t);
                    return Ok(self.verdict(same, l, t, "differ in size or sign"));
                }
                Kind::PTR => {
                    behind_pointer = true;
                    (local, target) = (l.type_id(), t.type_id());
                }
                Kind::ARRAY => {
                    let len = |ty: &Type<'_>| ty.array().map(|array| array.len);
                    if len(&l) != len(&t) {
                        return Ok(self.verdict(false, l, t, "have different lengths"));
                    }
                    (local, target) = (element(&l), element(&t));
                }
                Kind::FUNC_PROTO => {
                    if l.vlen() != t.vlen() {
                        return Ok(self.verdict(false, l, t, "have different numbers of parameters"));
                    }
                    for (a, b) in l.params().zip(t.params()) {
                        if !self.matches(a.type_id, b.type_id, behind_pointer, below)? {
                            return Ok(false);
                        }
                    }
                    (local, target) = (l.type_id(), t.type_id());
                }
                _ => return Ok(self.verdict(false, l, t, "are of a kind that is never relocated")),
            }
        }
        Err(TOO_DEEP)
    }

    fn names_match(&mut self, local: &'a [u8], target: &'a [u8]) -> Result<bool, CoreErrorKind> {
        Ok(self.essential(local)? == self.essential(target)?)
    }

    /// Every name of the object's enumeration must be in the target's, with whatever value.
    fn enums_match(&mut self, l: Type<'a>, t: Type<'a>) -> Result<bool, CoreErrorKind> {
        if l.size() != t.size() || l.vlen() > t.vlen() {
            return Ok(self.verdict(false, l, t, "differ in size or have fewer values"));
        }
        // Both mostly have the same order, so the search goes on where the last one ended.
        let mut next = 0;
        for wanted in l.enumerators() {
            let wanted = self.essential(wanted.name_bytes())?;
            let values = t.enumerators();
            let mut found = None;
            for (nth, value) in values.enumerate().skip(next).chain(values.enumerate().take(next)) {
                if self.essential(value.name_bytes())? == wanted {
                    found = Some(nth);
                    break;
                }
            }
            match found {
                Some(nth) => next = nth + 1,
                None => return Ok(self.verdict(false, l, t, "differ in their values")),
            }
        }
        Ok(true)
    }

    /// Every member of the object's composite must be in the target's, by name and matching type.
    fn composites_match(&mut self, l: Type<'a>, t: Type<'a>, level: u32) -> Result<bool, CoreErrorKind> {
        if l.vlen() > t.vlen() {
            return Ok(self.verdict(false, l, t, "have different members"));
        }
        let before = self.why;
        'members: for wanted in l.members() {
            let name = self.essential(wanted.name_bytes())?;
            for member in t.members() {
                if self.essential(member.name_bytes())? != name {
                    continue;
                }
                // Only what is not behind a pointer is looked into, so this is never behind one.
                if self.matches(wanted.type_id, member.type_id, false, level)? {
                    self.why = before;
                    continue 'members;
                }
            }
            return Ok(self.verdict(false, l, t, "have different members"));
        }
        Ok(true)
    }
}

/// What a forward declaration declares.
fn declared(fwd: &Type<'_>) -> Kind {
    if fwd.kind_flag() { Kind::UNION } else { Kind::STRUCT }
}

fn element(ty: &Type<'_>) -> TypeId {
    ty.array().map_or(TypeId::VOID, |array| array.element)
}

/// Integers that are not bit fields in the old form, which kept an offset in the type.
fn plain_ints(a: &Type<'_>, b: &Type<'_>) -> bool {
    let plain = |ty: &Type<'_>| ty.int().is_some_and(|int| int.offset == 0);
    plain(a) && plain(b)
}

//! Finding in a candidate what the object's access refers to.

use super::access::{Access, Accessor, MAX_LEN, Work};
use super::decision::Mismatch;
use super::error::{CoreErrorKind, Side};
use super::types::Walk;
use crate::{Btf, CoreReloKind, Members, Type, TypeId, essential_name};

const TOO_DEEP: CoreErrorKind = CoreErrorKind::TooDeep { limit: MAX_LEN };

/// The access in the target that corresponds to `local`, or why candidate `id` does not have it.
pub(super) fn find(
    local: &Access,
    target: &Btf,
    id: TypeId,
    work: &mut Work,
) -> Result<Result<Access, Mismatch>, CoreErrorKind> {
    work.step()?;
    let mut found = Access::new(target, Side::Target, id, local.kind);
    let mut walk = Walk::new(&local.btf, target, work);
    let mismatch = if local.kind.is_type() {
        let same = if local.kind == CoreReloKind::TYPE_MATCHES {
            walk.types_match(local.root, id)?
        } else {
            walk.types_compatible(local.root, id)?
        };
        let why = walk.why.unwrap_or(Mismatch::Types { local: local.root, target: id, reason: "differ" });
        (!same).then_some(why)
    } else if local.kind.is_enum_value() {
        find_enumerator(local, &mut found, work)?
    } else {
        find_field(local, &mut found, &mut walk)?
    };
    Ok(match mismatch {
        Some(why) => Err(why),
        None => Ok(found),
    })
}

fn find_enumerator(
    local: &Access,
    found: &mut Access,
    work: &mut Work,
) -> Result<Option<Mismatch>, CoreErrorKind> {
    let btf = found.btf.clone();
    let ty = work.peel(&btf, Side::Target, found.root)?;
    if !ty.kind().is_enum() {
        return Ok(Some(Mismatch::NotEnum { type_id: ty.id() }));
    }
    let wanted = local.accessors.first().map_or(&[][..], |accessor| local.name_of(accessor));
    work.spend(wanted)?;
    let wanted = essential_name(wanted);
    for (index, value) in (0..).zip(ty.enumerators()) {
        let name = value.name_bytes();
        work.spend(name)?;
        if essential_name(name) == wanted {
            found.accessors.push(Accessor { type_id: ty.id(), index, named: true });
            found.raw.push(index);
            return Ok(None);
        }
    }
    Ok(Some(Mismatch::NoEnumerator { type_id: ty.id() }))
}

fn find_field(
    local: &Access,
    found: &mut Access,
    walk: &mut Walk<'_>,
) -> Result<Option<Mismatch>, CoreErrorKind> {
    let btf = found.btf.clone();
    let mut id = found.root;
    for (nth, step) in local.accessors.iter().enumerate() {
        let ty = walk.work.peel(&btf, Side::Target, id)?;
        if step.named {
            match find_member(local, nth, step, &ty, found, walk)? {
                Ok(member_type) => id = member_type,
                Err(why) => return Ok(Some(why)),
            }
            continue;
        }
        let mut element = ty;
        // The first index is one of root types, as if they stood in an array.
        if nth > 0 {
            let Some(array) = ty.array() else {
                return Ok(Some(Mismatch::NotArray { accessor: nth, type_id: ty.id() }));
            };
            if step.index >= array.len && !found.is_flexible(&array) {
                return Ok(Some(Mismatch::OutOfBounds { accessor: nth, len: array.len }));
            }
            element = walk.work.peel(&btf, Side::Target, array.element)?;
        }
        if found.raw.len() >= MAX_LEN {
            return Err(TOO_DEEP);
        }
        id = element.id();
        found.accessors.push(Accessor { type_id: id, index: step.index, named: false });
        found.raw.push(step.index);
        found.skip_elements(id, step.index)?;
    }
    Ok(None)
}

/// A composite whose members are being searched.
struct Level<'a> {
    ty: Type<'a>,
    members: Members<'a>,
    next: u32,
    /// Where it starts, in bits from the start of the root type.
    bits: u64,
}

impl<'a> Level<'a> {
    fn new(ty: Type<'a>, bits: u64) -> Self {
        Level { ty, members: ty.members(), next: 0, bits }
    }
}

/// Goes back to the composite around the last one.
fn leave(levels: &mut Vec<Level<'_>>, found: &mut Access) {
    levels.pop();
    if !levels.is_empty() {
        found.raw.pop();
    }
}

/// Searches `root` and the anonymous composites within it, depth first, for the member that `step` names; gives that
/// member's type and adds the way to it to `found`.
fn find_member(
    local: &Access,
    nth: usize,
    step: &Accessor,
    root: &Type<'_>,
    found: &mut Access,
    walk: &mut Walk<'_>,
) -> Result<Result<TypeId, Mismatch>, CoreErrorKind> {
    if !root.kind().is_composite() {
        return Ok(Err(Mismatch::NotComposite { accessor: nth, type_id: root.id() }));
    }
    let wanted = local.btf.ty(step.type_id).map_err(|e| local.malformed(e))?;
    let Some(wanted) = wanted.member(step.index) else {
        return Ok(Err(Mismatch::NoMember { accessor: nth, type_id: root.id() }));
    };
    let name = wanted.name_bytes();
    walk.work.spend(name)?;

    let mut why = Mismatch::NoMember { accessor: nth, type_id: root.id() };
    let start = found.raw.len();
    let mut levels = vec![Level::new(*root, found.bit_offset.into())];
    while let Some(level) = levels.last_mut() {
        let Some(member) = level.members.next() else {
            leave(&mut levels, found);
            continue;
        };
        let index = level.next;
        level.next = level.next.saturating_add(1);
        if found.raw.len() >= MAX_LEN {
            return Err(TOO_DEEP);
        }
        let bits = level.bits + u64::from(member.bit_offset); // at most 64 levels of 32 bits each
        // Composites have hundreds of members: their names are compared without looking for their ends.
        let member_name = level.ty.btf().strings_from(member.name_offset());
        walk.work.spend(name)?;
        if matches!(member_name.first(), None | Some(0)) {
            let inner = walk.work.peel(walk.target, Side::Target, member.type_id)?;
            if inner.kind().is_composite() {
                found.raw.push(index);
                levels.push(Level::new(inner, bits));
            }
        } else if member_name.strip_prefix(name).is_some_and(|rest| rest.first() == Some(&0)) {
            if walk.fields_compatible(wanted.type_id, member.type_id)? {
                let type_id = level.ty.id();
                found.raw.push(index);
                found.accessors.push(Accessor { type_id, index, named: true });
                let bits = bits - u64::from(found.bit_offset); // levels start at or after it
                found.skip_bits(bits)?;
                return Ok(Ok(member.type_id));
            }
            why = Mismatch::FieldType { accessor: nth, local: wanted.type_id, target: member.type_id };
            // As libbpf: the rest of this composite is not looked at, only those around it.
            leave(&mut levels, found);
        }
    }
    found.raw.truncate(start);
    Ok(Err(why))
}

//! Whether a Rust type lies as a type of BTF does.

use skep_btf::{Btf, Int, Kind, Type, TypeId};

use super::btf::{self, Member};
use super::show::{self, LayoutMismatch};
use super::{Layout, LayoutKind};

/// How deep types may lie in one another.
const MAX_DEPTH: u32 = 64;
/// How many members are looked at; arms of unions are looked at one by one, which could multiply.
const MAX_STEPS: usize = 1 << 18;

/// Compares a Rust type with the type `id`, member by member.
///
/// Members must lie at the same places and be alike; their names are not compared. Rust bytes stand for anything.
pub(in crate::map) fn compare(btf: &Btf, id: TypeId, layout: &'static Layout) -> Result<(), LayoutMismatch> {
    let mut walk = Walk { btf, steps: MAX_STEPS };
    walk.types(0, layout, id, 0).map_err(|differs| show::mismatch(btf, id, layout, differs))
}

/// How many members something may have of which only one takes room.
const WRAPPED: u32 = 4;

/// The first place where they differ.
#[derive(Debug)]
pub(super) struct Differs {
    /// Offset in bytes, in the first element of arrays.
    pub(super) at: usize,
    pub(super) why: String,
}

type Verdict = Result<(), Differs>;

/// A field of a Rust type, at a place in bits.
#[derive(Clone, Copy)]
struct Place {
    name: &'static str,
    layout: &'static Layout,
    start: u64,
}

impl Place {
    fn end(&self) -> u64 {
        self.start.saturating_add((self.layout.size as u64).saturating_mul(8))
    }

    /// Whether it may lie where C has nothing, or several things.
    fn is_padding(&self) -> bool {
        let name = self.name.trim_start_matches('_');
        self.layout.is_bytes()
            || self.layout.is_byte()
            || name.len() < self.name.len()
            || ["pad", "reserved", "unused"].iter().any(|word| name.contains(word))
    }

    fn is_number(&self) -> bool {
        matches!(self.layout.kind, LayoutKind::Integer { .. })
    }
}

struct Walk<'b> {
    btf: &'b Btf,
    steps: usize,
}

impl<'b> Walk<'b> {
    fn spend(&mut self, steps: usize, at: usize) -> Verdict {
        match self.steps.checked_sub(steps) {
            Some(left) => {
                self.steps = left;
                Ok(())
            }
            None => differs(at, "it has too many members to be compared"),
        }
    }

    /// A Rust type and a C type that start at the same place.
    fn types(&mut self, at: usize, layout: &'static Layout, id: TypeId, depth: u32) -> Verdict {
        self.spend(1, at)?;
        if depth > MAX_DEPTH {
            return differs(at, "types lie too deep in one another to be compared");
        }
        let size = btf::size(self.btf, id);
        if size != layout.size {
            return self.sizes(at, layout, id, size, depth);
        }
        let (layout, ty) = (single(layout), self.single(id, at)?);
        if layout.is_bytes() {
            return Ok(());
        }
        let alike = match (layout.kind, ty.kind()) {
            (LayoutKind::Integer { signed }, Kind::INT) => {
                if let Some(int) = ty.int().filter(|int| !same_sign(&ty, int, signed)) {
                    let sign = if int.encoding.is_signed() { "signed" } else { "unsigned" };
                    let c = btf::type_name(self.btf, id);
                    return differs(at, format!("`{c}` is {sign}, and `{}` is not", layout.type_name()));
                }
                true
            }
            (LayoutKind::Integer { .. }, kind) if kind.is_enum() => true,
            (LayoutKind::Integer { signed: false }, Kind::PTR) | (LayoutKind::Float, Kind::FLOAT) => true,
            (_, Kind::UNION) => {
                return self.arms(at, &[Place { name: "", layout, start: 0 }], &ty, depth);
            }
            (LayoutKind::Array { .. }, Kind::ARRAY) => {
                let (ours, theirs) = (innermost(layout), self.innermost(&ty, at)?);
                if btf::size(self.btf, theirs) == ours.size {
                    return self.types(at, ours, theirs, depth + 1);
                }
                return self.composites(at, layout, &ty, depth);
            }
            (
                LayoutKind::Array { .. } | LayoutKind::Struct(_),
                Kind::STRUCT | Kind::DATASEC | Kind::ARRAY,
            ) => return self.composites(at, layout, &ty, depth),
            // A struct of nothing but bit fields is the integer that they lie in.
            (LayoutKind::Integer { .. }, Kind::STRUCT) => {
                let members = self.members(&ty, at)?;
                !members.is_empty() && members.iter().all(|member| member.bitfield)
            }
            _ => false,
        };
        if alike { Ok(()) } else { self.unlike(at, layout, id) }
    }

    fn unlike(&self, at: usize, layout: &Layout, id: TypeId) -> Verdict {
        let c = btf::type_name(self.btf, id);
        differs(at, format!("`{c}` is not like `{}`", layout.type_name()))
    }

    /// Where types of different sizes differ.
    fn sizes(&mut self, at: usize, layout: &'static Layout, id: TypeId, size: usize, depth: u32) -> Verdict {
        let c = btf::type_name(self.btf, id);
        let why = format!("`{c}` has {size} bytes, and `{}` has {}", layout.type_name(), layout.size);
        let mut place = at.saturating_add(size.min(layout.size));
        if let (LayoutKind::Struct(_), Ok(ty)) = (layout.kind, self.btf.peel(id))
            && matches!(ty.kind(), Kind::STRUCT | Kind::DATASEC)
            && let Err(first) = self.composites(at, layout, &ty, depth)
        {
            place = place.min(first.at);
        } else if !matches!(layout.kind, LayoutKind::Struct(_)) {
            place = at;
        }
        differs(place, why)
    }

    fn composites(&mut self, at: usize, layout: &'static Layout, ty: &Type<'b>, depth: u32) -> Verdict {
        let fields = self.fields(Place { name: "", layout, start: 0 }, at)?;
        let members = self.members(ty, at)?;
        self.sequence(at, fields, members, depth)
    }

    /// The Rust fields and the C members of one stretch of memory, each by their places.
    fn sequence(
        &mut self,
        at: usize,
        mut fields: Vec<Place>,
        mut members: Vec<Member<'b>>,
        depth: u32,
    ) -> Verdict {
        // The next ones are last.
        fields.reverse();
        members.reverse();
        let byte = |bits: u64| at.saturating_add((bits / 8) as usize);
        while let Some(field) = fields.pop() {
            self.spend(1, byte(field.start))?;
            let (start, end) = (field.start, field.end());
            if start == end {
                continue;
            }
            let Some(member) = members.last().filter(|member| member.start < end).cloned() else {
                if field.is_padding() {
                    continue;
                }
                return differs(byte(start), format!("nothing is there, where Rust has `{}`", field.name));
            };
            if member.start < start {
                let text = format!("`{}` does not begin and end where fields do", member.name);
                return differs(byte(member.start), text);
            }
            let whole = (member.start, member.end) == (start, end);
            if whole && !member.bitfield {
                members.pop();
                self.types(byte(start), field.layout, member.id, depth + 1)?;
            } else if member.bitfield && (field.is_number() || field.is_padding()) {
                while members.last().is_some_and(|part| part.bitfield && part.end <= end) {
                    members.pop();
                }
                if let Some(part) = members.last().filter(|part| part.start < end) {
                    let text = format!("`{}` lies across the end of `{}`", part.name, field.name);
                    return differs(byte(part.start), text);
                }
            } else if member.start == start && member.end > end && !member.bitfield {
                members.pop();
                self.split_member(at, &member, field, &mut fields, &mut members, depth)?;
            } else if member.end <= end && field.layout.is_bytes() {
                while members.last().is_some_and(|inside| inside.end <= end) {
                    members.pop();
                }
            } else {
                let parts = self.fields(field, at)?;
                if parts.is_empty() {
                    let (c, ours) = (btf::type_name(self.btf, member.id), field.layout.type_name());
                    let text = format!("`{c} {}` is not where `{}: {ours}` is", member.name, field.name);
                    return differs(byte(member.start), text);
                }
                fields.extend(parts.into_iter().rev());
            }
        }
        match members.last() {
            Some(member) => differs(byte(member.start), format!("Rust has nothing for `{}`", member.name)),
            None => Ok(()),
        }
    }

    /// A C member that begins with a field and is longer.
    fn split_member(
        &mut self,
        at: usize,
        member: &Member<'b>,
        field: Place,
        fields: &mut Vec<Place>,
        members: &mut Vec<Member<'b>>,
        depth: u32,
    ) -> Verdict {
        let byte = at.saturating_add((member.start / 8) as usize);
        let ty = self.peel(member.id, byte)?;
        match ty.kind() {
            Kind::STRUCT | Kind::ARRAY => {
                let parts = self.members(&ty, byte)?;
                members.extend(parts.into_iter().map(|part| part.shifted(member.start)).rev());
                fields.push(field);
                Ok(())
            }
            Kind::UNION => {
                let mut within = vec![field];
                while let Some(next) = fields.last().filter(|next| next.start < member.end).copied() {
                    fields.pop();
                    within.push(next);
                }
                for place in &mut within {
                    place.start -= member.start; // the first begins with the member, the others behind it
                }
                self.arms(byte, &within, &ty, depth)
            }
            _ => {
                let (c, ours) = (btf::type_name(self.btf, member.id), field.layout.type_name());
                differs(byte, format!("`{c} {}` is longer than `{}: {ours}`", member.name, field.name))
            }
        }
    }

    /// Fields that lie where a union does, and fit one of its arms.
    fn arms(&mut self, at: usize, fields: &[Place], union: &Type<'b>, depth: u32) -> Verdict {
        if depth > MAX_DEPTH {
            return differs(at, "types lie too deep in one another to be compared");
        }
        let arms = self.members(union, at)?;
        let mut first = None;
        for arm in &arms {
            self.spend(fields.len(), at)?;
            match self.sequence(at, fields.to_vec(), vec![arm.clone()], depth + 1) {
                Ok(()) => return Ok(()),
                Err(differs) => first = first.or(Some(differs)),
            }
        }
        match first {
            Some(differs) if arms.len() == 1 => Err(differs),
            _ => differs(at, "the fields fit no arm of the union"),
        }
    }

    /// What lies in a composite Rust type that is at that place; nothing for all others.
    fn fields(&mut self, of: Place, at: usize) -> Result<Vec<Place>, Differs> {
        match of.layout.kind {
            LayoutKind::Struct(fields) => {
                self.spend(fields.len(), at)?;
                let place = |field: &super::Field| Place {
                    name: field.name,
                    layout: field.layout,
                    start: of.start.saturating_add((field.offset as u64).saturating_mul(8)),
                };
                let mut places: Vec<Place> = fields.iter().map(place).collect();
                // A layout that was written by hand has any order.
                places.sort_by_key(|place| place.start);
                Ok(places)
            }
            LayoutKind::Array { element, len } => {
                self.spend(len, at)?;
                let bits = (element.size as u64).saturating_mul(8);
                let place = |nth: u64| Place {
                    name: of.name,
                    layout: element,
                    start: of.start.saturating_add(nth.saturating_mul(bits)),
                };
                Ok((0..len as u64).map(place).collect())
            }
            _ => Ok(Vec::new()),
        }
    }

    /// What lies in a composite C type.
    fn members(&mut self, ty: &Type<'b>, at: usize) -> Result<Vec<Member<'b>>, Differs> {
        let Some(array) = ty.array() else {
            self.spend(ty.vlen() as usize, at)?;
            return Ok(btf::members(self.btf, ty));
        };
        self.spend(array.len as usize, at)?;
        let bits = btf::size(self.btf, array.element) as u64 * 8;
        let member = |nth: u64| Member {
            name: format!("[{nth}]").into(),
            id: array.element,
            start: nth * bits,
            end: (nth + 1) * bits,
            bitfield: false,
        };
        Ok((0..u64::from(array.len)).map(member).filter(|_| bits != 0).collect())
    }

    fn peel(&self, id: TypeId, at: usize) -> Result<Type<'b>, Differs> {
        let ty = self.btf.ty(id).ok().filter(|ty| ty.kind() == Kind::VAR).map_or(id, |var| var.type_id());
        self.btf
            .peel(ty)
            .map_err(|error| Differs { at, why: format!("the map's types are damaged: {error}") })
    }

    /// What a type is, where it only wraps one that covers it whole.
    fn single(&mut self, id: TypeId, at: usize) -> Result<Type<'b>, Differs> {
        let mut ty = self.peel(id, at)?;
        for _ in 0..MAX_DEPTH {
            let bits = btf::size(self.btf, ty.id()) as u64 * 8;
            let inner = match ty.kind() {
                Kind::ARRAY => ty.array().filter(|array| array.len == 1).map(|array| array.element),
                // Beside it may be what takes no room: the flexible array of a header.
                Kind::STRUCT if ty.vlen() <= WRAPPED => match &*btf::members(self.btf, &ty) {
                    [only] if !only.bitfield && only.end - only.start == bits => Some(only.id),
                    _ => None,
                },
                _ => None,
            };
            match inner {
                Some(inner) => ty = self.peel(inner, at)?,
                None => break,
            }
        }
        Ok(ty)
    }

    fn innermost(&mut self, array: &Type<'b>, at: usize) -> Result<TypeId, Differs> {
        let mut ty = *array;
        let mut element = ty.id();
        for _ in 0..MAX_DEPTH {
            let Some(array) = ty.array() else { break };
            element = array.element;
            ty = self.peel(element, at)?;
        }
        Ok(element)
    }
}

/// What a type is, where it only wraps one that covers it whole.
fn single(mut layout: &'static Layout) -> &'static Layout {
    loop {
        let inner = match layout.kind {
            LayoutKind::Array { element, len: 1 } => element,
            LayoutKind::Struct(fields) => {
                let mut sized = fields.iter().filter(|field| field.layout.size != 0);
                match (sized.next(), sized.next()) {
                    (Some(only), None) if only.layout.size == layout.size => only.layout,
                    _ => return layout,
                }
            }
            _ => return layout,
        };
        layout = inner;
    }
}

fn innermost(mut layout: &'static Layout) -> &'static Layout {
    while let LayoutKind::Array { element, .. } = layout.kind {
        layout = element;
    }
    layout
}

/// Whether an integer is as signed as a Rust one; characters and booleans have no sign that anyone means.
fn same_sign(ty: &Type<'_>, int: &Int, signed: bool) -> bool {
    let character = int.encoding.is_char() || matches!(ty.name_bytes(), b"char");
    character || int.encoding.is_bool() || int.encoding.is_signed() == signed
}

fn differs<T>(at: usize, why: impl Into<String>) -> Result<T, Differs> {
    Err(Differs { at, why: why.into() })
}

//! Where in the kernel's memory the field of a path is.

use skep_btf::{Btf, Kind, Member, Type, TypeId};

use super::error::ImageError;
use super::memory::MemoryImage;

/// A field: where it is and of which type.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spot {
    pub(super) address: u64,
    pub(super) ty: TypeId,
    /// First bit from the address on, and number of bits, of a bit field.
    pub(super) bits: Option<(u32, u32)>,
}

/// Names that a message lists before it looks which ones are similar.
const NAMES_MAX: usize = 1024;
/// How deep structs without a name may lie in each other.
const ANONYMOUS_MAX: u32 = 16;

/// A step of a path.
#[derive(Clone, Copy, Debug)]
enum Step<'p> {
    Member(&'p str),
    Index(u64),
}

/// The steps of a path, each with the part of the path that ends with it.
fn steps(path: &str) -> Result<Vec<(&str, Step<'_>)>, ImageError> {
    let malformed = || ImageError::Path { path: path.to_owned() };
    let mut steps = Vec::new();
    let mut at = 0;
    while let Some(rest) = path.get(at..).filter(|rest| !rest.is_empty()) {
        let (step, len) = if let Some(index) = rest.strip_prefix('[') {
            let (number, _) = index.split_once(']').ok_or_else(malformed)?;
            (Step::Index(number.trim().parse().map_err(|_| malformed())?), number.len() + 2)
        } else {
            let skip = match rest {
                _ if steps.is_empty() => 0,
                rest if rest.starts_with("->") => 2,
                rest if rest.starts_with('.') => 1,
                _ => return Err(malformed()),
            };
            let name = rest.get(skip..).unwrap_or_default();
            let name = name.split(['.', '[', '-']).next().unwrap_or_default();
            if name.is_empty() {
                return Err(malformed());
            }
            (Step::Member(name), skip + name.len())
        };
        at += len;
        steps.push((path.get(..at).unwrap_or(path), step));
    }
    Ok(steps)
}

/// A walk along a path.
pub(super) struct Walk<'a> {
    pub(super) btf: &'a Btf,
    pub(super) memory: &'a mut MemoryImage,
    /// Whether what a null pointer on the way should point to is made.
    pub(super) makes: bool,
}

impl Walk<'_> {
    /// Where the path leads from an object.
    pub(super) fn find(&mut self, start: Spot, path: &str) -> Result<Spot, ImageError> {
        let mut spot = start;
        for (so_far, step) in steps(path)? {
            spot = self.step(spot, so_far, step)?;
        }
        Ok(spot)
    }

    fn step(&mut self, spot: Spot, path: &str, step: Step<'_>) -> Result<Spot, ImageError> {
        let ty = peel(self.btf, spot.ty, path)?;
        match (step, ty.kind()) {
            (Step::Index(index), Kind::ARRAY) => {
                let array = ty.array().ok_or_else(|| broken(path, "the array has no elements"))?;
                if index >= u64::from(array.len) && array.len != 0 {
                    let ty = type_name(self.btf, spot.ty);
                    return Err(ImageError::Index {
                        path: path.to_owned(),
                        ty,
                        index,
                        len: array.len.into(),
                    });
                }
                self.element(spot.address, array.element, index, path)
            }
            (Step::Index(index), Kind::PTR) => {
                let to = self.follow(spot.address, ty.type_id(), index, path)?;
                self.element(to.address, to.ty, index, path)
            }
            (Step::Index(index), _) => {
                let ty = type_name(self.btf, spot.ty);
                Err(ImageError::Index { path: path.to_owned(), ty, index, len: 0 })
            }
            (Step::Member(_), Kind::PTR) => {
                let to = self.follow(spot.address, ty.type_id(), 0, path)?;
                let inner = peel(self.btf, to.ty, path)?;
                if inner.kind() == Kind::PTR {
                    let ty = type_name(self.btf, spot.ty);
                    return Err(ImageError::NotComposite { path: path.to_owned(), ty });
                }
                self.step(to, path, step)
            }
            (Step::Member(name), kind) if kind.is_composite() => self.member(spot, ty, name, path),
            (Step::Member(_), Kind::FWD) => {
                Err(ImageError::Declared { path: path.to_owned(), ty: type_name(self.btf, spot.ty) })
            }
            (Step::Member(_), _) => {
                Err(ImageError::NotComposite { path: path.to_owned(), ty: type_name(self.btf, spot.ty) })
            }
        }
    }

    fn element(&self, start: u64, element: TypeId, index: u64, path: &str) -> Result<Spot, ImageError> {
        let size = size_of(self.btf, element, path)?;
        let address = index.checked_mul(size.into()).and_then(|at| start.checked_add(at));
        let address = address.ok_or_else(|| broken(path, "the index leads out of memory"))?;
        Ok(Spot { address, ty: element, bits: None })
    }

    /// What the pointer at an address points to.
    fn follow(&mut self, at: u64, to: TypeId, index: u64, path: &str) -> Result<Spot, ImageError> {
        let to = self.whole(to, path)?;
        let mut address = self.memory.pointer(at).ok_or_else(|| nothing(path, at))?;
        if address == 0 && self.makes {
            let size = u64::from(size_of(self.btf, to, path)?);
            let len = size.checked_mul(index.saturating_add(1)).and_then(|len| usize::try_from(len).ok());
            let len = len.filter(|len| *len <= OBJECT_MAX);
            address = self.memory.allocate(len.ok_or_else(|| broken(path, "it would be too large"))?);
            self.memory.write_kernel(at, &address.to_ne_bytes()).ok_or_else(|| nothing(path, at))?;
        }
        if !self.memory.is_kernel(address) {
            return Err(nothing(path, address));
        }
        Ok(Spot { address, ty: to, bits: None })
    }

    /// The type, or the one with a layout that has its name when it is declared only.
    fn whole(&self, id: TypeId, path: &str) -> Result<TypeId, ImageError> {
        let ty = peel(self.btf, id, path)?;
        if ty.kind() != Kind::FWD {
            return Ok(id);
        }
        let name = ty.name_bytes();
        let whole = self.btf.find(name, Kind::STRUCT).or_else(|| self.btf.find(name, Kind::UNION));
        whole.ok_or_else(|| ImageError::Declared { path: path.to_owned(), ty: type_name(self.btf, id) })
    }

    fn member(&self, spot: Spot, ty: Type<'_>, name: &str, path: &str) -> Result<Spot, ImageError> {
        if let Some((member, bit_offset)) = member_of(self.btf, ty, name, 0, ANONYMOUS_MAX) {
            let address = spot.address.wrapping_add(u64::from(bit_offset / 8));
            let mut bits = (member.bitfield_size != 0).then_some((bit_offset % 8, member.bitfield_size));
            // Bit fields of before the kind flag are integers that are narrower than their size.
            if bits.is_none()
                && let Ok(ty) = self.btf.peel(member.type_id)
                && let Some(int) = ty.int()
                && (int.offset != 0 || int.bits != ty.size() * 8 || !bit_offset.is_multiple_of(8))
            {
                bits = Some((bit_offset % 8 + int.offset, int.bits));
            }
            return Ok(Spot { address, ty: member.type_id, bits });
        }
        let mut has = Vec::new();
        names(self.btf, ty, &mut has, ANONYMOUS_MAX);
        has.sort_by_cached_key(|known| distance(known, name));
        Err(ImageError::NoMember {
            path: path.to_owned(),
            ty: type_name(self.btf, spot.ty),
            member: name.to_owned(),
            has,
        })
    }
}

/// Largest object that is made, in bytes.
pub(super) const OBJECT_MAX: usize = 16 << 20;

fn nothing(path: &str, address: u64) -> ImageError {
    ImageError::Nothing { path: path.to_owned(), address }
}

pub(super) fn broken(path: &str, why: impl ToString) -> ImageError {
    ImageError::Broken { path: path.to_owned(), why: why.to_string() }
}

/// The type behind modifiers and typedefs.
pub(super) fn peel<'b>(btf: &'b Btf, id: TypeId, path: &str) -> Result<Type<'b>, ImageError> {
    btf.peel(id).map_err(|error| broken(path, error))
}

pub(super) fn size_of(btf: &Btf, id: TypeId, path: &str) -> Result<u32, ImageError> {
    let ty = peel(btf, id, path)?;
    if ty.kind() == Kind::FWD {
        return Err(ImageError::Declared { path: path.to_owned(), ty: type_name(btf, id) });
    }
    btf.resolve_size(id).map_err(|error| broken(path, error))
}

/// The member of a name, also of structs and unions without one, and its offset in bits.
pub(crate) fn member_of<'b>(
    btf: &'b Btf,
    ty: Type<'b>,
    name: &str,
    base: u32,
    depth: u32,
) -> Option<(Member<'b>, u32)> {
    let depth = depth.checked_sub(1)?;
    ty.members().find_map(|member| {
        let offset = base.checked_add(member.bit_offset)?;
        let bytes = member.name_bytes();
        if bytes == name.as_bytes() {
            return Some((member, offset));
        }
        let inner = btf.peel(member.type_id).ok().filter(|_| bytes.is_empty())?;
        member_of(btf, inner, name, offset, depth)
    })
}

fn names(btf: &Btf, ty: Type<'_>, to: &mut Vec<String>, depth: u32) {
    let Some(depth) = depth.checked_sub(1) else { return };
    for member in ty.members() {
        match btf.peel(member.type_id) {
            _ if to.len() >= NAMES_MAX => return,
            Ok(inner) if member.name_bytes().is_empty() => names(btf, inner, to, depth),
            _ => to.push(member.name().into_owned()),
        }
    }
}

/// How many letters have to be changed to make one name of another (Levenshtein).
pub(crate) fn distance(a: &str, b: &str) -> usize {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut corner = i;
        let mut left = i + 1;
        for (j, y) in b.iter().enumerate() {
            let above = row.get(j + 1).copied().unwrap_or_default();
            let change = corner + usize::from(x != y);
            corner = above;
            left = change.min(above + 1).min(left + 1);
            if let Some(cell) = row.get_mut(j + 1) {
                *cell = left;
            }
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}

/// A type as C writes it.
pub(crate) fn type_name(btf: &Btf, id: TypeId) -> String {
    let mut suffix = String::new();
    let mut id = id;
    for _ in 0..32 {
        let Ok(ty) = btf.ty(id) else { break };
        let name = ty.name();
        let base = match ty.kind() {
            Kind::PTR => {
                suffix.insert_str(0, " *");
                id = ty.type_id();
                continue;
            }
            Kind::ARRAY => {
                let Some(array) = ty.array() else { break };
                suffix.push_str(&format!("[{}]", array.len));
                id = array.element;
                continue;
            }
            kind if kind.is_modifier() => {
                id = ty.type_id();
                continue;
            }
            Kind::VOID => "void".to_owned(),
            Kind::STRUCT => format!("struct {name}"),
            Kind::UNION => format!("union {name}"),
            Kind::FWD if ty.kind_flag() => format!("union {name}"),
            Kind::FWD => format!("struct {name}"),
            Kind::ENUM | Kind::ENUM64 => format!("enum {name}"),
            _ => name.into_owned(),
        };
        return format!("{}{suffix}", base.trim_end());
    }
    format!("type {}{suffix}", id.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_have_members_and_indexes() {
        let text = |path| {
            let steps = steps(path)
                .map(|steps| steps.into_iter().map(|step| format!("{step:?}")).collect::<Vec<_>>());
            steps.map_or_else(|error| error.to_string(), |steps| steps.join(" "))
        };
        assert_eq!(
            text("a.b->c[3].d"),
            r#"("a", Member("a")) ("a.b", Member("b")) ("a.b->c", Member("c")) ("a.b->c[3]", Index(3)) ("a.b->c[3].d", Member("d"))"#
        );
        assert_eq!(text("[0]"), r#"("[0]", Index(0))"#);
        assert_eq!(text(""), "");
        for bad in ["a..b", "a.", ".a", "a[", "a[x]", "a[-1]", "a[1]b", "a-b"] {
            assert!(
                text(bad).ends_with("is no path: write `member.member[index].member`"),
                "{bad}: {}",
                text(bad)
            );
        }
    }

    #[test]
    fn similar_names_have_a_small_distance() {
        assert_eq!(distance("pid", "pid"), 0);
        assert_eq!(distance("pid", "tgid"), 2);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("real_parent", "realparent"), 1);
    }
}

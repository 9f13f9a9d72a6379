//! What is asked of the types of a map. They can come from an object file, so nothing about them is taken for granted.

use std::borrow::Cow;

use skep_btf::{Btf, Kind, Type, TypeId};

/// How many references a name is made of.
const MAX_NAME_DEPTH: u32 = 8;
/// Bytes of one name that are shown.
const MAX_NAME: usize = 64;

/// A member of a C type that lies within another.
#[derive(Clone, Debug)]
pub(super) struct Member<'b> {
    pub(super) name: Cow<'b, str>,
    pub(super) id: TypeId,
    /// Where it lies, in bits from the start of what holds it.
    pub(super) start: u64,
    pub(super) end: u64,
    /// Whether it is a part of an integer.
    pub(super) bitfield: bool,
}

impl Member<'_> {
    /// The same, further behind by that many bits.
    pub(super) fn shifted(mut self, bits: u64) -> Self {
        self.start = self.start.saturating_add(bits);
        self.end = self.end.saturating_add(bits);
        self
    }
}

/// Size of a type in bytes; 0 when it has none.
pub(super) fn size(btf: &Btf, id: TypeId) -> usize {
    btf.resolve_size(id).unwrap_or(0) as usize
}

/// The members of a structure, union or data section in the order of their places, without those that take no room.
pub(super) fn members<'b>(btf: &'b Btf, ty: &Type<'b>) -> Vec<Member<'b>> {
    let mut members: Vec<Member<'b>> = match ty.kind() {
        Kind::DATASEC => {
            let vars = ty.vars().map(|var| {
                let start = u64::from(var.offset) * 8;
                let name = btf.ty(var.type_id).map_or_else(|_| "".into(), |var| var.name());
                let end = start + u64::from(var.size) * 8;
                Member { name, id: var.type_id, start, end, bitfield: false }
            });
            vars.collect()
        }
        _ => ty.members().map(|member| placed(btf, member)).collect(),
    };
    members.retain(|member| member.end > member.start);
    members.sort_by_key(|member| member.start);
    members
}

fn placed<'b>(btf: &'b Btf, member: skep_btf::Member<'b>) -> Member<'b> {
    let mut start = u64::from(member.bit_offset);
    let mut bits = u64::from(member.bitfield_size);
    let size = size(btf, member.type_id) as u64;
    if bits == 0
        && let Some(int) = btf.peel(member.type_id).ok().and_then(|ty| ty.int())
        && !int.encoding.is_bool()
        && u64::from(int.bits) < size * 8
    {
        // How compilers said it before there was a flag for it.
        start += u64::from(int.offset);
        bits = u64::from(int.bits);
    }
    let bitfield = bits != 0;
    let end = start + if bitfield { bits } else { size * 8 };
    Member { name: shown(member.name()), id: member.type_id, start, end, bitfield }
}

/// The type as C has it: `struct flow`, `__u32`, `char[16]`.
pub(super) fn type_name(btf: &Btf, id: TypeId) -> String {
    name_at(btf, id, MAX_NAME_DEPTH)
}

fn name_at(btf: &Btf, id: TypeId, depth: u32) -> String {
    let Some(depth) = depth.checked_sub(1) else { return "…".into() };
    let Ok(ty) = btf.ty(id) else { return format!("type {id}") };
    let tagged = |tag: &str| match ty.name_bytes() {
        [] => tag.to_owned(),
        _ => format!("{tag} {}", shown(ty.name())),
    };
    match ty.kind() {
        Kind::STRUCT => tagged("struct"),
        Kind::UNION => tagged("union"),
        Kind::ENUM | Kind::ENUM64 => tagged("enum"),
        Kind::FWD => tagged(if ty.kind_flag() { "union" } else { "struct" }),
        Kind::PTR => format!("{} *", name_at(btf, ty.type_id(), depth)),
        Kind::ARRAY => match ty.array() {
            Some(array) => {
                // `int[2][3]` is two times three: the inner length stands behind.
                let inner = name_at(btf, array.element, depth);
                let at = inner.find('[').unwrap_or(inner.len());
                let (element, lengths) = inner.split_at(at);
                format!("{element}[{}]{lengths}", array.len)
            }
            None => "array".into(),
        },
        Kind::CONST | Kind::VOLATILE | Kind::RESTRICT | Kind::TYPE_TAG | Kind::VAR => {
            name_at(btf, ty.type_id(), depth)
        }
        Kind::FUNC_PROTO => "function".into(),
        _ if ty.is_void() => "void".into(),
        _ => shown(ty.name()).into_owned(),
    }
}

/// A name that can be printed: files may hold any bytes.
fn shown(name: Cow<'_, str>) -> Cow<'_, str> {
    let fine = |c: char| !c.is_control() && c != '\u{2028}' && c != '\u{2029}';
    if name.len() <= MAX_NAME && name.chars().all(fine) {
        return name;
    }
    name.chars().filter(|&c| fine(c)).take(MAX_NAME).collect::<String>().into()
}

//! The path from a type to what is relocated.

use std::fmt;

use super::error::{CoreErrorKind, Side};
use crate::{Array, Btf, BtfError, CoreRelo, CoreReloKind, Kind, Type, TypeId};

/// Most indexes in an access string, and levels of a target's types that are entered for it (`BPF_CORE_SPEC_MAX_LEN`).
pub(super) const MAX_LEN: usize = 64;
/// Most steps for one relocation, and for all of one object. A long chain of fields takes a thousand, the largest
/// objects a few million in all.
const MAX_STEPS: u64 = 1 << 20;
const MAX_WORK: u64 = 1 << 24;
/// Most modifiers and typedefs before a type.
const MAX_CHAIN: u32 = 256;

/// What is left of the work that may be done.
#[derive(Debug)]
pub(super) struct Work {
    /// For the relocation at hand.
    steps: u64,
    /// For all that follow.
    later: u64,
}

impl Work {
    pub(super) fn new() -> Self {
        Work { steps: 0, later: MAX_WORK }.next()
    }

    /// What the next relocation may do.
    pub(super) fn next(self) -> Self {
        let all = self.steps + self.later;
        let steps = all.min(MAX_STEPS);
        Work { steps, later: all - steps }
    }

    /// One step, and more for a long name: finding its end is what costs.
    pub(super) fn spend(&mut self, name: &[u8]) -> Result<(), CoreErrorKind> {
        let cost = 1 + name.len() as u64 / 64;
        match self.steps.checked_sub(cost) {
            Some(left) => self.steps = left,
            None => {
                self.steps = 0;
                return Err(CoreErrorKind::TooMuchWork { limit: MAX_STEPS });
            }
        }
        Ok(())
    }

    pub(super) fn step(&mut self) -> Result<(), CoreErrorKind> {
        self.spend(&[])
    }

    /// As [`Btf::peel`], a step for each type on the way.
    pub(super) fn peel<'a>(
        &mut self,
        btf: &'a Btf,
        side: Side,
        id: TypeId,
    ) -> Result<Type<'a>, CoreErrorKind> {
        let fail = |source| CoreErrorKind::Btf { side, source };
        let mut ty = btf.ty(id).map_err(fail)?;
        for _ in 0..MAX_CHAIN {
            self.step()?;
            if !ty.kind().is_modifier() && ty.kind() != Kind::TYPEDEF {
                return Ok(ty);
            }
            ty = btf.ty(ty.type_id()).map_err(fail)?;
        }
        Err(fail(BtfError::TooDeep { id, limit: MAX_CHAIN }))
    }
}

impl CoreReloKind {
    /// Whether it is about a field of a structure or union.
    pub fn is_field(self) -> bool {
        self.0 <= Self::FIELD_RSHIFT_U64.0
    }

    pub(super) fn is_type(self) -> bool {
        (Self::TYPE_ID_LOCAL.0..=Self::TYPE_SIZE.0).contains(&self.0) || self == Self::TYPE_MATCHES
    }

    /// Whether it is about a value of an enumeration.
    pub fn is_enum_value(self) -> bool {
        matches!(self, Self::ENUMVAL_EXISTS | Self::ENUMVAL_VALUE)
    }
}

/// A step of an [`Access`] that means something in C: a named member, an array index or an enumerator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accessor {
    /// The composite or enumeration that is looked into; for an array index the element's type.
    pub type_id: TypeId,
    /// Index of the member, element or enumerator.
    pub index: u32,
    /// Whether this is a member or enumerator, found by its name, and not an array index.
    pub named: bool,
}

/// What a relocation refers to: a type, an enumerator, or the path to a field, in one BTF.
///
/// Prints as libbpf does: `<byte_off> [7] struct sample.a[3].b (0:1:3:0 @ offset 16)`.
#[derive(Clone)]
pub struct Access {
    pub(super) btf: Btf,
    pub(super) side: Side,
    pub(super) root: TypeId,
    pub(super) kind: CoreReloKind,
    pub(super) raw: Vec<u32>,
    pub(super) accessors: Vec<Accessor>,
    pub(super) bit_offset: u32,
}

impl Access {
    /// Reads a relocation of an object whose BTF is `btf`.
    ///
    /// # Errors
    /// When the access string is malformed or does not fit the type.
    pub fn parse(btf: &Btf, relo: &CoreRelo) -> Result<Access, CoreErrorKind> {
        Access::parse_within(btf, relo, &mut Work::new())
    }

    pub(super) fn parse_within(btf: &Btf, relo: &CoreRelo, work: &mut Work) -> Result<Access, CoreErrorKind> {
        let mut access = Access::new(btf, Side::Local, relo.type_id, relo.kind);
        let text = btf.str_at(relo.access_str_off).map_err(|e| access.malformed(e))?;
        work.spend(text)?;
        let kind = relo.kind;
        if kind.is_type() {
            btf.ty(relo.type_id).map_err(|e| access.malformed(e))?;
            return if text == b"0" { Ok(access) } else { Err(bad(text, "is not `0`, as for a type")) };
        }
        access.raw = parse_indexes(text)?;
        let first = *access.raw.first().ok_or_else(|| bad(text, "is empty"))?;
        let root = work.peel(btf, Side::Local, relo.type_id)?;
        if kind.is_enum_value() {
            if access.raw.len() > 1 {
                return Err(bad(text, "has more than one index for an enumerator"));
            }
            if !root.kind().is_enum() || first >= root.vlen() {
                return Err(bad_index(0, first, &root, "is not an enumerator"));
            }
            access.accessors.push(Accessor { type_id: root.id(), index: first, named: true });
            return Ok(access);
        }
        if !kind.is_field() {
            return Err(CoreErrorKind::UnknownKind { kind });
        }
        access.accessors.push(Accessor { type_id: root.id(), index: first, named: false });
        access.skip_elements(root.id(), first)?;
        let mut ty = root;
        for position in 1..access.raw.len() {
            work.step()?;
            let index = access.raw.get(position).copied().unwrap_or_default(); // position is in range
            if ty.kind().is_composite() {
                let Some(member) = ty.member(index).filter(|_| index < ty.vlen()) else {
                    return Err(bad_index(position, index, &ty, "is not a member"));
                };
                access.skip_bits(member.bit_offset.into())?;
                let name = member.name_bytes();
                work.spend(name)?;
                if !name.is_empty() {
                    access.accessors.push(Accessor { type_id: ty.id(), index, named: true });
                } else if member.name_offset() != crate::StrOffset::EMPTY {
                    return Err(bad_index(position, index, &ty, "is a member whose name is unreadable"));
                }
                ty = work.peel(btf, Side::Local, member.type_id)?;
            } else if let Some(array) = ty.array() {
                if index >= array.len && !access.is_flexible(&array) {
                    return Err(bad_index(position, index, &ty, "is past the end of the array"));
                }
                ty = work.peel(btf, Side::Local, array.element)?;
                access.accessors.push(Accessor { type_id: ty.id(), index, named: false });
                access.skip_elements(ty.id(), index)?;
            } else {
                return Err(bad_index(position, index, &ty, "looks into what has no members"));
            }
        }
        Ok(access)
    }

    pub(super) fn new(btf: &Btf, side: Side, root: TypeId, kind: CoreReloKind) -> Access {
        Access { btf: btf.clone(), side, root, kind, raw: Vec::new(), accessors: Vec::new(), bit_offset: 0 }
    }

    pub(super) fn malformed(&self, source: BtfError) -> CoreErrorKind {
        CoreErrorKind::Btf { side: self.side, source }
    }

    pub(super) fn skip_bits(&mut self, bits: u64) -> Result<(), CoreErrorKind> {
        let sum = u64::from(self.bit_offset).checked_add(bits).and_then(|sum| u32::try_from(sum).ok());
        self.bit_offset = sum.ok_or(CoreErrorKind::OffsetOverflow { side: self.side })?;
        Ok(())
    }

    /// Moves on by `count` elements of the type. Its size is asked for even when that is none, as libbpf does.
    pub(super) fn skip_elements(&mut self, id: TypeId, count: u32) -> Result<(), CoreErrorKind> {
        let size = self.btf.resolve_size(id).map_err(|e| self.malformed(e))?;
        // Both are 32 bits wide: only the factor 8 can overflow.
        let bytes = u64::from(size) * u64::from(count);
        let bits = bytes.checked_mul(8).ok_or(CoreErrorKind::OffsetOverflow { side: self.side })?;
        self.skip_bits(bits)
    }

    /// Whether an array that was just reached through the last accessor has no end: it has length 0 and is the last
    /// member of its composite.
    pub(super) fn is_flexible(&self, array: &Array) -> bool {
        let Some(last) = self.accessors.last() else { return false };
        let vlen = self.btf.ty(last.type_id).map_or(0, |ty| ty.vlen());
        last.named && array.len == 0 && last.index.checked_add(1) == Some(vlen)
    }

    /// The BTF that all ids are of.
    pub fn btf(&self) -> &Btf {
        &self.btf
    }

    /// The type that the path starts from, as the relocation names it: maybe a typedef.
    pub fn type_id(&self) -> TypeId {
        self.root
    }

    /// What the relocation asks.
    pub fn kind(&self) -> CoreReloKind {
        self.kind
    }

    /// The indexes of the access string, members without a name included. Empty for relocations of types.
    pub fn indexes(&self) -> &[u32] {
        &self.raw
    }

    /// The steps that mean something in C. The first is the index of the root type, as of an array of it.
    pub fn accessors(&self) -> &[Accessor] {
        &self.accessors
    }

    /// Where the field starts, in bits from the start of the root type.
    pub fn bit_offset(&self) -> u32 {
        self.bit_offset
    }

    /// The name of a member or enumerator; empty for an array index.
    pub fn name_of(&self, accessor: &Accessor) -> &[u8] {
        let Some(ty) = self.btf.ty(accessor.type_id).ok().filter(|_| accessor.named) else { return b"" };
        if ty.kind().is_enum() {
            return ty.enumerators().nth(accessor.index as usize).map_or(b"", |value| value.name_bytes());
        }
        ty.member(accessor.index).map_or(b"", |member| member.name_bytes())
    }
}

fn bad(text: &[u8], problem: &'static str) -> CoreErrorKind {
    CoreErrorKind::BadAccess { text: Name(text).to_string(), problem }
}

fn bad_index(position: usize, index: u32, ty: &Type<'_>, problem: &'static str) -> CoreErrorKind {
    CoreErrorKind::BadIndex { position, index, id: ty.id(), kind: ty.kind(), problem }
}

/// Numbers with colons between them. They are C's `int`, so the largest is `i32::MAX`.
fn parse_indexes(text: &[u8]) -> Result<Vec<u32>, CoreErrorKind> {
    // Up to ten digits and a colon each.
    if text.len() > MAX_LEN * 11 {
        return Err(bad(text, "is too long"));
    }
    let mut indexes = Vec::with_capacity(8);
    for part in text.split(|&byte| byte == b':') {
        if part.is_empty() || !part.iter().all(u8::is_ascii_digit) {
            return Err(bad(text, "is not a list of numbers"));
        }
        if indexes.len() == MAX_LEN {
            return Err(bad(text, "has more than 64 indexes"));
        }
        let number = std::str::from_utf8(part).ok().and_then(|part| part.parse::<u32>().ok());
        let number = number.filter(|&number| number <= i32::MAX as u32);
        indexes.push(number.ok_or_else(|| bad(text, "has an index that is too large"))?);
    }
    Ok(indexes)
}

/// A name from BTF, made fit to print: escaped, and cut when it is absurdly long.
pub(super) struct Name<'a>(pub(super) &'a [u8]);

impl fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const MOST: usize = 256;
        if self.0.is_empty() {
            return f.write_str("<anon>");
        }
        let (shown, rest) = self.0.split_at_checked(MOST).unwrap_or((self.0, &[]));
        write!(f, "{}", shown.escape_ascii())?;
        if rest.is_empty() { Ok(()) } else { f.write_str("…") }
    }
}

/// A kind as libbpf prints it.
pub(super) struct KindName(pub(super) Kind);

impl fmt::Display for KindName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write as _;
        match self.0.known_name() {
            Some(name) => name.bytes().try_for_each(|byte| f.write_char(byte.to_ascii_lowercase().into())),
            None => write!(f, "{}", self.0),
        }
    }
}

/// `struct sample`.
pub(super) struct TypeName<'a>(pub(super) &'a Btf, pub(super) TypeId);

impl fmt::Display for TypeName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.ty(self.1) {
            Ok(ty) => write!(f, "{} {}", KindName(ty.kind()), Name(ty.name_bytes())),
            Err(_) => f.write_str("missing type"),
        }
    }
}

impl Access {
    /// The part behind the type's name.
    pub(super) fn write_path(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.kind.is_enum_value() {
            let Some(step) = self.accessors.first() else { return Ok(()) };
            let ty = self.btf.ty(step.type_id).ok();
            return match ty.and_then(|ty| ty.enumerators().nth(step.index as usize)) {
                Some(value) => write!(f, "::{} = {}", Name(value.name_bytes()), value.c_value()),
                None => Ok(()),
            };
        }
        if !self.kind.is_field() || self.raw.is_empty() {
            return Ok(());
        }
        self.write_fields(f)?;
        f.write_str(" (")?;
        for (nth, index) in self.raw.iter().enumerate() {
            write!(f, "{}{index}", if nth == 0 { "" } else { ":" })?;
        }
        write!(f, " @ offset {}", self.bit_offset / 8)?;
        match self.bit_offset % 8 {
            0 => f.write_str(")"),
            bits => write!(f, ".{bits})"),
        }
    }
}

impl Access {
    fn write_fields(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (nth, step) in self.accessors.iter().enumerate() {
            if step.named {
                write!(f, ".{}", Name(self.name_of(step)))?;
            } else if nth > 0 || step.index > 0 {
                write!(f, "[{}]", step.index)?;
            }
        }
        Ok(())
    }

    /// What is asked for by its names alone, the same whatever kernel it is looked for in: `struct task_struct.pid`,
    /// `enum bpf_prog_type::BPF_PROG_TYPE_XDP`, `struct sk_buff`.
    pub fn name(&self) -> AccessName<'_> {
        AccessName(self)
    }
}

/// Prints what a relocation asks for by its names; made by [`Access::name`].
#[derive(Clone, Copy, Debug)]
pub struct AccessName<'a>(&'a Access);

impl fmt::Display for AccessName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let access = self.0;
        write!(f, "{}", TypeName(&access.btf, access.root))?;
        if access.kind.is_enum_value() {
            let step = access.accessors.first();
            let value = step
                .and_then(|step| access.btf.ty(step.type_id).ok()?.enumerators().nth(step.index as usize));
            return value.map_or(Ok(()), |value| write!(f, "::{}", Name(value.name_bytes())));
        }
        if access.kind.is_field() { access.write_fields(f) } else { Ok(()) }
    }
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{}> {} {}", self.kind, self.root, TypeName(&self.btf, self.root))?;
        self.write_path(f)
    }
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

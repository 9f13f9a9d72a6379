//! Special fields of values: locks, timers, pointers to kernel objects, lists, trees.
//!
//! They are the kernel's, though they lie in a value: no update copies them, and they read back as they begin.

use std::ops::Range;
use std::sync::Arc;

use skep_btf::{Btf, Kind, Type, TypeId};
use skep_sys::abi::{Errno, MapFlags, MapType};

use super::Shape;

/// What a special field is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) enum FieldKind {
    /// `struct bpf_spin_lock`.
    SpinLock,
    /// `struct bpf_res_spin_lock`.
    ResSpinLock,
    /// `struct bpf_timer`.
    Timer,
    /// `struct bpf_wq`.
    Workqueue,
    /// `struct bpf_task_work`.
    TaskWork,
    /// `struct bpf_list_head`.
    ListHead,
    /// `struct bpf_rb_root`.
    RbRoot,
    /// `struct bpf_refcount`.
    Refcount,
    /// `struct bpf_list_node`, which objects have that programs allocate.
    ListNode,
    /// `struct bpf_rb_node`, as that.
    RbNode,
    /// A pointer tagged `kptr_untrusted`.
    KptrUntrusted,
    /// A pointer tagged `kptr`, which owns what it points to.
    Kptr,
    /// A pointer tagged `percpu_kptr`.
    KptrPerCpu,
    /// A pointer tagged `uptr`, to memory of a process.
    Uptr,
}

/// Those that are structures, by name, with size and alignment, and whether a value may have only one.
const STRUCTURES: [(&str, FieldKind, u32, u32, bool); 10] = [
    ("bpf_spin_lock", FieldKind::SpinLock, 4, 4, true),
    ("bpf_res_spin_lock", FieldKind::ResSpinLock, 4, 4, true),
    ("bpf_timer", FieldKind::Timer, 16, 8, true),
    ("bpf_wq", FieldKind::Workqueue, 16, 8, true),
    ("bpf_task_work", FieldKind::TaskWork, 8, 8, true),
    ("bpf_list_head", FieldKind::ListHead, 16, 8, false),
    ("bpf_rb_root", FieldKind::RbRoot, 16, 8, false),
    ("bpf_refcount", FieldKind::Refcount, 4, 4, false),
    ("bpf_list_node", FieldKind::ListNode, 24, 8, false),
    ("bpf_rb_node", FieldKind::RbNode, 32, 8, false),
];

/// Those that are pointers, by the tag of what they point to.
const POINTERS: [(&[u8], FieldKind); 4] = [
    (b"kptr_untrusted", FieldKind::KptrUntrusted),
    (b"kptr", FieldKind::Kptr),
    (b"percpu_kptr", FieldKind::KptrPerCpu),
    (b"uptr", FieldKind::Uptr),
];

/// Most special fields of a value (`BTF_FIELDS_MAX`).
const FIELDS_MAX: usize = 11;
/// How deep arrays and structures are looked into (`MAX_RESOLVE_DEPTH`).
const DEPTH_MAX: u32 = 32;
/// Members that are looked at: structures that take no room can nest without end.
const STEPS_MAX: u32 = 1 << 16;
/// Those that a value may have only one of.
const SINGLE: [FieldKind; 5] = [
    FieldKind::SpinLock,
    FieldKind::ResSpinLock,
    FieldKind::Timer,
    FieldKind::Workqueue,
    FieldKind::TaskWork,
];

impl FieldKind {
    /// What a field of so many bytes begins with: a reference count with 1, all others with 0.
    pub(super) fn initial(self, len: usize) -> &'static [u8] {
        const ONE: [u8; 4] = 1u32.to_ne_bytes();
        let bytes: &[u8] = if self == FieldKind::Refcount { &ONE } else { &[0; 16] };
        bytes.get(..len).unwrap_or_default()
    }

    /// Whether the value of a map may have it.
    fn is_of_maps(self) -> bool {
        !matches!(self, FieldKind::ListNode | FieldKind::RbNode)
    }

    /// Whether an object may have it that a program allocates.
    fn is_of_objects(self) -> bool {
        !matches!(self, FieldKind::Timer | FieldKind::Workqueue | FieldKind::TaskWork | FieldKind::Uptr)
    }

    /// Whether it holds something that goes with the value.
    pub(super) fn is_freed(self) -> bool {
        !matches!(self, FieldKind::SpinLock | FieldKind::ResSpinLock | FieldKind::Refcount)
    }

    /// Whether values of such maps may have it.
    fn fits(self, kind: MapType) -> bool {
        use MapType as M;

        let local = matches!(kind, M::SK_STORAGE | M::INODE_STORAGE | M::TASK_STORAGE | M::CGRP_STORAGE);
        match self {
            FieldKind::SpinLock | FieldKind::ResSpinLock => {
                local || matches!(kind, M::HASH | M::ARRAY | M::CGROUP_STORAGE)
            }
            FieldKind::Timer
            | FieldKind::Workqueue
            | FieldKind::TaskWork
            | FieldKind::ListHead
            | FieldKind::RbRoot => {
                matches!(kind, M::HASH | M::LRU_HASH | M::ARRAY)
            }
            FieldKind::KptrUntrusted | FieldKind::Kptr | FieldKind::KptrPerCpu | FieldKind::Refcount => {
                let hash = matches!(kind, M::HASH | M::LRU_HASH | M::PERCPU_HASH | M::LRU_PERCPU_HASH);
                local || hash || matches!(kind, M::ARRAY | M::PERCPU_ARRAY)
            }
            FieldKind::Uptr => kind == M::TASK_STORAGE,
            FieldKind::ListNode | FieldKind::RbNode => false,
        }
    }
}

/// A special field of a value.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Field {
    pub(crate) kind: FieldKind,
    /// Where it is in the value, in bytes.
    pub(crate) offset: usize,
    /// Size in bytes.
    pub(crate) size: usize,
    /// For pointers what they point to, for lists and trees what they hold, as types of the map's BTF.
    pub(crate) target: Option<TypeId>,
    /// For lists and trees, where the node is in what they hold, in bytes.
    pub(crate) node: usize,
}

impl Field {
    pub(crate) fn range(&self) -> Range<usize> {
        self.offset..self.offset.saturating_add(self.size)
    }
}

/// The special fields of a map's values, in the order of their offsets. They do not overlap.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(crate) struct Fields(Option<Arc<[Field]>>);

impl Fields {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Field> {
        self.0.iter().flat_map(|fields| fields.iter())
    }

    /// The first field of a kind.
    pub(crate) fn of(&self, kind: FieldKind) -> Option<&Field> {
        self.iter().find(|field| field.kind == kind)
    }

    /// Offset of the `bpf_spin_lock`.
    pub(crate) fn spin_lock(&self) -> Option<usize> {
        self.of(FieldKind::SpinLock).map(|field| field.offset)
    }

    /// Hides what is in the fields from who reads values, which are `stride` bytes apart.
    pub(crate) fn hide(&self, values: &mut [u8], stride: usize) {
        if self.is_empty() {
            return;
        }
        for value in values.chunks_mut(stride.max(1)) {
            for field in self.iter() {
                if let Some(bytes) = value.get_mut(field.range()) {
                    let initial = field.kind.initial(bytes.len());
                    bytes.iter_mut().zip(initial).for_each(|(to, from)| *to = *from);
                }
            }
        }
    }

    /// Finds the fields of a map's value, as `btf_parse_fields` does.
    ///
    /// The kernel takes a value whose fields are not as they have to be for one without any, and refuses only the programs
    /// that use them.
    pub(crate) fn find(btf: &Btf, value: TypeId, size: u32) -> Fields {
        Fields::parse(btf, value, size, FieldKind::is_of_maps).unwrap_or_default()
    }

    fn parse(btf: &Btf, value: TypeId, size: u32, wanted: fn(FieldKind) -> bool) -> Result<Fields, Errno> {
        let mut search = Search { btf, wanted, seen: Vec::new(), found: Vec::new(), steps: STEPS_MAX };
        search.walk(value)?;
        let mut found = search.found;
        found.sort_by_key(|field| field.offset);
        let mut end = 0;
        for field in &found {
            if field.range().end > size as usize {
                return Err(Errno::EFAULT);
            }
            if field.offset < end {
                return Err(Errno::EEXIST);
            }
            end = field.range().end;
        }
        let has = |kind: FieldKind| found.iter().any(|field| field.kind == kind);
        let (lock, other) = (has(FieldKind::SpinLock), has(FieldKind::ResSpinLock));
        let unguarded = (has(FieldKind::ListHead) || has(FieldKind::RbRoot)) && !lock && !other;
        let uncounted = has(FieldKind::ListNode) && has(FieldKind::RbNode) && !has(FieldKind::Refcount);
        if unguarded || uncounted || lock && other {
            return Err(Errno::EINVAL);
        }
        Ok(Fields((!found.is_empty()).then(|| found.into())))
    }

    /// Whether a map of such a shape may have values with these fields.
    pub(super) fn check(&self, shape: &Shape) -> Result<(), Errno> {
        if self.is_empty() {
            return Ok(());
        }
        if shape.flags.intersects(MapFlags::RDONLY_PROG | MapFlags::WRONLY_PROG) {
            return Err(Errno::EACCES);
        }
        if self.iter().all(|field| field.kind.fits(shape.kind)) { Ok(()) } else { Err(Errno::EOPNOTSUPP) }
    }
}

/// Checks the structures of a program's BTF that have special fields, as the kernel does when it is loaded.
pub(crate) fn check_structures(btf: &Btf) -> Result<(), Errno> {
    let special = STRUCTURES
        .iter()
        .filter(|(_, kind, ..)| kind.is_of_objects() && *kind != FieldKind::ResSpinLock)
        .filter_map(|(name, ..)| btf.find(name.as_bytes(), Kind::STRUCT));
    let special: Vec<TypeId> = special.collect();
    if special.is_empty() {
        return Ok(());
    }
    for ty in btf.types().filter(|ty| ty.kind().is_composite()) {
        if ty.members().any(|member| special.contains(&member.type_id))
            && Fields::parse(btf, ty.id(), ty.size(), FieldKind::is_of_objects)?.is_empty()
        {
            return Err(Errno::EFAULT);
        }
    }
    Ok(())
}

/// The way through the types of a value. An error says that the fields are not as they have to be.
struct Search<'a> {
    btf: &'a Btf,
    wanted: fn(FieldKind) -> bool,
    /// The kinds of which a value may have one that were found.
    seen: Vec<FieldKind>,
    found: Vec<Field>,
    /// How many members may still be looked at.
    steps: u32,
}

impl Search<'_> {
    fn walk(&mut self, value: TypeId) -> Result<(), Errno> {
        let ty = self.btf.peel(value).map_err(|_| Errno::EINVAL)?;
        if ty.kind() == Kind::DATASEC {
            for var in ty.vars() {
                let declared = self.btf.ty(var.type_id).map_err(|_| Errno::EINVAL)?;
                // Tags are on the variable.
                self.look(&declared, None, declared.type_id(), var.offset, Some(var.size), 0)?;
            }
            return Ok(());
        }
        if ty.kind().is_composite() { self.members(&ty, 0, 0) } else { Ok(()) }
    }

    fn members(&mut self, ty: &Type<'_>, base: u32, level: u32) -> Result<(), Errno> {
        for (place, member) in ty.members().enumerate() {
            if !member.bit_offset.is_multiple_of(8) {
                continue;
            }
            let offset = base.checked_add(member.bit_offset / 8).ok_or(Errno::EFAULT)?;
            self.look(ty, Some(place), member.type_id, offset, None, level)?;
        }
        Ok(())
    }

    /// Looks at a member or variable, `place` being the member's, of a type that contains it.
    fn look(
        &mut self,
        parent: &Type<'_>,
        place: Option<usize>,
        id: TypeId,
        offset: u32,
        expected: Option<u32>,
        level: u32,
    ) -> Result<(), Errno> {
        self.steps = self.steps.checked_sub(1).ok_or(Errno::E2BIG)?;
        let mut ty = self.btf.ty(id).map_err(|_| Errno::EINVAL)?;
        let mut count = 1u32;
        for depth in 0.. {
            let Some(array) = ty.array() else { break };
            if depth == DEPTH_MAX {
                return Err(Errno::E2BIG);
            }
            count = count.checked_mul(array.len).ok_or(Errno::E2BIG)?;
            ty = self.btf.ty(array.element).map_err(|_| Errno::EINVAL)?;
        }
        if count == 0 {
            return Ok(());
        }
        let named = STRUCTURES
            .iter()
            .find(|(name, kind, ..)| name.as_bytes() == ty.name_bytes() && (self.wanted)(*kind));
        let fits = |size: u32| expected.is_none_or(|expected| size.checked_mul(count) == Some(expected));
        let (kind, size, align) = match named {
            Some(&(_, kind, size, align, single)) => {
                if single {
                    if count > 1 || self.seen.contains(&kind) {
                        return Err(Errno::E2BIG);
                    }
                    self.seen.push(kind);
                }
                (Some(kind), size, align)
            }
            None if ty.kind().is_composite() => {
                return if fits(ty.size()) { self.nested(&ty, offset, count, level) } else { Ok(()) };
            }
            None => (None, 8, 8),
        };
        if !fits(size) || !offset.is_multiple_of(align) {
            return Ok(());
        }
        let mut field =
            Field { kind: FieldKind::Kptr, offset: 0, size: size as usize, target: None, node: 0 };
        match kind {
            Some(kind) => {
                if !ty.kind().is_composite() || ty.size() != size {
                    return Ok(());
                }
                field.kind = kind;
                if matches!(kind, FieldKind::ListHead | FieldKind::RbRoot) {
                    let (target, node) = self.contained(parent, place, kind)?;
                    (field.target, field.node) = (Some(target), node);
                }
            }
            None => match self.pointer(&ty)? {
                Some((kind, target)) => (field.kind, field.target) = (kind, Some(target)),
                None => return Ok(()),
            },
        }
        self.add(field, offset, count)
    }

    fn add(&mut self, field: Field, offset: u32, count: u32) -> Result<(), Errno> {
        if self.found.len() + count as usize > FIELDS_MAX {
            return Err(Errno::E2BIG);
        }
        for at in 0..count as usize {
            let offset = offset as usize + at * field.size; // both are below 2^32, and the count is small
            self.found.push(Field { offset, ..field.clone() });
        }
        Ok(())
    }

    /// A structure in a value, or an array of them: its fields once for each.
    fn nested(&mut self, ty: &Type<'_>, offset: u32, count: u32, level: u32) -> Result<(), Errno> {
        if level + 1 >= DEPTH_MAX {
            return Err(Errno::E2BIG);
        }
        let before = self.found.len();
        self.members(ty, offset, level + 1)?;
        let one: Vec<Field> = self.found.get(before..).unwrap_or_default().to_vec();
        if one.is_empty() || count == 1 {
            return Ok(());
        }
        // What a value may have only one of cannot be repeated.
        if one.iter().any(|field| SINGLE.contains(&field.kind)) {
            return Err(Errno::E2BIG);
        }
        for at in 1..count {
            let shift = ty.size().checked_mul(at).ok_or(Errno::EFAULT)?;
            for field in &one {
                let offset = u32::try_from(field.offset)
                    .map_err(|_| Errno::EINVAL)?
                    .checked_add(shift)
                    .ok_or(Errno::EFAULT)?;
                self.add(field.clone(), offset, 1)?;
            }
        }
        Ok(())
    }

    /// The kind of a tagged pointer and what it points to; none for one that is nothing special.
    fn pointer(&self, ty: &Type<'_>) -> Result<Option<(FieldKind, TypeId)>, Errno> {
        let mut ty = *ty;
        if ty.kind() == Kind::VOLATILE {
            ty = self.btf.ty(ty.type_id()).map_err(|_| Errno::EINVAL)?;
        }
        if ty.kind() != Kind::PTR {
            return Ok(None);
        }
        let tag = self.btf.ty(ty.type_id()).map_err(|_| Errno::EINVAL)?;
        if tag.kind() != Kind::TYPE_TAG || tag.kind_flag() {
            return Ok(None);
        }
        let pointee = self.btf.ty(tag.type_id()).map_err(|_| Errno::EINVAL)?;
        if pointee.kind() == Kind::TYPE_TAG {
            return Err(Errno::EINVAL);
        }
        let known = POINTERS.iter().find(|(name, _)| *name == tag.name_bytes());
        let &(_, kind) = known.ok_or(Errno::EINVAL)?;
        if !(self.wanted)(kind) {
            return Ok(None);
        }
        let base = self.btf.peel(tag.type_id()).map_err(|_| Errno::EINVAL)?;
        if base.kind().is_composite() { Ok(Some((kind, base.id()))) } else { Err(Errno::EINVAL) }
    }

    /// What a list or tree holds, from the tag `contains:TYPE:NODE` of the member, and where the node is in it.
    fn contained(
        &self,
        parent: &Type<'_>,
        place: Option<usize>,
        kind: FieldKind,
    ) -> Result<(TypeId, usize), Errno> {
        let index = place.map_or(Ok(-1), i32::try_from).map_err(|_| Errno::EINVAL)?;
        let is_it = |tag: &Type<'_>| {
            tag.kind() == Kind::DECL_TAG
                && tag.type_id() == parent.id()
                && tag.component_index() == Some(index)
                && tag.name_bytes().starts_with(b"contains:")
        };
        let tag = self.btf.types().find(is_it).ok_or(Errno::EINVAL)?;
        let text = tag.name_bytes().strip_prefix(b"contains:").ok_or(Errno::EINVAL)?;
        let colon = text.iter().position(|byte| *byte == b':').ok_or(Errno::EINVAL)?;
        let (name, node) = text.split_at(colon);
        let node = node.get(1..).filter(|node| !node.is_empty()).ok_or(Errno::EINVAL)?;
        let id = self.btf.find(name, Kind::STRUCT).ok_or(Errno::ENOENT)?;
        let wanted: &[u8] = if kind == FieldKind::ListHead { b"bpf_list_node" } else { b"bpf_rb_node" };
        let held = self.btf.ty(id).map_err(|_| Errno::EINVAL)?;
        let member = held.members().find(|member| member.name_bytes() == node).ok_or(Errno::ENOENT)?;
        let ty = self.btf.ty(member.type_id).map_err(|_| Errno::EINVAL)?;
        if ty.name_bytes() == wanted { Ok((id, member.bit_offset as usize / 8)) } else { Err(Errno::EINVAL) }
    }
}

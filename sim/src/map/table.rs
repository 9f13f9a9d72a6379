//! Tables of programs that the kernel calls as its functions (`BPF_MAP_TYPE_STRUCT_OPS`).

use std::ops::Range;
use std::sync::Arc;

use skep_asm::Endian;
use skep_btf::{Btf, Kind, TypeId};
use skep_sys::abi::{Errno, MapFlags, ProgType};

use super::create::Shape;
use super::elements::{Elements, Resolve, copy, index};
use crate::object::Object;
use crate::prog::Prog;

/// What the kernel's own structure around a table is named after.
const PREFIX: &str = "bpf_struct_ops_";
/// Where that has its reference count and its state, both of four bytes.
const STATE: Range<usize> = 4..8;
const HEAD: Range<usize> = 0..8;
/// The congestion control of TCP, which has rules of its own.
const TCP: &str = "tcp_congestion_ops";
/// Flags of a congestion control (`TCP_CONG_MASK`).
const TCP_FLAGS: u32 = 0x3;

/// The errno of what is being done already.
const EINPROGRESS: i32 = 115;

/// States of a table (`enum bpf_struct_ops_state`).
pub(crate) const INIT: u32 = 0;
pub(crate) const IN_USE: u32 = 1;
const TO_BE_FREE: u32 = 2;
pub(crate) const READY: u32 = 3;

/// A member of the structure.
#[derive(Clone, Debug)]
struct Member {
    name: String,
    /// Its bytes in the whole value.
    bytes: Range<usize>,
    kind: MemberKind,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum MemberKind {
    Function,
    /// Numbers and texts.
    Plain,
    /// What only the kernel writes.
    Kernel,
}

/// How a table lies in memory.
#[derive(Debug)]
pub(crate) struct Layout {
    /// Name of the structure, and its type.
    pub(crate) structure: String,
    pub(crate) type_id: u32,
    /// Type of the kernel's own structure around it.
    value_type_id: u32,
    members: Vec<Member>,
    size: usize,
}

impl Layout {
    /// That of the value with a type of the kernel. `ENOTSUPP` when it is no table.
    pub(crate) fn of(btf: &Btf, value: u32) -> Result<Layout, Errno> {
        let outer = btf.ty(TypeId(value)).map_err(|_| Errno::ENOTSUPP)?;
        let name = outer.name().into_owned();
        let structure = name.strip_prefix(PREFIX).filter(|_| outer.kind() == Kind::STRUCT);
        let structure = structure.ok_or(Errno::ENOTSUPP)?.to_owned();
        let data = outer.members().find(|member| member.name() == "data").ok_or(Errno::ENOTSUPP)?;
        let start = data.bit_offset as usize / 8;
        let inner = btf.peel(data.type_id).map_err(|_| Errno::ENOTSUPP)?;
        let mut members = Vec::new();
        for member in inner.members() {
            let first = start + member.bit_offset as usize / 8;
            let size = btf.resolve_size(member.type_id).map_err(|_| Errno::ENOTSUPP)? as usize;
            let name = member.name().into_owned();
            let kind = kind_of(btf, member.type_id, &structure, &name);
            members.push(Member { name, bytes: first..first.saturating_add(size), kind });
        }
        let size = outer.size() as usize;
        Ok(Layout { structure, type_id: inner.id().0, value_type_id: value, members, size })
    }

    /// Whether member `index` is a function, and its name.
    pub(crate) fn function(&self, index: u32) -> Option<Result<&str, &str>> {
        let member = self.members.get(index as usize)?;
        let is_function = member.kind == MemberKind::Function;
        Some(if is_function { Ok(&member.name) } else { Err(&member.name) })
    }

    fn member(&self, name: &str) -> Option<&Member> {
        self.members.iter().find(|member| member.name == name)
    }
}

fn kind_of(btf: &Btf, type_id: TypeId, structure: &str, name: &str) -> MemberKind {
    let Ok(ty) = btf.peel(type_id) else { return MemberKind::Kernel };
    match ty.kind() {
        Kind::PTR => match btf.peel(ty.type_id()).map(|to| to.kind()) {
            Ok(Kind::FUNC_PROTO) => MemberKind::Function,
            _ => MemberKind::Kernel,
        },
        // Only these are looked at there.
        _ if structure == TCP && !matches!(name, "name" | "flags") => MemberKind::Kernel,
        Kind::INT | Kind::ENUM | Kind::ENUM64 | Kind::ARRAY => MemberKind::Plain,
        _ => MemberKind::Kernel,
    }
}

/// The one element of a table's map.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    layout: Arc<Layout>,
    by_link: bool,
    state: u32,
    value: Vec<u8>,
    programs: Vec<Arc<Prog>>,
}

/// Checks the shape of a table's map against its layout, and makes its element.
pub(crate) fn table(shape: &Shape, layout: Layout) -> Result<Table, Errno> {
    let known = MapFlags::LINK;
    let fits = shape.key_size == 4
        && shape.max_entries == 1
        && shape.value_size as usize == layout.size
        && layout.size >= HEAD.end
        && known.contains(shape.flags)
        && shape.map_extra == 0;
    if !fits {
        return Err(Errno::EINVAL);
    }
    let by_link = shape.flags.contains(MapFlags::LINK);
    let value = vec![0; layout.size];
    Ok(Table { layout: Arc::new(layout), by_link, state: INIT, value, programs: Vec::new() })
}

impl Table {
    pub(crate) fn state(&self) -> u32 {
        self.state
    }

    /// Type of the whole value.
    pub(crate) fn value_type_id(&self) -> u32 {
        self.layout.value_type_id
    }

    pub(crate) fn by_link(&self) -> bool {
        self.by_link
    }

    pub(crate) fn programs(&self) -> &[Arc<Prog>] {
        &self.programs
    }

    /// The program that stands for a member.
    pub(crate) fn function(&self, member: &str) -> Option<Arc<Prog>> {
        let is_it = |prog: &&Arc<Prog>| self.layout.function(prog.expected_attach_type.0) == Some(Ok(member));
        self.programs.iter().find(is_it).cloned()
    }

    /// What it is registered under: its structure, and the name in it.
    pub(crate) fn registered_as(&self) -> (String, String) {
        (self.layout.structure.clone(), name_in(&self.layout, &self.value))
    }

    /// As [`registered_as`](Table::registered_as) of a value that is about to be written.
    pub(crate) fn name_of(&self, value: &[u8]) -> (String, String) {
        (self.layout.structure.clone(), name_in(&self.layout, value))
    }

    /// Takes it out of use. `EINPROGRESS` when it was taken out before.
    pub(crate) fn take_out(&mut self) -> Result<(), Errno> {
        match self.state {
            IN_USE => self.state = TO_BE_FREE,
            TO_BE_FREE => return Err(Errno(EINPROGRESS)),
            _ => return Err(Errno::ENOENT),
        }
        Ok(())
    }

    /// As if it had not been written.
    pub(crate) fn forget(&mut self) {
        self.state = INIT;
        self.programs.clear();
        self.value.fill(0);
    }

    /// The programs in a value, and what is kept of it: their ids in their places.
    fn read(&self, value: &[u8], resolve: Resolve<'_>) -> Result<(Vec<Arc<Prog>>, Vec<u8>), Errno> {
        let mut kept = value.to_vec();
        let mut programs: Vec<Arc<Prog>> = Vec::new();
        let head = value.get(HEAD).ok_or(Errno::EINVAL)?;
        let data = self.layout.members.first().map_or(HEAD.end, |member| member.bytes.start);
        let gap = value.get(HEAD.end..data).unwrap_or_default();
        if head.iter().chain(gap).any(|byte| *byte != 0) {
            return Err(Errno::EINVAL);
        }
        for (number, member) in (0..).zip(&self.layout.members) {
            let bytes = kept.get_mut(member.bytes.clone()).ok_or(Errno::EINVAL)?;
            if bytes.iter().all(|byte| *byte == 0) || member.kind == MemberKind::Plain {
                continue;
            }
            if member.kind == MemberKind::Kernel {
                return Err(Errno::EINVAL);
            }
            let fd = i32::from_ne_bytes(*low(bytes)?);
            let object = resolve(fd)?;
            let program: &Arc<Prog> = object.prog()?;
            let of_this = program.target.as_ref().is_some_and(|target| target.type_id == self.layout.type_id);
            if program.prog_type != ProgType::STRUCT_OPS
                || !of_this
                || program.expected_attach_type.0 != number
            {
                return Err(Errno::EINVAL);
            }
            bytes.fill(0);
            *low(bytes)? = program.id.to_ne_bytes();
            programs.push(program.clone());
        }
        Ok((programs, kept))
    }

    /// What the subsystem asks of the table (`tcp_validate_congestion_control`).
    fn validate(&self, value: &[u8]) -> Result<(), Errno> {
        if self.layout.structure != TCP {
            return Ok(());
        }
        let has = |name: &str| {
            let bytes = self.layout.member(name).and_then(|member| value.get(member.bytes.clone()));
            bytes.is_some_and(|bytes| bytes.iter().any(|byte| *byte != 0))
        };
        let flags = self.layout.member("flags").and_then(|member| value.get(member.bytes.clone()));
        let flags = flags.and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_ne_bytes);
        let whole = has("ssthresh") && has("undo_cwnd") && (has("cong_avoid") || has("cong_control"));
        if whole && has("name") && flags & !TCP_FLAGS == 0 { Ok(()) } else { Err(Errno::EINVAL) }
    }
}

/// The name that the subsystem knows a table by.
fn name_in(layout: &Layout, value: &[u8]) -> String {
    let bytes = ["name", "id"].into_iter().find_map(|name| layout.member(name)).and_then(|member| {
        (member.kind == MemberKind::Plain).then(|| value.get(member.bytes.clone())).flatten()
    });
    let text = bytes.unwrap_or_default().split(|byte| *byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(text).into_owned()
}

/// The four bytes of a pointer that a number of 32 bits is in.
fn low(bytes: &mut [u8]) -> Result<&mut [u8; 4], Errno> {
    let found = match Endian::NATIVE {
        Endian::Little => bytes.first_chunk_mut(),
        Endian::Big => bytes.last_chunk_mut(),
    };
    found.ok_or(Errno::EINVAL)
}

impl Elements for Table {
    fn lookup(&mut self, key: &[u8], value: &mut [u8]) -> Result<(), Errno> {
        if index(key)? != 0 {
            return Err(Errno::ENOENT);
        }
        if self.state == INIT {
            value.fill(0);
            return Ok(());
        }
        copy(value, &self.value)?;
        value.get_mut(STATE).ok_or(Errno::EINVAL)?.copy_from_slice(&self.state.to_ne_bytes());
        Ok(())
    }

    fn update(&mut self, key: &[u8], value: &[u8], flags: u64, resolve: Resolve<'_>) -> Result<(), Errno> {
        if flags != 0 {
            return Err(Errno::EINVAL);
        }
        if index(key)? != 0 {
            return Err(Errno::E2BIG);
        }
        if value.get(HEAD).is_none_or(|head| head.iter().any(|byte| *byte != 0)) {
            return Err(Errno::EINVAL);
        }
        if self.state != INIT {
            return Err(Errno::EBUSY);
        }
        let (programs, kept) = self.read(value, resolve)?;
        self.validate(&kept)?;
        (self.programs, self.value) = (programs, kept);
        self.state = if self.by_link { READY } else { IN_USE };
        Ok(())
    }

    fn delete(&mut self, key: &[u8]) -> Result<(), Errno> {
        if index(key)? != 0 {
            return Err(Errno::ENOENT);
        }
        if self.by_link {
            return Err(Errno::EOPNOTSUPP);
        }
        self.take_out()
    }

    fn next_key(&self, key: Option<&[u8]>, next: &mut [u8]) -> Result<(), Errno> {
        if key.map(index).transpose()? == Some(0) {
            return Err(Errno::ENOENT);
        }
        copy(next, &[0; 4])
    }

    fn boxed(&self) -> Box<dyn Elements> {
        Box::new(self.clone())
    }

    fn held(&self) -> Vec<Object> {
        self.programs.iter().cloned().map(Object::Prog).collect()
    }

    fn table(&mut self) -> Option<&mut Table> {
        Some(self)
    }
}

use std::fmt;

use skep_btf::{Btf, Kind, TypeId};
use skep_sys::abi::{BtfObjectId, ProgId, UpdateFlags};

use super::error::{MapError, MapPart};
use super::handle::Map;
use super::kinds::{STRUCT_OPS, check_part, view};

/// A table of programs that the kernel calls (`BPF_MAP_TYPE_STRUCT_OPS`, Linux 5.6), such as a congestion control. Made by
/// [`Map::typed`].
///
/// It is registered with [`Object::attach_struct_ops`](crate::Object::attach_struct_ops); this view looks at it.
///
/// ```no_run
/// use skep::map::{StructOpsMap, StructOpsState};
/// use skep::{Kernel, Loader, Spec};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let object = Loader::new(&Kernel::linux()).load(&Spec::open("my_congestion_control.bpf.o")?)?;
/// let _registered = object.attach_struct_ops("my_cc")?;
/// let table: StructOpsMap = object.map("my_cc")?.typed()?;
/// let value = table.value()?;
/// assert_eq!(value.state(), StructOpsState::IN_USE);
/// for (member, program) in value.programs() {
///     println!("{member}: program {program}");
/// }
/// # Ok(())
/// # }
/// ```
#[doc(alias = "BPF_MAP_TYPE_STRUCT_OPS")]
pub struct StructOpsMap {
    map: Map,
}

view!(StructOpsMap, STRUCT_OPS, |map| {
    STRUCT_OPS.check_kind(map)?;
    check_part::<u32>(map, MapPart::Key)
});

/// Where a `struct_ops` table is in its life (`enum bpf_struct_ops_state`). It prints by name, or by number.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct StructOpsState(pub u32);

impl StructOpsState {
    /// Nothing is in it.
    pub const INIT: StructOpsState = StructOpsState(0);
    /// It is filled and registered.
    pub const IN_USE: StructOpsState = StructOpsState(1);
    /// It was taken out and goes when nobody uses it any more.
    pub const TO_BE_FREE: StructOpsState = StructOpsState(2);
    /// It is filled; links register it (Linux 6.4).
    pub const READY: StructOpsState = StructOpsState(3);
}

impl fmt::Display for StructOpsState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            StructOpsState::INIT => f.pad("init"),
            StructOpsState::IN_USE => f.pad("in use"),
            StructOpsState::TO_BE_FREE => f.pad("to be freed"),
            StructOpsState::READY => f.pad("ready"),
            StructOpsState(other) => write!(f, "state {other}"),
        }
    }
}

impl fmt::Debug for StructOpsState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl StructOpsMap {
    /// Where the table is in its life.
    ///
    /// # Errors
    /// [`MapError::Failed`].
    pub fn state(&self) -> Result<StructOpsState, MapError> {
        self.value().map(|value| value.state())
    }

    /// The table as it is now.
    ///
    /// # Errors
    /// [`MapError::Failed`].
    pub fn value(&self) -> Result<StructOpsValue, MapError> {
        let mut bytes = vec![0; self.map.value_len()];
        // Key 0 is always there; a table without contents reads as zeroes.
        self.map.lookup_into(&0u32.to_ne_bytes(), &mut bytes, UpdateFlags::empty())?;
        Ok(StructOpsValue { bytes, structure: self.structure() })
    }

    /// The kernel's type of the table, if it can be had.
    fn structure(&self) -> Option<Structure> {
        let info = self.map.info().ok()?;
        let kernel = self.map.kernel();
        // Only tables of modules name the BTF that their type is in, and only kernels from 6.9 on.
        let module = info.vmlinux_btf_id;
        let btf = if module == BtfObjectId::default() {
            kernel.btf().ok()?
        } else {
            kernel.btf_object(module).ok()?
        };
        let value = btf.peel(TypeId(info.vmlinux_value_type_id)).ok()?;
        let data = value.members().last().filter(|_| value.kind() == Kind::STRUCT)?;
        let (id, offset) = (data.type_id, data.bit_offset / 8);
        Some(Structure { btf, id, offset: offset as usize })
    }
}

/// What is in a `struct_ops` table.
#[derive(Clone)]
pub struct StructOpsValue {
    bytes: Vec<u8>,
    structure: Option<Structure>,
}

/// The structure of the kernel that a table stands for, in the value of its map.
#[derive(Clone)]
struct Structure {
    btf: Btf,
    id: TypeId,
    /// Where it begins.
    offset: usize,
}

impl StructOpsValue {
    /// How many hold the table: links, connections, and the like.
    pub fn references(&self) -> u32 {
        self.word(0)
    }

    /// Where the table is in its life.
    pub fn state(&self) -> StructOpsState {
        StructOpsState(self.word(1))
    }

    /// All bytes of the map's value: the two numbers above, padding, and the structure, in which programs stand as ids.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Name of the kernel's structure, such as `tcp_congestion_ops`; none where the kernel's types cannot be read.
    pub fn structure(&self) -> Option<String> {
        let structure = self.structure.as_ref()?;
        Some(structure.btf.peel(structure.id).ok()?.name().into_owned())
    }

    /// The bytes of a member of the structure; none when it has no such member, or the kernel's types cannot be read.
    pub fn member(&self, name: &str) -> Option<&[u8]> {
        let structure = self.structure.as_ref()?;
        let ty = structure.btf.peel(structure.id).ok()?;
        let member = ty.members().find(|member| member.name_bytes() == name.as_bytes())?;
        let start = structure.offset.checked_add((member.bit_offset / 8) as usize)?;
        let len = structure.btf.resolve_size(member.type_id).ok()? as usize;
        self.bytes.get(start..start.checked_add(len)?)
    }

    /// The functions that programs are, with the ids of those, in the order of the structure. Nothing where the kernel's
    /// types cannot be read.
    pub fn programs(&self) -> Vec<(String, ProgId)> {
        let Some(structure) = &self.structure else { return Vec::new() };
        let Ok(ty) = structure.btf.peel(structure.id) else { return Vec::new() };
        let program = |member: skep_btf::Member<'_>| {
            let pointer = structure.btf.peel(member.type_id).ok().filter(|ty| ty.kind() == Kind::PTR)?;
            let function = structure.btf.peel(pointer.type_id()).ok()?;
            let start = structure.offset.checked_add((member.bit_offset / 8) as usize)?;
            let word = self.bytes.get(start..)?.first_chunk().copied().map(usize::from_ne_bytes)?;
            let id = u32::try_from(word).ok().filter(|&id| id != 0 && function.kind() == Kind::FUNC_PROTO)?;
            Some((member.name().into_owned(), ProgId(id)))
        };
        ty.members().filter_map(program).collect()
    }

    fn word(&self, nth: usize) -> u32 {
        self.bytes.as_chunks().0.get(nth).copied().map_or(0, u32::from_ne_bytes)
    }
}

impl fmt::Debug for StructOpsValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StructOpsValue")
            .field("structure", &self.structure())
            .field("state", &self.state())
            .field("references", &self.references())
            .field("programs", &self.programs())
            .finish()
    }
}

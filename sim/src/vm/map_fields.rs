//! What programs read of a map itself, as of a `struct bpf_map`.

use skep_btf::{Btf, Kind};

use crate::map::Map;

/// Where the kernel's `struct bpf_map` has the members that programs may look at.
#[derive(Debug, Default)]
pub(crate) struct MapFields(Vec<(u32, Field)>);

#[derive(Clone, Copy, Debug)]
enum Field {
    Type,
    KeySize,
    ValueSize,
    MaxEntries,
    Flags,
    Extra,
    Id,
    Name,
}

impl MapFields {
    /// Looks them up in the kernel's types.
    pub(crate) fn new(types: &Btf) -> MapFields {
        let ty = types.find(b"bpf_map", Kind::STRUCT).and_then(|id| types.ty(id).ok());
        let mut fields = Vec::new();
        for member in ty.iter().flat_map(|ty| ty.members()) {
            let field = match member.name_bytes() {
                b"map_type" => Field::Type,
                b"key_size" => Field::KeySize,
                b"value_size" => Field::ValueSize,
                b"max_entries" => Field::MaxEntries,
                b"map_flags" => Field::Flags,
                b"map_extra" => Field::Extra,
                b"id" => Field::Id,
                b"name" => Field::Name,
                _ => continue,
            };
            fields.push((member.bit_offset / 8, field));
        }
        MapFields(fields)
    }

    /// The bytes at an offset of a map. `None` when no member is there.
    pub(super) fn read(&self, map: &Map, offset: usize, to: &mut [u8]) -> Option<()> {
        self.0.iter().find_map(|(start, field)| {
            let shape = &map.shape;
            let mut name = [0; 16];
            let bytes: &[u8] = match field {
                Field::Type => &shape.kind.0.to_ne_bytes(),
                Field::KeySize => &shape.key_size.to_ne_bytes(),
                Field::ValueSize => &shape.value_size.to_ne_bytes(),
                Field::MaxEntries => &shape.max_entries.to_ne_bytes(),
                Field::Flags => &shape.flags.bits().to_ne_bytes(),
                Field::Extra => &shape.map_extra.to_ne_bytes(),
                Field::Id => &map.id.to_ne_bytes(),
                Field::Name => {
                    name.iter_mut().zip(map.name.as_bytes()).for_each(|(to, from)| *to = *from);
                    &name
                }
            };
            let at = offset.checked_sub(*start as usize)?;
            to.copy_from_slice(bytes.get(at..at.checked_add(to.len())?)?);
            Some(())
        })
    }
}

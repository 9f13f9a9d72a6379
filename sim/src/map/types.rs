//! BTF of maps.

use skep_btf::{Btf, Kind, TypeId};
use skep_sys::abi::{Errno, MapType};

use super::fields::Fields;
use super::{MapTypes, Shape};

/// Checks the types of key and value, and answers which special fields the value has.
pub(crate) fn check_types(shape: &Shape, types: Option<&MapTypes>) -> Result<Fields, Errno> {
    let is_storage = matches!(
        shape.kind,
        MapType::SK_STORAGE | MapType::INODE_STORAGE | MapType::TASK_STORAGE | MapType::CGRP_STORAGE
    );
    let Some(MapTypes { btf, key, value }) = types else {
        return if is_storage { Err(Errno::EINVAL) } else { Ok(Fields::default()) };
    };
    let btf = &btf.btf;
    if *key != 0 && size_of(btf, *key)? != shape.key_size || size_of(btf, *value)? != shape.value_size {
        return Err(Errno::EINVAL);
    }
    let fields = Fields::find(btf, TypeId(*value), shape.value_size);
    fields.check(shape)?;
    let fits = match shape.kind {
        // Globals have no key: the value is their section.
        MapType::ARRAY | MapType::PERCPU_ARRAY if *key == 0 => {
            shape.max_entries == 1 && kind_of(btf, *value) == Some(Kind::DATASEC)
        }
        MapType::ARRAY | MapType::PERCPU_ARRAY => is_u32(btf, *key),
        MapType::LPM_TRIE => kind_of(btf, *key) == Some(Kind::STRUCT),
        _ if is_storage => is_u32(btf, *key),
        _ => *key != 0,
    };
    if !fits {
        return Err(Errno::EINVAL);
    }
    Ok(fields)
}

fn size_of(btf: &Btf, id: u32) -> Result<u32, Errno> {
    btf.resolve_size(TypeId(id)).map_err(|_| Errno::EINVAL)
}

fn kind_of(btf: &Btf, id: u32) -> Option<Kind> {
    btf.peel(TypeId(id)).ok().map(|ty| ty.kind())
}

/// Whether a type is a whole 32-bit integer.
fn is_u32(btf: &Btf, id: u32) -> bool {
    let int = btf.peel(TypeId(id)).ok().and_then(|ty| ty.int());
    int.is_some_and(|int| int.bits == 32 && int.offset == 0)
}

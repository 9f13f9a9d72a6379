//! Requests for maps (`BPF_MAP_CREATE`).

use std::os::fd::OwnedFd;

use skep_sys::abi::{Errno, MapFlags, MapType, OpenFlags};
use skep_sys::request::{MapBtf, MapCreate};

use super::{InnerShape, Map, MapTypes, Shape, check, check_types};
use crate::fd::Access;
use crate::features::Features;
use crate::kernel::{Core, Inner};
use crate::name::check_name;
use crate::object::Object;
use crate::tables;

/// Makes a map.
pub(crate) fn create(kernel: &Core, request: &MapCreate<'_>) -> Result<OwnedFd, Errno> {
    kernel.permit_map(request.token, request.map_type)?;
    check_attributes(kernel, request)?;
    let cpu_flags = kernel.features().contains(Features::CPU_FLAGS);
    let shape = Shape::of(request, kernel.config().cpus, cpu_flags);
    let access = Access::from_flags(open_flags(request.flags))?;
    check(&shape)?;
    if shape.has_long_key() && !kernel.features().contains(Features::LONG_KEYS) {
        return Err(Errno::E2BIG);
    }
    let mut shape = shape.kept();
    check_name(request.name)?;
    let inner = match request.map_type {
        MapType::ARRAY_OF_MAPS | MapType::HASH_OF_MAPS => {
            // None is descriptor 0 for the kernel, which is no map.
            let fd = request.inner_map.ok_or(Errno::EINVAL)?;
            Some(InnerShape::of(kernel.object(fd)?.map()?)?)
        }
        _ => None,
    };
    let btf = types_of(kernel, request.btf)?;
    shape.fields = check_types(&shape, btf.as_ref())?;
    let devices: Vec<u32> = kernel.world().net.interfaces.keys().copied().collect();
    let elements = match request.map_type {
        MapType::STRUCT_OPS => Box::new(tables::create(kernel, request, &shape)?),
        _ => shape.elements(inner.as_ref(), &devices)?,
    };
    kernel.charge(shape.memory())?;
    kernel.meter.admit(elements.pieces())?;
    let name = request.name;
    let make = |id| Map::new(id, shape, name, btf, inner, elements, &kernel.meter);
    let map = kernel.state().maps.add(make)?;
    kernel.open(Object::Map(map), access)
}

fn open_flags(flags: MapFlags) -> OpenFlags {
    OpenFlags::from_bits_truncate((flags & (MapFlags::RDONLY | MapFlags::WRONLY)).bits())
}

/// Checks what an old kernel does not know of a map, and what no simulated kernel has.
pub(crate) fn check_attributes(kernel: &Inner, request: &MapCreate<'_>) -> Result<(), Errno> {
    let features = kernel.features();
    if !request.name.is_empty() && !features.contains(Features::NAMES)
        || request.btf.is_some() && !features.contains(Features::BTF)
    {
        return Err(Errno::E2BIG);
    }
    if request.vmlinux_value_type_id != 0 && request.map_type != MapType::STRUCT_OPS {
        return Err(Errno::EINVAL);
    }
    if request.ifindex != 0 || request.flags.contains(MapFlags::NUMA_NODE) && request.numa_node != 0 {
        return Err(Errno::EINVAL);
    }
    if request.map_type > kernel.config().last_map_type {
        return Err(Errno::EINVAL);
    }
    if request.flags.contains(MapFlags::RB_OVERWRITE) && !features.contains(Features::RING_OVERWRITE) {
        return Err(Errno::EINVAL);
    }
    if request.map_type == MapType::INSN_ARRAY && !features.contains(Features::INSN_ARRAY) {
        return Err(Errno::EINVAL);
    }
    if request.flags.contains(MapFlags::MMAPABLE) && !features.contains(Features::ARRAY_MMAP) {
        return Err(Errno::EINVAL);
    }
    Ok(())
}

/// The types that a map is made with.
pub(crate) fn types_of(kernel: &Inner, btf: Option<MapBtf<'_>>) -> Result<Option<MapTypes>, Errno> {
    let Some(MapBtf { btf, key_type, value_type }) = btf else {
        return Ok(None);
    };
    if key_type == 0 && value_type == 0 {
        return Ok(None);
    }
    let btf = kernel.object(btf)?.btf()?.clone();
    if btf.kernel {
        return Err(Errno::EACCES);
    }
    Ok(Some(MapTypes { btf, key: key_type, value: value_type }))
}

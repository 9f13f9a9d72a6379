//! What is checked of a request for a map before its shape.

use skep_sys::abi::{Errno, MapFlags, MapType};
use skep_sys::request::{MapBtf, MapCreate};

use super::MapTypes;
use crate::features::Features;
use crate::kernel::Inner;

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

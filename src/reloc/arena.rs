//! Where the first variables of an arena go.

use skep_sys::abi::MapType;

use super::{ConfigFeature, RelocateError, Target};
use crate::spec::MapSpec;

/// Offset in an arena of its first variables: at its end where the kernel lets programs name it, as with libbpf, so that
/// what programs allocate begins at the start.
pub(super) fn contents_offset(map: &MapSpec, target: &dyn Target) -> Result<u32, RelocateError> {
    if map.map_type != MapType::ARENA || map.contents.is_empty() || !map.autocreate {
        return Ok(0);
    }
    let page = u64::from(target.page_size());
    let size = u64::from(map.max_entries) * page;
    let needed = (map.contents.len() as u64).next_multiple_of(page);
    let Some(start) = size.checked_sub(needed) else {
        return Err(RelocateError::Arena { map: map.name.clone(), needed, size });
    };
    let anywhere = target.has(ConfigFeature::FullRangeOffset).unwrap_or(false);
    // The kernel takes no arena beyond 4 GiB.
    Ok(if anywhere { u32::try_from(start).unwrap_or(0) } else { 0 })
}

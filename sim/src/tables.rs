//! Tables of programs that are registered with the kernel (`struct_ops`).

use std::os::fd::OwnedFd;
use std::sync::Arc;

use skep_sys::abi::{AttachType, Errno, MapType};
use skep_sys::request::{LinkCreate, LinkTarget, MapCreate};

use crate::fd::Access;
use crate::kernel::Inner;
use crate::link::Link;
use crate::map::{self, Layout, Map, READY, Shape, Table};
use crate::object::Object;

/// The element of a table's map that is created.
pub(crate) fn create(kernel: &Inner, request: &MapCreate<'_>, shape: &Shape) -> Result<Table, Errno> {
    if request.vmlinux_value_type_id == 0 {
        return Err(Errno::EINVAL);
    }
    // The kernel wants types of the object's, too, and does not look into them.
    kernel.object(request.btf.ok_or(Errno::EBADF)?.btf)?.btf()?;
    let vmlinux = kernel.vmlinux().ok_or(Errno::ENOTSUPP)?;
    map::table(shape, Layout::of(&vmlinux.btf, request.vmlinux_value_type_id)?)
}

/// The layout of the tables with this structure.
pub(crate) fn layout(kernel: &Inner, structure: &str) -> Option<Layout> {
    let btf = &kernel.vmlinux()?.btf;
    let name = format!("bpf_struct_ops_{structure}");
    let value = btf.types().find(|ty| ty.name_bytes() == name.as_bytes())?;
    Layout::of(btf, value.id().0).ok()
}

/// Whether a table of this structure and name is registered.
fn is_registered(kernel: &Inner, name: &(String, String)) -> bool {
    let same = |map: &Arc<Map>| map.with_table(|table| table.registered_as() == *name) == Some(true);
    let links: Vec<Arc<Link>> = kernel.swept().links.iter().collect();
    let by_link = links.iter().filter_map(|link| link.table()).any(|map| same(&map));
    let plain = kernel.world().tables.clone();
    by_link || plain.iter().any(same)
}

/// Writes a table; without a link this registers it.
pub(crate) fn update(
    kernel: &Inner,
    map: &Arc<Map>,
    access: Access,
    (key, value): (&[u8], &[u8]),
    flags: u64,
) -> Result<(), Errno> {
    let (name, by_link) =
        map.with_table(|table| (table.name_of(value), table.by_link())).ok_or(Errno::EINVAL)?;
    let taken = !by_link && is_registered(kernel, &name);
    map.update(access, key, value, flags, &|number| kernel.object_number(number))?;
    if by_link {
        return Ok(());
    }
    if taken {
        map.with_table(Table::forget);
        return Err(Errno::EEXIST);
    }
    kernel.world().tables.push(map.clone());
    Ok(())
}

/// Takes a table out that was registered by being written.
pub(crate) fn delete(kernel: &Inner, map: &Arc<Map>, access: Access, key: &[u8]) -> Result<(), Errno> {
    map.delete(access, key)?;
    kernel.world().tables.retain(|known| !Arc::ptr_eq(known, map));
    Ok(())
}

/// Registers a table by a link.
pub(crate) fn link(kernel: &Inner, map: &Arc<Map>, request: &LinkCreate<'_>) -> Result<OwnedFd, Errno> {
    let is_loaded = matches!(request.target, LinkTarget::Loaded);
    if request.attach_type != AttachType::STRUCT_OPS || !is_loaded || request.flags != 0 {
        return Err(Errno::EINVAL);
    }
    let found = map.with_table(|table| {
        let ready = table.by_link() && table.state() == READY;
        ready.then(|| Some((table.registered_as(), table.programs().first().cloned()?)))
    });
    let (name, first) = found.flatten().flatten().ok_or(Errno::EINVAL)?;
    if is_registered(kernel, &name) {
        return Err(Errno::EEXIST);
    }
    let link = kernel.state().links.add(|id| Link::of_table(id, first, map))?;
    kernel.open(Object::Link(link), Access::ALL)
}

/// Puts the table of `new` in the place of a link's (`bpf_struct_ops_map_link_update`).
pub(crate) fn update_link(link: &Link, new: &Arc<Map>) -> Result<(), Errno> {
    let named = |map: &Arc<Map>| {
        map.with_table(|table| (table.by_link() && table.state() == READY).then(|| table.registered_as()))
            .flatten()
    };
    let (new_name, old) = (named(new).ok_or(Errno::EINVAL)?, link.table().ok_or(Errno::ENOLINK)?);
    if named(&old) != Some(new_name) {
        return Err(Errno::EINVAL);
    }
    link.set_table(new);
    Ok(())
}

/// Whether a map is a table of programs.
pub(crate) fn is_table(map: &Map) -> bool {
    map.shape.kind == MapType::STRUCT_OPS
}

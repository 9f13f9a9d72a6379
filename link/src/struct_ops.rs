//! Tables of programs that become functions of the kernel, such as a TCP congestion control (`struct_ops`, Linux 5.6;
//! by a link 6.4).

use std::os::fd::AsFd;

use skep_sys::abi::{Errno, LinkType, MapFlags, MapType, UpdateFlags};
use skep_sys::request::LinkCreate;
use skep_sys::{MapError, MapFd};

use crate::error::{ANY_ATTACH, Hints, LinkError, meaning};
use crate::link::Link;

/// The only key of a table's map.
const KEY: [u8; 4] = [0; 4];

/// A registered table.
///
/// Dropping it takes the table out of the kernel, unless its link is pinned. Users of it that the kernel has already,
/// such as connections with that congestion control, keep it until they end.
///
/// A process that ends without dropping it (by a signal, say) takes its links with it, but leaves a table that is registered
/// without one. Prefer tables with links where kernels have them.
#[derive(Debug)]
#[must_use = "dropping it takes the table out of the kernel"]
pub struct Registration {
    link: Option<Link>,
    /// A map without [`MapFlags::LINK`] registers its table by being written, and takes it out by being cleared.
    map: Option<MapFd>,
}

/// Writes a table into its map and registers it (`BPF_MAP_UPDATE_ELEM`, and for maps with [`MapFlags::LINK`]
/// `BPF_LINK_CREATE`).
///
/// `value` is the kernel's structure around the table, as its BTF lays it out, with the descriptor of a loaded program
/// in the place of each function. The programs must stay open until this returns.
///
/// # Errors
/// [`LinkError::Register`], with [`Errno::EEXIST`] or [`Errno::EBUSY`] when a table of that name is registered,
/// [`Errno::EINVAL`] when the kernel misses a function or finds a value wrong.
#[doc(alias = "bpf_map__attach_struct_ops")]
pub fn attach(map: &MapFd, value: &[u8]) -> Result<Registration, LinkError> {
    if map.map_type() != MapType::STRUCT_OPS {
        return Err(LinkError::NotStructOps { map_type: map.map_type() });
    }
    let by_link = map.shape().flags.contains(MapFlags::LINK);
    if !by_link {
        // Before it is registered, so that what fails leaves it out of the kernel.
        let kept = map.try_clone().map_err(|error| failed("keep", &error))?;
        map.update(&KEY, value, UpdateFlags::empty()).map_err(|error| failed("register", &error))?;
        return Ok(Registration { link: None, map: Some(kept) });
    }
    match map.update(&KEY, value, UpdateFlags::empty()) {
        Ok(()) => {}
        // The table was written before: a link can register it again.
        Err(error) if error.errno() == Some(Errno::EBUSY) => {}
        Err(error) => return Err(failed("write", &error)),
    }
    register(map)
}

/// Registers a table that was written before (`BPF_LINK_CREATE`, Linux 6.4): that of a pinned map, or one that an
/// earlier link had registered.
///
/// # Errors
/// [`LinkError::Register`], with [`Errno::EINVAL`] when the map has no [`MapFlags::LINK`], or nothing in it.
pub fn register(map: &MapFd) -> Result<Registration, LinkError> {
    let fd = map.kernel().link_create(&LinkCreate::of_struct_ops(map.as_fd()));
    let fd = fd.map_err(|errno| refused("register", errno))?;
    Ok(Registration { link: Some(Link::new(fd, LinkType::STRUCT_OPS)), map: None })
}

impl Registration {
    /// The link, for tables that are registered by one: to pin it, or to ask about it.
    pub fn link(&self) -> Option<&Link> {
        self.link.as_ref()
    }

    /// Puts the table of `map`, which gets `value`, in the place of the registered one (`BPF_LINK_UPDATE`, Linux 6.4).
    ///
    /// # Errors
    /// [`LinkError::Register`], with [`Errno::EOPNOTSUPP`] when the table is not registered by a link or its kind
    /// cannot be replaced, [`Errno::EINVAL`] when the other table is of another kind or name.
    pub fn update(&self, map: &MapFd, value: &[u8]) -> Result<(), LinkError> {
        let Some(link) = &self.link else { return Err(refused("replace", Errno::EOPNOTSUPP)) };
        match map.update(&KEY, value, UpdateFlags::empty()) {
            Ok(()) => {}
            Err(error) if error.errno() == Some(Errno::EBUSY) => {}
            Err(error) => return Err(failed("write", &error)),
        }
        link.update_map(map).map_err(|errno| refused("replace", errno))
    }

    /// Takes the table out of the kernel, and says when that fails.
    ///
    /// # Errors
    /// [`LinkError::Register`] when the kernel refuses.
    pub fn detach(mut self) -> Result<(), LinkError> {
        match self.map.take() {
            Some(map) => map.delete(&KEY).map_err(|error| failed("take out", &error)),
            None => Ok(()),
        }
    }

    /// Leaves a table in the kernel that is not registered by a link: it stays until key 0 of its map, opened by id or
    /// pin, is deleted. One that is registered by a link goes with the link: pin that.
    pub fn leave(mut self) {
        self.map = None;
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        if let Some(map) = &self.map {
            // Whoever wants to know calls `detach`.
            let _ = map.delete(&KEY);
        }
    }
}

fn failed(operation: &'static str, error: &MapError) -> LinkError {
    refused(operation, error.errno().unwrap_or(Errno::EINVAL))
}

fn refused(operation: &'static str, errno: Errno) -> LinkError {
    LinkError::Register { operation, hint: meaning(errno, &[REGISTER, ANY_ATTACH]), errno }
}

const REGISTER: Hints = &[
    (Errno::EEXIST, "a table of that name is registered: take it out first, or choose another name"),
    (Errno::EBUSY, "the table is registered already"),
    (
        Errno::EINVAL,
        "the kernel misses a function that this kind of table must have, finds a value wrong, or links of struct_ops \
         are newer than it (Linux 6.4)",
    ),
    (Errno::EOPNOTSUPP, "tables of this kind cannot be replaced while they are registered"),
    (Errno::ENOENT, "the table was taken out meanwhile"),
];

use std::collections::BTreeSet;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use skep_link::Link;
use skep_sys::Kernel;
use skep_sys::abi::{Errno, LinkId, MapId, OpenFlags, ProgId};
use skep_sys::request::{LinkInfo, MapInfo, PinEntryKind, ProgInfo};

use super::Query;
use crate::error::Error;
use crate::map::Map;
use crate::program::Program;

/// Directories in directories that are gone through.
const DEPTH_MAX: usize = 64;

/// An object that is pinned.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Pinned {
    /// Where.
    pub path: PathBuf,
    /// What the kernel says of it.
    pub object: PinnedObject,
}

/// What the kernel says of a pinned object.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PinnedObject {
    /// A program.
    Program(ProgInfo),
    /// A map.
    Map(MapInfo),
    /// A link (Linux 5.8).
    Link(LinkInfo),
}

/// All pins in a directory of a bpffs and the directories below it, in the order of their names.
///
/// What is removed meanwhile is skipped, and so is what this process may not open, and what is none of the three.
///
/// ```
/// use skep::query::{self, PinnedObject};
/// # use skep::{asm::Reg, program::ProgramBuilder, sys::abi::ProgType};
/// # let kernel = skep::sim::kernel();
/// # let mut builder = ProgramBuilder::new(ProgType::XDP, "GPL");
/// # builder.name("filter").asm().mov64_imm(Reg::R0, 2).exit();
/// # builder.load(&kernel)?.pin("/sys/fs/bpf/filter")?;
///
/// for pin in query::pins(&kernel, "/sys/fs/bpf")? {
///     if let PinnedObject::Program(program) = &pin.object {
///         println!("{}: {}", pin.path.display(), program.name);
///     }
/// }
/// # assert_eq!(query::pins(&kernel, "/sys/fs/bpf")?.len(), 1);
/// # Ok::<(), skep::Error>(())
/// ```
///
/// # Errors
///
/// [`Error::Query`]: the directory is not there, not on a bpffs, or cannot be read.
pub fn pins(kernel: &Kernel, root: impl AsRef<Path>) -> Result<Vec<Pinned>, Error> {
    let mut found = Vec::new();
    check(kernel, root.as_ref()).and_then(|()| walk(kernel, root.as_ref(), 0, &mut found)).map_err(
        |source| Error::Query {
            what: "pins",
            hint: match source {
                Errno::ENOENT => format!(" ({} is not there)", root.as_ref().display()),
                Errno::EPERM => format!(" ({} is not on a bpffs)", root.as_ref().display()),
                Errno::ENOTDIR => format!(" ({} is no directory)", root.as_ref().display()),
                Errno::EACCES => format!(" ({} cannot be read)", root.as_ref().display()),
                _ => String::new(),
            },
            source,
        },
    )?;
    Ok(found)
}

/// [`Errno::EPERM`] for what is not on a bpffs, where anything may be.
fn check(kernel: &Kernel, root: &Path) -> Result<(), Errno> {
    match kernel.backend().is_bpffs(root)? {
        true => Ok(()),
        false => match kernel.backend().pin_dir_entries(root) {
            Err(Errno::ENOENT) => Err(Errno::ENOENT),
            _ => Err(Errno::EPERM),
        },
    }
}

fn walk(kernel: &Kernel, dir: &Path, depth: usize, found: &mut Vec<Pinned>) -> Result<(), Errno> {
    for entry in kernel.backend().pin_dir_entries(dir)? {
        let path = dir.join(&entry.name);
        match entry.kind {
            // One that went away or cannot be read hides no other.
            PinEntryKind::Directory if depth < DEPTH_MAX => {
                let _ = walk(kernel, &path, depth + 1, found);
            }
            PinEntryKind::Pin => {
                found.extend(open(kernel, &path).map(|object| Pinned { path, object }));
            }
            // Links are not followed: what they lead to is found where it is, or is elsewhere.
            _ => {}
        }
    }
    Ok(())
}

fn open(kernel: &Kernel, path: &Path) -> Option<PinnedObject> {
    let backend = kernel.backend();
    let fd = backend.open_pinned(path, OpenFlags::empty()).or_else(|errno| match errno {
        // A map that is only to be read.
        Errno::EACCES | Errno::EPERM => backend.open_pinned(path, OpenFlags::RDONLY),
        errno => Err(errno),
    });
    let fd = fd.ok()?;
    let fd = fd.as_fd();
    let program = || backend.prog_info(fd).map(PinnedObject::Program);
    let map = || backend.map_info(fd).map(PinnedObject::Map);
    let link = || backend.link_info(fd).map(PinnedObject::Link);
    program().or_else(|_| map()).or_else(|_| link()).ok()
}

impl Query<Program> {
    /// Only programs that are pinned in this directory or below it, as it is now.
    ///
    /// # Errors
    ///
    /// As [`pins`].
    pub fn pinned_below(self, root: impl AsRef<Path>) -> Result<Self, Error> {
        let id = |pin: Pinned| match pin.object {
            PinnedObject::Program(info) => Some(info.id),
            _ => None,
        };
        let ids: BTreeSet<ProgId> = pins(&self.kernel, root)?.into_iter().filter_map(id).collect();
        Ok(self.matching(move |info| ids.contains(&info.id)))
    }
}

impl Query<Map> {
    /// Only maps that are pinned in this directory or below it, as it is now.
    ///
    /// # Errors
    ///
    /// As [`pins`].
    pub fn pinned_below(self, root: impl AsRef<Path>) -> Result<Self, Error> {
        let id = |pin: Pinned| match pin.object {
            PinnedObject::Map(info) => Some(info.id),
            _ => None,
        };
        let ids: BTreeSet<MapId> = pins(&self.kernel, root)?.into_iter().filter_map(id).collect();
        Ok(self.matching(move |info| ids.contains(&info.id)))
    }
}

impl Query<Link> {
    /// Only links that are pinned in this directory or below it, as it is now.
    ///
    /// # Errors
    ///
    /// As [`pins`].
    pub fn pinned_below(self, root: impl AsRef<Path>) -> Result<Self, Error> {
        let id = |pin: Pinned| match pin.object {
            PinnedObject::Link(info) => Some(info.id),
            _ => None,
        };
        let ids: BTreeSet<LinkId> = pins(&self.kernel, root)?.into_iter().filter_map(id).collect();
        Ok(self.matching(move |info| ids.contains(&info.id)))
    }
}

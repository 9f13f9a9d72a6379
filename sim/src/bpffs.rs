//! The in-memory bpffs, where objects are pinned.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use skep_sys::abi::Errno;

use crate::object::Object;

/// Longest name of a file.
const NAME_MAX: usize = 255;
/// Longest path, with its NUL.
const PATH_MAX: usize = 4096;

/// What a path of a bpffs is.
#[derive(Debug)]
enum Node {
    Dir,
    Pin(Object),
}

/// All mounts of the simulated bpffs. Paths outside of them are those of the machine, and only looked at.
#[derive(Debug)]
pub(crate) struct Bpffs {
    mounts: Vec<PathBuf>,
    nodes: BTreeMap<PathBuf, Node>,
}

/// A path as it was found.
struct Place {
    path: PathBuf,
    /// Whether it is on a bpffs and not the mount itself.
    inside: bool,
}

impl Bpffs {
    pub(crate) fn new(mounts: Vec<PathBuf>) -> Self {
        Bpffs { mounts, nodes: BTreeMap::new() }
    }

    /// Pins an object.
    pub(crate) fn pin(&mut self, path: &Path, object: Object) -> Result<(), Errno> {
        let place = self.new_place(path)?;
        self.nodes.insert(place, Node::Pin(object));
        Ok(())
    }

    /// The object that is pinned at a path.
    pub(crate) fn get(&self, path: &Path) -> Result<Object, Errno> {
        let place = self.walk(path)?;
        match self.nodes.get(&place.path) {
            Some(Node::Pin(object)) => Ok(object.clone()),
            Some(Node::Dir) => Err(Errno::EACCES),
            None if place.inside => Err(Errno::ENOENT),
            None if self.is_mount(&place.path) || exists(&place.path) => Err(Errno::EACCES),
            None => Err(Errno::ENOENT),
        }
    }

    /// Removes a pin and gives back what it held.
    pub(crate) fn unpin(&mut self, path: &Path) -> Result<Object, Errno> {
        let place = self.walk(path)?;
        match self.nodes.remove(&place.path) {
            Some(Node::Pin(object)) => Ok(object),
            Some(Node::Dir) => {
                self.nodes.insert(place.path, Node::Dir);
                Err(Errno::EISDIR)
            }
            None if self.is_mount(&place.path) => Err(Errno::EISDIR),
            None if place.inside || !exists(&place.path) => Err(Errno::ENOENT),
            // A file of the machine is no business of a simulated kernel.
            None => Err(Errno::EPERM),
        }
    }

    /// Makes a directory.
    pub(crate) fn create_dir(&mut self, path: &Path) -> Result<(), Errno> {
        let place = self.new_place(path)?;
        self.nodes.insert(place, Node::Dir);
        Ok(())
    }

    /// Removes an empty directory.
    pub(crate) fn remove_dir(&mut self, path: &Path) -> Result<(), Errno> {
        let place = self.walk(path)?;
        match self.nodes.get(&place.path) {
            Some(Node::Dir) if self.has_children(&place.path) => Err(Errno::ENOTEMPTY),
            Some(Node::Dir) => {
                self.nodes.remove(&place.path);
                Ok(())
            }
            Some(Node::Pin(_)) => Err(Errno::ENOTDIR),
            None if self.is_mount(&place.path) => Err(Errno::EBUSY),
            None if place.inside || !exists(&place.path) => Err(Errno::ENOENT),
            None => Err(Errno::EPERM),
        }
    }

    /// Whether a path exists on a bpffs.
    pub(crate) fn contains(&self, path: &Path) -> bool {
        let found = |place: Place| self.nodes.contains_key(&place.path) || self.is_mount(&place.path);
        self.walk(path).is_ok_and(found)
    }

    /// Whether a path is where a bpffs is mounted; `ENOENT` or `ENOTDIR` when it is no directory at all.
    pub(crate) fn is_root(&self, path: &Path) -> Result<bool, Errno> {
        let place = self.walk(path)?;
        match self.nodes.get(&place.path) {
            _ if self.is_mount(&place.path) => Ok(true),
            Some(Node::Dir) => Ok(false),
            Some(Node::Pin(_)) => Err(Errno::ENOTDIR),
            None if place.inside || !exists(&place.path) => Err(Errno::ENOENT),
            None if place.path.is_dir() => Ok(false),
            None => Err(Errno::ENOTDIR),
        }
    }

    /// The objects that are pinned.
    pub(crate) fn objects(&self) -> impl Iterator<Item = &Object> {
        self.nodes.values().filter_map(|node| match node {
            Node::Pin(object) => Some(object),
            Node::Dir => None,
        })
    }

    /// The paths of all pins and directories.
    pub(crate) fn paths(&self) -> impl Iterator<Item = &Path> {
        self.nodes.keys().map(PathBuf::as_path)
    }

    fn is_mount(&self, path: &Path) -> bool {
        self.mounts.iter().any(|mount| mount == path)
    }

    fn has_children(&self, dir: &Path) -> bool {
        let after = (std::ops::Bound::Excluded(dir), std::ops::Bound::Unbounded);
        self.nodes.range::<Path, _>(after).next().is_some_and(|(path, _)| path.starts_with(dir))
    }

    /// Where something new would be: the parent has to be there, the path itself not.
    fn new_place(&self, path: &Path) -> Result<PathBuf, Errno> {
        let place = self.walk(path)?;
        if self.nodes.contains_key(&place.path) || self.is_mount(&place.path) {
            return Err(Errno::EEXIST);
        }
        if place.inside {
            return Ok(place.path);
        }
        match place.path.parent() {
            Some(_) if exists(&place.path) => Err(Errno::EEXIST),
            Some(parent) if exists(parent) => Err(Errno::EPERM),
            _ => Err(Errno::ENOENT),
        }
    }

    /// Follows a path. Inside of a bpffs every directory on the way has to be there, and a name with a dot is
    /// refused, as the kernel keeps such names for later.
    fn walk(&self, path: &Path) -> Result<Place, Errno> {
        let text = path.as_os_str().as_encoded_bytes();
        if text.is_empty() {
            return Err(Errno::ENOENT);
        }
        if text.contains(&0) {
            return Err(Errno::EINVAL);
        }
        if text.len() >= PATH_MAX {
            return Err(Errno::ENAMETOOLONG);
        }
        let mut at = if path.is_absolute() {
            PathBuf::new()
        } else {
            std::env::current_dir().map_err(|_| Errno::ENOENT)?
        };
        let mut inside = false;
        for component in path.components() {
            let name = match component {
                Component::CurDir => continue,
                Component::ParentDir => {
                    self.check_dir(&at, inside)?;
                    inside &= !self.is_mount(&at);
                    at.pop();
                    inside &= !self.is_mount(&at);
                    continue;
                }
                Component::RootDir | Component::Prefix(_) => {
                    at.push(component);
                    continue;
                }
                Component::Normal(name) => name,
            };
            self.check_dir(&at, inside)?;
            if name.len() > NAME_MAX {
                return Err(Errno::ENAMETOOLONG);
            }
            inside |= self.is_mount(&at);
            if inside && name.as_encoded_bytes().contains(&b'.') {
                return Err(Errno::EPERM);
            }
            at.push(name);
        }
        Ok(Place { path: at, inside })
    }

    /// Checks that names can be looked up in a path. Outside of the mounts only what leads to them is known.
    fn check_dir(&self, path: &Path, inside: bool) -> Result<(), Errno> {
        if !inside {
            return Ok(());
        }
        match self.nodes.get(path) {
            Some(Node::Dir) => Ok(()),
            Some(Node::Pin(_)) => Err(Errno::ENOTDIR),
            None => Err(Errno::ENOENT),
        }
    }
}

fn exists(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

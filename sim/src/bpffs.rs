//! The in-memory bpffs, where objects are pinned.

use std::collections::{BTreeMap, VecDeque};
use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};

use skep_sys::abi::Errno;
use skep_sys::request::{PinEntry, PinEntryKind};

use crate::object::Object;

/// Longest name of a file.
const NAME_MAX: usize = 255;
/// Symbolic links that are followed on one way.
const LINKS_MAX: u32 = 40;
/// Longest path, with its NUL.
const PATH_MAX: usize = 4096;

/// What a path of a bpffs is.
#[derive(Clone, Debug)]
enum Node {
    Dir,
    Pin(Object),
    /// A symbolic link and its text.
    Link(PathBuf),
}

/// All mounts of the simulated bpffs. Paths outside of them are those of the machine, and only looked at.
#[derive(Clone, Debug)]
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
        let place = self.walk(path, true)?;
        match self.nodes.get(&place.path) {
            Some(Node::Pin(object)) => Ok(object.clone()),
            Some(Node::Dir | Node::Link(_)) => Err(Errno::EACCES),
            None if place.inside => Err(Errno::ENOENT),
            None if self.is_mount(&place.path) || exists(&place.path) => Err(Errno::EACCES),
            None => Err(Errno::ENOENT),
        }
    }

    /// Removes a pin or symbolic link and gives back what it held.
    pub(crate) fn unpin(&mut self, path: &Path) -> Result<Option<Object>, Errno> {
        let place = self.walk(path, false)?;
        match self.nodes.remove(&place.path) {
            Some(Node::Pin(object)) => Ok(Some(object)),
            Some(Node::Link(_)) => Ok(None),
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
        let place = self.walk(path, false)?;
        match self.nodes.get(&place.path) {
            Some(Node::Dir) if self.has_children(&place.path) => Err(Errno::ENOTEMPTY),
            Some(Node::Dir) => {
                self.nodes.remove(&place.path);
                Ok(())
            }
            Some(Node::Pin(_) | Node::Link(_)) => Err(Errno::ENOTDIR),
            None if self.is_mount(&place.path) => Err(Errno::EBUSY),
            None if place.inside || !exists(&place.path) => Err(Errno::ENOENT),
            None => Err(Errno::EPERM),
        }
    }

    /// Whether a path exists on a bpffs.
    pub(crate) fn contains(&self, path: &Path) -> bool {
        let found = |place: Place| self.nodes.contains_key(&place.path) || self.is_mount(&place.path);
        self.walk(path, true).is_ok_and(found)
    }

    /// Makes a symbolic link.
    pub(crate) fn symlink(&mut self, text: &Path, path: &Path) -> Result<(), Errno> {
        if text.as_os_str().is_empty() {
            return Err(Errno::ENOENT);
        }
        let place = self.new_place(path)?;
        self.nodes.insert(place, Node::Link(text.to_owned()));
        Ok(())
    }

    /// The text of a symbolic link.
    pub(crate) fn read_link(&self, path: &Path) -> Result<PathBuf, Errno> {
        let place = self.walk(path, false)?;
        match self.nodes.get(&place.path) {
            Some(Node::Link(text)) => Ok(text.clone()),
            Some(_) => Err(Errno::EINVAL),
            None if self.is_mount(&place.path) || (!place.inside && exists(&place.path)) => {
                Err(Errno::EINVAL)
            }
            None => Err(Errno::ENOENT),
        }
    }

    /// What is in a directory, by name.
    pub(crate) fn entries(&self, path: &Path) -> Result<Vec<PinEntry>, Errno> {
        let directory = self.directory(path)?;
        let children = self.nodes.iter().filter(|(path, _)| path.parent() == Some(&directory));
        let entry = |(path, node): (&PathBuf, &Node)| {
            let kind = match node {
                Node::Dir => PinEntryKind::Directory,
                Node::Pin(_) => PinEntryKind::Pin,
                Node::Link(_) => PinEntryKind::Symlink,
            };
            Some(PinEntry { name: path.file_name()?.to_owned(), kind })
        };
        let mut entries: Vec<PinEntry> = children.filter_map(entry).collect();
        entries.sort();
        Ok(entries)
    }

    /// Where a directory of a bpffs is, links followed.
    pub(crate) fn directory(&self, path: &Path) -> Result<PathBuf, Errno> {
        let place = self.walk(path, true)?;
        match self.nodes.get(&place.path) {
            Some(Node::Dir) => Ok(place.path),
            Some(Node::Pin(_) | Node::Link(_)) => Err(Errno::ENOTDIR),
            None if self.is_mount(&place.path) => Ok(place.path),
            None if place.inside || !exists(&place.path) => Err(Errno::ENOENT),
            // A directory of the machine is no business of a simulated kernel.
            None => Err(Errno::EPERM),
        }
    }

    /// Gives something another path, and answers what was pinned there.
    pub(crate) fn rename(&mut self, from: &Path, to: &Path) -> Result<Option<Object>, Errno> {
        let from = self.walk(from, false)?;
        let to = self.walk(to, false)?;
        if !from.inside || !to.inside || self.mount_of(&from.path) != self.mount_of(&to.path) {
            return Err(Errno::EXDEV);
        }
        let moved = self.nodes.get(&from.path).ok_or(Errno::ENOENT)?;
        if from.path == to.path {
            return Ok(None);
        }
        if to.path.starts_with(&from.path) {
            return Err(Errno::EINVAL);
        }
        if from.path.starts_with(&to.path) {
            return Err(Errno::ENOTEMPTY);
        }
        match (moved, self.nodes.get(&to.path)) {
            (Node::Dir, Some(Node::Dir)) if self.has_children(&to.path) => return Err(Errno::ENOTEMPTY),
            (Node::Dir, Some(Node::Pin(_) | Node::Link(_))) => return Err(Errno::ENOTDIR),
            (Node::Pin(_) | Node::Link(_), Some(Node::Dir)) => return Err(Errno::EISDIR),
            _ => {}
        }
        let replaced = self.nodes.remove(&to.path);
        let moving: Vec<PathBuf> =
            self.nodes.keys().filter(|path| path.starts_with(&from.path)).cloned().collect();
        for old in moving {
            let Ok(rest) = old.strip_prefix(&from.path) else { continue };
            // Joining nothing would end the path with a slash.
            let new = if rest.as_os_str().is_empty() { to.path.clone() } else { to.path.join(rest) };
            if let Some(node) = self.nodes.remove(&old) {
                self.nodes.insert(new, node);
            }
        }
        Ok(match replaced {
            Some(Node::Pin(object)) => Some(object),
            _ => None,
        })
    }

    /// Mounts another bpffs. The path need not exist on the machine.
    pub(crate) fn mount(&mut self, path: &Path) -> Result<(), Errno> {
        let place = self.walk(path, true)?;
        if self.is_mount(&place.path) {
            return Err(Errno::EBUSY);
        }
        if place.inside && !matches!(self.nodes.get(&place.path), Some(Node::Dir)) {
            return Err(Errno::ENOTDIR);
        }
        self.mounts.push(place.path);
        Ok(())
    }

    fn mount_of(&self, path: &Path) -> Option<&PathBuf> {
        self.mounts.iter().filter(|mount| path.starts_with(mount)).max_by_key(|mount| mount.as_os_str().len())
    }

    /// Whether a path is where a bpffs is mounted; `ENOENT` or `ENOTDIR` when it is no directory at all.
    pub(crate) fn is_root(&self, path: &Path) -> Result<bool, Errno> {
        let place = self.walk(path, true)?;
        match self.nodes.get(&place.path) {
            _ if self.is_mount(&place.path) => Ok(true),
            Some(Node::Dir) => Ok(false),
            Some(Node::Pin(_) | Node::Link(_)) => Err(Errno::ENOTDIR),
            None if place.inside || !exists(&place.path) => Err(Errno::ENOENT),
            None if place.path.is_dir() => Ok(false),
            None => Err(Errno::ENOTDIR),
        }
    }

    /// The objects that are pinned.
    pub(crate) fn objects(&self) -> impl Iterator<Item = &Object> {
        self.nodes.values().filter_map(|node| match node {
            Node::Pin(object) => Some(object),
            Node::Dir | Node::Link(_) => None,
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
        let place = self.walk(path, false)?;
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
    /// refused, as the kernel keeps such names for later. A symbolic link at the end is followed if `follow` says so.
    fn walk(&self, path: &Path, follow: bool) -> Result<Place, Errno> {
        check_text(path)?;
        let mut at = if path.is_absolute() {
            PathBuf::new()
        } else {
            std::env::current_dir().map_err(|_| Errno::ENOENT)?
        };
        let mut inside = false;
        let mut links = 0;
        let mut left: VecDeque<Step> = steps(path).collect();
        while let Some(step) = left.pop_front() {
            let name = match step {
                Step::Up => {
                    self.check_dir(&at, inside)?;
                    inside &= !self.is_mount(&at);
                    at.pop();
                    inside &= !self.is_mount(&at);
                    continue;
                }
                Step::Root(root) => {
                    (at, inside) = (root, false);
                    continue;
                }
                Step::Name(name) => name,
            };
            self.check_dir(&at, inside)?;
            if name.len() > NAME_MAX {
                return Err(Errno::ENAMETOOLONG);
            }
            inside |= self.is_mount(&at);
            if inside && name.as_encoded_bytes().contains(&b'.') {
                return Err(Errno::EPERM);
            }
            at.push(&name);
            if let Some(Node::Link(text)) = self.nodes.get(&at)
                && (follow || !left.is_empty())
            {
                links += 1;
                if links > LINKS_MAX {
                    return Err(Errno::ELOOP);
                }
                check_text(text)?;
                at.pop();
                inside &= !self.is_mount(&at);
                for step in steps(text).collect::<Vec<_>>().into_iter().rev() {
                    left.push_front(step);
                }
            }
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
            Some(Node::Pin(_) | Node::Link(_)) => Err(Errno::ENOTDIR),
            None if self.is_mount(path) => Ok(()),
            None => Err(Errno::ENOENT),
        }
    }
}

/// One step of a way.
enum Step {
    Root(PathBuf),
    Up,
    Name(OsString),
}

fn steps(path: &Path) -> impl Iterator<Item = Step> + '_ {
    path.components().filter_map(|component| match component {
        Component::CurDir => None,
        Component::ParentDir => Some(Step::Up),
        Component::RootDir | Component::Prefix(_) => Some(Step::Root(PathBuf::from("/"))),
        Component::Normal(name) => Some(Step::Name(name.to_owned())),
    })
}

/// What no path may be.
fn check_text(path: &Path) -> Result<(), Errno> {
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
    Ok(())
}

fn exists(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

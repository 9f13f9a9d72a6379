//! The in-memory bpffs, where objects are pinned.

use std::collections::{BTreeMap, VecDeque};
use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};

use skep_sys::abi::Errno;
use skep_sys::request::{PinAttributes, PinEntry, PinEntryKind};

use crate::object::Object;
use crate::user::{Capability, Mode, READ, SEARCH, STICKY, User, WRITE};

/// Longest name of a file.
const NAME_MAX: usize = 255;
/// Symbolic links that are followed on one way.
const LINKS_MAX: u32 = 40;
/// Longest path, with its NUL.
const PATH_MAX: usize = 4096;

/// What a path of a bpffs is.
#[derive(Clone, Debug)]
enum Kind {
    Dir,
    Pin(Object),
    /// A symbolic link and its text.
    Link(PathBuf),
}

/// What is at a path of a bpffs.
#[derive(Clone, Debug)]
struct Node {
    kind: Kind,
    mode: Mode,
}

/// Mode of a pin, of a directory and of a link that are made.
const PIN_MODE: u32 = 0o600;
const DIR_MODE: u32 = 0o700;
const LINK_MODE: u32 = 0o777;

/// All mounts of the simulated bpffs. Paths outside of them are those of the machine, and only looked at.
#[derive(Clone, Debug)]
pub(crate) struct Bpffs {
    mounts: BTreeMap<PathBuf, Mode>,
    nodes: BTreeMap<PathBuf, Node>,
}

/// A path as it was found.
struct Place {
    path: PathBuf,
    /// Whether it is on a bpffs and not the mount itself.
    inside: bool,
}

impl Bpffs {
    /// A bpffs at each of some paths, as `systemd` mounts it.
    pub(crate) fn new(mounts: impl IntoIterator<Item = PathBuf>) -> Self {
        let user = User::process();
        let mounts = mounts.into_iter().map(|path| (path, root(&user))).collect();
        Bpffs { mounts, nodes: BTreeMap::new() }
    }

    /// Pins an object.
    pub(crate) fn pin(&mut self, user: &User, path: &Path, object: Object) -> Result<(), Errno> {
        self.make(user, path, PIN_MODE, Kind::Pin(object))
    }

    /// The object that is pinned at a path, for a user who wants to do something with it.
    pub(crate) fn get(&self, user: &User, path: &Path, wanted: u32) -> Result<Object, Errno> {
        let place = self.walk(user, path, true)?;
        match self.nodes.get(&place.path) {
            Some(node) => {
                node.mode.check(user, wanted)?;
                match &node.kind {
                    Kind::Pin(object) => Ok(object.clone()),
                    Kind::Dir | Kind::Link(_) => Err(Errno::EACCES),
                }
            }
            None if place.inside => Err(Errno::ENOENT),
            None if self.is_mount(&place.path) || exists(&place.path) => Err(Errno::EACCES),
            None => Err(Errno::ENOENT),
        }
    }

    /// Removes a pin or symbolic link and gives back what it held.
    pub(crate) fn unpin(&mut self, user: &User, path: &Path) -> Result<Option<Object>, Errno> {
        let place = self.walk(user, path, false)?;
        let Some(node) = self.nodes.get(&place.path) else {
            return Err(match () {
                () if self.is_mount(&place.path) => Errno::EISDIR,
                () if place.inside || !exists(&place.path) => Errno::ENOENT,
                // A file of the machine is no business of a simulated kernel.
                () => Errno::EPERM,
            });
        };
        self.check_removal(user, &place.path, node)?;
        if matches!(node.kind, Kind::Dir) {
            return Err(Errno::EISDIR);
        }
        Ok(match self.nodes.remove(&place.path).map(|node| node.kind) {
            Some(Kind::Pin(object)) => Some(object),
            _ => None,
        })
    }

    /// Makes a directory.
    pub(crate) fn create_dir(&mut self, user: &User, path: &Path) -> Result<(), Errno> {
        self.make(user, path, DIR_MODE, Kind::Dir)
    }

    /// Removes an empty directory.
    pub(crate) fn remove_dir(&mut self, user: &User, path: &Path) -> Result<(), Errno> {
        let place = self.walk(user, path, false)?;
        let Some(node) = self.nodes.get(&place.path) else {
            return Err(match () {
                () if self.is_mount(&place.path) => Errno::EBUSY,
                () if place.inside || !exists(&place.path) => Errno::ENOENT,
                () => Errno::EPERM,
            });
        };
        self.check_removal(user, &place.path, node)?;
        match node.kind {
            Kind::Dir if self.has_children(&place.path) => Err(Errno::ENOTEMPTY),
            Kind::Dir => {
                self.nodes.remove(&place.path);
                Ok(())
            }
            Kind::Pin(_) | Kind::Link(_) => Err(Errno::ENOTDIR),
        }
    }

    /// Whether a path exists on a bpffs.
    pub(crate) fn contains(&self, user: &User, path: &Path) -> Result<bool, Errno> {
        match self.walk(user, path, true) {
            Ok(place) => Ok(self.nodes.contains_key(&place.path) || self.is_mount(&place.path)),
            Err(Errno::EACCES) => Err(Errno::EACCES),
            Err(_) => Ok(false),
        }
    }

    /// Makes a symbolic link.
    pub(crate) fn symlink(&mut self, user: &User, text: &Path, path: &Path) -> Result<(), Errno> {
        if text.as_os_str().is_empty() {
            return Err(Errno::ENOENT);
        }
        self.make(user, path, LINK_MODE, Kind::Link(text.to_owned()))
    }

    /// The text of a symbolic link.
    pub(crate) fn read_link(&self, user: &User, path: &Path) -> Result<PathBuf, Errno> {
        let place = self.walk(user, path, false)?;
        match self.nodes.get(&place.path).map(|node| &node.kind) {
            Some(Kind::Link(text)) => Ok(text.clone()),
            Some(_) => Err(Errno::EINVAL),
            None if self.is_mount(&place.path) || (!place.inside && exists(&place.path)) => {
                Err(Errno::EINVAL)
            }
            None => Err(Errno::ENOENT),
        }
    }

    /// What is in a directory, by name.
    pub(crate) fn entries(&self, user: &User, path: &Path) -> Result<Vec<PinEntry>, Errno> {
        let directory = self.directory(user, path)?;
        let children = self.nodes.iter().filter(|(path, _)| path.parent() == Some(&directory));
        let entry = |(path, node): (&PathBuf, &Node)| {
            let kind = match node.kind {
                Kind::Dir => PinEntryKind::Directory,
                Kind::Pin(_) => PinEntryKind::Pin,
                Kind::Link(_) => PinEntryKind::Symlink,
            };
            Some(PinEntry { name: path.file_name()?.to_owned(), kind })
        };
        let mut entries: Vec<PinEntry> = children.filter_map(entry).collect();
        entries.sort();
        Ok(entries)
    }

    /// Where a directory of a bpffs is that a user opens, links followed.
    pub(crate) fn directory(&self, user: &User, path: &Path) -> Result<PathBuf, Errno> {
        let place = self.walk(user, path, true)?;
        match self.mode_of(&place.path) {
            Some(_) if !self.is_dir(&place.path) => Err(Errno::ENOTDIR),
            Some(mode) => mode.check(user, READ).map(|()| place.path),
            None if place.inside || !exists(&place.path) => Err(Errno::ENOENT),
            // A directory of the machine is no business of a simulated kernel.
            None => Err(Errno::EPERM),
        }
    }

    /// Whose something is, and what may be done with it.
    pub(crate) fn attributes(&self, user: &User, path: &Path) -> Result<PinAttributes, Errno> {
        let place = self.walk(user, path, true)?;
        let Mode { bits, uid, gid } = self.mode_of(&place.path).ok_or_else(|| missing(&place))?;
        Ok(PinAttributes { mode: bits, uid, gid })
    }

    /// Changes whose something is, or what may be done with it.
    pub(crate) fn change(
        &mut self,
        user: &User,
        path: &Path,
        change: impl FnOnce(&mut Mode) -> Result<(), Errno>,
    ) -> Result<(), Errno> {
        let place = self.walk(user, path, true)?;
        let mode = match self.nodes.get_mut(&place.path) {
            Some(node) => Some(&mut node.mode),
            None => self.mounts.get_mut(&place.path),
        };
        change(mode.ok_or_else(|| missing(&place))?)
    }

    /// Gives something another path, and answers what was pinned there.
    pub(crate) fn rename(&mut self, user: &User, from: &Path, to: &Path) -> Result<Option<Object>, Errno> {
        let from = self.walk(user, from, false)?;
        let to = self.walk(user, to, false)?;
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
        self.check_removal(user, &from.path, moved)?;
        let there = self.nodes.get(&to.path);
        match there {
            Some(there) => self.check_removal(user, &to.path, there)?,
            None => self.check_parent(user, &to.path)?,
        }
        match (&moved.kind, there.map(|there| &there.kind)) {
            (Kind::Dir, Some(Kind::Pin(_) | Kind::Link(_))) => return Err(Errno::ENOTDIR),
            (Kind::Pin(_) | Kind::Link(_), Some(Kind::Dir)) => return Err(Errno::EISDIR),
            _ => {}
        }
        if matches!(moved.kind, Kind::Dir) {
            // Its way up is changed with it.
            if from.path.parent() != to.path.parent() {
                moved.mode.check(user, WRITE)?;
            }
            if self.has_children(&to.path) {
                return Err(Errno::ENOTEMPTY);
            }
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
        Ok(match replaced.map(|node| node.kind) {
            Some(Kind::Pin(object)) => Some(object),
            _ => None,
        })
    }

    /// Mounts another bpffs. The path need not exist on the machine.
    pub(crate) fn mount(&mut self, user: &User, path: &Path) -> Result<(), Errno> {
        user.needs(Capability::SYS_ADMIN)?;
        let place = self.walk(user, path, true)?;
        if self.is_mount(&place.path) {
            return Err(Errno::EBUSY);
        }
        if place.inside && !self.is_dir(&place.path) {
            return Err(Errno::ENOTDIR);
        }
        self.mounts.insert(place.path, root(user));
        Ok(())
    }

    fn mount_of(&self, path: &Path) -> Option<&PathBuf> {
        self.mounts.keys().filter(|mount| path.starts_with(mount)).max_by_key(|mount| mount.as_os_str().len())
    }

    /// Whether a path is where a bpffs is mounted; `ENOENT` or `ENOTDIR` when it is no directory at all.
    pub(crate) fn is_root(&self, user: &User, path: &Path) -> Result<bool, Errno> {
        let place = self.walk(user, path, true)?;
        match self.nodes.get(&place.path).map(|node| &node.kind) {
            _ if self.is_mount(&place.path) => Ok(true),
            Some(Kind::Dir) => Ok(false),
            Some(Kind::Pin(_) | Kind::Link(_)) => Err(Errno::ENOTDIR),
            None if place.inside || !exists(&place.path) => Err(Errno::ENOENT),
            None if place.path.is_dir() => Ok(false),
            None => Err(Errno::ENOTDIR),
        }
    }

    /// The objects that are pinned.
    pub(crate) fn objects(&self) -> impl Iterator<Item = &Object> {
        self.nodes.values().filter_map(|node| match &node.kind {
            Kind::Pin(object) => Some(object),
            Kind::Dir | Kind::Link(_) => None,
        })
    }

    /// The paths of all pins and directories.
    pub(crate) fn paths(&self) -> impl Iterator<Item = &Path> {
        self.nodes.keys().map(PathBuf::as_path)
    }

    fn is_mount(&self, path: &Path) -> bool {
        self.mounts.contains_key(path)
    }

    fn is_dir(&self, path: &Path) -> bool {
        self.nodes.get(path).map_or(self.is_mount(path), |node| matches!(node.kind, Kind::Dir))
    }

    fn mode_of(&self, path: &Path) -> Option<Mode> {
        self.nodes.get(path).map(|node| node.mode).or_else(|| self.mounts.get(path).copied())
    }

    fn has_children(&self, dir: &Path) -> bool {
        let after = (std::ops::Bound::Excluded(dir), std::ops::Bound::Unbounded);
        self.nodes.range::<Path, _>(after).next().is_some_and(|(path, _)| path.starts_with(dir))
    }

    /// Makes something new: the parent has to be there, the path itself not.
    fn make(&mut self, user: &User, path: &Path, bits: u32, kind: Kind) -> Result<(), Errno> {
        let place = self.walk(user, path, false)?;
        if self.nodes.contains_key(&place.path) || self.is_mount(&place.path) {
            return Err(Errno::EEXIST);
        }
        if !place.inside {
            return Err(match place.path.parent() {
                Some(_) if exists(&place.path) => Errno::EEXIST,
                Some(parent) if exists(parent) => Errno::EPERM,
                _ => Errno::ENOENT,
            });
        }
        self.check_parent(user, &place.path)?;
        let parent = place.path.parent().and_then(|parent| self.mode_of(parent)).ok_or(Errno::ENOENT)?;
        let mode = Mode::made(user, parent, bits, matches!(kind, Kind::Dir));
        self.nodes.insert(place.path, Node { kind, mode });
        Ok(())
    }

    /// Whether a user may make something in the directory that a path is in, or take something out of it.
    fn check_parent(&self, user: &User, path: &Path) -> Result<(), Errno> {
        let parent = path.parent().and_then(|parent| self.mode_of(parent)).ok_or(Errno::ENOENT)?;
        parent.check(user, WRITE | SEARCH)
    }

    /// Whether a user may take something out of its directory.
    fn check_removal(&self, user: &User, path: &Path, node: &Node) -> Result<(), Errno> {
        self.check_parent(user, path)?;
        let parent = path.parent().and_then(|parent| self.mode_of(parent)).ok_or(Errno::ENOENT)?;
        parent.check_removal(user, node.mode)
    }

    /// Follows a path. Inside of a bpffs every directory on the way has to be there and to be one that the user may search, and
    /// a name with a dot is refused, as the kernel keeps such names for later. A symbolic link at the end is followed if
    /// `follow` says so.
    fn walk(&self, user: &User, path: &Path, follow: bool) -> Result<Place, Errno> {
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
                    self.check_dir(user, &at, inside)?;
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
            self.check_dir(user, &at, inside)?;
            if name.len() > NAME_MAX {
                return Err(Errno::ENAMETOOLONG);
            }
            inside |= self.is_mount(&at);
            if inside && name.as_encoded_bytes().contains(&b'.') {
                return Err(Errno::EPERM);
            }
            at.push(&name);
            if let Some(Node { kind: Kind::Link(text), .. }) = self.nodes.get(&at)
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

    /// Checks that a user can look names up in a path. Outside of the mounts only what leads to them is known.
    fn check_dir(&self, user: &User, path: &Path, inside: bool) -> Result<(), Errno> {
        match self.mode_of(path) {
            Some(_) if !self.is_dir(path) => Err(Errno::ENOTDIR),
            Some(mode) => mode.check(user, SEARCH),
            None if inside => Err(Errno::ENOENT),
            None => Ok(()),
        }
    }
}

/// The root of a bpffs that a user mounts.
fn root(user: &User) -> Mode {
    // The kernel makes nobody's file removable by others there, whatever the mode that it is mounted with.
    Mode::made(user, Mode { bits: 0, uid: 0, gid: 0 }, STICKY | DIR_MODE, true)
}

/// Why there is nothing at a place to ask or change.
fn missing(place: &Place) -> Errno {
    // A file of the machine is no business of a simulated kernel.
    if place.inside || !exists(&place.path) { Errno::ENOENT } else { Errno::EPERM }
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

//! Pins that a load makes, and takes back when it fails.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use skep_sys::abi::Errno;
use skep_sys::{Kernel, MapFd};

use super::LoadError;

/// Where pins go when nothing else is said.
pub(super) const DEFAULT_ROOT: &str = "/sys/fs/bpf";

/// What has been pinned so far. Dropping it removes the pins again, unless they were kept.
pub(super) struct Pins<'k> {
    kernel: &'k Kernel,
    made: Vec<PathBuf>,
    directories: Vec<PathBuf>,
    /// Pins that take the place of others when the load succeeds.
    swaps: Vec<Swap>,
    /// The locks of the directories where that happens.
    locks: Vec<(PathBuf, OwnedFd)>,
}

/// A pin that takes the place of another.
struct Swap {
    new: PathBuf,
    path: PathBuf,
    /// What is pinned there until then.
    old: MapFd,
}

impl<'k> Pins<'k> {
    pub(super) fn new(kernel: &'k Kernel) -> Self {
        Pins { kernel, made: Vec::new(), directories: Vec::new(), swaps: Vec::new(), locks: Vec::new() }
    }

    /// Makes the directory if it is not there; its parent must be.
    pub(super) fn directory(&mut self, path: &Path) -> Result<(), LoadError> {
        match self.kernel.backend().create_pin_dir(path) {
            Ok(()) => self.directories.push(path.to_owned()),
            Err(Errno::EEXIST) => {}
            Err(source) => return Err(failed(self.kernel, path, "make the directory", source)),
        }
        match self.kernel.backend().is_bpffs(path) {
            Ok(true) => Ok(()),
            Ok(false) => Err(failed(self.kernel, path, "use the directory", Errno::EINVAL)),
            Err(source) => Err(failed(self.kernel, path, "use the directory", source)),
        }
    }

    pub(super) fn add(&mut self, path: PathBuf) {
        self.made.push(path);
    }

    /// Pins a map beside the one at `path`, whose place it takes when the load succeeds.
    pub(super) fn replace(&mut self, path: PathBuf, old: MapFd, map: &MapFd) -> Result<(), LoadError> {
        let directory = path.parent().unwrap_or(Path::new("/")).to_owned();
        if self.locks.iter().all(|(locked, _)| *locked != directory) {
            match self.kernel.backend().lock_pin_dir(&directory) {
                Ok(lock) => self.locks.push((directory, lock)),
                Err(Errno::ENOSYS) => {}
                Err(errno) => return Err(failed(self.kernel, &directory, "lock the directory", errno)),
            }
        }
        let new = beside(&path);
        let pin = || map.pin(&new).map_err(|error| error.errno().unwrap_or(Errno::EINVAL));
        let pinned = match pin() {
            // Left by a process that ended in the middle: whoever holds the lock is alone here.
            Err(Errno::EEXIST) => self.kernel.backend().unpin(&new).and_then(|()| pin()),
            pinned => pinned,
        };
        pinned.map_err(|errno| failed(self.kernel, &new, "pin the map", errno))?;
        self.made.push(new.clone());
        self.swaps.push(Swap { new, path, old });
        Ok(())
    }

    /// The load succeeded: everything stays, and what takes another's place takes it, one after the other.
    pub(super) fn keep(mut self) -> Result<(), LoadError> {
        let backend = self.kernel.backend();
        for (done, swap) in self.swaps.iter().enumerate() {
            let Err(errno) = backend.rename_pin(&swap.new, &swap.path) else { continue };
            for undone in self.swaps.iter().take(done) {
                // As far as it goes: the kernel refused one such call already.
                if undone.old.pin(&undone.new).is_ok() {
                    let _ = backend.rename_pin(&undone.new, &undone.path);
                }
            }
            let step = "put the new map in the place of the old one";
            return Err(failed(self.kernel, &swap.path, step, errno));
        }
        self.made.clear();
        self.directories.clear();
        Ok(())
    }
}

impl Drop for Pins<'_> {
    fn drop(&mut self) {
        for path in self.made.iter().rev() {
            // Nobody is left to tell of a pin that someone else removed meanwhile.
            let _ = self.kernel.backend().unpin(path);
        }
        for path in self.directories.iter().rev() {
            let _ = self.kernel.backend().remove_pin_dir(path);
        }
    }
}

/// Where a map is pinned that is to take the place of the one at `path`. It is the same each time, so that what a process
/// leaves that is ended is found by the next.
fn beside(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push("_next");
    path.with_file_name(name)
}

pub(super) fn failed(kernel: &Kernel, path: &Path, step: &'static str, source: Errno) -> LoadError {
    LoadError::Pin { path: path.to_owned(), step, hint: hint(kernel, path, source), source }
}

/// Why a path on a bpffs may have been refused, with its separator; empty when nothing is known.
pub(crate) fn hint(kernel: &Kernel, path: &Path, errno: Errno) -> String {
    // What is relative is in the working directory.
    let here = |at: &Path| if at.as_os_str().is_empty() { PathBuf::from(".") } else { at.to_owned() };
    let on_bpffs = path.ancestors().map(here).find_map(|at| match kernel.backend().is_bpffs(&at) {
        Ok(true) => Some(true),
        Ok(false) if at.exists() => Some(false),
        _ => None,
    });
    match errno {
        Errno::EROFS => {
            " (the bpffs is mounted read-only: `mount -o remount,rw` makes it writable)".to_owned()
        }
        Errno::EAGAIN => " (another process has it locked to change its pins)".to_owned(),
        Errno::EEXIST => " (the path is taken)".to_owned(),
        Errno::ENOSPC => " (the file system has no room left)".to_owned(),
        Errno::EINVAL | Errno::EPERM | Errno::ENOENT | Errno::EACCES if on_bpffs == Some(false) => {
            " (no bpffs is mounted there, in this mount namespace: `mount -t bpf bpf /sys/fs/bpf` as root mounts one, and \
             so does `skep::bpffs::ensure`)"
                .to_owned()
        }
        Errno::ENOENT => " (its parent directory must exist)".to_owned(),
        Errno::EPERM if has_dot(path) => " (a bpffs takes no names with a dot)".to_owned(),
        Errno::EPERM | Errno::EACCES => " (the process lacks the right)".to_owned(),
        _ => String::new(),
    }
}

fn has_dot(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.as_encoded_bytes().contains(&b'.'))
}

/// The name that a map is pinned by among the others of its object: maps of data sections have names with dots, which a
/// bpffs does not take. `.rodata` becomes `rodata`, and `.data.custom` becomes `data_custom`.
pub(crate) fn file_name(map: &str) -> String {
    map.strip_prefix('.').unwrap_or(map).replace('.', "_")
}

/// The path of a pin in a directory. The name comes from an object file, which may be hostile: it must be one plain
/// path component.
pub(crate) fn path(root: &Path, name: &str) -> Result<PathBuf, LoadError> {
    let reason = if name.is_empty() {
        "has no name to be pinned by"
    } else if name.contains('/') || name.contains('\0') {
        "its name is not a file name, so it cannot be pinned by it"
    } else if name.contains('.') {
        "its name has a dot, which a bpffs does not take"
    } else if name.len() > 255 {
        "its name is longer than a file name may be"
    } else {
        return Ok(root.join(name));
    };
    Err(LoadError::MapDefinition { map: name.escape_debug().to_string(), reason: reason.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_leave_the_directory() {
        let root = Path::new("/sys/fs/bpf/app");
        assert_eq!(path(root, "flows").expect("plain"), root.join("flows"));
        for name in ["", ".", "..", "../flows", "a/b", "/etc/passwd", "a\0b", "a.b", &"x".repeat(256)] {
            assert!(path(root, name).is_err(), "{name:?}");
        }
    }

    #[test]
    fn data_maps_have_names_on_a_bpffs() {
        for (map, name) in [(".rodata", "rodata"), (".data.custom", "data_custom"), ("_flows", "_flows")] {
            assert_eq!(file_name(map), name);
        }
    }
}

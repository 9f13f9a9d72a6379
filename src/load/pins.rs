//! Pins that a load makes, and takes back when it fails.

use std::path::{Path, PathBuf};

use skep_sys::Kernel;
use skep_sys::abi::Errno;

use super::LoadError;

/// Where pins go when nothing else is said.
pub(super) const DEFAULT_ROOT: &str = "/sys/fs/bpf";

/// What has been pinned so far. Dropping it removes the pins again, unless they were kept.
pub(super) struct Pins<'k> {
    kernel: &'k Kernel,
    made: Vec<PathBuf>,
    directories: Vec<PathBuf>,
}

impl<'k> Pins<'k> {
    pub(super) fn new(kernel: &'k Kernel) -> Self {
        Pins { kernel, made: Vec::new(), directories: Vec::new() }
    }

    /// Makes the directory if it is not there; its parent must be.
    pub(super) fn directory(&mut self, path: &Path) -> Result<(), LoadError> {
        match self.kernel.backend().create_pin_dir(path) {
            Ok(()) => self.directories.push(path.to_owned()),
            Err(Errno::EEXIST) => {}
            Err(source) => return Err(failed(path, "make the directory", source)),
        }
        match self.kernel.backend().is_bpffs(path) {
            Ok(true) => Ok(()),
            Ok(false) => Err(failed(path, "use the directory", Errno::EINVAL)),
            Err(source) => Err(failed(path, "use the directory", source)),
        }
    }

    pub(super) fn add(&mut self, path: PathBuf) {
        self.made.push(path);
    }

    /// The load succeeded: everything stays.
    pub(super) fn keep(mut self) {
        self.made.clear();
        self.directories.clear();
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

pub(super) fn failed(path: &Path, step: &'static str, source: Errno) -> LoadError {
    let hint = match source {
        Errno::EINVAL | Errno::EPERM => " (is it on a bpffs? mount -t bpf bpf /sys/fs/bpf)",
        Errno::ENOENT => " (its parent directory must exist)",
        Errno::EROFS => " (the bpffs is mounted read-only)",
        _ => "",
    };
    LoadError::Pin { path: path.to_owned(), step, hint: hint.into(), source }
}

/// The path of a pin in a directory. The name comes from an object file, which may be hostile: it must be one plain
/// path component.
pub(super) fn path(root: &Path, name: &str) -> Result<PathBuf, LoadError> {
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
}

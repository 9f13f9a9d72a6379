//! Control groups of the running kernel.

use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// Where the hierarchy of the second version is mounted.
pub(crate) fn root() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
    mounts.lines().find_map(|line| {
        let mut fields = line.split(' ').skip(1);
        let (path, kind) = (fields.next()?, fields.next()?);
        (kind == "cgroup2").then(|| PathBuf::from(path))
    })
}

/// A control group of a test, which goes with all groups below it.
pub(crate) struct Groups(PathBuf);

impl Groups {
    /// A new one, where one can be made.
    pub(crate) fn new(test: &str) -> Option<Groups> {
        let path = root()?.join(format!("skep-{}-{test}", std::process::id()));
        // Of a process of before that had the number, and was ended in the middle.
        remove(&path);
        fs::create_dir(&path).ok()?;
        Some(Groups(path))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn open(&self) -> OwnedFd {
        File::open(&self.0).unwrap().into()
    }

    /// Makes a group below it, and opens that.
    pub(crate) fn make(&self, path: &str) -> OwnedFd {
        let path = self.0.join(path);
        fs::create_dir(&path).unwrap();
        File::open(&path).unwrap().into()
    }
}

impl Drop for Groups {
    fn drop(&mut self) {
        remove(&self.0);
    }
}

fn remove(path: &Path) {
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove(&entry.path());
        }
    }
    // Nothing depends on it.
    let _ = fs::remove_dir(path);
}

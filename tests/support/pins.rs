//! A directory for what a test pins. Tests of every package use it.

use std::path::{Path, PathBuf};

use skep_sys::Kernel;

/// A directory on the bpffs at its usual place that no other process has. It goes with everything in it.
pub(crate) struct PinDir(PathBuf);

impl PinDir {
    pub(crate) fn new(kernel: &Kernel, name: &str) -> PinDir {
        let path = Path::new("/sys/fs/bpf").join(format!("skep-{}-{name}", std::process::id()));
        // Of a process of before that had the number, and was ended in the middle.
        drop(PinDir(path.clone()));
        kernel.backend().create_pin_dir(&path).unwrap();
        PinDir(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for PinDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

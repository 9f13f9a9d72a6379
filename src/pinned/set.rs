use std::path::{Path, PathBuf};

use skep_link::Link;
use skep_sys::abi::{Errno, OpenFlags};
use skep_sys::{Kernel, LoadedProgram};

use super::attachment::Attachment;
use super::layout::{Layout, Part};
use super::recover::recover;
use crate::error::Error;
use crate::load::pins;
use crate::map::Map;

/// The pinned set that counts in a directory: maps, programs and links by their names, without the object file.
#[derive(Clone, Debug)]
pub struct PinnedSet {
    layout: Layout,
    generation: u64,
}

impl PinnedSet {
    pub(super) fn new(layout: Layout, generation: u64) -> PinnedSet {
        PinnedSet { layout, generation }
    }

    /// Opens the set that counts in a directory; none when there is none. Nothing is locked or finished: an upgrade may
    /// take the set away, after which its parts are not found.
    ///
    /// # Errors
    ///
    /// [`Error::Pin`] when the directory cannot be read, [`Error::PinnedState`] when something else is in it.
    pub fn open(kernel: &Kernel, directory: impl AsRef<Path>) -> Result<Option<PinnedSet>, Error> {
        let layout = Layout { kernel: kernel.clone(), root: directory.as_ref().to_owned() };
        Ok(layout.current()?.map(|generation| PinnedSet { layout, generation }))
    }

    /// Which version it is, counted from 1.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Its directory. `current` in the directory that it was opened from leads here until the next version is committed.
    pub fn path(&self) -> PathBuf {
        self.layout.generation(self.generation)
    }

    /// The names of its maps.
    ///
    /// # Errors
    ///
    /// [`Error::Pin`].
    pub fn maps(&self) -> Result<Vec<String>, Error> {
        self.layout.names(self.generation, Part::Maps)
    }

    /// The names of its programs.
    ///
    /// # Errors
    ///
    /// [`Error::Pin`].
    pub fn programs(&self) -> Result<Vec<String>, Error> {
        self.layout.names(self.generation, Part::Programs)
    }

    /// The names of its links, with the program and the place of each.
    ///
    /// # Errors
    ///
    /// [`Error::Pin`], [`Error::PinnedState`] when a later version of skep wrote what this one does not know.
    pub fn links(&self) -> Result<Vec<(String, String, Attachment)>, Error> {
        let mut links = Vec::new();
        for name in self.layout.names(self.generation, Part::Attach)? {
            if let Some(record) = self.layout.record(self.generation, &name)? {
                links.push((name, record.program, record.attachment));
            }
        }
        Ok(links)
    }

    /// Opens a map by its name in the object (`BPF_OBJ_GET`).
    ///
    /// # Errors
    ///
    /// [`Error::Pin`] when there is none.
    pub fn map(&self, name: &str) -> Result<Map, Error> {
        self.layout.map(self.generation, &pins::file_name(name), OpenFlags::empty())
    }

    /// As [`map`](PinnedSet::map), to read only: what would change it is refused.
    ///
    /// # Errors
    ///
    /// [`Error::Pin`] when there is none.
    pub fn map_read_only(&self, name: &str) -> Result<Map, Error> {
        self.layout.map(self.generation, &pins::file_name(name), OpenFlags::RDONLY)
    }

    /// Opens a program by its name (`BPF_OBJ_GET`).
    ///
    /// # Errors
    ///
    /// [`Error::Pin`] when there is none.
    pub fn program(&self, name: &str) -> Result<LoadedProgram, Error> {
        self.layout.program(self.generation, name)
    }

    /// Opens a link by its name (`BPF_OBJ_GET`). While the handle is open, the link stays attached.
    ///
    /// # Errors
    ///
    /// [`Error::Pin`] when there is none.
    pub fn link(&self, name: &str) -> Result<Link, Error> {
        let link = self.layout.link(self.generation, name)?;
        link.ok_or_else(|| {
            let path = self.layout.path(self.generation, Part::Links, name);
            self.layout.failed(&path, "open the link", Errno::ENOENT)
        })
    }

    /// Detaches everything and removes the set with its directory. If the process is ended in the middle, the next
    /// [`Upgrade::begin`](super::Upgrade::begin) removes the rest.
    ///
    /// # Errors
    ///
    /// [`Error::Pin`] when another process has the directory locked, or the kernel refuses.
    pub fn remove(self) -> Result<(), Error> {
        let _lock = self.layout.lock()?;
        self.layout.clear()?;
        recover(&self.layout)?;
        match self.layout.kernel.backend().remove_pin_dir(&self.layout.root) {
            // Others may have pins there, or it is where the bpffs is mounted.
            Ok(()) | Err(Errno::ENOTEMPTY | Errno::EBUSY | Errno::ENOENT) => Ok(()),
            Err(errno) => Err(self.layout.failed(&self.layout.root, "remove it", errno)),
        }
    }
}

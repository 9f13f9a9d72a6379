//! Where things are in the directory of a pinned set.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use skep_link::Link;
use skep_sys::abi::{Errno, OpenFlags};
use skep_sys::request::PinEntryKind;
use skep_sys::{Kernel, LoadedProgram};

use super::attachment::Record;
use crate::error::Error;
use crate::load::pin_all::failed;
use crate::map::Map;

/// The link whose text is the set that counts.
const CURRENT: &str = "current";
/// The link that takes its place.
const NEXT: &str = "current_next";
const GENERATION: &str = "gen-";

/// The directories of one set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Links,
    Attach,
    Programs,
    Maps,
}

impl Part {
    /// In the order in which they are removed: what is attached goes first.
    pub(super) const ALL: [Part; 4] = [Part::Links, Part::Attach, Part::Programs, Part::Maps];

    fn name(self) -> &'static str {
        match self {
            Part::Links => "links",
            Part::Attach => "attach",
            Part::Programs => "programs",
            Part::Maps => "maps",
        }
    }
}

/// A directory with the generations of a set.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    pub(super) kernel: Kernel,
    pub(super) root: PathBuf,
}

impl Layout {
    pub(super) fn lock(&self) -> Result<OwnedFd, Error> {
        self.kernel
            .backend()
            .lock_pin_dir(&self.root)
            .map_err(|errno| self.failed(&self.root, "lock it", errno))
    }

    pub(super) fn generation(&self, number: u64) -> PathBuf {
        self.root.join(format!("{GENERATION}{number}"))
    }

    pub(super) fn part(&self, generation: u64, part: Part) -> PathBuf {
        self.generation(generation).join(part.name())
    }

    pub(super) fn path(&self, generation: u64, part: Part, name: &str) -> PathBuf {
        self.part(generation, part).join(name)
    }

    /// The generation that counts, if any.
    pub(super) fn current(&self) -> Result<Option<u64>, Error> {
        let path = self.root.join(CURRENT);
        match self.kernel.backend().read_pin_link(&path) {
            Ok(text) => match text.to_str().and_then(number) {
                Some(number) => Ok(Some(number)),
                None => {
                    Err(self.unusable(format!("`{CURRENT}` leads to {}, which is no set", text.display())))
                }
            },
            Err(Errno::ENOENT) => Ok(None),
            Err(errno) => Err(self.failed(&path, "read it", errno)),
        }
    }

    /// All generations that there is anything of, ascending.
    pub(super) fn generations(&self) -> Result<Vec<u64>, Error> {
        let entries = self.kernel.backend().pin_dir_entries(&self.root);
        let entries = entries.map_err(|errno| self.failed(&self.root, "list it", errno))?;
        let directories = entries.iter().filter(|entry| entry.kind == PinEntryKind::Directory);
        let mut numbers: Vec<u64> =
            directories.filter_map(|entry| entry.name.to_str().and_then(number)).collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// Makes the directories of a generation.
    pub(super) fn create(&self, generation: u64) -> Result<(), Error> {
        let root = self.generation(generation);
        for path in std::iter::once(root).chain(Part::ALL.map(|part| self.part(generation, part))) {
            let made = self.kernel.backend().create_pin_dir(&path);
            made.map_err(|errno| self.failed(&path, "make the directory", errno))?;
        }
        Ok(())
    }

    /// Makes a generation the one that counts: the one call that decides.
    pub(super) fn commit(&self, generation: u64) -> Result<(), Error> {
        let next = self.root.join(NEXT);
        self.remove_file(&next)?;
        let text = PathBuf::from(format!("{GENERATION}{generation}"));
        let backend = self.kernel.backend();
        backend.symlink_pin(&text, &next).map_err(|errno| self.failed(&next, "make the link", errno))?;
        let path = self.root.join(CURRENT);
        backend
            .rename_pin(&next, &path)
            .map_err(|errno| self.failed(&path, "make the new set the one that counts", errno))
    }

    /// Lets no generation count any more.
    pub(super) fn clear(&self) -> Result<(), Error> {
        self.remove_file(&self.root.join(CURRENT))
    }

    /// Removes what an unfinished commit leaves.
    pub(super) fn tidy(&self) -> Result<(), Error> {
        self.remove_file(&self.root.join(NEXT))
    }

    /// Removes a generation as far as it is there. What it alone keeps attached is detached.
    pub(super) fn remove(&self, generation: u64) -> Result<(), Error> {
        for part in Part::ALL {
            for name in self.names(generation, part)? {
                self.remove_file(&self.path(generation, part, &name))?;
            }
            self.remove_directory(&self.part(generation, part))?;
        }
        self.remove_directory(&self.generation(generation))
    }

    /// The names in a part of a generation; none when it is not there.
    pub(super) fn names(&self, generation: u64, part: Part) -> Result<Vec<String>, Error> {
        let path = self.part(generation, part);
        let entries = match self.kernel.backend().pin_dir_entries(&path) {
            Ok(entries) => entries,
            Err(Errno::ENOENT) => return Ok(Vec::new()),
            Err(errno) => return Err(self.failed(&path, "list it", errno)),
        };
        let name = |name: std::ffi::OsString| {
            name.into_string()
                .map_err(|name| self.unusable(format!("{} is not a name of its own", name.display())))
        };
        entries.into_iter().map(|entry| name(entry.name)).collect()
    }

    /// What a generation says of one of its links; none when it has no such link.
    pub(super) fn record(&self, generation: u64, link: &str) -> Result<Option<Record>, Error> {
        let path = self.path(generation, Part::Attach, link);
        match self.kernel.backend().read_pin_link(&path) {
            Ok(text) => match text.to_str().and_then(Record::parse) {
                Some(record) => Ok(Some(record)),
                None => Err(self.unusable(format!(
                    "{} says `{}`, which this version does not understand",
                    path.display(),
                    text.display()
                ))),
            },
            Err(Errno::ENOENT) => Ok(None),
            Err(errno) => Err(self.failed(&path, "read it", errno)),
        }
    }

    pub(super) fn write_record(&self, generation: u64, link: &str, record: &Record) -> Result<(), Error> {
        let path = self.path(generation, Part::Attach, link);
        let written = self.kernel.backend().symlink_pin(record.to_string().as_ref(), &path);
        written.map_err(|errno| self.failed(&path, "write down where the link is attached", errno))
    }

    /// A link of a generation; none when it has none pinned.
    pub(super) fn link(&self, generation: u64, name: &str) -> Result<Option<Link>, Error> {
        let path = self.path(generation, Part::Links, name);
        match Link::open_pinned(&self.kernel, &path) {
            Ok(link) => Ok(Some(link)),
            Err(error) if error.errno() == Some(Errno::ENOENT) => Ok(None),
            Err(error) => Err(self.failed(&path, "open the link", error.errno().unwrap_or(Errno::EINVAL))),
        }
    }

    pub(super) fn program(&self, generation: u64, name: &str) -> Result<LoadedProgram, Error> {
        let path = self.path(generation, Part::Programs, name);
        let program = self.kernel.prog_open_pinned(&path);
        program.map_err(|errno| self.failed(&path, "open the program", errno))
    }

    pub(super) fn map(&self, generation: u64, name: &str, flags: OpenFlags) -> Result<Map, Error> {
        let path = self.path(generation, Part::Maps, name);
        let map = self.kernel.map_open_pinned(&path, flags);
        let map = map.map_err(|errno| self.failed(&path, "open the map", errno))?;
        Ok(Map::new(name, map))
    }

    pub(super) fn remove_file(&self, path: &Path) -> Result<(), Error> {
        match self.kernel.backend().unpin(path) {
            Ok(()) | Err(Errno::ENOENT) => Ok(()),
            Err(errno) => Err(self.failed(path, "remove it", errno)),
        }
    }

    fn remove_directory(&self, path: &Path) -> Result<(), Error> {
        match self.kernel.backend().remove_pin_dir(path) {
            Ok(()) | Err(Errno::ENOENT) => Ok(()),
            Err(errno) => Err(self.failed(path, "remove it", errno)),
        }
    }

    pub(super) fn failed(&self, path: &Path, step: &'static str, errno: Errno) -> Error {
        failed(&self.kernel, path, step, errno)
    }

    pub(super) fn unusable(&self, reason: String) -> Error {
        Error::PinnedState { directory: self.root.clone(), reason }
    }
}

/// The number in the name of a generation.
fn number(name: &str) -> Option<u64> {
    let digits = name.strip_prefix(GENERATION)?;
    // One name for each number: no sign, no leading zero.
    digits.parse().ok().filter(|number: &u64| number.to_string() == digits)
}

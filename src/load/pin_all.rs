//! Pins of whole objects.

use std::path::{Path, PathBuf};

use skep_sys::Kernel;
use skep_sys::abi::{Errno, OpenFlags};

use super::{Object, pins};
use crate::error::Error;
use crate::program::Program;

impl Object {
    /// Pins every map and program in a directory on a bpffs (`BPF_OBJ_PIN`, Linux 4.4), which is made if it is not
    /// there; its parent must be. Programs are pinned by their names, and so are maps, those of data sections without the
    /// dots: `.rodata` as `rodata`. A map that is pinned there already, by its name, stays so.
    ///
    /// Either everything is pinned, or what was pinned is removed again. What it answers tells the paths, and can take all of it
    /// back when a later step fails, such as attaching.
    ///
    /// ```
    /// use skep::{Loader, Spec};
    ///
    /// # fn main() -> Result<(), skep::Error> {
    /// let kernel = skep::sim::kernel();
    /// let spec = Spec::parse("xdp_count", include_bytes!("../../testdata/xdp_count.o"))?;
    /// let object = Loader::new(&kernel).load(&spec)?;
    /// let pins = object.pin_all("/sys/fs/bpf/counter")?;
    /// assert_eq!(pins.map("flows").unwrap().to_str(), Some("/sys/fs/bpf/counter/flows"));
    /// object.unpin_all("/sys/fs/bpf/counter")?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Pin`] with the path that was refused, [`Error::Load`] for a name that cannot be a file's.
    pub fn pin_all(&self, directory: impl AsRef<Path>) -> Result<ObjectPins, Error> {
        let directory = directory.as_ref();
        let mut pins = ObjectPins {
            kernel: self.kernel().clone(),
            maps: Vec::new(),
            programs: Vec::new(),
            made: Vec::new(),
            directory: None,
        };
        make_directory(self.kernel(), directory)?.then(|| pins.directory = Some(directory.to_owned()));
        match self.pin_into(directory, &mut pins) {
            Ok(()) => Ok(pins),
            Err(error) => {
                // What cannot be removed stays; the error that is told is the first one.
                let _ = pins.undo();
                Err(error)
            }
        }
    }

    fn pin_into(&self, directory: &Path, pins: &mut ObjectPins) -> Result<(), Error> {
        for (path, part) in self.places(directory, directory)? {
            match part.pin(&path) {
                Ok(()) => pins.made.push(path.clone()),
                Err(Errno::EEXIST) if self.is_pinned(&path, &part) => {}
                Err(source) => return Err(failed(self.kernel(), &path, "pin it", source)),
            }
            match part {
                Part::Map(_, name) => pins.maps.push((name.to_owned(), path)),
                Part::Program(program) => pins.programs.push((program.name().to_owned(), path)),
            }
        }
        Ok(())
    }

    /// Removes the pins that [`pin_all`](Object::pin_all) made in a directory, and the directory if nothing else is in
    /// it. What is not there, or is something else than a part of this object, is left alone.
    ///
    /// # Errors
    ///
    /// [`Error::Pin`] with the path that was refused.
    pub fn unpin_all(&self, directory: impl AsRef<Path>) -> Result<(), Error> {
        let directory = directory.as_ref();
        let backend = self.kernel().backend();
        for (path, part) in self.places(directory, directory)? {
            if !self.is_pinned(&path, &part) {
                continue;
            }
            match backend.unpin(&path) {
                Ok(()) | Err(Errno::ENOENT) => {}
                Err(source) => return Err(failed(self.kernel(), &path, "remove it", source)),
            }
        }
        match backend.remove_pin_dir(directory) {
            Ok(()) | Err(Errno::ENOENT | Errno::ENOTEMPTY | Errno::EBUSY) => Ok(()),
            Err(source) => Err(failed(self.kernel(), directory, "remove it", source)),
        }
    }

    /// Each part with the path that it has in a directory for maps and one for programs.
    pub(crate) fn places(&self, maps: &Path, programs: &Path) -> Result<Vec<(PathBuf, Part<'_>)>, Error> {
        let refused = |source| Error::Load { object: self.name().to_owned(), source };
        let maps = self.maps().map(|(name, map)| {
            let path = pins::path(maps, &pins::file_name(name)).map_err(refused)?;
            Ok((path, Part::Map(map.as_map_fd(), name)))
        });
        let programs = self.programs().map(|program| {
            let path = pins::path(programs, program.name()).map_err(refused)?;
            Ok((path, Part::Program(program)))
        });
        maps.chain(programs).collect()
    }

    /// Whether this very part is pinned at the path.
    fn is_pinned(&self, path: &Path, part: &Part<'_>) -> bool {
        match part {
            Part::Map(map, _) => {
                let there = self.kernel().map_open_pinned(path, OpenFlags::empty());
                let there = there.ok().and_then(|there| there.info().ok());
                there.zip(map.info().ok()).is_some_and(|(there, own)| there.id == own.id)
            }
            Part::Program(program) => {
                let there = self.kernel().prog_open_pinned(path);
                let there = there.ok().and_then(|there| there.info().ok());
                there.zip(program.loaded().info().ok()).is_some_and(|(there, own)| there.id == own.id)
            }
        }
    }
}

/// What can be pinned of an object.
pub(crate) enum Part<'a> {
    Map(&'a skep_sys::MapFd, &'a str),
    Program(&'a Program),
}

impl Part<'_> {
    pub(crate) fn pin(&self, path: &Path) -> Result<(), Errno> {
        match self {
            Part::Map(map, _) => map.pin(path).map_err(|error| error.errno().unwrap_or(Errno::EINVAL)),
            Part::Program(program) => program.loaded().pin(path),
        }
    }
}

/// What [`Object::pin_all`] pinned, and where. Dropping it changes nothing.
#[derive(Clone, Debug)]
pub struct ObjectPins {
    kernel: Kernel,
    maps: Vec<(String, PathBuf)>,
    programs: Vec<(String, PathBuf)>,
    /// What was not there before.
    made: Vec<PathBuf>,
    directory: Option<PathBuf>,
}

impl ObjectPins {
    /// All paths: of maps, then of programs, each in the order of the object.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.maps.iter().chain(&self.programs).map(|(_, path)| path.as_path())
    }

    /// Where the map of that name is pinned.
    pub fn map(&self, name: &str) -> Option<&Path> {
        find(&self.maps, name)
    }

    /// Where the program of that name is pinned.
    pub fn program(&self, name: &str) -> Option<&Path> {
        find(&self.programs, name)
    }

    /// Removes again what was pinned, and the directory if it was made. What was there before stays, and so does a
    /// directory that has something else in it by now.
    ///
    /// # Errors
    ///
    /// [`Error::Pin`] with the first path that was refused, after all others were removed.
    pub fn undo(self) -> Result<(), Error> {
        let backend = self.kernel.backend();
        let mut outcome = Ok(());
        for path in self.made.iter().rev() {
            match backend.unpin(path) {
                Ok(()) | Err(Errno::ENOENT) => {}
                Err(source) => outcome = outcome.and(Err(failed(&self.kernel, path, "remove it", source))),
            }
        }
        if let Some(directory) = &self.directory {
            match backend.remove_pin_dir(directory) {
                Ok(()) | Err(Errno::ENOENT | Errno::ENOTEMPTY | Errno::EBUSY) => {}
                Err(source) => {
                    outcome = outcome.and(Err(failed(&self.kernel, directory, "remove it", source)))
                }
            }
        }
        outcome
    }
}

fn find<'p>(pins: &'p [(String, PathBuf)], name: &str) -> Option<&'p Path> {
    pins.iter().find(|(there, _)| there == name).map(|(_, path)| path.as_path())
}

/// Makes a directory on a bpffs if it is not there. Answers whether it did.
pub(crate) fn make_directory(kernel: &Kernel, directory: &Path) -> Result<bool, Error> {
    let made = match kernel.backend().create_pin_dir(directory) {
        Ok(()) => true,
        Err(Errno::EEXIST) => false,
        Err(source) => return Err(failed(kernel, directory, "make the directory", source)),
    };
    match kernel.backend().is_bpffs(directory) {
        Ok(true) => Ok(made),
        answer => {
            if made {
                let _ = kernel.backend().remove_pin_dir(directory);
            }
            let source = answer.err().unwrap_or(Errno::EINVAL);
            Err(failed(kernel, directory, "use the directory", source))
        }
    }
}

pub(crate) fn failed(kernel: &Kernel, path: &Path, step: &'static str, source: Errno) -> Error {
    Error::Pin { path: path.to_owned(), step, hint: pins::hint(kernel, path, source), source }
}

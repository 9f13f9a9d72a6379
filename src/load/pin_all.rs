//! Pins of whole objects.

use std::path::{Path, PathBuf};

use skep_sys::Kernel;
use skep_sys::abi::{Errno, OpenFlags};

use super::{Object, pins};
use crate::error::Error;

impl Object {
    /// Pins every map and program in a directory on a bpffs (`BPF_OBJ_PIN`, Linux 4.4), which is made if it is not
    /// there; its parent must be. Programs are pinned by their names, and so are maps, those of data sections without the
    /// dots: `.rodata` as `rodata`. A map that is pinned there already, by its name, stays so.
    ///
    /// Either everything is pinned, or what was pinned is removed again.
    ///
    /// ```
    /// use skep::{Loader, Spec};
    ///
    /// # fn main() -> Result<(), skep::Error> {
    /// let kernel = skep::sim::kernel();
    /// let spec = Spec::parse("xdp_count", include_bytes!("../../testdata/xdp_count.o"))?;
    /// let object = Loader::new(&kernel).load(&spec)?;
    /// let paths = object.pin_all("/sys/fs/bpf/counter")?;
    /// assert!(paths.contains(&"/sys/fs/bpf/counter/flows".into()));
    /// object.unpin_all("/sys/fs/bpf/counter")?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Pin`] with the path that was refused, [`Error::Load`] for a name that cannot be a file's.
    pub fn pin_all(&self, directory: impl AsRef<Path>) -> Result<Vec<PathBuf>, Error> {
        let directory = directory.as_ref();
        let mut made = Made { kernel: self.kernel(), pins: Vec::new(), directory: None };
        make_directory(self.kernel(), directory)?.then(|| made.directory = Some(directory.to_owned()));
        let mut paths = Vec::new();
        for (path, part) in self.places(directory, directory)? {
            match part.pin(&path) {
                Ok(()) => made.pins.push(path.clone()),
                Err(Errno::EEXIST) if self.is_pinned(&path, &part) => {}
                Err(source) => return Err(failed(self.kernel(), &path, "pin it", source)),
            }
            paths.push(path);
        }
        made.pins.clear();
        made.directory = None;
        Ok(paths)
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
            Ok((path, Part::Map(map.as_map_fd())))
        });
        let programs = self.programs().map(|program| {
            let path = pins::path(programs, program.name()).map_err(refused)?;
            Ok((path, Part::Program(program.loaded())))
        });
        maps.chain(programs).collect()
    }

    /// Whether this very part is pinned at the path.
    fn is_pinned(&self, path: &Path, part: &Part<'_>) -> bool {
        match part {
            Part::Map(map) => {
                let there = self.kernel().map_open_pinned(path, OpenFlags::empty());
                let there = there.ok().and_then(|there| there.info().ok());
                there.zip(map.info().ok()).is_some_and(|(there, own)| there.id == own.id)
            }
            Part::Program(program) => {
                let there = self.kernel().prog_open_pinned(path);
                let there = there.ok().and_then(|there| there.info().ok());
                there.zip(program.info().ok()).is_some_and(|(there, own)| there.id == own.id)
            }
        }
    }
}

/// What can be pinned of an object.
pub(crate) enum Part<'a> {
    Map(&'a skep_sys::MapFd),
    Program(&'a skep_sys::LoadedProgram),
}

impl Part<'_> {
    pub(crate) fn pin(&self, path: &Path) -> Result<(), Errno> {
        match self {
            Part::Map(map) => map.pin(path).map_err(|error| error.errno().unwrap_or(Errno::EINVAL)),
            Part::Program(program) => program.pin(path),
        }
    }
}

/// What was made so far, and goes again unless it is forgotten.
struct Made<'k> {
    kernel: &'k Kernel,
    pins: Vec<PathBuf>,
    directory: Option<PathBuf>,
}

impl Drop for Made<'_> {
    fn drop(&mut self) {
        for path in self.pins.iter().rev() {
            // Nobody is left to tell.
            let _ = self.kernel.backend().unpin(path);
        }
        if let Some(directory) = &self.directory {
            let _ = self.kernel.backend().remove_pin_dir(directory);
        }
    }
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

use std::os::fd::OwnedFd;
use std::path::Path;

use skep_sys::Kernel;
use skep_sys::abi::{Errno, MapType, OpenFlags};

use super::attachment::{Attachment, Exchange, Record};
use super::layout::{Layout, Part};
use super::recover::{Recovery, attach, detach, recover, remove, roll_back};
use super::set::PinnedSet;
use crate::error::Error;
use crate::load::pin_all::make_directory;
use crate::load::pins;
use crate::map::Map;
use crate::program::Program;
use crate::spec::{MapRole, MapSpec, Pinning, Spec};
use crate::{Loader, Object};

/// The first step of putting a new version of an object in the place of the one that is pinned in a directory, if any.
///
/// It holds a lock on the directory, which goes with it or with the process.
#[derive(Debug)]
pub struct Upgrade {
    layout: Layout,
    lock: OwnedFd,
    current: Option<u64>,
    recovery: Recovery,
    kept: Vec<String>,
    fresh: Vec<String>,
}

impl Upgrade {
    /// Locks a directory on a bpffs, which is made if it is not there; its parent must be. First it finishes what a
    /// process that was ended in the middle of an upgrade had begun.
    ///
    /// # Errors
    ///
    /// [`Error::Pin`]: the directory is not on a bpffs, or another process has it locked ([`Errno::EAGAIN`]), or the
    /// kernel refuses what is to be finished. [`Error::PinnedState`] when something else is in the directory.
    /// [`Error::Attach`] when a program of the old set cannot be attached again.
    pub fn begin(kernel: &Kernel, directory: impl AsRef<Path>) -> Result<Upgrade, Error> {
        let directory = directory.as_ref();
        make_directory(kernel, directory)?;
        let layout = Layout { kernel: kernel.clone(), root: directory.to_owned() };
        let lock = layout.lock()?;
        let recovery = recover(&layout)?;
        let current = layout.current()?;
        Ok(Upgrade { layout, lock, current, recovery, kept: Vec::new(), fresh: Vec::new() })
    }

    /// What was found and finished.
    pub fn recovery(&self) -> Recovery {
        self.recovery
    }

    /// The set that is pinned, if any.
    pub fn current(&self) -> Option<PinnedSet> {
        self.current.map(|generation| PinnedSet::new(self.layout.clone(), generation))
    }

    /// Makes a map new for this version, although one of its name is pinned.
    pub fn fresh(mut self, map: &str) -> Upgrade {
        self.fresh.push(map.to_owned());
        self
    }

    /// Takes a map over although it is one that would be made new: that of a data section, such as `.bss`, whose
    /// variables keep their values then.
    pub fn keep(mut self, map: &str) -> Upgrade {
        self.kept.push(map.to_owned());
        self
    }

    /// Loads the new version and pins its maps and programs. Nothing is attached yet, and the old version runs on.
    ///
    /// Maps are taken over from the pinned set by their names, and the loader's
    /// [`on_mismatch`](Loader::on_mismatch) says what becomes of those that do not fit. These are made new: maps of data
    /// sections, program arrays, `struct_ops` tables and maps of maps with declared elements, since they belong to one
    /// version; [`keep`](Upgrade::keep) and [`fresh`](Upgrade::fresh) say otherwise. That a map wants to be pinned by its
    /// name counts for nothing here.
    ///
    /// # Errors
    ///
    /// As [`Loader::load`], [`Error::Pin`], [`Error::PinnedState`] when the loader is another kernel's.
    pub fn load(self, loader: &Loader, spec: &Spec) -> Result<Staged, Error> {
        let Upgrade { layout, lock, current, kept, fresh, .. } = self;
        if !loader.kernel().same(&layout.kernel) {
            return Err(layout.unusable("the loader loads into another kernel".into()));
        }
        for name in kept.iter().chain(&fresh) {
            if spec.map(name).is_none() {
                return Err(layout.unusable(format!("object `{}` has no map `{name}`", spec.name)));
            }
        }
        let generation = current.map_or(Some(1), |current| current.checked_add(1));
        let generation = generation.ok_or_else(|| layout.unusable("there are no more numbers".into()))?;

        let there = match current {
            Some(current) => layout.names(current, Part::Maps)?,
            None => Vec::new(),
        };
        let mut inherited: Vec<(String, Map)> = Vec::new();
        let mut spec = spec.clone();
        for map in &mut spec.maps {
            map.pinning = Pinning::None;
            let wanted = (goes_on(map) || kept.contains(&map.name)) && !fresh.contains(&map.name);
            let file = pins::file_name(&map.name);
            if let (Some(current), true) = (current, wanted && there.contains(&file)) {
                inherited.push((map.name.clone(), layout.map(current, &file, OpenFlags::empty())?));
            }
        }
        layout.create(generation).inspect_err(|_| drop(layout.remove(generation)))?;
        // From here on whatever fails removes it again.
        let mut work = Work { layout, _lock: lock, current, generation, attached: false, done: false };
        let object = loader.clone().inherit(inherited).load(&spec)?;
        work.pin(&object)?;
        Ok(Staged { object, links: Vec::new(), work })
    }
}

/// Whether a map goes on from version to version.
fn goes_on(map: &MapSpec) -> bool {
    let of_one_version =
        matches!(map.map_type, MapType::PROG_ARRAY | MapType::STRUCT_OPS | MapType::INSN_ARRAY);
    map.role == MapRole::Declared && !of_one_version && map.slots.is_empty()
}

/// A generation in the making. Dropping it before it is committed brings the old state back.
#[derive(Debug)]
struct Work {
    layout: Layout,
    _lock: OwnedFd,
    current: Option<u64>,
    generation: u64,
    /// Whether anything may be attached otherwise than it was.
    attached: bool,
    done: bool,
}

impl Work {
    fn pin(&mut self, object: &Object) -> Result<(), Error> {
        let maps = self.layout.part(self.generation, Part::Maps);
        let programs = self.layout.part(self.generation, Part::Programs);
        for (path, part) in object.places(&maps, &programs)? {
            part.pin(&path).map_err(|errno| self.layout.failed(&path, "pin it", errno))?;
        }
        Ok(())
    }

    fn undo(&mut self) -> Result<(), Error> {
        self.done = true;
        if self.attached {
            roll_back(&self.layout, self.current, self.generation)
        } else {
            self.layout.remove(self.generation)
        }
    }

    /// Lets a place run its new program.
    fn switch(&self, name: &str, record: &Record, program: &Program) -> Result<(), Error> {
        let (layout, new) = (&self.layout, self.generation);
        let old = match self.current {
            Some(current) => layout.record(current, name)?.map(|record| (current, record)),
            None => None,
        };
        let Some((current, old)) = old else {
            return attach(layout, new, name, record, program.loaded());
        };
        if old.attachment.same_place(&record.attachment)
            && let Some(link) = layout.link(current, name)?
        {
            let path = layout.path(new, Part::Links, name);
            let failed = |source| Error::Attach { program: record.program.clone(), source: Box::new(source) };
            // Before the update, so that the new set has the link whenever it counts.
            link.pin(&path).map_err(failed)?;
            match link.update(program.loaded()) {
                Ok(()) => return Ok(()),
                // Links of this kind keep their program, or what this one was attached to is gone.
                Err(error)
                    if matches!(
                        error.errno(),
                        Some(Errno::EINVAL | Errno::EOPNOTSUPP | Errno::ENOSYS | Errno::ENOLINK)
                    ) =>
                {
                    layout.remove_file(&path)?;
                }
                Err(error) => return Err(failed(error)),
            }
        }
        if record.attachment.order() == Exchange::OldFirst {
            detach(layout, current, name)?;
        }
        attach(layout, new, name, record, program.loaded())?;
        if record.attachment.order() == Exchange::NewFirst {
            detach(layout, current, name)?;
        }
        Ok(())
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        if !self.done {
            // Who wants to know calls `roll_back`; what fails here the next upgrade does.
            let _ = self.undo();
        }
    }
}

/// A new version that is loaded and pinned, and not attached. Dropping it removes it again.
#[derive(Debug)]
#[must_use = "dropping it removes the new version"]
pub struct Staged {
    object: Object,
    links: Vec<(String, Record)>,
    work: Work,
}

impl Staged {
    /// The new version: to look at what was taken over, set variables, fill maps, try programs.
    pub fn object(&self) -> &Object {
        &self.object
    }

    /// Says where a program is to be attached, by a link with the program's name.
    ///
    /// # Errors
    ///
    /// As [`attach_as`](Staged::attach_as).
    pub fn attach(&mut self, program: &str, attachment: Attachment) -> Result<(), Error> {
        self.attach_as(program, program, attachment)
    }

    /// Says where a program is to be attached, and the link's name: a program may have several. The link of the same name
    /// and place in the pinned set goes over to it; one that no longer has a namesake is detached when the new version is
    /// committed.
    ///
    /// # Errors
    ///
    /// [`Error::NoSuch`] when the object has no such program, [`Error::PinnedState`] for a link that was named before or
    /// whose name cannot be a file's.
    pub fn attach_as(&mut self, link: &str, program: &str, attachment: Attachment) -> Result<(), Error> {
        let unfit = |reason: &str| Err(self.work.layout.unusable(format!("link `{link}`: {reason}")));
        if pins::path(Path::new(""), link).is_err() {
            return unfit("a name on a bpffs has no dot, slash or zero byte, and at most 255 bytes");
        }
        if let Some(problem) = attachment.problem() {
            return unfit(problem);
        }
        if self.links.iter().any(|(name, _)| name == link) {
            return unfit("it was named before");
        }
        let attach_type = self.object.program(program)?.attach_type();
        let record = Record { attachment, attach_type, program: program.to_owned() };
        self.links.push((link.to_owned(), record));
        Ok(())
    }

    /// Lets each place run its new program, in the order in which they were named. When one is refused, all that were
    /// switched go back.
    ///
    /// # Errors
    ///
    /// [`Error::Attach`] or [`Error::Pin`].
    pub fn switch(self) -> Result<Switched, Error> {
        let Staged { object, links, mut work } = self;
        for (name, record) in &links {
            work.layout.write_record(work.generation, name, record)?;
        }
        work.attached = true;
        for (name, record) in &links {
            work.switch(name, record, object.program(&record.program)?)?;
        }
        Ok(Switched { object, work })
    }
}

/// A new version that runs, beside what the old one needs to run again. Dropping it goes back to the old one.
#[derive(Debug)]
#[must_use = "dropping it goes back to the old version"]
pub struct Switched {
    object: Object,
    work: Work,
}

impl Switched {
    /// The new version, which runs: to see whether it does what it should.
    pub fn object(&self) -> &Object {
        &self.object
    }

    /// Makes the new version the one that counts, then detaches what only the old one had attached and removes it.
    ///
    /// # Errors
    ///
    /// [`Error::Pin`]. When the new version could not be made the one that counts, the old one is back. When only what the
    /// old one left could not be removed, the new one counts, and the next upgrade removes the rest.
    pub fn commit(self) -> Result<(Object, PinnedSet), Error> {
        let Switched { object, mut work } = self;
        work.layout.commit(work.generation)?;
        work.done = true;
        if let Some(current) = work.current {
            remove(&work.layout, current, Some(work.generation))?;
        }
        Ok((object, PinnedSet::new(work.layout.clone(), work.generation)))
    }

    /// Goes back to the old version, and removes the new one.
    ///
    /// # Errors
    ///
    /// [`Error::Attach`] or [`Error::Pin`]; the next upgrade tries again.
    pub fn roll_back(self) -> Result<(), Error> {
        let Switched { object, mut work } = self;
        drop(object);
        work.undo()
    }
}

use std::sync::{Arc, OnceLock};

use skep_btf::Btf;
use skep_sys::abi::UpdateFlags;
use skep_sys::{BtfFd, Kernel, MapFd, SharedMemory};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::report::LoadReport;
use super::struct_ops::Table;
use crate::error::Error;
use crate::map::Map;
use crate::program::Program;
use crate::spec::{GlobalSpec, MapRole};

/// A loaded object: its maps and programs as handles.
///
/// Dropping it closes the handles. What is pinned or attached stays, and so does what other handles keep open.
#[derive(Debug)]
pub struct Object {
    pub(super) name: String,
    pub(super) kernel: Kernel,
    pub(super) maps: Vec<ObjectMap>,
    pub(super) programs: Vec<Program>,
    pub(super) globals: Vec<GlobalSpec>,
    pub(super) types: Option<Btf>,
    pub(super) btf: Option<BtfFd>,
    pub(super) report: LoadReport,
}

/// A map of an object.
#[derive(Debug)]
pub(super) struct ObjectMap {
    pub(super) name: String,
    pub(super) role: MapRole,
    /// Memory of an arena.
    pub(super) arena: Option<Arena>,
    /// Memory of a section of variables, once it was mapped.
    pub(super) memory: OnceLock<Arc<SharedMemory>>,
    /// What is to be registered of a `struct_ops` table.
    pub(super) table: Option<Table>,
    /// None for a map that was not to be created.
    pub(super) map: Option<Map>,
}

/// An arena in this process.
#[derive(Debug)]
pub(super) struct Arena {
    pub(super) memory: Arc<SharedMemory>,
    /// Where its first variables are.
    pub(super) contents: usize,
}

impl Object {
    /// Name of the object.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The kernel that it is loaded into.
    pub fn kernel(&self) -> &Kernel {
        &self.kernel
    }

    /// What the load left out, adapted and reused.
    pub fn report(&self) -> &LoadReport {
        &self.report
    }

    /// The object's types, as it describes them.
    pub fn types(&self) -> Option<&Btf> {
        self.types.as_ref()
    }

    /// The object's types, as the kernel took them.
    pub fn btf(&self) -> Option<&BtfFd> {
        self.btf.as_ref()
    }

    /// The map of this name. Data maps go by the name of their section, such as `.bss`.
    ///
    /// # Errors
    ///
    /// When the object has no such map, or it was not created. The error lists the names that there are.
    pub fn map(&self, name: &str) -> Result<&Map, Error> {
        let found = self.maps.iter().find(|map| map.name == name).and_then(|map| map.map.as_ref());
        found.ok_or_else(|| self.missing("map", name, self.maps().map(|(name, _)| name)))
    }

    /// The maps that were created, with their names, in the order of the object.
    pub fn maps(&self) -> impl Iterator<Item = (&str, &Map)> {
        self.maps.iter().filter_map(|map| Some((map.name.as_str(), map.map.as_ref()?)))
    }

    /// The program of this name.
    ///
    /// # Errors
    ///
    /// When the object has no such program, or it was not loaded. The error lists the names that there are.
    pub fn program(&self, name: &str) -> Result<&Program, Error> {
        let found = self.programs.iter().find(|program| program.name() == name);
        found.ok_or_else(|| self.missing("program", name, self.programs.iter().map(Program::name)))
    }

    /// The programs that were loaded, in the order of the object.
    pub fn programs(&self) -> impl Iterator<Item = &Program> {
        self.programs.iter()
    }

    /// Takes the maps and programs out, to own them one by one.
    pub fn into_parts(self) -> (Vec<(String, Map)>, Vec<Program>) {
        let maps = self.maps.into_iter().filter_map(|map| Some((map.name, map.map?))).collect();
        (maps, self.programs)
    }

    /// Reads a global variable as it is now.
    ///
    /// `T` must have the variable's size. Programs may write to it meanwhile: a value larger than a machine word may
    /// be half old and half new.
    ///
    /// # Errors
    ///
    /// When there is no such variable, its size differs, or the kernel refuses.
    pub fn global<T: FromBytes>(&self, name: &str) -> Result<T, Error> {
        let bytes = self.global_bytes(name)?;
        let (global, _) = self.find_global(name)?;
        T::read_from_bytes(&bytes).map_err(|_| Error::global_size(&self.name, global, size_of::<T>()))
    }

    /// Reads the bytes of a global variable as they are now.
    ///
    /// # Errors
    ///
    /// When there is no such variable, or the kernel refuses.
    pub fn global_bytes(&self, name: &str) -> Result<Vec<u8>, Error> {
        let (global, map) = self.find_global(name)?;
        if let Some((arena, at)) = self.arena_place(global) {
            let mut bytes = vec![0; global.size as usize];
            let wrong = |_| Error::global_size(&self.name, global, arena.memory.len());
            arena.memory.read(at, &mut bytes).map_err(wrong)?;
            return Ok(bytes);
        }
        let mut value = vec![0; map.value_len()];
        map.lookup(&0u32.to_ne_bytes(), &mut value, UpdateFlags::empty())
            .map_err(|source| Error::global_access(&self.name, name, "read", source))?;
        let start = global.offset as usize;
        let bytes = value.get(start..start.saturating_add(global.size as usize));
        Ok(bytes.ok_or_else(|| Error::global_size(&self.name, global, map.value_len()))?.to_vec())
    }

    /// Writes a global variable of a `.data` or `.bss` section or an arena, so that programs see it.
    ///
    /// Only its own bytes are written where the section can be mapped (the object has BTF, Linux 5.5). Where it cannot,
    /// the whole section is read and written back, and what programs change meanwhile is lost.
    ///
    /// # Errors
    ///
    /// When there is no such variable, its size differs, it is read-only, or the kernel refuses.
    pub fn set_global<T: IntoBytes + Immutable>(&self, name: &str, value: &T) -> Result<(), Error> {
        let (global, map) = self.find_global(name)?;
        let bytes = value.as_bytes();
        if bytes.len() != global.size as usize {
            return Err(Error::global_size(&self.name, global, bytes.len()));
        }
        let read_only = self.maps.get(global.map.0).is_some_and(|map| map.role.is_read_only());
        if read_only {
            return Err(Error::global_read_only(&self.name, name));
        }
        if let Some((arena, at)) = self.arena_place(global) {
            let wrong = |_| Error::global_size(&self.name, global, arena.memory.len());
            return arena.memory.write(at, bytes).map_err(wrong);
        }
        let failed = |source| Error::global_access(&self.name, name, "write", source);
        let size = map.value_len();
        let mappable = map.shape().flags.contains(skep_sys::abi::MapFlags::MMAPABLE);
        // Mapped for this call alone: while it is mapped for writing, nobody can freeze it.
        if mappable
            && let Ok(memory) = map.mmap(0, size, true)
            && memory.write(global.offset as usize, bytes).is_ok()
        {
            return Ok(());
        }
        let key = 0u32.to_ne_bytes();
        let mut whole = vec![0; size];
        map.lookup(&key, &mut whole, UpdateFlags::empty()).map_err(failed)?;
        let start = global.offset as usize;
        let place = whole.get_mut(start..start.saturating_add(bytes.len()));
        place.ok_or_else(|| Error::global_size(&self.name, global, size))?.copy_from_slice(bytes);
        map.update(&key, &whole, UpdateFlags::empty()).map_err(failed)
    }

    /// The memory of an arena, when it is mapped into this process: its pages, which programs and this process fill in
    /// when they touch them.
    ///
    /// It is not for arenas with [`MapFlags::SEGV_ON_FAULT`](crate::sys::abi::MapFlags::SEGV_ON_FAULT), where touching a
    /// page that no program has allocated ends the process.
    pub fn arena(&self, name: &str) -> Option<&SharedMemory> {
        let arena = self.maps.iter().find(|map| map.name == name)?.arena.as_ref()?;
        Some(&arena.memory)
    }

    /// Where a variable of an arena is.
    fn arena_place(&self, global: &GlobalSpec) -> Option<(&Arena, usize)> {
        let arena = self.maps.get(global.map.0)?.arena.as_ref()?;
        Some((arena, arena.contents.saturating_add(global.offset as usize)))
    }

    pub(super) fn find_global(&self, name: &str) -> Result<(&GlobalSpec, &MapFd), Error> {
        let global = self.globals.iter().find(|global| global.name == name).ok_or_else(|| {
            self.missing("global variable", name, self.globals.iter().map(|g| g.name.as_str()))
        })?;
        let map = self.maps.get(global.map.0).and_then(|map| map.map.as_ref()).map(Map::as_map_fd);
        let map = map.ok_or_else(|| self.missing("map of the variable", name, std::iter::empty()))?;
        Ok((global, map))
    }

    pub(super) fn missing<'n>(
        &self,
        what: &'static str,
        name: &str,
        there: impl Iterator<Item = &'n str>,
    ) -> Error {
        Error::NoSuch {
            object: self.name.clone(),
            what,
            name: name.to_owned(),
            there: there.map(str::to_owned).collect(),
        }
    }
}

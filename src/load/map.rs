//! Makes maps: creation with fallbacks, first contents, freezing, pins and their reuse.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use skep_sys::abi::{Errno, MapFlags, MapType, OpenFlags, UpdateFlags};
use skep_sys::request::{MapBtf, MapCreate, MapMemory};
use skep_sys::{BtfFd, Feature, Kernel, MapFd, Probe, SharedMemory};

use super::pins::{self, Pins};
use super::report::{LoadReport, NoteKind};
use super::reuse::{OnMismatch, Reuse, differences};
use super::target::KernelTarget;
use super::{LoadError, fallback, hint};
use crate::map::Map;
use crate::reloc::MapPlan;
use crate::spec::{MapSpec, Pinning, SlotValue, round_ring};

/// Makes maps of one object.
pub(super) struct Maker<'l, 'k> {
    pub(super) kernel: &'k Kernel,
    pub(super) target: &'l KernelTarget,
    pub(super) btf: Option<&'l BtfFd>,
    pub(super) pins: &'l mut Pins<'k>,
    pub(super) pin_root: &'l Path,
    pub(super) reuse: &'l Reuse,
    pub(super) report: &'l mut LoadReport,
}

/// A map that is there, and whether it came from a pin.
pub(super) struct Made {
    pub(super) fd: MapFd,
    pub(super) reused: bool,
}

impl Maker<'_, '_> {
    /// Takes a map that is there for it, or creates one and pins it.
    pub(super) fn make(&mut self, plan: &MapPlan) -> Result<Made, LoadError> {
        let reuse = self.reuse;
        let given = |maps: &'_ [(String, Map)]| {
            maps.iter().find(|(name, _)| *name == plan.spec.name).map(|(_, map)| map.clone())
        };
        if let Some(map) = given(&reuse.replacements) {
            return self.take_replacement(plan, &map);
        }
        if let Some(map) = given(&reuse.inherited) {
            let info = map.as_map_fd().info();
            let info =
                info.map_err(|error| self.failed(&plan.spec, "tell of the one before", errno_of(&error)))?;
            let differences = differences(&plan.spec, self.max_entries(plan)?, &info);
            if differences.is_empty() {
                return self.take(plan, map.as_map_fd(), "the one of the version before".to_owned());
            }
            let fd = self.successor(plan, &map, &differences, None)?;
            return Ok(Made { fd, reused: false });
        }
        let directories: &[&str] = match plan.spec.pinning {
            Pinning::None => return Ok(Made { fd: self.create_filled(plan)?, reused: false }),
            Pinning::ByName => &[],
            Pinning::TcGlobal => &["tc", "globals"],
        };
        let directory = self.pin_root.join(directories.iter().collect::<PathBuf>());
        // Maps of data sections have names that a bpffs does not take.
        let path = match plan.spec.role.is_data() {
            true => pins::path(&directory, &pins::file_name(&plan.spec.name))?,
            false => pins::path(&directory, &plan.spec.name)?,
        };
        if let Some(made) = self.make_from_pin(plan, &path)? {
            return Ok(made);
        }
        self.pins.directory(self.pin_root)?;
        let mut directory = self.pin_root.to_owned();
        for component in directories {
            directory.push(component);
            self.pins.directory(&directory)?;
        }
        let fd = self.create_filled(plan)?;
        match fd.pin(&path).map_err(|error| errno_of(&error)) {
            Ok(()) => {
                self.pins.add(path);
                Ok(Made { fd, reused: false })
            }
            // Someone else pinned one meanwhile: theirs it is.
            Err(Errno::EEXIST) => match self.make_from_pin(plan, &path)? {
                Some(made) => Ok(made),
                None => Err(pins::failed(self.kernel, &path, "pin the map", Errno::EEXIST)),
            },
            Err(errno) => Err(pins::failed(self.kernel, &path, "pin the map", errno)),
        }
    }

    /// The map that is pinned at a path, or one that takes its place; none when nothing is pinned there.
    fn make_from_pin(&mut self, plan: &MapPlan, path: &Path) -> Result<Option<Made>, LoadError> {
        let failed = |step, errno| pins::failed(self.kernel, path, step, errno);
        let fd = match self.kernel.backend().open_pinned(path, OpenFlags::empty()) {
            Ok(fd) => fd,
            Err(Errno::ENOENT) => return Ok(None),
            Err(errno) => return Err(failed("open what is pinned there", errno)),
        };
        let info = self.kernel.backend().map_info(fd.as_fd());
        let info = info.map_err(|errno| failed("read what is pinned there as a map", errno))?;
        let fd = self.kernel.map_from_fd(fd).map_err(|errno| failed("open the map", errno))?;
        let differences = differences(&plan.spec, self.max_entries(plan)?, &info);
        if differences.is_empty() {
            self.note_reused(plan, format!("the map pinned at {}", path.display()));
            return Ok(Some(Made { fd, reused: true }));
        }
        let old = Map::new(&plan.spec.name, fd);
        let fd = self.successor(plan, &old, &differences, Some(path))?;
        let old = old.as_map_fd().try_clone();
        let old = old.map_err(|error| self.failed(&plan.spec, "open it again", errno_of(&error)))?;
        self.pins.replace(path.to_owned(), old, &fd)?;
        Ok(Some(Made { fd, reused: false }))
    }

    fn take_replacement(&mut self, plan: &MapPlan, map: &Map) -> Result<Made, LoadError> {
        let unfit = |reason: String| Err(LoadError::MapDefinition { map: plan.spec.name.clone(), reason });
        if !map.kernel().same(self.kernel) {
            return unfit("the map that is to replace it is in another kernel".into());
        }
        if plan.struct_ops.is_some() {
            return unfit("a struct_ops table cannot be replaced by another map".into());
        }
        let info = map.as_map_fd().info();
        let info = info
            .map_err(|error| self.failed(&plan.spec, "tell of the one that replaces it", errno_of(&error)))?;
        let differences = differences(&plan.spec, self.max_entries(plan)?, &info);
        if !differences.is_empty() {
            return unfit(format!("the map that is to replace it differs: {}", differences.join(", ")));
        }
        self.take(plan, map.as_map_fd(), format!("map {} that was given for it", map.label()))
    }

    /// Takes a map that fits as it is, with what is in it.
    fn take(&mut self, plan: &MapPlan, map: &MapFd, from: String) -> Result<Made, LoadError> {
        let fd = map.try_clone();
        let fd = fd.map_err(|error| self.failed(&plan.spec, "open it again", errno_of(&error)))?;
        if plan.spec.role.is_read_only() {
            match fd.freeze().map_err(|error| errno_of(&error)) {
                // It is frozen already, or this kernel has no such thing.
                Ok(()) | Err(Errno::EPERM | Errno::EBUSY | Errno::EINVAL) => {}
                Err(errno) => return Err(self.failed(&plan.spec, "freeze it", errno)),
            }
        }
        self.note_reused(plan, from);
        Ok(Made { fd, reused: true })
    }

    /// Makes the map that takes the place of one that does not fit, if that is allowed.
    fn successor(
        &mut self,
        plan: &MapPlan,
        old: &Map,
        differences: &[String],
        path: Option<&Path>,
    ) -> Result<MapFd, LoadError> {
        let name = &plan.spec.name;
        let migration = match self.reuse.policy(name) {
            OnMismatch::Fail => {
                return Err(LoadError::PinnedMapDiffers {
                    map: name.clone(),
                    path: path.map(Path::to_owned),
                    differences: differences.to_vec(),
                });
            }
            OnMismatch::Replace => None,
            OnMismatch::Migrate(migration) => Some(migration),
        };
        let fd = self.create_filled(plan)?;
        let mut text = format!("takes the place of one that differs ({})", differences.join(", "));
        if let Some(migration) = migration {
            let new = fd.try_clone();
            let new = new.map_err(|error| self.failed(&plan.spec, "open it again", errno_of(&error)))?;
            migration
                .run(old, &Map::new(name, new))
                .map_err(|source| LoadError::Migrate { map: name.clone(), source })?;
            text.push_str(", with what was in it");
        }
        self.report.add(NoteKind::Replaced, name, text);
        Ok(fd)
    }

    fn note_reused(&mut self, plan: &MapPlan, from: String) {
        self.report.add(NoteKind::Reused, &plan.spec.name, from);
    }

    fn create_filled(&mut self, plan: &MapPlan) -> Result<MapFd, LoadError> {
        let fd = self.create(plan)?;
        let spec = &plan.spec;
        if !spec.role.is_data() {
            return Ok(fd);
        }
        // A new map is all zero.
        if spec.contents.iter().any(|&byte| byte != 0) {
            let size = spec.value_size as usize;
            if spec.contents.len() > size {
                return Err(LoadError::MapDefinition {
                    map: spec.name.clone(),
                    reason: format!("its contents have {} bytes, its value {size}", spec.contents.len()),
                });
            }
            let mut padded;
            let value = if spec.contents.len() == size {
                &spec.contents
            } else {
                padded = spec.contents.clone();
                padded.resize(size, 0);
                &padded
            };
            let key = 0u32.to_ne_bytes();
            fd.update(&key, value, UpdateFlags::empty()).map_err(|error| {
                self.failed(spec, "write its first contents", error.errno().unwrap_or(Errno::EINVAL))
            })?;
        }
        if spec.role.is_read_only() {
            match fd.freeze() {
                Ok(()) => {}
                // Before Linux 5.2 nothing can be frozen, and programs still cannot write to it.
                Err(error) if error.errno().is_some_and(|errno| errno == Errno::EINVAL) => {
                    self.report.add(
                        NoteKind::Adapted,
                        &spec.name,
                        "left writable for user space: this kernel cannot freeze maps",
                    );
                }
                Err(error) => {
                    return Err(self.failed(spec, "freeze it", error.errno().unwrap_or(Errno::EINVAL)));
                }
            }
        }
        Ok(fd)
    }

    fn max_entries(&self, plan: &MapPlan) -> Result<u32, LoadError> {
        let spec = &plan.spec;
        if spec.map_type == MapType::PERF_EVENT_ARRAY && spec.max_entries == 0 {
            return self.kernel.possible_cpus().map_err(|errno| self.failed(spec, "count the CPUs", errno));
        }
        if matches!(spec.map_type, MapType::RINGBUF | MapType::USER_RINGBUF) {
            return Ok(round_ring(spec.max_entries, self.kernel.page_size()));
        }
        Ok(spec.max_entries)
    }

    /// Maps an arena into this process, which programs that use it need, and writes its first variables.
    ///
    /// Answers its memory, but not when touching it may end the process.
    pub(super) fn map_arena(
        &mut self,
        plan: &MapPlan,
        made: &Made,
    ) -> Result<Option<SharedMemory>, LoadError> {
        let spec = &plan.spec;
        let page = self.kernel.page_size() as usize;
        let len = (spec.max_entries as usize).checked_mul(page);
        let mut memory = MapMemory::new(0, len.ok_or_else(|| self.failed(spec, "map it", Errno::E2BIG))?);
        memory.writable = true;
        memory.address = (spec.map_extra != 0).then_some(spec.map_extra);
        let mapped = match made.fd.mmap_at(memory) {
            Ok(mapped) => mapped,
            // Where a running program has it already is for that to say.
            Err(error) if made.reused => {
                let text = format!("not mapped into this process: {error}");
                self.report.add(NoteKind::Skipped, &spec.name, text);
                return Ok(None);
            }
            Err(error) => {
                let errno = error.errno().unwrap_or(Errno::EINVAL);
                let mut failed = self.failed(spec, "map it", errno);
                if let (LoadError::Map { hint, .. }, Errno::EEXIST) = (&mut failed, errno) {
                    *hint = format!(
                        " (something is at {:#x} in this process: choose another map_extra, or 0 for any place)",
                        spec.map_extra
                    );
                }
                return Err(failed);
            }
        };
        if spec.flags.contains(MapFlags::SEGV_ON_FAULT) {
            if !spec.contents.is_empty() {
                return Err(LoadError::MapDefinition {
                    map: spec.name.clone(),
                    reason:
                        "an arena with BPF_F_SEGV_ON_FAULT cannot have variables: writing them would end the \
                             process"
                            .into(),
                });
            }
            return Ok(None);
        }
        if !made.reused && !spec.contents.is_empty() {
            mapped.write(plan.contents_offset as usize, &spec.contents).map_err(|error| {
                LoadError::MapDefinition { map: spec.name.clone(), reason: error.to_string() }
            })?;
        }
        Ok(Some(mapped))
    }

    fn create(&mut self, plan: &MapPlan) -> Result<MapFd, LoadError> {
        let spec = &plan.spec;
        let inner = match &spec.inner {
            Some(inner) => {
                let kernel_name = crate::spec::sanitize(&inner.name);
                let spec = (**inner).clone();
                let inner = MapPlan { spec, kernel_name, contents_offset: 0, struct_ops: None };
                Some(self.create(&inner)?)
            }
            None => None,
        };
        let mut request =
            MapCreate::new(spec.map_type, spec.key_size, spec.value_size, self.max_entries(plan)?);
        request.flags = spec.flags;
        request.name = &plan.kernel_name;
        request.numa_node = spec.numa_node;
        request.map_extra = spec.map_extra;
        request.inner_map = inner.as_ref().map(|inner| inner.as_fd());
        if let Some(table) = &plan.struct_ops {
            let lacks = |what: String| LoadError::MapDefinition { map: spec.name.clone(), reason: what };
            // The kernel asks for the object's types although it uses none of them.
            let btf = self.btf.ok_or_else(|| {
                lacks("a struct_ops table needs the object's types, which the kernel did not take".into())
            })?;
            request.btf = Some(MapBtf { btf: btf.as_fd(), key_type: 0, value_type: 0 });
            request.vmlinux_value_type_id = table.value_type.type_id.0;
            if let Some(module) = &table.value_type.module {
                let types = self.target.module_fd(module);
                let types =
                    types.ok_or_else(|| lacks(format!("the types of module `{module}` are not loaded")))?;
                request.value_type_module = Some(types.as_fd());
            }
        } else if let Some(btf) = self.btf
            && takes_types(spec.map_type)
            && (spec.key_type.is_some() || spec.value_type.is_some())
        {
            request.btf = Some(MapBtf {
                btf: btf.as_fd(),
                key_type: spec.key_type.map_or(0, |id| id.0),
                value_type: spec.value_type.map_or(0, |id| id.0),
            });
        }
        let first = match self.kernel.map_create(&request) {
            Ok(fd) => return Ok(fd),
            Err(errno) => errno,
        };
        if plan.struct_ops.is_none()
            && request.btf.take().is_some()
            && let Ok(fd) = self.kernel.map_create(&request)
        {
            self.report.add(
                NoteKind::Adapted,
                &spec.name,
                format!("created without types, which this kernel refused ({first})"),
            );
            return Ok(fd);
        }
        let lacks = |feature| matches!(self.kernel.has(feature), Probe::Unsupported);
        if matches!(first, Errno::EINVAL | Errno::E2BIG) {
            let mut text = Vec::new();
            if request.flags.contains(MapFlags::MMAPABLE) && spec.role.is_data() && lacks(Feature::ArrayMmap)
            {
                request.flags -= MapFlags::MMAPABLE;
                text.push("created without being mappable, which this kernel does not know");
            }
            if !request.name.is_empty() && lacks(Feature::ProgName) {
                request.name = "";
                text.push("created without a name, which this kernel does not know");
            }
            if !text.is_empty()
                && let Ok(fd) = self.kernel.map_create(&request)
            {
                text.into_iter().for_each(|text| self.report.add(NoteKind::Adapted, &spec.name, text));
                return Ok(fd);
            }
            if spec.role.is_data() && lacks(Feature::GlobalData) {
                return Err(LoadError::Unsupported {
                    subject: format!("map `{}`", spec.name),
                    reason: fallback::NO_GLOBAL_DATA.into(),
                });
            }
        }
        Err(self.failed(spec, "create it", first))
    }

    fn failed(&self, spec: &MapSpec, step: &str, source: Errno) -> LoadError {
        LoadError::Map {
            map: spec.name.clone(),
            map_type: spec.map_type,
            step: format!("the kernel did not {step}"),
            hint: match source {
                Errno::EINVAL => {
                    hint::for_map_type(self.kernel, spec.map_type).unwrap_or_else(|| describe(spec))
                }
                _ => hint::for_errno(self.kernel, source),
            },
            source,
        }
    }

    /// Writes the declared elements of a map of maps.
    pub(super) fn fill_slots(
        &mut self,
        plan: &MapPlan,
        map: &MapFd,
        maps: &[Option<MapFd>],
    ) -> Result<(), LoadError> {
        for slot in &plan.spec.slots {
            let SlotValue::Map(held) = slot.value else { continue };
            let Some(held) = maps.get(held.0).and_then(Option::as_ref) else {
                let text = format!("element {} stays empty: its map is not created", slot.index);
                self.report.add(NoteKind::Skipped, &plan.spec.name, text);
                continue;
            };
            map.update_map(&slot.index.to_ne_bytes(), held, UpdateFlags::empty()).map_err(|error| {
                self.failed(
                    &plan.spec,
                    &format!("take element {}", slot.index),
                    error.errno().unwrap_or(Errno::EINVAL),
                )
            })?;
        }
        Ok(())
    }
}

/// Kinds whose keys and values the kernel wants no types of.
fn takes_types(map_type: MapType) -> bool {
    !matches!(
        map_type,
        MapType::PERF_EVENT_ARRAY
            | MapType::CGROUP_ARRAY
            | MapType::STACK_TRACE
            | MapType::ARRAY_OF_MAPS
            | MapType::HASH_OF_MAPS
            | MapType::DEVMAP
            | MapType::DEVMAP_HASH
            | MapType::CPUMAP
            | MapType::XSKMAP
            | MapType::SOCKMAP
            | MapType::SOCKHASH
            | MapType::QUEUE
            | MapType::STACK
            | MapType::ARENA
    )
}

fn describe(spec: &MapSpec) -> String {
    if matches!(spec.map_type, MapType::ARRAY_OF_MAPS | MapType::HASH_OF_MAPS) && spec.inner.is_none() {
        return " (the object says nothing of the maps in it: set MapSpec::inner)".into();
    }
    format!(
        " (key {} bytes, value {} bytes, {} entries, flags {:#x}: this kernel allows no such {})",
        spec.key_size,
        spec.value_size,
        spec.max_entries,
        spec.flags.bits(),
        spec.map_type
    )
}

fn errno_of(error: &skep_sys::MapError) -> Errno {
    error.errno().unwrap_or(Errno::EINVAL)
}

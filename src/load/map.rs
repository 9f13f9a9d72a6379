//! Makes maps: creation with fallbacks, first contents, freezing, pins and their reuse.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use skep_sys::abi::{Errno, MapFlags, MapType, OpenFlags, UpdateFlags};
use skep_sys::request::{MapBtf, MapCreate, MapMemory};
use skep_sys::{BtfFd, Feature, Kernel, MapFd, MapShape, Probe, SharedMemory};

use super::pins::{self, Pins};
use super::report::{LoadReport, NoteKind};
use super::target::KernelTarget;
use super::{LoadError, fallback, hint};
use crate::reloc::MapPlan;
use crate::spec::{MapSpec, Pinning, SlotValue, round_ring};

/// Makes maps of one object.
pub(super) struct Maker<'l, 'k> {
    pub(super) kernel: &'k Kernel,
    pub(super) target: &'l KernelTarget,
    pub(super) btf: Option<&'l BtfFd>,
    pub(super) pins: &'l mut Pins<'k>,
    pub(super) pin_root: &'l Path,
    pub(super) report: &'l mut LoadReport,
}

/// A map that is there, and whether it came from a pin.
pub(super) struct Made {
    pub(super) fd: MapFd,
    pub(super) reused: bool,
}

impl Maker<'_, '_> {
    /// Opens the map's pin, or creates the map and pins it.
    pub(super) fn make(&mut self, plan: &MapPlan) -> Result<Made, LoadError> {
        let directories: &[&str] = match plan.spec.pinning {
            Pinning::None => return Ok(Made { fd: self.create_filled(plan)?, reused: false }),
            Pinning::ByName => &[],
            Pinning::TcGlobal => &["tc", "globals"],
        };
        let directory = self.pin_root.join(directories.iter().collect::<PathBuf>());
        let path = pins::path(&directory, &plan.spec.name)?;
        if let Some(fd) = self.open_pinned(plan, &path)? {
            return Ok(Made { fd, reused: true });
        }
        self.pins.directory(self.pin_root)?;
        let mut directory = self.pin_root.to_owned();
        for component in directories {
            directory.push(component);
            self.pins.directory(&directory)?;
        }
        let fd = self.create_filled(plan)?;
        match fd.pin(&path).map_err(|error| error.errno().unwrap_or(Errno::EINVAL)) {
            Ok(()) => {
                self.pins.add(path);
                Ok(Made { fd, reused: false })
            }
            // Someone else pinned one meanwhile: theirs it is.
            Err(Errno::EEXIST) => match self.open_pinned(plan, &path)? {
                Some(fd) => Ok(Made { fd, reused: true }),
                None => Err(pins::failed(&path, "pin the map", Errno::EEXIST)),
            },
            Err(errno) => Err(pins::failed(&path, "pin the map", errno)),
        }
    }

    fn open_pinned(&mut self, plan: &MapPlan, path: &Path) -> Result<Option<MapFd>, LoadError> {
        let fd = match self.kernel.backend().open_pinned(path, OpenFlags::empty()) {
            Ok(fd) => fd,
            Err(Errno::ENOENT) => return Ok(None),
            Err(errno) => return Err(pins::failed(path, "open what is pinned there", errno)),
        };
        let info = self.kernel.backend().map_info(fd.as_fd());
        let info = info.map_err(|errno| pins::failed(path, "read what is pinned there as a map", errno))?;
        let fd = self.kernel.map_from_fd(fd).map_err(|errno| pins::failed(path, "open the map", errno))?;
        let differences = differences(&plan.spec, self.max_entries(plan)?, fd.shape(), info.map_extra);
        if !differences.is_empty() {
            let map = plan.spec.name.clone();
            return Err(LoadError::PinnedMapDiffers { map, path: path.to_owned(), differences });
        }
        self.report.add(NoteKind::Reused, &plan.spec.name, format!("the map pinned at {}", path.display()));
        Ok(Some(fd))
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
                Errno::EINVAL => describe(spec),
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

/// What differs between a map that was asked for and one that is there.
fn differences(spec: &MapSpec, max_entries: u32, there: MapShape, extra: u64) -> Vec<String> {
    let mut flags = there.flags;
    // The kernel sets this one by itself.
    if matches!(there.map_type, MapType::DEVMAP | MapType::DEVMAP_HASH)
        && !spec.flags.contains(MapFlags::RDONLY_PROG)
    {
        flags -= MapFlags::RDONLY_PROG;
    }
    let mut differences = Vec::new();
    let mut compare = |what: &str, pinned: String, wanted: String| {
        if pinned != wanted {
            differences.push(format!("{what} {pinned} there, {wanted} wanted"));
        }
    };
    compare("type", there.map_type.to_string(), spec.map_type.to_string());
    compare("key size", there.key_size.to_string(), spec.key_size.to_string());
    compare("value size", there.value_size.to_string(), spec.value_size.to_string());
    compare("max entries", there.max_entries.to_string(), max_entries.to_string());
    compare("flags", format!("{:#x}", flags.bits()), format!("{:#x}", spec.flags.bits()));
    compare("map_extra", extra.to_string(), spec.map_extra.to_string());
    differences
}

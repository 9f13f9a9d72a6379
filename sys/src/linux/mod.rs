//! The Linux kernel that this process runs on.

mod attach;
mod attr;
mod batch;
mod call;
mod dump;
mod kernel_btf;
mod map;
mod mapping;
mod object;
mod perf;
mod program;
mod ring;
mod system;

use std::ffi::OsStr;
use std::io::Read;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use bytes::Bytes;

pub(crate) use self::mapping::Mapping;
use crate::abi::{Errno, MapType, OpenFlags, StatsType, StreamId};
use crate::backend::{Backend, ObjectKind, Permissions};
use crate::map_fd::MapRef;
use crate::perf_ring::PerfRingMemory;
use crate::request::{
    AttachedProgs, PerfControl, PerfEventOpen, PerfMemory, ProgAttach, ProgDetach, ProgQuery,
};
use crate::request::{
    BatchRead, BatchWrite, BtfInfo, BtfLoad, LinkCreate, LinkInfo, LinkUpdate, LogBuffer, MapCreate, MapInfo,
    MapMemory, MapUsage, OpenById, Pin, PinAttributes, PinEntry, ProcessFile, ProgDump, ProgInfo, ProgLoad,
    ReadSeek, TestRun, TestRunResult,
};
use crate::ring::RingMemory;
use crate::shared::SharedMemory;

/// The running kernel, through bpf(2).
///
/// What every user of the system call has to do is done here and nowhere above: a load that the kernel gives up with
/// `EAGAIN` is tried again, at most 5 times in all; a `struct_ops` table that it does not know is tried again after it was
/// made to read its types; descriptors are never 0, 1 or 2, and close-on-exec.
#[derive(Clone, Debug, Default)]
pub struct LinuxBackend {
    /// Whether the kernel knows the flags that choose CPUs, once an update with one has asked.
    cpu_flags: OnceLock<bool>,
}

impl LinuxBackend {
    /// The running kernel. Nothing is asked yet.
    pub fn new() -> LinuxBackend {
        LinuxBackend::default()
    }
}

impl Backend for LinuxBackend {
    fn name(&self) -> &str {
        "linux"
    }

    fn map_create(&self, request: &MapCreate<'_>) -> Result<OwnedFd, Errno> {
        match map::create(request) {
            // A kernel such as 5.10 reads its types when the first program is loaded since it booted. Until then it knows no
            // table.
            Err(Errno::ENOTSUPP) if request.map_type == MapType::STRUCT_OPS => {
                program::load_any();
                map::create(request)
            }
            answer => answer,
        }
    }

    fn map_lookup(&self, map: MapRef<'_>, key: &[u8], value: &mut [u8], flags: u64) -> Result<(), Errno> {
        map::lookup(map, key, value, flags)
    }

    fn map_update(&self, map: MapRef<'_>, key: &[u8], value: &[u8], flags: u64) -> Result<(), Errno> {
        map::update(map, key, value, flags, &self.cpu_flags)
    }

    fn map_update_fd(
        &self,
        map: MapRef<'_>,
        key: &[u8],
        value: BorrowedFd<'_>,
        flags: u64,
    ) -> Result<(), Errno> {
        map::update_fd(map, key, value, flags, &self.cpu_flags)
    }

    fn map_delete(&self, map: MapRef<'_>, key: &[u8]) -> Result<(), Errno> {
        map::delete(map, key)
    }

    fn map_next_key(&self, map: MapRef<'_>, key: Option<&[u8]>, next: &mut [u8]) -> Result<(), Errno> {
        map::next_key(map, key, next)
    }

    fn map_lookup_and_delete(
        &self,
        map: MapRef<'_>,
        key: &[u8],
        value: &mut [u8],
        flags: u64,
    ) -> Result<(), Errno> {
        map::lookup_and_delete(map, key, value, flags)
    }

    fn map_lookup_batch(&self, map: MapRef<'_>, batch: &mut BatchRead<'_>) -> Result<u32, (Errno, u32)> {
        batch::lookup(map, batch)
    }

    fn map_lookup_and_delete_batch(
        &self,
        map: MapRef<'_>,
        batch: &mut BatchRead<'_>,
    ) -> Result<u32, (Errno, u32)> {
        batch::lookup_and_delete(map, batch)
    }

    fn map_update_batch(&self, map: MapRef<'_>, batch: &BatchWrite<'_>) -> Result<u32, (Errno, u32)> {
        batch::update(map, batch)
    }

    fn map_delete_batch(&self, map: MapRef<'_>, batch: &BatchWrite<'_>) -> Result<u32, (Errno, u32)> {
        batch::delete(map, batch)
    }

    fn map_mmap(&self, map: BorrowedFd<'_>, memory: MapMemory) -> Result<SharedMemory, Errno> {
        // Only memory of a map is known not to shrink under the mapping.
        system::check_kind(map, "bpf-map")?;
        let claim = ring::claim(map, memory)?;
        let mapping = Mapping::new(map, memory)?;
        Ok(SharedMemory::mapping(match claim {
            Some(claim) => mapping.only(claim),
            None => mapping,
        }))
    }

    fn map_ring(&self, map: BorrowedFd<'_>) -> Result<RingMemory, Errno> {
        system::check_kind(map, "bpf-map")?;
        ring::open(map)
    }

    fn map_freeze(&self, map: BorrowedFd<'_>) -> Result<(), Errno> {
        map::freeze(map)
    }

    fn prog_load(&self, request: &ProgLoad<'_>, log: Option<&mut LogBuffer>) -> Result<OwnedFd, Errno> {
        program::load(request, log)
    }

    fn prog_test_run(
        &self,
        prog: BorrowedFd<'_>,
        run: &mut TestRun<'_>,
    ) -> Result<TestRunResult, (Errno, TestRunResult)> {
        program::test_run(prog, run)
    }

    fn prog_bind_map(&self, prog: BorrowedFd<'_>, map: BorrowedFd<'_>) -> Result<(), Errno> {
        program::bind_map(prog, map)
    }

    fn prog_dump(&self, prog: BorrowedFd<'_>) -> Result<ProgDump, Errno> {
        dump::prog_dump(prog)
    }

    fn prog_stream_read(
        &self,
        prog: BorrowedFd<'_>,
        stream: StreamId,
        into: &mut [u8],
    ) -> Result<usize, Errno> {
        dump::stream_read(prog, stream, into)
    }

    fn enable_stats(&self, stats: StatsType) -> Result<OwnedFd, Errno> {
        object::enable_stats(stats)
    }

    fn memlock(&self, object: BorrowedFd<'_>) -> Result<u64, Errno> {
        system::memlock(object)
    }

    fn btf_load(&self, request: &BtfLoad<'_>, log: Option<&mut LogBuffer>) -> Result<OwnedFd, Errno> {
        program::btf_load(request, log)
    }

    fn token_create(&self, bpffs: &Path) -> Result<OwnedFd, Errno> {
        object::token_create(bpffs)
    }

    fn map_info(&self, map: BorrowedFd<'_>) -> Result<MapInfo, Errno> {
        object::map_info(map)
    }

    fn map_usage(&self, map: BorrowedFd<'_>) -> Result<MapUsage, Errno> {
        system::map_usage(map)
    }

    fn prog_info(&self, prog: BorrowedFd<'_>) -> Result<ProgInfo, Errno> {
        object::prog_info(prog)
    }

    fn btf_info(&self, btf: BorrowedFd<'_>) -> Result<BtfInfo, Errno> {
        object::btf_info(btf)
    }

    fn btf_bytes(&self, btf: BorrowedFd<'_>) -> Result<Bytes, Errno> {
        object::btf_bytes(btf)
    }

    fn link_info(&self, link: BorrowedFd<'_>) -> Result<LinkInfo, Errno> {
        object::link_info(link)
    }

    fn next_id(&self, kind: ObjectKind, id: u32) -> Result<u32, Errno> {
        object::next_id(kind, id)
    }

    fn open_by_id(&self, request: &OpenById<'_>) -> Result<OwnedFd, Errno> {
        object::open_by_id(request)
    }

    fn pin(&self, pin: Pin<'_>) -> Result<(), Errno> {
        object::pin(pin)
    }

    fn open_pinned(&self, path: &Path, flags: OpenFlags) -> Result<OwnedFd, Errno> {
        object::open_pinned(path, flags)
    }

    fn unpin(&self, path: &Path) -> Result<(), Errno> {
        system::unpin(path)
    }

    fn create_pin_dir(&self, path: &Path) -> Result<(), Errno> {
        system::create_pin_dir(path)
    }

    fn remove_pin_dir(&self, path: &Path) -> Result<(), Errno> {
        system::remove_pin_dir(path)
    }

    fn rename_pin(&self, from: &Path, to: &Path) -> Result<(), Errno> {
        system::rename_pin(from, to)
    }

    fn symlink_pin(&self, text: &Path, path: &Path) -> Result<(), Errno> {
        system::symlink_pin(text, path)
    }

    fn read_pin_link(&self, path: &Path) -> Result<PathBuf, Errno> {
        system::read_pin_link(path)
    }

    fn pin_dir_entries(&self, path: &Path) -> Result<Vec<PinEntry>, Errno> {
        system::pin_dir_entries(path)
    }

    fn pin_attributes(&self, path: &Path) -> Result<PinAttributes, Errno> {
        system::pin_attributes(path)
    }

    fn set_pin_mode(&self, path: &Path, mode: u32) -> Result<(), Errno> {
        system::set_pin_mode(path, mode)
    }

    fn set_pin_owner(&self, path: &Path, uid: Option<u32>, gid: Option<u32>) -> Result<(), Errno> {
        system::set_pin_owner(path, uid, gid)
    }

    fn lock_pin_dir(&self, path: &Path) -> Result<OwnedFd, Errno> {
        system::lock_pin_dir(path)
    }

    fn mount_bpffs(&self, path: &Path) -> Result<(), Errno> {
        system::mount_bpffs(path)
    }

    fn is_bpffs(&self, path: &Path) -> Result<bool, Errno> {
        system::is_bpffs(path)
    }

    fn link_create(&self, request: &LinkCreate<'_>) -> Result<OwnedFd, Errno> {
        object::link_create(request)
    }

    fn prog_attach(&self, request: &ProgAttach<'_>) -> Result<(), Errno> {
        attach::prog_attach(request)
    }

    fn prog_detach(&self, request: &ProgDetach<'_>) -> Result<(), Errno> {
        attach::prog_detach(request)
    }

    fn prog_query(&self, request: &ProgQuery<'_>) -> Result<AttachedProgs, Errno> {
        attach::prog_query(request)
    }

    fn link_update(&self, request: &LinkUpdate<'_>) -> Result<(), Errno> {
        object::link_update(request)
    }

    fn link_detach(&self, link: BorrowedFd<'_>) -> Result<(), Errno> {
        object::link_detach(link)
    }

    fn iter_create(&self, link: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
        object::iter_create(link)
    }

    fn iter_read(&self, iter: BorrowedFd<'_>, to: &mut [u8]) -> Result<usize, Errno> {
        object::iter_read(iter, to)
    }

    fn raw_tracepoint_open(
        &self,
        prog: BorrowedFd<'_>,
        name: Option<&str>,
        cookie: u64,
    ) -> Result<OwnedFd, Errno> {
        object::raw_tracepoint_open(prog, name, cookie)
    }

    fn perf_event_open(&self, request: &PerfEventOpen<'_>) -> Result<OwnedFd, Errno> {
        perf::open(request)
    }

    fn perf_event_control(&self, event: BorrowedFd<'_>, control: PerfControl) -> Result<(), Errno> {
        perf::control(event, control)
    }

    fn perf_event_read(&self, event: BorrowedFd<'_>, to: &mut [u8]) -> Result<usize, Errno> {
        perf::read(event, to)
    }

    fn perf_event_mmap(&self, event: BorrowedFd<'_>, memory: PerfMemory) -> Result<PerfRingMemory, Errno> {
        perf::mmap(event, memory)
    }

    fn kernel_btf(&self) -> Result<Bytes, Errno> {
        kernel_btf::open(&system::release()?)
    }

    fn page_size(&self) -> u32 {
        system::page_size()
    }

    fn possible_cpus(&self) -> Result<u32, Errno> {
        system::possible_cpus()
    }

    fn online_cpus(&self) -> Result<Vec<u32>, Errno> {
        system::online_cpus()
    }

    fn release(&self) -> Result<String, Errno> {
        system::release()
    }

    fn version_code(&self) -> Result<u32, Errno> {
        system::version_code()
    }

    fn config(&self) -> Result<Box<dyn Read + Send>, Errno> {
        system::config()
    }

    fn symbols(&self) -> Result<Box<dyn Read + Send>, Errno> {
        system::symbols()
    }

    fn process_maps(&self, pid: u32) -> Result<Box<dyn Read + Send>, Errno> {
        system::process_maps(pid)
    }

    fn process_file(&self, file: &ProcessFile<'_>) -> Result<Box<dyn ReadSeek>, Errno> {
        system::process_file(file)
    }

    fn has_syscall_wrapper(&self) -> Result<bool, Errno> {
        system::has_syscall_wrapper()
    }

    fn ifindex(&self, name: &OsStr) -> Result<u32, Errno> {
        call::ifindex(name)
    }

    fn permissions(&self) -> Permissions {
        system::permissions()
    }

    fn raise_memlock(&self) -> Result<bool, Errno> {
        system::raise_memlock()
    }
}

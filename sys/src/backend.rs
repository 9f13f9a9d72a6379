use std::ffi::OsStr;
use std::fmt::Debug;
use std::io::Read;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use bytes::Bytes;

use crate::abi::{Errno, OpenFlags, StatsType, StreamId};
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

/// Kinds of objects that have ids in a kernel.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ObjectKind {
    /// Maps.
    Map,
    /// Programs.
    Program,
    /// Loaded BTF.
    Btf,
    /// Links.
    Link,
}

/// A kernel, as far as a loader needs one: one typed method per bpf(2) command and per thing beside bpf(2).
///
/// It is object-safe and grows: every method has a body that answers [`Errno::ENOSYS`], so a wrapper or a partial
/// kernel implements what it has. Element calls get a [`MapRef`], which only a [`MapFd`](crate::MapFd) gives out and
/// which knows how long keys and values are; the handle has checked the slices by it, and a backend for which a
/// wrong length would be unsafe checks them again.
///
/// Descriptors are real ones on every backend: the simulated kernel gives out the read end of a pipe per reference,
/// so that `dup`, passing over a socket, readiness and the last close mean what they mean on Linux.
pub trait Backend: Debug + Send + Sync {
    /// A name for messages: `linux`, `simulated`.
    fn name(&self) -> &str;

    /// `BPF_MAP_CREATE`.
    fn map_create(&self, request: &MapCreate<'_>) -> Result<OwnedFd, Errno> {
        let _ = request;
        Err(Errno::ENOSYS)
    }

    /// `BPF_MAP_LOOKUP_ELEM` into `value`.
    fn map_lookup(&self, map: MapRef<'_>, key: &[u8], value: &mut [u8], flags: u64) -> Result<(), Errno> {
        let _ = (map, key, value, flags);
        Err(Errno::ENOSYS)
    }

    /// `BPF_MAP_UPDATE_ELEM`.
    fn map_update(&self, map: MapRef<'_>, key: &[u8], value: &[u8], flags: u64) -> Result<(), Errno> {
        let _ = (map, key, value, flags);
        Err(Errno::ENOSYS)
    }

    /// `BPF_MAP_UPDATE_ELEM` with a descriptor of the process as value, for kinds that hold sockets, cgroups or
    /// perf events. The kernel takes its number, in as many bytes as the map's values have.
    fn map_update_fd(
        &self,
        map: MapRef<'_>,
        key: &[u8],
        value: BorrowedFd<'_>,
        flags: u64,
    ) -> Result<(), Errno> {
        let _ = (map, key, value, flags);
        Err(Errno::ENOSYS)
    }

    /// `BPF_MAP_DELETE_ELEM`.
    fn map_delete(&self, map: MapRef<'_>, key: &[u8]) -> Result<(), Errno> {
        let _ = (map, key);
        Err(Errno::ENOSYS)
    }

    /// `BPF_MAP_GET_NEXT_KEY`: the key after `key`, the first one for none; [`Errno::ENOENT`] at the end.
    fn map_next_key(&self, map: MapRef<'_>, key: Option<&[u8]>, next: &mut [u8]) -> Result<(), Errno> {
        let _ = (map, key, next);
        Err(Errno::ENOSYS)
    }

    /// `BPF_MAP_LOOKUP_AND_DELETE_ELEM` (Linux 4.20; hashes 5.14).
    fn map_lookup_and_delete(
        &self,
        map: MapRef<'_>,
        key: &[u8],
        value: &mut [u8],
        flags: u64,
    ) -> Result<(), Errno> {
        let _ = (map, key, value, flags);
        Err(Errno::ENOSYS)
    }

    /// `BPF_MAP_LOOKUP_BATCH` (Linux 5.6). Answers how many elements were read, also with an error: [`Errno::ENOENT`] is
    /// the end of the map.
    fn map_lookup_batch(&self, map: MapRef<'_>, batch: &mut BatchRead<'_>) -> Result<u32, (Errno, u32)> {
        let _ = (map, batch);
        Err((Errno::ENOSYS, 0))
    }

    /// `BPF_MAP_LOOKUP_AND_DELETE_BATCH` (Linux 5.6), as [`map_lookup_batch`](Backend::map_lookup_batch).
    fn map_lookup_and_delete_batch(
        &self,
        map: MapRef<'_>,
        batch: &mut BatchRead<'_>,
    ) -> Result<u32, (Errno, u32)> {
        let _ = (map, batch);
        Err((Errno::ENOSYS, 0))
    }

    /// `BPF_MAP_UPDATE_BATCH` (Linux 5.6). Answers how many elements were written, also with an error.
    fn map_update_batch(&self, map: MapRef<'_>, batch: &BatchWrite<'_>) -> Result<u32, (Errno, u32)> {
        let _ = (map, batch);
        Err((Errno::ENOSYS, 0))
    }

    /// `BPF_MAP_DELETE_BATCH` (Linux 5.6). Answers how many elements were removed, also with an error.
    fn map_delete_batch(&self, map: MapRef<'_>, batch: &BatchWrite<'_>) -> Result<u32, (Errno, u32)> {
        let _ = (map, batch);
        Err((Errno::ENOSYS, 0))
    }

    /// Maps a part of a map's memory: values of an array with
    /// [`MapFlags::MMAPABLE`](crate::abi::MapFlags::MMAPABLE) (Linux 5.5), or an arena. The part of a ring
    /// buffer that a process writes is only given while nobody has it by [`map_ring`](Self::map_ring), else
    /// [`Errno::EBUSY`].
    fn map_mmap(&self, map: BorrowedFd<'_>, memory: MapMemory) -> Result<SharedMemory, Errno> {
        let _ = (map, memory);
        Err(Errno::ENOSYS)
    }

    /// Maps the memory of a ring buffer (Linux 5.8) or user ring buffer (Linux 6.1), for this process's end of it.
    ///
    /// There is one holder at a time in the process: [`Errno::EBUSY`] while there is another. [`Errno::EINVAL`] for
    /// other maps.
    fn map_ring(&self, map: BorrowedFd<'_>) -> Result<RingMemory, Errno> {
        let _ = map;
        Err(Errno::ENOSYS)
    }

    /// `BPF_MAP_FREEZE`: user space can no longer write (Linux 5.2).
    fn map_freeze(&self, map: BorrowedFd<'_>) -> Result<(), Errno> {
        let _ = map;
        Err(Errno::ENOSYS)
    }

    /// `BPF_PROG_LOAD`. With a log buffer the kernel's text is in it afterwards, whatever the outcome.
    fn prog_load(&self, request: &ProgLoad<'_>, log: Option<&mut LogBuffer>) -> Result<OwnedFd, Errno> {
        let _ = (request, log);
        Err(Errno::ENOSYS)
    }

    /// `BPF_PROG_TEST_RUN`. On [`Errno::ENOSPC`] the outputs were filled as far as they go.
    fn prog_test_run(
        &self,
        prog: BorrowedFd<'_>,
        run: &mut TestRun<'_>,
    ) -> Result<TestRunResult, (Errno, TestRunResult)> {
        let _ = (prog, run);
        Err((Errno::ENOSYS, TestRunResult::default()))
    }

    /// Why a test run of a program ended with `EFAULT`, in words for people: a simulated kernel stops a program that does
    /// what it must not. [`Errno::ENOENT`] when none was stopped, [`Errno::ENOSYS`] on kernels that stop none.
    fn prog_fault(&self, prog: BorrowedFd<'_>) -> Result<String, Errno> {
        let _ = prog;
        Err(Errno::ENOSYS)
    }

    /// `BPF_PROG_BIND_MAP`: the program keeps the map alive (Linux 5.10).
    fn prog_bind_map(&self, prog: BorrowedFd<'_>, map: BorrowedFd<'_>) -> Result<(), Errno> {
        let _ = (prog, map);
        Err(Errno::ENOSYS)
    }

    /// The code of a program and what belongs to it (`BPF_OBJ_GET_INFO_BY_FD`, Linux 4.13).
    fn prog_dump(&self, prog: BorrowedFd<'_>) -> Result<ProgDump, Errno> {
        let _ = prog;
        Err(Errno::ENOSYS)
    }

    /// `BPF_PROG_STREAM_READ_BY_FD`: takes what a program wrote into one of its streams, as far as `into` goes; 0 when
    /// there is nothing (Linux 6.17).
    fn prog_stream_read(
        &self,
        prog: BorrowedFd<'_>,
        stream: StreamId,
        into: &mut [u8],
    ) -> Result<usize, Errno> {
        let _ = (prog, stream, into);
        Err(Errno::ENOSYS)
    }

    /// `BPF_ENABLE_STATS`: the kernel counts as long as the descriptor is open (Linux 5.8).
    fn enable_stats(&self, stats: StatsType) -> Result<OwnedFd, Errno> {
        let _ = stats;
        Err(Errno::ENOSYS)
    }

    /// Bytes of the kernel's memory that a map or program takes, as `memlock` in its `/proc/self/fdinfo` says.
    fn memlock(&self, object: BorrowedFd<'_>) -> Result<u64, Errno> {
        let _ = object;
        Err(Errno::ENOSYS)
    }

    /// `BPF_BTF_LOAD`.
    fn btf_load(&self, request: &BtfLoad<'_>, log: Option<&mut LogBuffer>) -> Result<OwnedFd, Errno> {
        let _ = (request, log);
        Err(Errno::ENOSYS)
    }

    /// `BPF_TOKEN_CREATE` of the bpffs that is mounted at a path (Linux 6.9). [`Errno::ENOENT`] when that delegates
    /// nothing.
    fn token_create(&self, bpffs: &Path) -> Result<OwnedFd, Errno> {
        let _ = bpffs;
        Err(Errno::ENOSYS)
    }

    /// `BPF_OBJ_GET_INFO_BY_FD` of a map.
    fn map_info(&self, map: BorrowedFd<'_>) -> Result<MapInfo, Errno> {
        let _ = map;
        Err(Errno::ENOSYS)
    }

    /// What `/proc` says of a map's descriptor.
    fn map_usage(&self, map: BorrowedFd<'_>) -> Result<MapUsage, Errno> {
        let _ = map;
        Err(Errno::ENOSYS)
    }

    /// `BPF_OBJ_GET_INFO_BY_FD` of a program.
    fn prog_info(&self, prog: BorrowedFd<'_>) -> Result<ProgInfo, Errno> {
        let _ = prog;
        Err(Errno::ENOSYS)
    }

    /// `BPF_OBJ_GET_INFO_BY_FD` of a BTF object.
    fn btf_info(&self, btf: BorrowedFd<'_>) -> Result<BtfInfo, Errno> {
        let _ = btf;
        Err(Errno::ENOSYS)
    }

    /// The bytes of a loaded BTF object.
    fn btf_bytes(&self, btf: BorrowedFd<'_>) -> Result<Bytes, Errno> {
        let _ = btf;
        Err(Errno::ENOSYS)
    }

    /// `BPF_OBJ_GET_INFO_BY_FD` of a link.
    fn link_info(&self, link: BorrowedFd<'_>) -> Result<LinkInfo, Errno> {
        let _ = link;
        Err(Errno::ENOSYS)
    }

    /// The id after `id` (`BPF_*_GET_NEXT_ID`); [`Errno::ENOENT`] at the end.
    fn next_id(&self, kind: ObjectKind, id: u32) -> Result<u32, Errno> {
        let _ = (kind, id);
        Err(Errno::ENOSYS)
    }

    /// Opens an object by its id (`BPF_*_GET_FD_BY_ID`).
    fn open_by_id(&self, request: &OpenById<'_>) -> Result<OwnedFd, Errno> {
        let _ = request;
        Err(Errno::ENOSYS)
    }

    /// `BPF_OBJ_PIN`.
    fn pin(&self, pin: Pin<'_>) -> Result<(), Errno> {
        let _ = pin;
        Err(Errno::ENOSYS)
    }

    /// `BPF_OBJ_GET`: opens a pinned object.
    fn open_pinned(&self, path: &Path, flags: OpenFlags) -> Result<OwnedFd, Errno> {
        let _ = (path, flags);
        Err(Errno::ENOSYS)
    }

    /// Removes a pin.
    fn unpin(&self, path: &Path) -> Result<(), Errno> {
        let _ = path;
        Err(Errno::ENOSYS)
    }

    /// Makes one directory on a bpffs, mode 0700.
    fn create_pin_dir(&self, path: &Path) -> Result<(), Errno> {
        let _ = path;
        Err(Errno::ENOSYS)
    }

    /// Removes an empty directory on a bpffs.
    fn remove_pin_dir(&self, path: &Path) -> Result<(), Errno> {
        let _ = path;
        Err(Errno::ENOSYS)
    }

    /// Gives a pin, symbolic link or directory of a bpffs another path on it (`rename(2)`). What is there already is
    /// replaced, at once for whoever looks: a pin or link by a pin or link, an empty directory by a directory.
    fn rename_pin(&self, from: &Path, to: &Path) -> Result<(), Errno> {
        let _ = (from, to);
        Err(Errno::ENOSYS)
    }

    /// Makes a symbolic link on a bpffs, whose text may be anything but empty.
    fn symlink_pin(&self, text: &Path, path: &Path) -> Result<(), Errno> {
        let _ = (text, path);
        Err(Errno::ENOSYS)
    }

    /// The text of a symbolic link; [`Errno::EINVAL`] when it is something else.
    fn read_pin_link(&self, path: &Path) -> Result<PathBuf, Errno> {
        let _ = path;
        Err(Errno::ENOSYS)
    }

    /// What is in a directory of a bpffs, by name.
    fn pin_dir_entries(&self, path: &Path) -> Result<Vec<PinEntry>, Errno> {
        let _ = path;
        Err(Errno::ENOSYS)
    }

    /// Whose a pin or directory of a bpffs is and what its mode allows (`stat(2)`), symbolic links followed.
    fn pin_attributes(&self, path: &Path) -> Result<PinAttributes, Errno> {
        let _ = path;
        Err(Errno::ENOSYS)
    }

    /// Gives a pin or directory of a bpffs another mode (`chmod(2)`), symbolic links followed: the lower twelve bits, as
    /// `0o640`. [`Errno::EPERM`] for who neither owns it nor has `CAP_FOWNER`, and for what is on no bpffs.
    ///
    /// To open a map takes the right to read for [`OpenFlags::RDONLY`], to write for [`OpenFlags::WRONLY`] and both otherwise;
    /// programs and links take both. Every directory on the way has to be one that may be searched.
    fn set_pin_mode(&self, path: &Path, mode: u32) -> Result<(), Errno> {
        let _ = (path, mode);
        Err(Errno::ENOSYS)
    }

    /// Gives a pin or directory of a bpffs to another user or group (`chown(2)`), symbolic links followed; none leaves it whose it
    /// is. [`Errno::EPERM`] without `CAP_CHOWN`, but that an owner may choose among their own groups, and for what is on no
    /// bpffs.
    fn set_pin_owner(&self, path: &Path, uid: Option<u32>, gid: Option<u32>) -> Result<(), Errno> {
        let _ = (path, uid, gid);
        Err(Errno::ENOSYS)
    }

    /// Locks a directory (`flock(2)`) until all duplicates of the descriptor are closed, as when the process ends.
    /// [`Errno::EAGAIN`] when someone else has it locked.
    fn lock_pin_dir(&self, path: &Path) -> Result<OwnedFd, Errno> {
        let _ = path;
        Err(Errno::ENOSYS)
    }

    /// Mounts a new bpffs at a path (`mount(2)`), in the mount namespace of the calling thread. Makes the directory if it
    /// is not there; its parent must be.
    fn mount_bpffs(&self, path: &Path) -> Result<(), Errno> {
        let _ = path;
        Err(Errno::ENOSYS)
    }

    /// Whether `path` exists and lies on a bpffs.
    fn is_bpffs(&self, path: &Path) -> Result<bool, Errno> {
        let _ = path;
        Err(Errno::ENOSYS)
    }

    /// `BPF_LINK_CREATE` (Linux 5.7).
    fn link_create(&self, request: &LinkCreate<'_>) -> Result<OwnedFd, Errno> {
        let _ = request;
        Err(Errno::ENOSYS)
    }

    /// `BPF_PROG_ATTACH` (Linux 4.10).
    fn prog_attach(&self, request: &ProgAttach<'_>) -> Result<(), Errno> {
        let _ = request;
        Err(Errno::ENOSYS)
    }

    /// `BPF_PROG_DETACH` (Linux 4.10).
    fn prog_detach(&self, request: &ProgDetach<'_>) -> Result<(), Errno> {
        let _ = request;
        Err(Errno::ENOSYS)
    }

    /// `BPF_PROG_QUERY` (Linux 4.15): all programs, however many there are.
    fn prog_query(&self, request: &ProgQuery<'_>) -> Result<AttachedProgs, Errno> {
        let _ = request;
        Err(Errno::ENOSYS)
    }

    /// `BPF_LINK_UPDATE`.
    fn link_update(&self, request: &LinkUpdate<'_>) -> Result<(), Errno> {
        let _ = request;
        Err(Errno::ENOSYS)
    }

    /// `BPF_LINK_DETACH`: the link stays, attached to nothing (Linux 5.9).
    fn link_detach(&self, link: BorrowedFd<'_>) -> Result<(), Errno> {
        let _ = link;
        Err(Errno::ENOSYS)
    }

    /// `BPF_ITER_CREATE`: begins a run of the iterator that a link is of (Linux 5.8).
    fn iter_create(&self, link: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
        let _ = link;
        Err(Errno::ENOSYS)
    }

    /// Reads what the program of an iterator writes. Answers how many bytes there are; 0 at the end.
    fn iter_read(&self, iter: BorrowedFd<'_>, to: &mut [u8]) -> Result<usize, Errno> {
        let _ = (iter, to);
        Err(Errno::ENOSYS)
    }

    /// `BPF_RAW_TRACEPOINT_OPEN`; no name for programs that named their target at load. The descriptor is a link
    /// since Linux 5.7, and detaches when closed.
    fn raw_tracepoint_open(
        &self,
        prog: BorrowedFd<'_>,
        name: Option<&str>,
        cookie: u64,
    ) -> Result<OwnedFd, Errno> {
        let _ = (prog, name, cookie);
        Err(Errno::ENOSYS)
    }

    /// `perf_event_open`.
    fn perf_event_open(&self, request: &PerfEventOpen<'_>) -> Result<OwnedFd, Errno> {
        let _ = request;
        Err(Errno::ENOSYS)
    }

    /// An ioctl of a perf event.
    fn perf_event_control(&self, event: BorrowedFd<'_>, control: PerfControl) -> Result<(), Errno> {
        let _ = (event, control);
        Err(Errno::ENOSYS)
    }

    /// Reads a perf event's counter as its read format says. Answers how many bytes there are;
    /// [`Errno::ENOSPC`] when they are more than `to` takes.
    fn perf_event_read(&self, event: BorrowedFd<'_>, to: &mut [u8]) -> Result<usize, Errno> {
        let _ = (event, to);
        Err(Errno::ENOSYS)
    }

    /// Maps the ring of a perf event, which a process has once: [`Errno::EBUSY`] for a second time.
    fn perf_event_mmap(&self, event: BorrowedFd<'_>, memory: PerfMemory) -> Result<PerfRingMemory, Errno> {
        let _ = (event, memory);
        Err(Errno::ENOSYS)
    }

    /// Says that a perf event was seen to be readable, and that its ring is looked at next. Linux makes a descriptor
    /// unreadable when it is polled, so there is nothing to do for it.
    fn perf_event_seen(&self, event: BorrowedFd<'_>) -> Result<(), Errno> {
        let _ = event;
        Ok(())
    }

    /// The kernel's own BTF (`/sys/kernel/btf/vmlinux`), mapped where the kernel allows it.
    fn kernel_btf(&self) -> Result<Bytes, Errno> {
        Err(Errno::ENOSYS)
    }

    /// Size of a page in bytes.
    fn page_size(&self) -> u32 {
        4096
    }

    /// Number of possible CPUs: the number of values that a per-CPU element has.
    fn possible_cpus(&self) -> Result<u32, Errno> {
        Err(Errno::ENOSYS)
    }

    /// The CPUs that are online now, ascending.
    fn online_cpus(&self) -> Result<Vec<u32>, Errno> {
        Err(Errno::ENOSYS)
    }

    /// The release string (`uname -r`).
    fn release(&self) -> Result<String, Errno> {
        Err(Errno::ENOSYS)
    }

    /// `KERNEL_VERSION(a, b, c)` as kprobe programs on old kernels must carry it.
    fn version_code(&self) -> Result<u32, Errno> {
        Err(Errno::ENOSYS)
    }

    /// The kernel's configuration (`/boot/config-RELEASE` or `/proc/config.gz`), which may be packed with gzip.
    fn config(&self) -> Result<Box<dyn Read + Send>, Errno> {
        Err(Errno::ENOSYS)
    }

    /// The addresses of the kernel's symbols, as the text of `/proc/kallsyms`.
    fn symbols(&self) -> Result<Box<dyn Read + Send>, Errno> {
        Err(Errno::ENOSYS)
    }

    /// What is mapped into a process, as the text of `/proc/PID/maps`. [`Errno::ENOENT`] when there is no such process.
    fn process_maps(&self, pid: u32) -> Result<Box<dyn Read + Send>, Errno> {
        let _ = pid;
        Err(Errno::ENOSYS)
    }

    /// Opens a file that is mapped into a process: the very one where the kernel allows that
    /// (`/proc/PID/map_files`), else what has its path now.
    fn process_file(&self, file: &ProcessFile<'_>) -> Result<Box<dyn ReadSeek>, Errno> {
        let _ = file;
        Err(Errno::ENOSYS)
    }

    /// Whether system calls are entered through a wrapper of the architecture (`CONFIG_ARCH_HAS_SYSCALL_WRAPPER`),
    /// so that a probe of `__x64_sys_…` and the like finds its arguments in one `pt_regs`.
    fn has_syscall_wrapper(&self) -> Result<bool, Errno> {
        Err(Errno::ENOSYS)
    }

    /// Index of a network device by its name.
    fn ifindex(&self, name: &OsStr) -> Result<u32, Errno> {
        let _ = name;
        Err(Errno::ENOSYS)
    }

    /// Facts for the hint of a refused call: what the process may do and what the kernel forbids.
    fn permissions(&self) -> Permissions {
        Permissions::default()
    }

    /// Raises `RLIMIT_MEMLOCK`, which kernels before 5.11 charge maps and programs to. Answers whether it changed.
    fn raise_memlock(&self) -> Result<bool, Errno> {
        Ok(false)
    }
}

/// What is known of the process's rights, for messages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Permissions {
    /// Effective capabilities as a bit mask, if known.
    pub effective_caps: Option<u64>,
    /// `RLIMIT_MEMLOCK` in bytes, if finite.
    pub memlock_limit: Option<u64>,
    /// The value of `kernel.unprivileged_bpf_disabled`, if known.
    pub unprivileged_bpf_disabled: Option<u32>,
    /// Lockdown mode other than `none`, if known.
    pub lockdown: Option<String>,
    /// Whether the process is in a user namespace, where its capabilities count for little.
    pub user_namespace: bool,
}

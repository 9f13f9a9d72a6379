//! One table of the trait's methods, from which every wrapper is made, so that none is forgotten.

use std::sync::Arc;

use crate::abi::Errno;
use crate::backend::{Backend, Permissions};

/// What a wrapper does around each call.
pub(super) trait Around {
    /// Whether [`after`](Around::after) wants the arguments in words.
    const DESCRIBES: bool;

    /// The backend that is wrapped.
    fn inner(&self) -> &Arc<dyn Backend>;

    /// Comes before the call; an error is answered instead of making it.
    fn before(&self, command: &'static str) -> Option<Errno>;

    /// Comes after the call.
    fn after(&self, command: &'static str, arguments: String, failed: Option<Errno>);
}

/// What a method answers.
pub(super) trait Answer: Sized {
    /// The answer that says this error, for methods that can.
    fn refused(errno: Errno) -> Option<Self>;

    /// The error that the answer says.
    fn failed(&self) -> Option<Errno>;
}

impl<T> Answer for Result<T, Errno> {
    fn refused(errno: Errno) -> Option<Self> {
        Some(Err(errno))
    }

    fn failed(&self) -> Option<Errno> {
        self.as_ref().err().copied()
    }
}

impl<T: Default> Answer for Result<T, (Errno, T)> {
    fn refused(errno: Errno) -> Option<Self> {
        Some(Err((errno, T::default())))
    }

    fn failed(&self) -> Option<Errno> {
        self.as_ref().err().map(|(errno, _)| *errno)
    }
}

impl Answer for u32 {
    fn refused(_: Errno) -> Option<Self> {
        None
    }

    fn failed(&self) -> Option<Errno> {
        None
    }
}

impl Answer for Permissions {
    fn refused(_: Errno) -> Option<Self> {
        None
    }

    fn failed(&self) -> Option<Errno> {
        None
    }
}

macro_rules! delegate {
    ($wrapper:ty; $(fn $name:ident($($arg:ident: $ty:ty),* $(,)?) -> $answer:ty;)*) => {
        impl crate::backend::Backend for $wrapper {
            fn name(&self) -> &str {
                self.inner().name()
            }

            $(
                fn $name(&self, $($arg: $ty),*) -> $answer {
                    let arguments = if Self::DESCRIBES {
                        let words: &[String] = &[$(crate::wrap::brief::Brief::brief(&$arg)),*];
                        words.join(" ")
                    } else {
                        String::new()
                    };
                    let refused = self
                        .before(stringify!($name))
                        .and_then(<$answer as crate::wrap::delegate::Answer>::refused);
                    let answer = match refused {
                        Some(answer) => answer,
                        None => self.inner().$name($($arg),*),
                    };
                    self.after(
                        stringify!($name),
                        arguments,
                        crate::wrap::delegate::Answer::failed(&answer),
                    );
                    answer
                }
            )*
        }

        #[cfg(test)]
        impl $wrapper {
            /// Names of the methods that are delegated.
            pub(super) const METHODS: &[&str] = &["name", $(stringify!($name)),*];
        }
    };
}

/// Implements [`Backend`] for a type that is [`Around`] another.
macro_rules! wrapper {
    ($wrapper:ty) => {
        const _: () = {
            use std::ffi::OsStr;
            use std::io::Read;
            use std::os::fd::{BorrowedFd, OwnedFd};
            use std::path::{Path, PathBuf};

            use bytes::Bytes;

            use crate::abi::{Errno, OpenFlags, StatsType, StreamId};
            use crate::backend::{ObjectKind, Permissions};
            use crate::map_fd::MapRef;
            use crate::perf_ring::PerfRingMemory;
            use crate::request::{
                BatchRead, BatchWrite, BtfInfo, BtfLoad, LinkCreate, LinkInfo, LinkUpdate, LogBuffer,
                MapCreate, MapInfo, MapMemory, MapUsage, OpenById, Pin, PinEntry, ProcessFile, ProgDump,
                ProgInfo, ProgLoad, ReadSeek, TestRun, TestRunResult,
            };
            use crate::request::{PerfControl, PerfEventOpen, PerfMemory};
            use crate::ring::RingMemory;
            use crate::shared::SharedMemory;

            crate::wrap::delegate::delegate! {
                $wrapper;
                fn map_create(request: &MapCreate<'_>) -> Result<OwnedFd, Errno>;
                fn map_lookup(map: MapRef<'_>, key: &[u8], value: &mut [u8], flags: u64) -> Result<(), Errno>;
                fn map_update(map: MapRef<'_>, key: &[u8], value: &[u8], flags: u64) -> Result<(), Errno>;
                fn map_update_fd(
                    map: MapRef<'_>, key: &[u8], value: BorrowedFd<'_>, flags: u64,
                ) -> Result<(), Errno>;
                fn map_delete(map: MapRef<'_>, key: &[u8]) -> Result<(), Errno>;
                fn map_next_key(map: MapRef<'_>, key: Option<&[u8]>, next: &mut [u8]) -> Result<(), Errno>;
                fn map_lookup_and_delete(
                    map: MapRef<'_>, key: &[u8], value: &mut [u8], flags: u64,
                ) -> Result<(), Errno>;
                fn map_lookup_batch(
                    map: MapRef<'_>, batch: &mut BatchRead<'_>,
                ) -> Result<u32, (Errno, u32)>;
                fn map_lookup_and_delete_batch(
                    map: MapRef<'_>, batch: &mut BatchRead<'_>,
                ) -> Result<u32, (Errno, u32)>;
                fn map_update_batch(map: MapRef<'_>, batch: &BatchWrite<'_>) -> Result<u32, (Errno, u32)>;
                fn map_delete_batch(map: MapRef<'_>, batch: &BatchWrite<'_>) -> Result<u32, (Errno, u32)>;
                fn map_mmap(map: BorrowedFd<'_>, memory: MapMemory) -> Result<SharedMemory, Errno>;
                fn map_ring(map: BorrowedFd<'_>) -> Result<RingMemory, Errno>;
                fn map_freeze(map: BorrowedFd<'_>) -> Result<(), Errno>;
                fn prog_load(request: &ProgLoad<'_>, log: Option<&mut LogBuffer>) -> Result<OwnedFd, Errno>;
                fn prog_test_run(
                    prog: BorrowedFd<'_>, run: &mut TestRun<'_>,
                ) -> Result<TestRunResult, (Errno, TestRunResult)>;
                fn prog_bind_map(prog: BorrowedFd<'_>, map: BorrowedFd<'_>) -> Result<(), Errno>;
                fn prog_dump(prog: BorrowedFd<'_>) -> Result<ProgDump, Errno>;
                fn prog_stream_read(
                    prog: BorrowedFd<'_>, stream: StreamId, into: &mut [u8],
                ) -> Result<usize, Errno>;
                fn enable_stats(stats: StatsType) -> Result<OwnedFd, Errno>;
                fn memlock(object: BorrowedFd<'_>) -> Result<u64, Errno>;
                fn btf_load(request: &BtfLoad<'_>, log: Option<&mut LogBuffer>) -> Result<OwnedFd, Errno>;
                fn token_create(bpffs: &Path) -> Result<OwnedFd, Errno>;
                fn map_info(map: BorrowedFd<'_>) -> Result<MapInfo, Errno>;
                fn map_usage(map: BorrowedFd<'_>) -> Result<MapUsage, Errno>;
                fn prog_info(prog: BorrowedFd<'_>) -> Result<ProgInfo, Errno>;
                fn btf_info(btf: BorrowedFd<'_>) -> Result<BtfInfo, Errno>;
                fn btf_bytes(btf: BorrowedFd<'_>) -> Result<Bytes, Errno>;
                fn link_info(link: BorrowedFd<'_>) -> Result<LinkInfo, Errno>;
                fn next_id(kind: ObjectKind, id: u32) -> Result<u32, Errno>;
                fn open_by_id(request: &OpenById<'_>) -> Result<OwnedFd, Errno>;
                fn pin(pin: Pin<'_>) -> Result<(), Errno>;
                fn open_pinned(path: &Path, flags: OpenFlags) -> Result<OwnedFd, Errno>;
                fn unpin(path: &Path) -> Result<(), Errno>;
                fn create_pin_dir(path: &Path) -> Result<(), Errno>;
                fn remove_pin_dir(path: &Path) -> Result<(), Errno>;
                fn rename_pin(from: &Path, to: &Path) -> Result<(), Errno>;
                fn symlink_pin(text: &Path, path: &Path) -> Result<(), Errno>;
                fn read_pin_link(path: &Path) -> Result<PathBuf, Errno>;
                fn pin_dir_entries(path: &Path) -> Result<Vec<PinEntry>, Errno>;
                fn lock_pin_dir(path: &Path) -> Result<OwnedFd, Errno>;
                fn mount_bpffs(path: &Path) -> Result<(), Errno>;
                fn is_bpffs(path: &Path) -> Result<bool, Errno>;
                fn link_create(request: &LinkCreate<'_>) -> Result<OwnedFd, Errno>;
                fn link_update(request: &LinkUpdate<'_>) -> Result<(), Errno>;
                fn link_detach(link: BorrowedFd<'_>) -> Result<(), Errno>;
                fn raw_tracepoint_open(
                    prog: BorrowedFd<'_>, name: Option<&str>, cookie: u64,
                ) -> Result<OwnedFd, Errno>;
                fn perf_event_open(request: &PerfEventOpen<'_>) -> Result<OwnedFd, Errno>;
                fn perf_event_control(event: BorrowedFd<'_>, control: PerfControl) -> Result<(), Errno>;
                fn perf_event_read(event: BorrowedFd<'_>, to: &mut [u8]) -> Result<usize, Errno>;
                fn perf_event_mmap(
                    event: BorrowedFd<'_>, memory: PerfMemory,
                ) -> Result<PerfRingMemory, Errno>;
                fn perf_event_seen(event: BorrowedFd<'_>) -> Result<(), Errno>;
                fn kernel_btf() -> Result<Bytes, Errno>;
                fn page_size() -> u32;
                fn possible_cpus() -> Result<u32, Errno>;
                fn online_cpus() -> Result<Vec<u32>, Errno>;
                fn release() -> Result<String, Errno>;
                fn version_code() -> Result<u32, Errno>;
                fn config() -> Result<Box<dyn Read + Send>, Errno>;
                fn symbols() -> Result<Box<dyn Read + Send>, Errno>;
                fn process_maps(pid: u32) -> Result<Box<dyn Read + Send>, Errno>;
                fn process_file(file: &ProcessFile<'_>) -> Result<Box<dyn ReadSeek>, Errno>;
                fn has_syscall_wrapper() -> Result<bool, Errno>;
                fn ifindex(name: &OsStr) -> Result<u32, Errno>;
                fn permissions() -> Permissions;
                fn raise_memlock() -> Result<bool, Errno>;
            }
        };
    };
}

pub(super) use {delegate, wrapper};

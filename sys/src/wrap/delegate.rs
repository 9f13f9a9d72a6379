//! One table of the trait's methods, from which every wrapper is made, so that none is forgotten.

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use bytes::Bytes;

use super::brief::{Names, hex};
use crate::abi::Errno;
use crate::backend::{Backend, Permissions};
use crate::perf_ring::PerfRingMemory;
use crate::request::{
    AttachedProgs, BtfInfo, LinkInfo, MapInfo, MapUsage, PinAttributes, PinEntry, ProgDump, ProgInfo,
    ReadSeek, TestRunResult,
};
use crate::ring::RingMemory;
use crate::shared::SharedMemory;

/// What a wrapper does around each call.
pub trait Around {
    /// The backend that is wrapped.
    type Inner: Backend + ?Sized;

    /// The backend that is wrapped.
    fn inner(&self) -> &Self::Inner;

    /// Whether [`after`](Around::after) wants the call in words, and the names of descriptors for that.
    fn describes(&self) -> Option<Names>;

    /// Comes before the call; an error is answered instead of making it.
    fn before(&self, command: &'static str) -> Option<Errno>;

    /// Comes after the call.
    fn after(&self, call: Described, failed: Option<Errno>);
}

/// A call in words. The words are empty unless they were asked for.
#[derive(Debug)]
pub struct Described {
    /// Name of the method.
    pub command: &'static str,
    /// What it was asked.
    pub arguments: String,
    /// What it answered.
    pub result: String,
}

/// What a method answers.
pub trait Answer: Sized {
    /// The answer that says this error, for methods that can.
    fn refused(errno: Errno) -> Option<Self>;

    /// The error that the answer says.
    fn failed(&self) -> Option<Errno>;

    /// The answer in a few words.
    fn words(&self, names: &Names) -> String;
}

impl<T: Told> Answer for Result<T, Errno> {
    fn refused(errno: Errno) -> Option<Self> {
        Some(Err(errno))
    }

    fn failed(&self) -> Option<Errno> {
        self.as_ref().err().copied()
    }

    fn words(&self, names: &Names) -> String {
        self.as_ref().map_or_else(|errno| format!("{errno:?}"), |told| told.told(names))
    }
}

impl<T: Default + Told> Answer for Result<T, (Errno, T)> {
    fn refused(errno: Errno) -> Option<Self> {
        Some(Err((errno, T::default())))
    }

    fn failed(&self) -> Option<Errno> {
        self.as_ref().err().map(|(errno, _)| *errno)
    }

    fn words(&self, names: &Names) -> String {
        match self {
            Ok(told) => told.told(names),
            Err((errno, told)) => format!("{errno:?} {}", told.told(names)),
        }
    }
}

impl Answer for u32 {
    fn refused(_: Errno) -> Option<Self> {
        None
    }

    fn failed(&self) -> Option<Errno> {
        None
    }

    fn words(&self, _: &Names) -> String {
        self.to_string()
    }
}

impl Answer for Permissions {
    fn refused(_: Errno) -> Option<Self> {
        None
    }

    fn failed(&self) -> Option<Errno> {
        None
    }

    fn words(&self, _: &Names) -> String {
        self.effective_caps.map_or_else(|| "unknown".to_owned(), |caps| format!("caps={caps:#x}"))
    }
}

/// What a successful call tells.
pub trait Told {
    fn told(&self, names: &Names) -> String;
}

macro_rules! told {
    ($($ty:ty, |$this:pat_param, $names:pat_param| $words:expr;)*) => {
        $(impl Told for $ty {
            fn told(&self, names: &Names) -> String {
                let ($this, $names) = (self, names);
                $words
            }
        })*
    };
}

told! {
    (), |(), _| "ok".to_owned();
    bool, |flag, _| flag.to_string();
    u32, |number, _| number.to_string();
    u64, |number, _| number.to_string();
    usize, |number, _| number.to_string();
    String, |text, _| text.clone();
    PathBuf, |path, _| path.display().to_string();
    Vec<u32>, |numbers, _| format!("{numbers:?}");
    Bytes, |bytes, _| format!("{} bytes", bytes.len());
    OwnedFd, |fd, names| names.made(fd);
    SharedMemory, |memory, _| format!("{} bytes", memory.len());
    RingMemory, |_, _| "ring".to_owned();
    PerfRingMemory, |_, _| "ring".to_owned();
    Box<dyn std::io::Read + Send>, |_, _| "text".to_owned();
    Box<dyn ReadSeek>, |_, _| "file".to_owned();
    Vec<PinEntry>, |entries, _| {
        let names: Vec<_> = entries.iter().map(|entry| entry.name.to_string_lossy()).collect();
        format!("[{}]", names.join(" "))
    };
    PinAttributes, |of, _| format!("mode={:#o} uid={} gid={}", of.mode, of.uid, of.gid);
    MapInfo, |info, _| format!(
        "id={} {} {:?} key={} value={} max={} flags={:#x}",
        info.id.0, info.map_type, info.name, info.key_size, info.value_size, info.max_entries, info.flags.bits(),
    );
    MapUsage, |usage, _| format!("memory={:?} frozen={:?}", usage.memory, usage.frozen);
    ProgInfo, |info, _| format!("id={} {} {:?} tag={}", info.id.0, info.prog_type, info.name, hex(&info.tag));
    ProgDump, |dump, _| format!("{} instructions", dump.xlated.len());
    BtfInfo, |info, _| format!("id={} {:?}", info.id.0, info.name);
    LinkInfo, |info, _| format!("id={} {} prog={}", info.id.0, info.link_type, info.prog_id.0);
    AttachedProgs, |attached, _| format!(
        "{:?} flags={:#x} revision={}",
        attached.ids().iter().map(|id| id.0).collect::<Vec<_>>(), attached.flags.bits(), attached.revision,
    );
    TestRunResult, |run, _| format!(
        "retval={} data_out={} ctx_out={}", run.retval, run.data_size_out, run.ctx_size_out,
    );
}

#[doc(hidden)]
#[macro_export]
macro_rules! __delegate {
    ($wrapper:ty; $(fn $name:ident($($arg:ident: $ty:ty),* $(,)?) -> $answer:ty $({ $out:ident })?;)*) => {
        impl $crate::Backend for $wrapper {
            fn name(&self) -> &str {
                self.inner().name()
            }

            $(
                fn $name(&self, $($arg: $ty),*) -> $answer {
                    let names = self.describes();
                    let mut call = Described { command: stringify!($name), arguments: String::new(), result: String::new() };
                    if let Some(names) = &names {
                        let _ = names; // not every call has arguments
                        $(Brief::argument(&$arg, stringify!($arg), names, &mut call.arguments);)*
                    }
                    let refused = self.before(stringify!($name)).and_then(<$answer as Answer>::refused);
                    let answer = match refused {
                        Some(answer) => answer,
                        None => self.inner().$name($($arg),*),
                    };
                    let failed = Answer::failed(&answer);
                    if let Some(names) = &names {
                        call.result = Answer::words(&answer, names);
                        $(if failed.is_none() {
                            Brief::written(&$out, &mut call.result);
                        })?
                    }
                    self.after(call, failed);
                    answer
                }
            )*
        }

        #[cfg(test)]
        impl $wrapper {
            /// Names of the methods that are delegated.
            #[allow(dead_code, reason = "read by the tests of one of the crates that use this")]
            pub(super) const METHODS: &[&str] = &["name", $(stringify!($name)),*];
        }
    };
}

/// Implements [`Backend`] for a type that is [`Around`] another.
#[doc(hidden)]
#[macro_export]
macro_rules! __wrapper {
    ($wrapper:ty) => {
        const _: () = {
            use std::ffi::OsStr;
            use std::io::Read;
            use std::os::fd::{BorrowedFd, OwnedFd};
            use std::path::{Path, PathBuf};

            use bytes::Bytes;

            use $crate::abi::{Errno, OpenFlags, StatsType, StreamId};
            use $crate::request::{
                BatchRead, BatchWrite, BtfInfo, BtfLoad, LinkCreate, LinkInfo, LinkUpdate, LogBuffer,
                MapCreate, MapInfo, MapMemory, MapUsage, OpenById, Pin, PinAttributes, PinEntry, ProcessFile,
                ProgDump, ProgInfo, ProgLoad, ReadSeek, TestRun, TestRunResult,
            };
            use $crate::request::{AttachedProgs, ProgAttach, ProgDetach, ProgQuery};
            use $crate::request::{PerfControl, PerfEventOpen, PerfMemory};
            use $crate::ring::RingMemory;
            use $crate::wrap::parts::{Answer, Around, Brief, Described};
            use $crate::{MapRef, ObjectKind, PerfRingMemory, Permissions, SharedMemory};

            $crate::__delegate! {
                $wrapper;
                fn map_create(request: &MapCreate<'_>) -> Result<OwnedFd, Errno>;
                fn map_lookup(map: MapRef<'_>, key: &[u8], value: &mut [u8], flags: u64) -> Result<(), Errno> { value };
                fn map_update(map: MapRef<'_>, key: &[u8], value: &[u8], flags: u64) -> Result<(), Errno>;
                fn map_update_fd(
                    map: MapRef<'_>, key: &[u8], value: BorrowedFd<'_>, flags: u64,
                ) -> Result<(), Errno>;
                fn map_delete(map: MapRef<'_>, key: &[u8]) -> Result<(), Errno>;
                fn map_next_key(map: MapRef<'_>, key: Option<&[u8]>, next: &mut [u8]) -> Result<(), Errno> { next };
                fn map_lookup_and_delete(
                    map: MapRef<'_>, key: &[u8], value: &mut [u8], flags: u64,
                ) -> Result<(), Errno> { value };
                fn map_lookup_batch(
                    map: MapRef<'_>, batch: &mut BatchRead<'_>,
                ) -> Result<u32, (Errno, u32)> { batch };
                fn map_lookup_and_delete_batch(
                    map: MapRef<'_>, batch: &mut BatchRead<'_>,
                ) -> Result<u32, (Errno, u32)> { batch };
                fn map_update_batch(map: MapRef<'_>, batch: &BatchWrite<'_>) -> Result<u32, (Errno, u32)>;
                fn map_delete_batch(map: MapRef<'_>, batch: &BatchWrite<'_>) -> Result<u32, (Errno, u32)>;
                fn map_mmap(map: BorrowedFd<'_>, memory: MapMemory) -> Result<SharedMemory, Errno>;
                fn map_ring(map: BorrowedFd<'_>) -> Result<RingMemory, Errno>;
                fn map_freeze(map: BorrowedFd<'_>) -> Result<(), Errno>;
                fn prog_load(request: &ProgLoad<'_>, log: Option<&mut LogBuffer>) -> Result<OwnedFd, Errno>;
                fn prog_test_run(
                    prog: BorrowedFd<'_>, run: &mut TestRun<'_>,
                ) -> Result<TestRunResult, (Errno, TestRunResult)> { run };
                fn prog_fault(prog: BorrowedFd<'_>) -> Result<String, Errno>;
                fn prog_bind_map(prog: BorrowedFd<'_>, map: BorrowedFd<'_>) -> Result<(), Errno>;
                fn prog_dump(prog: BorrowedFd<'_>) -> Result<ProgDump, Errno>;
                fn prog_stream_read(
                    prog: BorrowedFd<'_>, stream: StreamId, into: &mut [u8],
                ) -> Result<usize, Errno> { into };
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
                fn pin_attributes(path: &Path) -> Result<PinAttributes, Errno>;
                fn set_pin_mode(path: &Path, mode: u32) -> Result<(), Errno>;
                fn set_pin_owner(path: &Path, uid: Option<u32>, gid: Option<u32>) -> Result<(), Errno>;
                fn lock_pin_dir(path: &Path) -> Result<OwnedFd, Errno>;
                fn mount_bpffs(path: &Path) -> Result<(), Errno>;
                fn is_bpffs(path: &Path) -> Result<bool, Errno>;
                fn link_create(request: &LinkCreate<'_>) -> Result<OwnedFd, Errno>;
                fn prog_attach(request: &ProgAttach<'_>) -> Result<(), Errno>;
                fn prog_detach(request: &ProgDetach<'_>) -> Result<(), Errno>;
                fn prog_query(request: &ProgQuery<'_>) -> Result<AttachedProgs, Errno>;
                fn link_update(request: &LinkUpdate<'_>) -> Result<(), Errno>;
                fn link_detach(link: BorrowedFd<'_>) -> Result<(), Errno>;
                fn iter_create(link: BorrowedFd<'_>) -> Result<OwnedFd, Errno>;
                fn iter_read(iter: BorrowedFd<'_>, to: &mut [u8]) -> Result<usize, Errno> { to };
                fn raw_tracepoint_open(
                    prog: BorrowedFd<'_>, name: Option<&str>, cookie: u64,
                ) -> Result<OwnedFd, Errno>;
                fn perf_event_open(request: &PerfEventOpen<'_>) -> Result<OwnedFd, Errno>;
                fn perf_event_control(event: BorrowedFd<'_>, control: PerfControl) -> Result<(), Errno>;
                fn perf_event_read(event: BorrowedFd<'_>, to: &mut [u8]) -> Result<usize, Errno> { to };
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

pub use crate::__wrapper as wrapper;

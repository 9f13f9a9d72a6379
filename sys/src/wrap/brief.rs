//! Arguments of calls in a few words.

use std::ffi::OsStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::Path;

use crate::abi::{OpenFlags, StatsType, StreamId};
use crate::backend::ObjectKind;
use crate::map_fd::MapRef;
use crate::request::{
    BatchRead, BatchWrite, BtfLoad, LinkCreate, LinkTarget, LinkUpdate, LogBuffer, MapCreate, MapMemory,
    OpenById, Pin, ProcessFile, ProgLoad, TestRun,
};
use crate::request::{PerfControl, PerfEventOpen, PerfMemory, PerfTarget};

/// A few words for an argument.
pub(super) trait Brief {
    fn brief(&self) -> String;
}

/// What is said of a token.
fn token(token: Option<BorrowedFd<'_>>) -> &'static str {
    if token.is_some() { " token" } else { "" }
}

macro_rules! brief {
    ($($ty:ty, |$this:ident| $words:expr;)*) => {
        $(impl Brief for $ty {
            fn brief(&self) -> String {
                let $this = self;
                $words
            }
        })*
    };
}

brief! {
    u32, |number| number.to_string();
    u64, |number| number.to_string();
    usize, |number| number.to_string();
    bool, |flag| flag.to_string();
    &[u8], |bytes| format!("[{}]", bytes.len());
    &mut [u8], |bytes| format!("[{}]", bytes.len());
    Option<&[u8]>, |bytes| bytes.map_or_else(|| "none".to_owned(), |bytes| bytes.brief());
    Option<&str>, |name| name.unwrap_or("none").to_owned();
    &Path, |path| path.display().to_string();
    &OsStr, |name| name.display().to_string();
    OpenFlags, |flags| format!("{:#x}", flags.bits());
    StatsType, |stats| stats.to_string();
    StreamId, |stream| stream.to_string();
    ObjectKind, |kind| format!("{kind:?}").to_lowercase();
    BorrowedFd<'_>, |fd| format!("fd{}", fd.as_raw_fd());
    MapRef<'_>, |map| map.as_fd().brief();
    MapMemory, |memory| format!(
        "{}+{}{}{}",
        memory.offset,
        memory.len,
        if memory.writable { " writable" } else { "" },
        memory.address.map(|address| format!(" at {address:#x}")).unwrap_or_default(),
    );
    &mut BatchRead<'_>, |batch| format!(
        "{} elements {} flags={:#x}",
        batch.count, if batch.cursor.position().is_some() { "on" } else { "first" }, batch.elem_flags,
    );
    &BatchWrite<'_>, |batch| format!("{} elements flags={:#x}", batch.count, batch.elem_flags);
    PerfControl, |control| match control {
        PerfControl::Enable => "enable".to_owned(),
        PerfControl::Disable => "disable".to_owned(),
        PerfControl::Reset => "reset".to_owned(),
        PerfControl::PauseOutput(pause) => format!("pause_output={}", u32::from(*pause)),
    };
    PerfMemory, |memory| format!("1+{} pages{}", memory.pages, if memory.writable { " writable" } else { "" });
    &PerfEventOpen<'_>, |event| format!(
        "{} {} period={} sample={:#x} {:?}",
        event.kind,
        match event.target {
            PerfTarget::Cpu(cpu) => format!("cpu{cpu}"),
            PerfTarget::Process { pid, cpu: Some(cpu) } => format!("pid{pid} cpu{cpu}"),
            PerfTarget::Process { pid, cpu: None } => format!("pid{pid}"),
            PerfTarget::Cgroup { cgroup, cpu } => format!("cgroup {} cpu{cpu}", cgroup.brief()),
        },
        event.sample_period, event.sample_type.bits(), event.wakeup,
    );
    &ProcessFile<'_>, |file| format!("{} {:x}-{:x} {}", file.pid, file.start, file.end, file.path.brief());
    Pin<'_>, |pin| format!("{} {}", pin.fd.brief(), pin.path.brief());
    Option<&mut LogBuffer>, |log| match log {
        Some(log) => format!("log({}, {})", log.level, log.bytes.len()),
        None => "log(none)".to_owned(),
    };
    &MapCreate<'_>, |map| format!(
        "{} {:?} key={} value={} max={} flags={:#x}{}{}",
        map.map_type, map.name, map.key_size, map.value_size, map.max_entries, map.flags.bits(),
        if map.btf.is_some() { " btf" } else { "" },
        token(map.token),
    );
    &ProgLoad<'_>, |prog| format!(
        "{} {:?} insns={} attach={} flags={:#x}{}{}{}",
        prog.prog_type, prog.name, prog.insns.len(), prog.expected_attach_type.0, prog.flags.bits(),
        if prog.btf.is_some() { " btf" } else { "" },
        if prog.fd_array.is_empty() { String::new() } else { format!(" fd_array={}", prog.fd_array.len()) },
        token(prog.token),
    );
    &BtfLoad<'_>, |btf| format!("{}{}", btf.bytes.brief(), token(btf.token));
    &OpenById<'_>, |open| format!(
        "{} {} {}{}",
        open.kind.brief(), open.id, open.flags.brief(), token(open.token),
    );
    &mut TestRun<'_>, |run| format!("data={} ctx={} repeat={}", run.data_in.len(), run.ctx_in.len(), run.repeat);
    &LinkCreate<'_>, |link| format!(
        "{} {} {} flags={:#x}",
        link.prog.brief(),
        link.attach_type,
        match link.target {
            LinkTarget::Loaded => "loaded".to_owned(),
            LinkTarget::Ifindex(index) => format!("ifindex{index}"),
            LinkTarget::Fd(fd) => fd.brief(),
        },
        link.flags,
    );
    &LinkUpdate<'_>, |link| format!("{} {}", link.link.brief(), link.new_prog.brief());
}

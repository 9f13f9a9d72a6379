//! Arguments of calls in a few words.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt::Write;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::abi::{OpenFlags, StatsType, StreamId};
use crate::backend::ObjectKind;
use crate::map_fd::MapRef;
use crate::request::{
    BatchRead, BatchWrite, BtfLoad, LinkCreate, LinkTarget, LinkUpdate, LogBuffer, MapCreate, MapMemory,
    OpenById, Pin, ProcessFile, ProgLoad, TestRun,
};
use crate::request::{PerfControl, PerfEventOpen, PerfMemory, PerfTarget, ProgAttach, ProgDetach, ProgQuery};

/// Most bytes of a key, a value or a packet that are written out.
const BYTES_MAX: usize = 64;

/// Bytes as digits, the first ones of many.
pub(super) fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len().min(BYTES_MAX));
    for byte in bytes.iter().take(BYTES_MAX) {
        let _ = write!(text, "{byte:02x}");
    }
    match bytes.len() {
        0 => "none".to_owned(),
        len if len > BYTES_MAX => format!("{text}..[{len}]"),
        _ => text,
    }
}

/// What descriptors are called in a log. Their numbers differ from run to run; these names do not.
#[derive(Clone, Debug, Default)]
pub struct Names(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    by_number: BTreeMap<i32, u32>,
    last: u32,
}

impl Names {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The name of a descriptor that a call made.
    pub fn made(&self, fd: &OwnedFd) -> String {
        let mut state = self.state();
        state.last = state.last.saturating_add(1);
        let last = state.last;
        state.by_number.insert(fd.as_raw_fd(), last);
        format!("fd{last}")
    }

    /// The name of a descriptor. One that no logged call made gets one now.
    fn of(&self, fd: BorrowedFd<'_>) -> String {
        let mut state = self.state();
        let State { by_number, last } = &mut *state;
        let number = by_number.entry(fd.as_raw_fd()).or_insert_with(|| {
            *last = last.saturating_add(1);
            *last
        });
        format!("fd{number}")
    }
}

/// What a program is attached to.
fn place(target: LinkTarget<'_>, names: &Names) -> String {
    match target {
        LinkTarget::Loaded => "loaded".to_owned(),
        LinkTarget::Ifindex(index) => format!("ifindex{index}"),
        LinkTarget::Fd(fd) => fd.brief(names),
        LinkTarget::Cgroups { cgroup, order } => format!("cgroups {} order {order}", cgroup.brief(names)),
        LinkTarget::Thread(thread) => format!("thread {thread}"),
        LinkTarget::Process(process) => format!("process {process}"),
        LinkTarget::Uprobes(places) => format!("{:?} uprobes={}", places.path, places.offsets.len()),
    }
}

/// A few words for an argument.
pub trait Brief {
    /// The words.
    fn brief(&self, names: &Names) -> String;

    /// Whether the words need the name of the argument to be understood.
    fn is_named(&self) -> bool {
        false
    }

    /// Adds the argument to those before it.
    fn argument(&self, name: &str, names: &Names, to: &mut String) {
        if !to.is_empty() {
            to.push(' ');
        }
        if self.is_named() {
            to.push_str(name);
            to.push('=');
        }
        to.push_str(&self.brief(names));
    }

    /// Adds what the call wrote here.
    fn written(&self, to: &mut String) {
        let _ = to;
    }
}

/// What is said of a token.
fn token(token: Option<BorrowedFd<'_>>) -> &'static str {
    if token.is_some() { " token" } else { "" }
}

macro_rules! brief {
    ($($ty:ty, |$this:pat_param, $names:pat_param| $words:expr;)*) => {
        $(impl Brief for $ty {
            fn brief(&self, names: &Names) -> String {
                let ($this, $names) = (self, names);
                $words
            }
        })*
    };
}

macro_rules! named {
    ($($ty:ty, |$this:pat_param| $words:expr;)*) => {
        $(impl Brief for $ty {
            fn brief(&self, _: &Names) -> String {
                let $this = self;
                $words
            }

            fn is_named(&self) -> bool {
                true
            }
        })*
    };
}

impl Brief for &mut [u8] {
    fn brief(&self, _: &Names) -> String {
        format!("[{}]", self.len())
    }

    fn is_named(&self) -> bool {
        true
    }

    fn written(&self, to: &mut String) {
        // Instead of that it went well.
        to.clear();
        to.push_str(&hex(self));
    }
}

impl Brief for &mut BatchRead<'_> {
    fn brief(&self, _: &Names) -> String {
        let position = if self.cursor.position().is_some() { "on" } else { "first" };
        format!("{} elements {position} flags={:#x}", self.count, self.elem_flags)
    }

    fn written(&self, to: &mut String) {
        let count: usize = to.parse().unwrap_or(0);
        let part = |bytes: &[u8]| {
            let each = bytes.len().checked_div(self.count as usize).unwrap_or(0);
            hex(bytes.get(..each.saturating_mul(count)).unwrap_or_default())
        };
        let _ = write!(to, " keys={} values={}", part(self.keys), part(self.values));
    }
}

impl Brief for &mut TestRun<'_> {
    fn brief(&self, _: &Names) -> String {
        let mut text = format!("data={} ctx={} repeat={}", hex(self.data_in), hex(self.ctx_in), self.repeat);
        if !self.ctx.is_empty() {
            let _ = write!(text, " in_place={}", hex(self.ctx));
        }
        text
    }

    fn written(&self, to: &mut String) {
        for (name, bytes) in
            [("packet", &*self.data_out), ("context", &*self.ctx_out), ("in_place", &*self.ctx)]
        {
            if !bytes.is_empty() {
                let _ = write!(to, " {name}={}", hex(bytes));
            }
        }
    }
}

named! {
    u32, |number| number.to_string();
    Option<u32>, |number| number.map_or_else(|| "none".to_owned(), |number| number.to_string());
    u64, |number| format!("{number:#x}");
    bool, |flag| flag.to_string();
    &[u8], |bytes| hex(bytes);
    Option<&[u8]>, |bytes| bytes.map_or_else(|| "first".to_owned(), hex);
    Option<&str>, |name| format!("{:?}", name.unwrap_or_default());
    OpenFlags, |flags| format!("{:#x}", flags.bits());
}

brief! {
    &Path, |path, _| path.display().to_string();
    &OsStr, |name, _| name.display().to_string();
    StatsType, |stats, _| stats.to_string();
    StreamId, |stream, _| stream.to_string();
    ObjectKind, |kind, _| format!("{kind:?}").to_lowercase();
    BorrowedFd<'_>, |fd, names| names.of(*fd);
    MapRef<'_>, |map, names| map.as_fd().brief(names);
    MapMemory, |memory, _| format!(
        "{}+{}{}{}",
        memory.offset,
        memory.len,
        if memory.writable { " writable" } else { "" },
        memory.address.map(|address| format!(" at {address:#x}")).unwrap_or_default(),
    );
    &BatchWrite<'_>, |batch, _| format!(
        "{} elements keys={} values={} flags={:#x}",
        batch.count, hex(batch.keys), hex(batch.values), batch.elem_flags,
    );
    PerfControl, |control, _| match control {
        PerfControl::Enable => "enable".to_owned(),
        PerfControl::Disable => "disable".to_owned(),
        PerfControl::Reset => "reset".to_owned(),
        PerfControl::PauseOutput(pause) => format!("pause_output={}", u32::from(*pause)),
    };
    PerfMemory, |memory, _| format!("1+{} pages{}", memory.pages, if memory.writable { " writable" } else { "" });
    &PerfEventOpen<'_>, |event, names| format!(
        "{} {} period={} sample={:#x} {:?}",
        event.kind,
        match event.target {
            PerfTarget::Cpu(cpu) => format!("cpu{cpu}"),
            PerfTarget::Process { pid, cpu: Some(cpu) } => format!("pid{pid} cpu{cpu}"),
            PerfTarget::Process { pid, cpu: None } => format!("pid{pid}"),
            PerfTarget::Cgroup { cgroup, cpu } => format!("cgroup {} cpu{cpu}", cgroup.brief(names)),
        },
        event.sample_period, event.sample_type.bits(), event.wakeup,
    );
    &ProcessFile<'_>, |file, names| format!("{} {:x}-{:x} {}", file.pid, file.start, file.end, file.path.brief(names));
    Pin<'_>, |pin, names| format!("{} {}", pin.fd.brief(names), pin.path.brief(names));
    Option<&mut LogBuffer>, |log, _| match log {
        Some(log) => format!("log({}, {})", log.level, log.bytes.len()),
        None => "log(none)".to_owned(),
    };
    &MapCreate<'_>, |map, _| format!(
        "{} {:?} key={} value={} max={} flags={:#x}{}{}",
        map.map_type, map.name, map.key_size, map.value_size, map.max_entries, map.flags.bits(),
        if map.btf.is_some() { " btf" } else { "" },
        token(map.token),
    );
    &ProgLoad<'_>, |prog, _| format!(
        "{} {:?} insns={} attach={} flags={:#x}{}{}{}",
        prog.prog_type, prog.name, prog.insns.len(), prog.expected_attach_type.0, prog.flags.bits(),
        if prog.btf.is_some() { " btf" } else { "" },
        if prog.fd_array.is_empty() { String::new() } else { format!(" fd_array={}", prog.fd_array.len()) },
        token(prog.token),
    );
    &BtfLoad<'_>, |btf, _| format!("{} bytes{}", btf.bytes.len(), token(btf.token));
    &OpenById<'_>, |open, names| format!(
        "{} {} {}{}",
        open.kind.brief(names), open.id, open.flags.brief(names), token(open.token),
    );
    &LinkCreate<'_>, |link, names| format!(
        "{} {} {} flags={:#x}",
        link.prog.brief(names),
        link.attach_type,
        place(link.target, names),
        link.flags,
    );
    &ProgAttach<'_>, |attach, names| format!(
        "{} {} {} flags={:#x}{}",
        attach.prog.brief(names),
        attach.attach_type,
        place(attach.target, names),
        attach.flags.bits() | attach.anchor.flags(),
        attach.replace.map_or_else(String::new, |old| format!(" replace={}", old.brief(names))),
    );
    &ProgDetach<'_>, |detach, names| format!(
        "{} {} {} flags={:#x}",
        detach.prog.map_or_else(|| "any".to_owned(), |prog| prog.brief(names)),
        detach.attach_type,
        place(detach.target, names),
        detach.anchor.flags(),
    );
    &ProgQuery<'_>, |query, names| format!(
        "{} {}{}",
        query.attach_type,
        place(query.target, names),
        if query.effective { " effective" } else { "" },
    );
    &LinkUpdate<'_>, |link, names| format!("{} {}", link.link.brief(names), link.new_prog.brief(names));
}

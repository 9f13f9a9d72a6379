//! What happens on the running kernel, as programs of every kind see it. Needs root.

#![cfg(target_os = "linux")]
#![allow(missing_docs)] // what is skipped says so

mod event_conformance;
mod support;

use std::any::Any;
use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use event_conformance::{PATH, Place, SIGNAL, Stage, executable};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getpgid, gettid};
use object::{Object as _, ObjectSegment, ObjectSymbol};
use skep::Kernel;
use skep::program::Program;
use skep::sys::LinkFd;
use skep::sys::abi::{AttachType, PerfEventKind, ProgType};
use skep::sys::request::{LinkCreate, LinkTarget, PerfEventOpen, PerfTarget};
use support::{denied, linux, skip};

struct Linux {
    kernel: Kernel,
    tracefs: Mounted,
}

/// A file system of the kernel, mounted for a time where it is not at its usual place.
struct Mounted {
    root: PathBuf,
    by_us: bool,
}

impl Mounted {
    /// `known` is something that is in it.
    fn find(kind: &str, usual: &str, known: &str) -> Option<Mounted> {
        let usual = Path::new(usual);
        if usual.join(known).exists() {
            return Some(Mounted { root: usual.to_owned(), by_us: false });
        }
        let root = std::env::temp_dir().join(format!("skep-{kind}-{}", std::process::id()));
        fs::create_dir_all(&root).ok()?;
        let mount = Command::new("mount").args(["-t", kind, kind]).arg(&root).stderr(Stdio::null()).status();
        if mount.is_ok_and(|status| status.success()) {
            return Some(Mounted { root, by_us: true });
        }
        let _ = fs::remove_dir(&root);
        None
    }

    /// The number of an event.
    fn id(&self, group: &str, name: &str) -> Result<u64, String> {
        let path = self.root.join("events").join(group).join(name).join("id");
        let text = fs::read_to_string(&path).map_err(|error| format!("{group}:{name}: {error}"))?;
        Ok(text.trim().parse().unwrap())
    }

    /// Makes an event of a probe: `p` for a start, `r` for an end.
    fn probe(&self, file: &str, kind: char, place: &str) -> Result<Probe, String> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("e{}_{kind}{number}", std::process::id());
        let path = self.root.join(file);
        append(&path, &format!("{kind}:skep/{name} {place}")).map_err(|error| format!("{file}: {error}"))?;
        Ok(Probe { file: path, name })
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if self.by_us {
            let _ = Command::new("umount").arg(&self.root).status();
            let _ = fs::remove_dir(&self.root);
        }
    }
}

/// An event that goes.
struct Probe {
    file: PathBuf,
    name: String,
}

impl Drop for Probe {
    fn drop(&mut self) {
        let _ = append(&self.file, &format!("-:skep/{}", self.name));
    }
}

fn append(path: &Path, line: &str) -> std::io::Result<()> {
    use std::io::Write;
    fs::OpenOptions::new().append(true).open(path)?.write_all(line.as_bytes())
}

/// What holds a program at an event; the link goes first, then the event, then the probe.
struct Held {
    _link: LinkFd,
    _event: OwnedFd,
    _probe: Option<Probe>,
}

impl Linux {
    fn hold(&self, program: &Program, id: u64, probe: Option<Probe>) -> Result<Box<dyn Any>, String> {
        let target = PerfTarget::Process { pid: 0, cpu: None };
        let request = PerfEventOpen::new(PerfEventKind::tracepoint(id), target);
        let event = self
            .kernel
            .backend()
            .perf_event_open(&request)
            .map_err(|errno| format!("perf event: {errno}"))?;
        let link = LinkCreate::new(program.as_fd(), LinkTarget::Fd(event.as_fd()), AttachType::PERF_EVENT);
        let link =
            self.kernel.link_create(&link).map_err(|errno| format!("link of a perf event: {errno}"))?;
        Ok(Box::new(Held { _link: link, _event: event, _probe: probe }))
    }

    fn probe(&self, program: &Program, file: &str, kind: char, place: &str) -> Result<Box<dyn Any>, String> {
        let probe = self.tracefs.probe(file, kind, place)?;
        let id = self.tracefs.id("skep", &probe.name)?;
        self.hold(program, id, Some(probe))
    }
}

/// Where a function of the C library is: the library and the place in its file.
fn library(function: &str) -> Result<String, String> {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let path = maps
        .lines()
        .filter_map(|line| line.split_whitespace().nth(5))
        .find(|path| path.contains("/libc.so."));
    let path = path.ok_or("this program has no C library of its own")?;
    let bytes = fs::read(path).unwrap();
    let file = object::File::parse(&*bytes).unwrap();
    let symbol = file.dynamic_symbols().find(|symbol| symbol.name() == Ok(function)).unwrap();
    let holds = |segment: &object::Segment<'_, '_>| {
        (segment.address()..segment.address() + segment.size()).contains(&symbol.address())
    };
    let segment = file.segments().find(holds).unwrap();
    Ok(format!("{path}:{:#x}", symbol.address() - segment.address() + segment.file_range().0))
}

/// Whether the kernel asks programs at its security hooks. It attaches them anyway.
fn runs_hooks() -> bool {
    let modules = Mounted::find("securityfs", "/sys/kernel/security", "lsm")
        .and_then(|mounted| fs::read_to_string(mounted.root.join("lsm")).ok());
    modules.is_none_or(|modules| modules.trim().split(',').any(|module| module == "bpf"))
}

impl Stage for Linux {
    fn kernel(&self) -> &Kernel {
        &self.kernel
    }

    fn thread(&self) -> u32 {
        gettid().as_raw().cast_unsigned()
    }

    fn attach(&self, program: &Program, place: Place) -> Result<Box<dyn Any>, String> {
        match place {
            Place::Section => {
                if program.prog_type() == ProgType::LSM && !runs_hooks() {
                    return Err("this kernel was started without the security module `bpf`".to_owned());
                }
                let link = program.attach().map_err(|error| error.to_string())?;
                Ok(Box::new(link))
            }
            Place::Tracepoint(category, name) => self.hold(program, self.tracefs.id(category, name)?, None),
            Place::Kprobe(name) => self.probe(program, "kprobe_events", 'p', name),
            Place::Kretprobe(name) => self.probe(program, "kprobe_events", 'r', name),
            Place::Uprobe(name) => self.probe(program, "uprobe_events", 'p', &library(name)?),
            Place::Uretprobe(name) => self.probe(program, "uprobe_events", 'r', &library(name)?),
        }
    }

    fn open(&self) {
        assert!(fs::File::open(PATH).is_err());
    }

    fn signal(&self) -> i32 {
        assert_eq!(Signal::SIGURG as i32, SIGNAL);
        kill(Pid::this(), Signal::SIGURG).map_or_else(|errno| errno as i32, |()| 0)
    }

    fn call(&self) -> [i64; 2] {
        let own = Pid::this();
        [own.as_raw().into(), getpgid(Some(own)).unwrap().as_raw().into()]
    }

    fn execute(&self) {
        let executable = executable();
        let _ = fs::remove_file(&executable);
        std::os::unix::fs::symlink(std::env::current_exe().unwrap(), &executable).unwrap();
        let status = Command::new(&executable).arg("--help").stdout(Stdio::null()).status();
        let _ = fs::remove_file(&executable);
        assert!(status.unwrap().success());
    }
}

/// The running kernel, where it can be asked for what happens.
fn stage(name: &str) -> Option<Linux> {
    let kernel = linux(name)?;
    let tracefs = Mounted::find("tracefs", "/sys/kernel/tracing", "events");
    if tracefs.is_none() {
        denied(name, "no tracefs can be mounted");
    }
    Some(Linux { kernel, tracefs: tracefs? })
}

#[test]
fn programs_note_what_happens() {
    let name = "programs_note_what_happens";
    let Some(stage) = stage(name) else { return };
    for reason in event_conformance::run(&stage) {
        skip(name, reason);
    }
}

#[test]
fn two_programs_run_in_order() {
    let name = "two_programs_run_in_order";
    let Some(stage) = stage(name) else { return };
    for reason in event_conformance::order(&stage) {
        skip(name, reason);
    }
}

//! What programs of every kind of tracing note of something that happens: the same, whether it happens or a test says that it does.

#![allow(clippy::print_stdout)]

use std::path::Path;

use skep::program::Program;
use skep::sys::Kernel;
use skep::{Loader, Object, Spec};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// A file that there is not.
pub(crate) const PATH: &str = "/skep/no/such/file";
/// A program that can be executed by this name, which is that of no other process.
pub(crate) fn executable() -> String {
    format!("/tmp/skep-events-{}", std::process::id())
}

/// `SIGURG`, which by default does nothing.
pub(crate) const SIGNAL: i32 = 23;
const ENOENT: i64 = -2;
const EPERM: i64 = 1;
const AT_FDCWD: i64 = -100;

/// Where a program is attached that does not say it itself.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Place {
    /// What its section says.
    Section,
    Kprobe(&'static str),
    Kretprobe(&'static str),
    Tracepoint(&'static str, &'static str),
    /// A function of the C library.
    Uprobe(&'static str),
    Uretprobe(&'static str),
}

/// Attaches programs, and does what they note.
pub(crate) trait Stage {
    fn kernel(&self) -> &Kernel;
    /// The thread that does all of it.
    fn thread(&self) -> u32;
    /// Answers what keeps the program attached.
    fn attach(&self, program: &Program, place: Place) -> Result<Box<dyn std::any::Any>, String>;
    /// Opens [`PATH`], to read.
    fn open(&self);
    /// Sends [`SIGNAL`] to its own process; answers the error.
    fn signal(&self) -> i32;
    /// Calls `getpgid` of the C library with its own process id.
    fn call(&self) -> [i64; 2];
    /// Executes [`executable`] in a new process.
    fn execute(&self);
}

#[derive(Clone, Copy, PartialEq, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Record {
    numbers: [i64; 4],
    text: [u8; 32],
}

impl Record {
    fn new(numbers: &[i64], text: &str) -> Record {
        let mut record = Record { numbers: [0; 4], text: [0; 32] };
        record.numbers[..numbers.len()].copy_from_slice(numbers);
        record.text[..text.len()].copy_from_slice(text.as_bytes());
        record
    }
}

#[derive(Clone, Copy)]
enum Action {
    Open,
    Signal,
    Call,
    Execute,
}

impl Action {
    /// Does it. Answers the argument and the result of a call, or the error of a signal.
    fn happens(self, stage: &dyn Stage) -> [i64; 2] {
        match self {
            Action::Open => stage.open(),
            Action::Signal => return [SIGNAL.into(), stage.signal().into()],
            Action::Call => return stage.call(),
            Action::Execute => stage.execute(),
        }
        [0, 0]
    }
}

/// Which programs run, and when, where two are attached to a place.
#[derive(Clone, Copy)]
enum Order {
    AsAttached,
    LatestFirst,
    /// It forbids what happens, and so nobody asks the other one.
    OnlyLatest,
}

struct Case {
    program: &'static str,
    place: Place,
    action: Action,
    /// What it notes of what happens.
    notes: fn([i64; 2]) -> Record,
    order: Order,
}

/// The start of the opening of a file.
fn open(_: [i64; 2]) -> Record {
    Record::new(&[AT_FDCWD], PATH)
}

/// Its end.
fn opened(_: [i64; 2]) -> Record {
    Record::new(&[ENOENT], "")
}

/// A signal that is ignored (`TRACE_SIGNAL_IGNORED`), comes from a process, and is for the whole of one.
fn generated([number, error]: [i64; 2]) -> Record {
    assert_eq!(error, 0);
    Record::new(&[number, 0, 1, 1], "")
}

/// A signal that the program forbids.
fn denied([number, error]: [i64; 2]) -> Record {
    assert_eq!(error, EPERM);
    Record::new(&[number], "")
}

fn called([argument, _]: [i64; 2]) -> Record {
    Record::new(&[argument], "")
}

fn returned([_, result]: [i64; 2]) -> Record {
    Record::new(&[result], "")
}

fn executed(_: [i64; 2]) -> Record {
    Record::new(&[1], &executable())
}

#[rustfmt::skip]
const CASES: &[Case] = &[
    Case { program: "kprobe_open", place: Place::Kprobe("do_sys_openat2"), action: Action::Open, notes: open, order: Order::LatestFirst },
    Case { program: "kretprobe_open", place: Place::Kretprobe("do_sys_openat2"), action: Action::Open, notes: opened, order: Order::AsAttached },
    Case { program: "fentry_open", place: Place::Section, action: Action::Open, notes: open, order: Order::LatestFirst },
    Case { program: "fexit_open", place: Place::Section, action: Action::Open, notes: opened, order: Order::LatestFirst },
    Case { program: "tracepoint_open", place: Place::Tracepoint("syscalls", "sys_enter_openat"), action: Action::Open, notes: open, order: Order::AsAttached },
    Case { program: "tracepoint_opened", place: Place::Tracepoint("syscalls", "sys_exit_openat"), action: Action::Open, notes: opened, order: Order::AsAttached },
    Case { program: "raw_tp_open", place: Place::Section, action: Action::Open, notes: open, order: Order::AsAttached },
    Case { program: "tp_btf_open", place: Place::Section, action: Action::Open, notes: open, order: Order::AsAttached },
    Case { program: "raw_tp_signal", place: Place::Section, action: Action::Signal, notes: generated, order: Order::AsAttached },
    Case { program: "tp_btf_signal", place: Place::Section, action: Action::Signal, notes: generated, order: Order::AsAttached },
    Case { program: "tracepoint_signal", place: Place::Tracepoint("signal", "signal_generate"), action: Action::Signal, notes: generated, order: Order::AsAttached },
    Case { program: "fmod_ret_kill", place: Place::Section, action: Action::Signal, notes: denied, order: Order::OnlyLatest },
    Case { program: "lsm_kill", place: Place::Section, action: Action::Signal, notes: denied, order: Order::OnlyLatest },
    Case { program: "uprobe_call", place: Place::Uprobe("getpgid"), action: Action::Call, notes: called, order: Order::LatestFirst },
    Case { program: "uretprobe_call", place: Place::Uretprobe("getpgid"), action: Action::Call, notes: returned, order: Order::LatestFirst },
    Case { program: "tracepoint_exec", place: Place::Tracepoint("sched", "sched_process_exec"), action: Action::Execute, notes: executed, order: Order::AsAttached },
];

/// Runs all of it. Answers what could not be done, with the reason.
pub(crate) fn run(stage: &dyn Stage) -> Vec<String> {
    let cases = CASES.iter();
    cases
        .filter_map(|case| play(stage, case).err().map(|reason| format!("{}: {reason}", case.program)))
        .collect()
}

/// One of the programs, which notes as `me`, with the memory of another if there is one.
fn load(stage: &dyn Stage, program: &str, me: u32, beside: Option<&Object>) -> Result<Object, String> {
    let mut spec = Spec::open(Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/run/events.o")).unwrap();
    let index = spec.program_index(program).expect("a program of that name");
    spec.load_only(index);
    spec.set_global("me", &me).unwrap();
    let mut loader = Loader::new(stage.kernel());
    if let Some(beside) = beside {
        loader = loader.replace_map(".bss", beside.map(".bss").unwrap());
    }
    loader.load(&spec).map_err(|error| {
        let cause = std::error::Error::source(&error).map_or_else(String::new, ToString::to_string);
        format!("{error}: {cause}")
    })
}

/// What was noted, and which programs did it; forgets it.
fn noted(object: &Object) -> (Vec<Record>, Vec<u32>) {
    let count = object.global::<u32>("count").unwrap() as usize;
    object.set_global("count", &0u32).unwrap();
    let seen = object.global::<[Record; 16]>("seen").unwrap();
    let by = object.global::<[u32; 16]>("by").unwrap();
    // Not what another process executes that does the same.
    let ours = |record: &Record| {
        !record.text.starts_with(b"/tmp/skep-events-") || record.text == executed([0; 2]).text
    };
    seen[..count].iter().zip(by).filter(|(record, _)| ours(record)).unzip()
}

/// Does it until a program notes it. Linux leaves a program out where somebody is interrupted who changes a map on that CPU.
fn until_noted(stage: &dyn Stage, object: &Object, action: Action) -> ([i64; 2], Vec<Record>, Vec<u32>) {
    noted(object);
    let mut happened = action.happens(stage);
    let (mut seen, mut by) = noted(object);
    for _ in 0..50 {
        if !seen.is_empty() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
        happened = action.happens(stage);
        (seen, by) = noted(object);
    }
    (happened, seen, by)
}

fn play(stage: &dyn Stage, case: &Case) -> Result<(), String> {
    let Case { program, place, action, notes, .. } = case;
    let object = load(stage, program, 0, None)?;
    object.set_global("thread", &stage.thread()).unwrap();
    let held = stage.attach(object.program(program).unwrap(), *place)?;
    let (happened, seen, _) = until_noted(stage, &object, *action);
    println!("{program}: {happened:?}");
    assert_eq!(seen, [notes(happened)], "{program}");
    // What is not attached any more notes nothing, and forbids nothing.
    drop(held);
    noted(&object);
    let happened = action.happens(stage);
    assert!(!matches!(action, Action::Signal) || happened[1] == 0, "{program} after it was detached");
    assert_eq!(noted(&object).0, [], "{program} after it was detached");
    Ok(())
}

/// Which of two programs at a place comes first. Answers what could not be done, with the reason.
pub(crate) fn order(stage: &dyn Stage) -> Vec<String> {
    let cases = CASES.iter();
    cases
        .filter_map(|case| two(stage, case).err().map(|reason| format!("{}: {reason}", case.program)))
        .collect()
}

fn two(stage: &dyn Stage, case: &Case) -> Result<(), String> {
    let first = load(stage, case.program, 1, None)?;
    let second = load(stage, case.program, 2, Some(&first))?;
    first.set_global("thread", &stage.thread()).unwrap();
    let _first = stage.attach(first.program(case.program).unwrap(), case.place)?;
    let _second = stage.attach(second.program(case.program).unwrap(), case.place)?;
    let (_, _, by) = until_noted(stage, &first, case.action);
    let expected: &[u32] = match case.order {
        Order::AsAttached => &[1, 2],
        Order::LatestFirst => &[2, 1],
        Order::OnlyLatest => &[2],
    };
    assert_eq!(by, expected, "{}", case.program);
    Ok(())
}

//! What is asked of a kernel to load a program, and what becomes of its answers: the log of the verifier, and the version that
//! old kernels want to be told.

#![allow(missing_docs)]

use std::collections::VecDeque;
use std::error::Error as _;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Arc, Mutex};

use skep::asm::Reg;
use skep::load::LoadError;
use skep::program::{BuildError, ProgramBuilder};
use skep::sys::abi::{Errno, ProgType};
use skep::sys::request::{LogBuffer, ProgLoad};
use skep::sys::{Backend, Kernel};
use skep::{Error, Loader, Program, Spec};

/// What a kernel answers to a load.
#[derive(Clone, Copy, Debug)]
struct Answer {
    /// None where it takes the program.
    errno: Option<Errno>,
    log: &'static [u8],
    /// How long it says that the log is.
    true_size: u32,
}

const TAKEN: Answer = Answer { errno: None, log: b"", true_size: 0 };

fn refused(errno: Errno) -> Answer {
    Answer { errno: Some(errno), ..TAKEN }
}

fn too_long(true_size: u32) -> Answer {
    Answer { true_size, ..refused(Errno::ENOSPC) }
}

/// What it was asked: the level of the log and the size of its buffer, none without one; and the version.
type Asked = (Option<(u32, usize)>, u32);

/// Answers loads as it was told, and at last the same all the time.
#[derive(Debug, Default)]
struct Script {
    answers: Mutex<VecDeque<Answer>>,
    asked: Mutex<Vec<Asked>>,
}

impl Backend for Script {
    fn name(&self) -> &str {
        "script"
    }

    fn prog_load(&self, request: &ProgLoad<'_>, log: Option<&mut LogBuffer>) -> Result<OwnedFd, Errno> {
        let buffer = log.as_ref().map(|log| (log.level, log.bytes.len()));
        self.asked.lock().unwrap().push((buffer, request.kern_version));
        let mut answers = self.answers.lock().unwrap();
        let answer = if answers.len() > 1 { answers.pop_front() } else { answers.front().copied() };
        let answer = answer.unwrap_or(TAKEN);
        if let Some(log) = log {
            let fits = answer.log.len().min(log.bytes.len());
            log.bytes[..fits].copy_from_slice(&answer.log[..fits]);
            log.true_size = answer.true_size;
        }
        answer.errno.map_or_else(|| Ok(File::open("/dev/null").unwrap().into()), Err)
    }

    fn version_code(&self) -> Result<u32, Errno> {
        Ok(0x0004_0e07)
    }
}

/// Loads a program into a kernel that answers so. Answers what came of it, and what was asked.
fn load(answers: &[Answer], log_level: u32) -> (Result<Program, Error>, Vec<Asked>) {
    let script = Arc::new(Script::default());
    script.answers.lock().unwrap().extend(answers);
    let mut builder = ProgramBuilder::new(ProgType::SOCKET_FILTER, "GPL");
    builder.name("scripted").log_level(log_level).asm().mov64_imm(Reg::R0, 0).exit();
    let result = builder.load(&Kernel::from_arc(script.clone()));
    let asked = script.asked.lock().unwrap().clone();
    (result, asked)
}

/// The levels of the logs that were asked for, 0 for none.
fn levels(asked: &[Asked]) -> Vec<u32> {
    asked.iter().map(|(log, _)| log.map_or(0, |(level, _)| level)).collect()
}

fn sizes(asked: &[Asked]) -> Vec<usize> {
    asked.iter().filter_map(|(log, _)| log.map(|(_, size)| size)).collect()
}

/// Whether the log of an error is known to be cut.
fn is_cut(error: &Error) -> bool {
    let Error::Build { source, .. } = error else { panic!("{error:?}") };
    let BuildError::Load(LoadError::Program(error)) = &**source else { panic!("{source:?}") };
    error.truncated
}

const REASON: &[u8] =
    b"0: R1=ctx() R10=fp0\n0: (b7) r0 = 0\n1: (95) exit\nsomething is wrong\nprocessed 2 insns\n";

#[test]
fn what_loads_is_loaded_once_and_without_a_log() {
    let (program, asked) = load(&[TAKEN], 0);
    assert_eq!((program.unwrap().log(), levels(&asked)), ("", vec![0]));

    let (program, asked) = load(&[Answer { log: b"processed 2 insns\n", ..TAKEN }], 2);
    assert_eq!((program.unwrap().log(), levels(&asked)), ("processed 2 insns\n", vec![2]));
    // It is no failure that the log of a program that loads is longer than was thought.
    let (program, asked) =
        load(&[too_long(40 << 20), too_long(40 << 20), Answer { log: b"long\n", ..TAKEN }], 2);
    assert_eq!((program.unwrap().log(), levels(&asked)), ("long\n", vec![2, 2, 2]));
    assert_eq!(sizes(&asked)[2], 40 << 20);
}

#[test]
fn what_does_not_load_is_loaded_again_for_its_log() {
    let (error, asked) = load(&[refused(Errno::EACCES), Answer { log: REASON, ..refused(Errno::EACCES) }], 0);
    let error = error.unwrap_err();
    assert_eq!(levels(&asked), [0, 1]);
    assert_eq!(
        (error.errno(), error.verifier_log()),
        (Some(Errno::EACCES), Some(std::str::from_utf8(REASON).unwrap()))
    );
    assert!(!is_cut(&error));
    let text = error.source().unwrap().to_string();
    assert!(text.contains("something is wrong") && text.contains("at instruction 1"), "{text}");

    // The second time it may load.
    let (program, asked) = load(&[refused(Errno::EINTR), TAKEN], 0);
    assert_eq!((program.is_ok(), levels(&asked)), (true, vec![0, 1]));

    // A log that is cut in the middle of a letter is read as far as it goes.
    let (error, _) =
        load(&[refused(Errno::EACCES), Answer { log: b"; \"\xc3\xa4\xc3", ..refused(Errno::EACCES) }], 0);
    assert_eq!(error.unwrap_err().verifier_log(), Some("; \"\u{e4}\u{fffd}"));
    // Without one, the errno is all there is.
    let (error, _) = load(&[refused(Errno::E2BIG)], 0);
    let error = error.unwrap_err();
    assert_eq!((error.errno(), error.verifier_log()), (Some(Errno::E2BIG), Some("")));
    assert!(error.source().unwrap().to_string().contains("(E2BIG)"));
}

#[test]
fn a_log_gets_the_room_that_it_needs() {
    let wrong = Answer { log: REASON, ..refused(Errno::EACCES) };
    let first = sizes(&load(&[refused(Errno::EACCES), wrong], 0).1)[0];
    assert!(first >= 1 << 20, "most logs fit at once");
    for (answers, expected) in [
        // Twice as much, where the kernel does not say how much; and what it says.
        (vec![too_long(0), wrong], vec![first, 2 * first]),
        (vec![too_long(0), too_long(0), wrong], vec![first, 2 * first, 4 * first]),
        (vec![too_long(100 << 20), wrong], vec![first, 100 << 20]),
    ] {
        let answers = [vec![refused(Errno::EACCES)], answers].concat();
        let (error, asked) = load(&answers, 0);
        assert_eq!(sizes(&asked), expected);
        let error = error.unwrap_err();
        assert_eq!((error.errno(), is_cut(&error)), (Some(Errno::EACCES), false));
    }

    // Not more than a kernel takes, whatever it says; then what there is of it is told, and that there is more.
    for size in [0, 1, u32::MAX] {
        let cut = Answer { log: REASON, ..too_long(size) };
        let (error, asked) = load(&[refused(Errno::EACCES), cut], 0);
        let sizes = sizes(&asked);
        assert!(sizes.is_sorted() && sizes.len() < 10, "{sizes:?}");
        assert_eq!(*sizes.last().unwrap(), (u32::MAX >> 2) as usize);
        let error = error.unwrap_err();
        assert_eq!(
            (error.errno(), is_cut(&error)),
            (Some(Errno::EACCES), true),
            "not that its log is too long"
        );
        assert!(error.verifier_log().unwrap().contains("something is wrong"));
    }
}

/// Kernels that cannot write the log to its end say so instead of what is wrong.
#[test]
fn a_log_that_breaks_off_is_kept() {
    let broken = Answer { log: REASON, ..refused(Errno::EFAULT) };
    let (error, asked) = load(&[refused(Errno::EINVAL), broken], 0);
    let error = error.unwrap_err();
    assert_eq!(error.verifier_log(), Some(std::str::from_utf8(REASON).unwrap()));
    assert_eq!(error.errno(), Some(Errno::EINVAL));
    assert!(levels(&asked).ends_with(&[1]), "{asked:?}");
}

/// Kernels before 5.0 compare the version of kprobe programs with their own.
#[test]
fn the_version_is_that_of_the_kernel_or_of_the_object() {
    let versions = |object: &str| {
        let script = Arc::new(Script::default());
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(object);
        let mut spec = Spec::open(path).expect("it is an object");
        // Types and maps are nothing that this kernel has.
        (spec.btf, spec.maps) = (None, Vec::new());
        for function in &mut spec.functions {
            (function.references, function.core_relos) = (Vec::new(), Vec::new());
            (function.func_info, function.line_info) = Default::default();
        }
        let only = spec.programs.iter().position(|program| program.prog_type == ProgType::KPROBE);
        spec.load_only(skep::spec::ProgramIndex(only.expect("it has a kprobe")));
        drop(Loader::new(&Kernel::from_arc(script.clone())).load(&spec).expect("it takes everything"));
        let asked = script.asked.lock().unwrap();
        asked.iter().map(|(_, version)| *version).collect::<Vec<_>>()
    };
    assert_eq!(versions("kprobe.o"), [0x0004_0e07]);
    assert_eq!(versions("license_version.o"), [0x0006_0100]);
}

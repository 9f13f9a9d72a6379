//! What every kind of link does, on any kernel: bodies that the test binaries run on theirs.

mod kinds;
mod programs;

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use skep_link::{Hook, KINDS, Link, LinkError, LinkKind};
use skep_sys::abi::{Errno, LinkId};
use skep_sys::request::LinkPlace;
use skep_sys::{Kernel, LoadedProgram, ObjectKind};

pub(crate) use programs::Counter;

/// A kernel to test on.
pub(crate) struct Bench<'a> {
    pub(crate) kernel: &'a Kernel,
    /// A directory on a bpffs, for this test alone.
    pub(crate) dir: &'a Path,
    /// Whether attached programs run: on simulated kernels nothing happens.
    pub(crate) live: bool,
}

/// A way to attach, and what is specific to it.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) hook: Hook,
    /// Loads a program that counts, or says why this kernel has none.
    pub(crate) load: fn(&Bench<'_>) -> Result<Counter, String>,
    pub(crate) attach: fn(&LoadedProgram) -> Result<Link, LinkError>,
    /// Where the link then is.
    pub(crate) place: fn(&LinkPlace) -> bool,
    /// Makes the program run; says why it cannot.
    pub(crate) trigger: fn(&Counter) -> Result<(), String>,
    /// What only this kind does.
    pub(crate) more: fn(&Bench<'_>, &Counter),
}

/// Runs what holds for a case. Answers why something was left out.
pub(crate) fn run(bench: &Bench<'_>, case: &Case) -> Vec<String> {
    let mut skipped = Vec::new();
    let kind = case.hook.kind();
    let (first, second) = match ((case.load)(bench), (case.load)(bench)) {
        (Ok(first), Ok(second)) => (first, second),
        (Err(reason), _) | (_, Err(reason)) => return vec![reason],
    };
    lives_as_long_as_its_handles(bench, case, &first.prog);
    pins_and_opens(bench, case, &first.prog);
    updates(case, kind, &first.prog, &second.prog);
    detaches(case, kind, &first.prog);
    refuses_other_programs(bench, case);
    (case.more)(bench, &first);
    if bench.live
        && let Err(reason) = counts(case, &first)
    {
        skipped.push(reason);
    }
    skipped
}

#[test]
fn every_kind_of_link_has_a_case() {
    for kind in KINDS {
        assert!(kinds::CASES.iter().any(|case| case.hook == kind.hook), "no case for {}", kind.hook);
    }
}

pub(crate) fn case(name: &str) -> &'static Case {
    kinds::CASES.iter().find(|case| case.name == name).expect("a case of that name")
}

fn ids(kernel: &Kernel) -> Vec<u32> {
    kernel.ids(ObjectKind::Link).collect::<Result<_, _>>().unwrap()
}

#[track_caller]
fn assert_gone(kernel: &Kernel, id: LinkId) {
    // Older kernels let go of a link that was pinned after a grace period.
    let tries = std::iter::repeat_with(|| Link::by_id(kernel, id)).take(12_000);
    let gone = tries.inspect(|_| std::thread::sleep(Duration::from_millis(5))).find_map(Result::err);
    let error = gone.expect("the link goes");
    assert_eq!(error.errno(), Some(Errno::ENOENT));
    assert_eq!(error.to_string(), format!("cannot open link with id {id}: there is no such link any more"));
}

fn lives_as_long_as_its_handles(bench: &Bench<'_>, case: &Case, prog: &LoadedProgram) {
    let kernel = bench.kernel;
    let link = (case.attach)(prog).unwrap();
    let info = link.info().unwrap();
    assert!(case.hook.kind().link_types.contains(&info.link_type), "{}", info.link_type);
    assert_eq!(link.link_type(), info.link_type);
    assert_eq!(link.id().unwrap(), info.id);
    assert_eq!(info.prog_id, prog.info().unwrap().id);
    assert!((case.place)(&info.place), "{:?}", info.place);
    assert!(ids(kernel).contains(&info.id.0));
    assert!(link.kernel().same(kernel));

    let copy = link.try_clone().unwrap();
    drop(link);
    assert_eq!(copy.id().unwrap(), info.id);
    let opened = Link::by_id(kernel, info.id).unwrap();
    assert_eq!(opened.link_type(), info.link_type);
    drop(copy);
    let link = Link::from_fd(kernel, OwnedFd::from(opened)).unwrap();
    assert_eq!(link.id().unwrap(), info.id);
    drop(link);
    assert_gone(kernel, info.id);
    assert!(!ids(kernel).contains(&info.id.0));

    let not_a_link = Link::from_fd(kernel, prog.try_clone().unwrap().into()).unwrap_err();
    assert_eq!(not_a_link.errno(), Some(Errno::EINVAL));
    assert!(not_a_link.to_string().ends_with("that is something else than a link"), "{not_a_link}");
}

fn pins_and_opens(bench: &Bench<'_>, case: &Case, prog: &LoadedProgram) {
    let kernel = bench.kernel;
    let path: PathBuf = bench.dir.join("link");
    let link = (case.attach)(prog).unwrap();
    let id = link.id().unwrap();
    link.pin(&path).unwrap();
    let taken = link.pin(&path).unwrap_err();
    assert_eq!((taken.errno(), taken.hint()), (Some(Errno::EEXIST), Some("the path is taken")));
    assert!(taken.to_string().contains(&path.display().to_string()), "{taken}");
    let missing = link.pin(bench.dir.join("no").join("link")).unwrap_err();
    assert_eq!(missing.errno(), Some(Errno::ENOENT));

    let link_type = link.link_type();
    drop(link);
    let link = Link::open_pinned(kernel, &path).unwrap();
    assert_eq!((link.id().unwrap(), link.link_type()), (id, link_type));
    kernel.backend().unpin(&path).unwrap();
    let gone = Link::open_pinned(kernel, &path).unwrap_err();
    assert_eq!((gone.errno(), gone.hint()), (Some(Errno::ENOENT), Some("nothing is pinned there")));
    assert_eq!(link.id().unwrap(), id);
    drop(link);
    assert_gone(kernel, id);

    let path = bench.dir.join("program");
    prog.pin(&path).unwrap();
    assert_eq!(Link::open_pinned(kernel, &path).unwrap_err().errno(), Some(Errno::EINVAL));
    kernel.backend().unpin(&path).unwrap();
}

fn updates(case: &Case, kind: &LinkKind, first: &LoadedProgram, second: &LoadedProgram) {
    let link = (case.attach)(first).unwrap();
    let runs = || link.info().unwrap().prog_id;
    let (first_id, second_id) = (first.info().unwrap().id, second.info().unwrap().id);
    assert_ne!(first_id, second_id);
    if !kind.updates {
        let error = link.update(second).unwrap_err();
        assert_eq!(error.errno(), Some(Errno::EINVAL));
        assert!(error.hint().is_some_and(|hint| hint.contains("keep their program")), "{error}");
        assert_eq!(runs(), first_id);
        return;
    }
    link.update(second).unwrap();
    assert_eq!(runs(), second_id);
    let error = link.replace(first, first).unwrap_err();
    assert_eq!(error.errno(), Some(Errno::EPERM));
    assert!(error.hint().is_some_and(|hint| hint.contains("runs another program")), "{error}");
    assert_eq!(runs(), second_id);
    link.replace(second, first).unwrap();
    assert_eq!(runs(), first_id);
}

fn detaches(case: &Case, kind: &LinkKind, prog: &LoadedProgram) {
    let link = (case.attach)(prog).unwrap();
    let id = link.id().unwrap();
    if !kind.detaches {
        let error = link.detach().unwrap_err();
        assert_eq!(error.errno(), Some(Errno::EOPNOTSUPP));
        assert!(error.hint().is_some_and(|hint| hint.contains("when the last handle is dropped")), "{error}");
        return;
    }
    link.detach().unwrap();
    assert_eq!(link.id().unwrap(), id);
    assert_eq!(link.update(prog).unwrap_err().errno(), Some(Errno::ENOLINK));
    // The place is free again while the detached link is still there.
    drop((case.attach)(prog).unwrap());
}

fn refuses_other_programs(bench: &Bench<'_>, case: &Case) {
    let other = programs::socket_filter(bench.kernel);
    let error = (case.attach)(&other).unwrap_err();
    assert!(matches!(&error, LinkError::WrongProgram { hook, .. } if *hook == case.hook), "{error:?}");
    assert_eq!(
        error.to_string(),
        format!("program `other` of type socket_filter cannot be attached to {}", case.hook)
    );
}

/// The program runs while it is attached, and only then.
fn counts(case: &Case, counter: &Counter) -> Result<(), String> {
    assert!(rests(case, counter)?, "it runs before it is attached");
    let before = counter.value();
    let link = (case.attach)(&counter.prog).unwrap();
    (case.trigger)(counter)?;
    assert!(counter.value() > before, "it does not run");
    drop(link);
    assert!(rests(case, counter)?, "it runs after its link was dropped");
    Ok(())
}

/// Whether the program does not run when it might. Another CPU can be inside of it still, as long as that is let wait, and
/// count late; what is attached counts each time.
fn rests(case: &Case, counter: &Counter) -> Result<bool, String> {
    for _ in 0..50 {
        let before = counter.value();
        (case.trigger)(counter)?;
        if counter.value() == before {
            return Ok(true);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(false)
}

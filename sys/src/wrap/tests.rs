use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::{CallLog, Command, FaultInjection};
use crate::abi::{Errno, MapType, UpdateFlags};
use crate::request::MapCreate;
use crate::{Backend, Kernel};

/// Names of the trait's methods, from its source.
fn methods() -> Vec<&'static str> {
    let source = include_str!("../backend.rs");
    let body =
        &source[source.find("pub trait Backend").unwrap()..source.find("\n}\n\n/// What is known").unwrap()];
    body.lines()
        .filter_map(|line| line.strip_prefix("    fn "))
        .map(|line| &line[..line.find('(').unwrap()])
        .collect()
}

#[test]
fn every_method_is_delegated() {
    let methods = methods();
    assert!(methods.len() > 35);
    assert_eq!(FaultInjection::METHODS, methods);
    assert_eq!(CallLog::METHODS, methods);
    // The name is no call.
    let commands: Vec<_> = Command::ALL.iter().map(|command| command.name()).collect();
    assert_eq!(commands, methods[1..]);
}

/// Creates maps that are files, and answers lookups with sevens.
#[derive(Debug)]
struct Stub;

impl Backend for Stub {
    fn name(&self) -> &str {
        "stub"
    }

    fn map_create(&self, _: &MapCreate<'_>) -> Result<OwnedFd, Errno> {
        Ok(std::fs::File::open("/dev/null").unwrap().into())
    }

    fn map_lookup(&self, _: crate::MapRef<'_>, _: &[u8], value: &mut [u8], _: u64) -> Result<(), Errno> {
        value.fill(7);
        Ok(())
    }
}

fn request() -> MapCreate<'static> {
    let mut request = MapCreate::new(MapType::HASH, 4, 2, 8);
    request.name = "m";
    request
}

#[test]
fn chosen_calls_fail() {
    let (backend, faults) = FaultInjection::around(Arc::new(Stub));
    let kernel = Kernel::new(backend);
    assert_eq!(kernel.backend().name(), "stub");
    let map = kernel.map_create(&request()).unwrap();
    let lookup = || {
        let mut value = [0; 2];
        map.lookup(&[0; 4], &mut value, UpdateFlags::empty()).map(|()| value).map_err(|e| e.errno().unwrap())
    };
    assert_eq!(lookup(), Ok([7; 2]));
    assert_eq!((faults.calls(), faults.calls_of("map_lookup"), faults.fired()), (2, 1, 0));

    faults.fail_call(2, Errno::ENOMEM);
    assert_eq!(lookup(), Ok([7; 2]));
    assert_eq!(lookup(), Err(Errno::ENOMEM));
    assert_eq!(lookup(), Ok([7; 2]));
    assert_eq!(faults.fired(), 1);

    faults.fail_command("map_lookup", 1, Errno::EPERM);
    faults.fail_command("map_create", 2, Errno::EMFILE);
    assert!(kernel.map_create(&request()).is_ok());
    assert_eq!(lookup(), Err(Errno::EPERM));
    assert_eq!(kernel.map_create(&request()).unwrap_err(), Errno::EMFILE);
    assert!(kernel.map_create(&request()).is_ok());

    faults.fail_every("map_lookup", Errno::EIO);
    assert_eq!((lookup(), lookup()), (Err(Errno::EIO), Err(Errno::EIO)));
    faults.disarm();
    assert_eq!(lookup(), Ok([7; 2]));
    faults.reset_counts();
    assert_eq!((faults.calls(), faults.calls_of("map_create"), faults.fired()), (0, 0, 0));
}

#[test]
fn calls_are_recorded() {
    let (faulty, faults) = FaultInjection::around(Arc::new(Stub));
    let (backend, calls) = CallLog::around(Arc::new(faulty));
    let kernel = Kernel::new(backend);
    faults.fail_command("map_create", 2, Errno::ENOMEM);
    let map = kernel.map_create(&request()).unwrap();
    assert!(kernel.map_create(&request()).is_err());
    map.lookup(&[0; 4], &mut [0; 2], UpdateFlags::empty()).unwrap();
    assert!(kernel.possible_cpus().is_err());
    assert_eq!((calls.len(), calls.count("map_create")), (4, 2));
    let expected = "\
map_create hash \"m\" key=4 value=2 max=8 flags=0x0 = fd1
map_create hash \"m\" key=4 value=2 max=8 flags=0x0 = ENOMEM
map_lookup fd1 key=00000000 value=[2] flags=0x0 = 0707
possible_cpus = ENOSYS
";
    assert_eq!(calls.text(), expected);
    assert!(calls.is_empty());

    calls.keep(|call| call.failed.is_some());
    map.lookup(&[0; 4], &mut [0; 2], UpdateFlags::empty()).unwrap();
    assert!(kernel.possible_cpus().is_err());
    assert_eq!((calls.len(), calls.count(Command::POSSIBLE_CPUS)), (1, 1));
    calls.keep_all();
    map.lookup(&[0; 4], &mut [0; 2], UpdateFlags::empty()).unwrap();
    assert_eq!(calls.len(), 2);
    calls.take();
    assert!(calls.is_empty());
}

#[test]
fn a_dead_caller_gets_nothing_more() {
    let (backend, faults) = FaultInjection::around(Arc::new(Stub));
    let kernel = Kernel::new(backend);
    faults.fail_from(3, Errno::EIO);
    assert!(kernel.map_create(&request()).is_ok());
    assert!(kernel.map_create(&request()).is_ok());
    for _ in 0..3 {
        assert_eq!(kernel.map_create(&request()).unwrap_err(), Errno::EIO);
    }
    assert_eq!(faults.fired(), 3);
    faults.disarm();
    assert!(kernel.map_create(&request()).is_ok());
}

#[test]
fn something_runs_before_a_call() {
    let (backend, faults) = FaultInjection::around(Arc::new(Stub));
    let kernel = Kernel::new(backend);
    let (send, ran) = std::sync::mpsc::channel();
    faults.before_call(2, move || send.send(()).unwrap());
    assert!(kernel.map_create(&request()).is_ok());
    assert!(ran.try_recv().is_err());
    assert!(kernel.map_create(&request()).is_ok());
    assert!(kernel.map_create(&request()).is_ok());
    assert_eq!(ran.iter().count(), 1);
}

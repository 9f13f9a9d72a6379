use std::path::Path;

use skep::sys::abi::Errno;
use skep::sys::request::TestRun;
use skep::{Loader, Spec};

use super::{World, has_functions};

/// A lock that is taken twice says so, and both go on.
pub(super) fn resilient(world: &World<'_>) {
    if !has_functions(world, "resilient_locks", &["bpf_res_spin_lock", "bpf_res_spin_lock_irqsave"]) {
        return;
    }
    let spec = Spec::open(Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/run/locks.o")).unwrap();
    let object = Loader::new(world.kernel).load(&spec).unwrap_or_else(|error| {
        panic!("{error:?}: {}", error.verifier_log().unwrap_or("no log"));
    });
    let twice = i64::from(-Errno::EDEADLK.0);
    for program in ["take", "take_without_interrupts"] {
        for (keys, answer) in [([0, 1], 0), ([1, 0], 0), ([1, 1], twice), ([0, 0], twice), ([0, 1], 0)] {
            object.set_global::<[u32; 2]>("keys", &keys).unwrap();
            object.set_global::<[i64; 2]>("noted", &[-1, -1]).unwrap();
            let mut run = TestRun::default();
            run.data_in = &[0; 64];
            assert_eq!(object.program(program).unwrap().test_run(&mut run).unwrap().retval, 0);
            assert_eq!(object.global::<[i64; 2]>("noted").unwrap(), [0, answer], "{program} {keys:?}");
        }
    }
    // Of many that are held the kernel takes no note: it waits a while for those.
    let mut run = TestRun::default();
    run.data_in = &[0; 64];
    assert_eq!(object.program("take_many").unwrap().test_run(&mut run).unwrap().retval, 0);
    assert_eq!(object.global::<[i64; 2]>("noted").unwrap()[1], i64::from(-Errno::ETIMEDOUT.0));
    let waited = object.global::<u64>("waited").unwrap();
    assert!(waited >= 200_000_000, "{waited} ns");
    // What was done while they were held is there, and nobody sees the lock.
    let map = object.map("locked").unwrap();
    let value = |key: u32| map.lookup(&key.to_ne_bytes()).unwrap().unwrap();
    assert_eq!((value(0), value(1)), (vec![0, 0, 0, 0, 13, 0, 0, 0], vec![0, 0, 0, 0, 22, 0, 0, 0]));
}

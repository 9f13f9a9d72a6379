//! Upgrades that end in the middle.

use skep::Kernel;
use skep::pinned::{Exchange, Recovery, Upgrade};
use skep::sys::abi::Errno;
use skep::sys::wrap::FaultInjection;

use crate::support::time::eventually;

use super::{World, check_tracepoint, install_tracepoint, tracepoint_links};

/// Deaths, and what was made of them.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) deaths: u64,
    pub(crate) rolled_back: u64,
    pub(crate) completed: u64,
    pub(crate) nothing: u64,
}

impl Tally {
    pub(crate) fn add(&mut self, recovery: Recovery) {
        self.deaths += 1;
        match recovery {
            Recovery::RolledBack => self.rolled_back += 1,
            Recovery::Completed => self.completed += 1,
            _ => self.nothing += 1,
        }
    }

    /// Every kind of outcome came up.
    pub(crate) fn check(&self) {
        assert!(self.deaths > 40 && self.rolled_back > 20 && self.completed > 5, "{self:?}");
    }
}

/// Removes what is there and puts version 1 there.
pub(crate) fn start_over(world: &World) {
    drop(world.begin());
    if let Some(set) = skep::pinned::PinnedSet::open(&world.kernel(), &world.dir).expect("it can be read") {
        set.remove().expect("it can be removed");
        eventually(|| world.running().iter().all(Vec::is_empty), || "links stay");
    }
    world.install(&world.kernel(), 1).expect("nothing is in the way");
    world.fill();
}

/// Between a death and the recovery each place runs one program.
pub(crate) fn check_between(world: &World, what: &str) {
    for running in world.running() {
        assert_eq!(running.len(), 1, "{what}: {running:?}");
    }
}

/// The upgrade and the recovery after it.
pub(crate) fn recover(world: &World) -> Recovery {
    world.begin().recovery()
}

/// On a kernel in the process: from the n-th call on nothing is answered any more, for each n; and the recovery dies too, at
/// its first call, then at its second, until it gets through.
pub(crate) fn at_each_call(world: &World) {
    let mut tally = Tally::default();
    for call in 1.. {
        start_over(world);
        let what = format!("death at call {call}");
        let (dead, faults) = FaultInjection::around(world.backend.clone());
        faults.fail_from(call, Errno::EIO);
        let through = world.install(&Kernel::new(dead), 2).is_ok();
        check_between(world, &what);
        if through {
            assert_eq!(faults.fired(), 0);
            assert_eq!(world.check(&what), 2);
            break;
        }
        let mut recoveries = Vec::new();
        for call in 1.. {
            let (dead, faults) = FaultInjection::around(world.backend.clone());
            faults.fail_from(call, Errno::EIO);
            let begun = Upgrade::begin(&Kernel::new(dead), &world.dir);
            check_between(world, &what);
            if let Ok(upgrade) = begun {
                recoveries.push(upgrade.recovery());
                break;
            }
        }
        tally.add(recoveries[0]);
        let generation = world.check(&what);
        assert_eq!(recover(world), Recovery::None, "{what}");
        assert_eq!(world.check(&what), generation);
        world.install(&world.kernel(), 2).unwrap_or_else(|error| panic!("{what}: {error:?}"));
        assert_eq!(world.check(&what), generation + 1);
    }
    assert!(tally.deaths > 40, "{tally:?}");
}

/// As [`at_each_call`], recovered at once, so that the recovery's answer is that to the death.
pub(crate) fn at_each_call_once(world: &World) {
    let mut tally = Tally::default();
    for call in 1.. {
        start_over(world);
        let (dead, faults) = FaultInjection::around(world.backend.clone());
        faults.fail_from(call, Errno::EIO);
        if world.install(&Kernel::new(dead), 2).is_ok() {
            break;
        }
        let recovery = recover(world);
        let generation = world.check(&format!("death at call {call}"));
        assert_eq!(
            generation == 2,
            recovery == Recovery::Completed || (recovery == Recovery::None && generation == 2)
        );
        tally.add(recovery);
    }
    tally.check();
}

/// One call is refused, for each of them: the upgrade goes through all the same, or everything is as it was.
pub(crate) fn each_call_refused(world: &World) {
    // Not `ENOENT`: that a directory has no set is an answer, and no refusal.
    for errno in [Errno::EINVAL, Errno::EPERM] {
        for call in 1.. {
            start_over(world);
            let what = format!("call {call} answers {errno}");
            let (faulty, faults) = FaultInjection::around(world.backend.clone());
            faults.fail_call(call, errno);
            let result = world.install(&Kernel::new(faulty), 2);
            check_between(world, &what);
            if faults.fired() == 0 {
                assert_eq!(world.check(&what), 2);
                break;
            }
            recover(world);
            let generation = world.check(&what);
            assert!(generation == 2 || result.is_err(), "{what}");
        }
    }
}

/// Links that cannot be exchanged: in either order, exactly one program is attached once it is recovered.
pub(crate) fn of_links_that_are_replaced(world: &World) {
    for order in [Exchange::NewFirst, Exchange::OldFirst] {
        let mut seen = [0; 3];
        for call in 1.. {
            drop(world.begin());
            if let Some(set) = skep::pinned::PinnedSet::open(&world.kernel(), &world.dir).unwrap() {
                set.remove().expect("it can be removed");
            }
            eventually(|| tracepoint_links(world).is_empty(), || "links stay");
            install_tracepoint(world, &world.kernel(), order).expect("nothing is in the way");
            let what = format!("{order:?}, death at call {call}");
            let (dead, faults) = FaultInjection::around(world.backend.clone());
            faults.fail_from(call, Errno::EIO);
            let through = install_tracepoint(world, &Kernel::new(dead), order).is_ok();
            let between = tracepoint_links(world).len();
            match order {
                Exchange::NewFirst => assert!((1..=2).contains(&between), "{what}: {between}"),
                Exchange::OldFirst => assert!(between <= 1, "{what}: {between}"),
            }
            seen[between] += 1;
            recover(world);
            check_tracepoint(world, &what);
            if through {
                break;
            }
        }
        // The moment in which both or none run was hit.
        assert!(
            seen[1] > 20 && seen[if order == Exchange::NewFirst { 2 } else { 0 }] > 0,
            "{order:?}: {seen:?}"
        );
    }
}

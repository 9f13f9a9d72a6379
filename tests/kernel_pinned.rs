//! Pinned sets on the running kernel, with deaths that are real: processes of their own are ended by SIGKILL before each
//! of their calls in turn.

#![cfg(target_os = "linux")]
#![allow(missing_docs, clippy::print_stdout)] // what is skipped is said

mod pinned_conformance;
mod support;

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, unshare};
use pinned_conformance::{World, deaths};
use skep::Kernel;
use skep::pinned::{Exchange, PinnedSet, Recovery, Upgrade};
use skep::sys::LinuxBackend;
use skep::sys::wrap::FaultInjection;
use support::time::eventually;
use support::{denied, linux_with_bpffs};

/// They take seconds, and the kernel one after the other anyway.
static ONE: Mutex<()> = Mutex::new(());

/// A directory of its own, in a network namespace of this thread alone with devices of its own.
fn world(name: &str) -> Option<World> {
    let kernel = linux_with_bpffs(name)?;
    if let Err(errno) = unshare(CloneFlags::CLONE_NEWNET) {
        denied(name, format_args!("no network namespace: {errno}"));
        return None;
    }
    let mut devices = vec!["lo".to_owned()];
    for device in ["skd0", "skd1"] {
        let peer = format!("{device}p");
        let kinds: [&[&str]; 3] = [&["dummy"], &["veth", "peer", "name", &peer], &["ifb"]];
        let made = kinds.iter().any(|kind| {
            [("ip", &[][..]), ("busybox", &["ip"][..])].iter().any(|(program, first)| {
                let command = Command::new(program)
                    .args(*first)
                    .args(["link", "add", device, "type"])
                    .args(*kind)
                    .stderr(Stdio::null())
                    .status();
                command.is_ok_and(|status| status.success())
            })
        });
        if made {
            devices.push(device.to_owned());
        }
    }
    if devices.len() == 1 {
        println!("note: {name}: no devices can be made here, so there is one place only");
    }
    let dir = Path::new("/sys/fs/bpf").join(format!("skep_{name}_{}", std::process::id()));
    Some(World { backend: kernel.backend_arc(), kernel, dir, devices })
}

#[test]
fn versions_follow_each_other() {
    let _one = ONE.lock();
    let Some(world) = world("versions") else { return };
    pinned_conformance::versions_follow_each_other(&world);
}

#[test]
fn what_is_not_committed_goes_back() {
    let _one = ONE.lock();
    let Some(world) = world("goes_back") else { return };
    pinned_conformance::what_is_not_committed_goes_back(&world);
}

#[test]
fn other_things_are_left_alone() {
    let _one = ONE.lock();
    let Some(world) = world("others") else { return };
    pinned_conformance::other_things_are_left_alone(&world);
}

#[test]
fn variables_go_on_where_it_is_said() {
    let _one = ONE.lock();
    let Some(world) = world("variables") else { return };
    pinned_conformance::variables_go_on_where_it_is_said(&world);
}

#[test]
fn links_are_replaced_when_they_are_switched() {
    let _one = ONE.lock();
    let Some(world) = world("switched") else { return };
    pinned_conformance::links_are_replaced_when_they_are_switched(&world);
}

/// What a process of its own is told to do.
const ORDERS: &str = "SKEP_PINNED_ORDERS";

/// Not a test of its own: the process that dies.
#[test]
fn child() {
    let Ok(orders) = std::env::var(ORDERS) else { return };
    let mut words = orders.split(' ');
    let mut next = || words.next().expect("an order has four words");
    let (what, dir, devices, call) = (next(), next(), next(), next());
    let (backend, faults) = FaultInjection::around(std::sync::Arc::new(LinuxBackend::new()));
    let kernel = Kernel::new(backend);
    let devices = devices.split(',').map(str::to_owned).collect();
    let world = World { backend: kernel.backend_arc(), kernel: kernel.clone(), dir: dir.into(), devices };
    // Before the call, which is as good as after the one before: in between is nothing that the kernel knows of.
    faults.before_call(call.parse().expect("it is a number"), || {
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        unreachable!("nobody goes on after SIGKILL");
    });
    let done = match what {
        "upgrade" => world.install(&kernel, 2),
        "recover" => Upgrade::begin(&kernel, &world.dir).map(drop),
        "new-first" => pinned_conformance::install_tracepoint(&world, &kernel, Exchange::NewFirst),
        "old-first" => pinned_conformance::install_tracepoint(&world, &kernel, Exchange::OldFirst),
        other => panic!("{other}"),
    };
    // Without destructors, which would clear up: what is pinned is for the parent to look at.
    std::process::exit(if done.is_ok() { 0 } else { 1 });
}

/// Runs a process that is ended before its n-th call. Answers whether it got through.
fn dies(world: &World, what: &str, call: u64) -> bool {
    let status: ExitStatus = Command::new(std::env::current_exe().expect("this is one"))
        .args(["--exact", "child", "--test-threads=1"])
        .env(ORDERS, format!("{what} {} {} {call}", world.dir.display(), world.devices.join(",")))
        .env("SKEP_TEST_PROGRAM", std::process::id().to_string())
        .stdout(Stdio::null())
        .status()
        .expect("it can be run");
    if status.success() {
        return true;
    }
    assert_eq!(status.signal(), Some(9), "{what} that dies at call {call} ended with {status}");
    false
}

/// How far apart the calls are at which a process dies: emulated kernels take long for one.
fn stride(one: Duration) -> usize {
    if one < Duration::from_millis(1500) { 1 } else { 11 }
}

/// Kill -9 at every call of an upgrade: after the next start the old or the new programs are attached in all places, and
/// the maps hold what they held.
#[test]
fn killed_at_each_call() {
    let _one = ONE.lock();
    let Some(world) = world("killed") else { return };
    let begun = Instant::now();
    deaths::start_over(&world);
    assert!(!dies(&world, "upgrade", 1));
    let stride = stride(begun.elapsed());
    let mut tally = deaths::Tally::default();
    for call in (1..).step_by(stride) {
        deaths::start_over(&world);
        let what = format!("killed before call {call}");
        let through = dies(&world, "upgrade", call);
        deaths::check_between(&world, &what);
        if through {
            assert_eq!(world.check(&what), 2);
            break;
        }
        let recovery = deaths::recover(&world);
        tally.add(recovery);
        let generation = world.check(&what);
        assert!(generation == 2 || recovery != Recovery::Completed, "{what}");
        assert_eq!(deaths::recover(&world), Recovery::None, "{what}");
    }
    println!("killed_at_each_call: every {stride} calls on {:?}: {tally:?}", world.devices);
    if stride == 1 {
        tally.check();
    }
}

/// The recovery is killed too, at its first call, at its second, until it gets through.
#[test]
fn killed_while_it_recovers() {
    let _one = ONE.lock();
    let Some(world) = world("recovers") else { return };
    let begun = Instant::now();
    deaths::start_over(&world);
    let stride = 13 * stride(begun.elapsed());
    for call in (5..).step_by(stride) {
        deaths::start_over(&world);
        if dies(&world, "upgrade", call) {
            break;
        }
        let mut kills = 0;
        while !dies(&world, "recover", kills + 1) {
            deaths::check_between(&world, &format!("killed before call {call}, then before call {kills}"));
            kills += 1;
        }
        assert!(kills > 3, "{kills}");
        assert_eq!(deaths::recover(&world), Recovery::None);
        world.check(&format!("killed before call {call}, then {kills} times"));
    }
}

/// Links of raw tracepoints cannot be exchanged: another takes the place, in either order.
#[test]
fn killed_while_links_are_replaced() {
    let _one = ONE.lock();
    let Some(world) = world("replaced") else { return };
    for (what, order) in [("new-first", Exchange::NewFirst), ("old-first", Exchange::OldFirst)] {
        let mut stride_now = 1;
        let mut deaths_seen = 0;
        for round in 0.. {
            let call = 1 + round * stride_now as u64;
            let begun = Instant::now();
            drop(world.begin());
            if let Some(set) = PinnedSet::open(&world.kernel(), &world.dir).expect("it can be read") {
                set.remove().expect("it can be removed");
            }
            let gone = || pinned_conformance::tracepoint_links(&world).is_empty();
            eventually(gone, || "links stay");
            pinned_conformance::install_tracepoint(&world, &world.kernel(), order)
                .expect("nothing is in the way");
            let through = dies(&world, what, call);
            world.begin();
            pinned_conformance::check_tracepoint(&world, &format!("{what}, killed before call {call}"));
            if through {
                break;
            }
            deaths_seen += 1;
            if round == 0 {
                stride_now = stride(begun.elapsed());
            }
        }
        // Where it takes long, few calls are tried.
        assert!(deaths_seen > if stride_now == 1 { 5 } else { 0 }, "{deaths_seen}");
    }
}

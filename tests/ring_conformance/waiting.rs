use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use skep::map::Map;
use skep::ring::{Readiness, RingBuffer};
use skep::sys::abi::{OpenFlags, RingFlags};

use super::{Lab, NONE, rig};

const SHORT: Duration = Duration::from_millis(30);
/// Never waited for unless something is wrong.
const LONG: Duration = Duration::from_secs(60);

pub(super) fn timeouts(lab: &dyn Lab) {
    let rig = rig!(lab, 4096);
    let mut ring = rig.open();
    for timeout in [Duration::ZERO, Duration::from_micros(100), SHORT] {
        let start = Instant::now();
        assert!(!ring.wait(Some(timeout)).unwrap());
        assert!(ring.next_timeout(timeout).unwrap().is_none());
        assert_eq!(ring.poll(Some(timeout), |_| panic!("there is none")).unwrap(), 0);
        assert!(start.elapsed() >= timeout * 3, "{timeout:?}");
    }
    // A discarded record wakes, and is nothing to wake for.
    rig.producer.reserve([0; 3], true, RingFlags::FORCE_WAKEUP).unwrap();
    let start = Instant::now();
    assert!(ring.next_timeout(SHORT).unwrap().is_none());
    assert!(start.elapsed() >= SHORT);
    // What is there already is not waited for.
    rig.output(b"there");
    assert!(ring.wait(None).unwrap());
    assert_eq!(&*ring.next_timeout(Duration::ZERO).unwrap().unwrap(), b"there");
    rig.output(b"there");
    assert_eq!(ring.poll(Some(LONG), |record| assert_eq!(record, b"there")).unwrap(), 1);
}

pub(super) fn wakeups(lab: &dyn Lab) {
    let rig = rig!(lab, 4096);
    let mut ring = rig.open();
    let later = |work: &(dyn Fn() + Sync)| {
        std::thread::sleep(SHORT);
        work();
    };
    // Many times: each is a chance to be forgotten between looking and sleeping.
    for round in 0..2000u32 {
        let late = round < 3;
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let work = || rig.output(&round.to_ne_bytes());
                if late { later(&work) } else { work() }
            });
            let record = ring.next_timeout(LONG).unwrap().expect("it wakes");
            assert_eq!(*record, round.to_ne_bytes());
        });
    }
    // A record that wakes nobody is found when the time is over, if it was there by then. Who comes late to wait, or to write,
    // sees nothing of that: some round comes in time.
    let found_in_the_end = |ring: &mut RingBuffer| {
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                later(&|| rig.producer.output(b"quiet", RingFlags::NO_WAKEUP).unwrap());
                Instant::now()
            });
            let start = Instant::now();
            let found = ring.next_timeout(5 * SHORT).unwrap().map(|record| record.to_vec());
            let waited = start.elapsed() >= 5 * SHORT;
            let written = writer.join().unwrap();
            if found.is_none() {
                assert!(written >= start + 5 * SHORT, "it was there, and is not found");
                assert_eq!(ring.skip_all(), 16);
            }
            assert!(found.as_ref().is_none_or(|record| record == b"quiet"));
            found.is_some() && waited
        })
    };
    assert!((0..100).any(|_| found_in_the_end(&mut ring)), "it wakes");
    // The next one wakes nobody either, since the reader has older ones to read; unless it is told to.
    std::thread::scope(|scope| {
        scope.spawn(|| {
            later(&|| {
                rig.producer.output(b"quiet", RingFlags::NO_WAKEUP).unwrap();
                rig.producer.output(b"loud", RingFlags::FORCE_WAKEUP).unwrap();
            });
        });
        let start = Instant::now();
        assert_eq!(&*ring.next_timeout(LONG).unwrap().expect("it wakes"), b"quiet");
        assert!(start.elapsed() < LONG);
        assert_eq!(&*ring.next_timeout(LONG).unwrap().expect("it is there"), b"loud");
    });
}

fn is_readable(fd: &impl AsFd) -> bool {
    let mut fds = [PollFd::new(fd.as_fd(), PollFlags::POLLIN)];
    poll(&mut fds, PollTimeout::ZERO).unwrap();
    fds[0].revents().unwrap().contains(PollFlags::POLLIN)
}

/// What an event loop of someone else sees.
pub(super) fn readiness(lab: &dyn Lab) {
    let rig = rig!(lab, 4096);
    let mut ring = rig.open();
    assert_eq!(ring.waits_for(), Readiness::Read);
    // What wakes comes from an interrupt of its own on Linux.
    let becomes_readable = |ring: &skep::ring::RingBuffer| {
        let start = Instant::now();
        while !is_readable(ring) {
            assert!(start.elapsed() < LONG);
        }
    };
    for _ in 0..3 {
        assert!(!is_readable(&ring));
        rig.output(b"one");
        becomes_readable(&ring);
        rig.output(b"two");
        assert!(ring.skip().unwrap());
        assert!(is_readable(&ring) && is_readable(&rig.map.as_map_fd()), "one is left");
        assert!(ring.peek().unwrap().is_some());
        assert!(is_readable(&ring), "it was looked at, and is left");
        assert!(ring.skip().unwrap());
        assert!(ring.next().unwrap().is_none());
        assert!(!is_readable(&ring), "nothing is left");
    }

    // What counts is what is there, and neither when the descriptor was opened nor whether anyone was woken.
    let by_id = || Map::by_id(lab.kernel(), rig.map.id().unwrap(), OpenFlags::empty()).unwrap();
    assert!(!is_readable(&by_id().as_map_fd()));
    rig.producer.output(b"quiet", RingFlags::NO_WAKEUP).unwrap();
    assert!(is_readable(&by_id().as_map_fd()));
    drop(ring);
    let mut ring: RingBuffer = by_id().typed().unwrap();
    assert!(is_readable(&ring), "the next reader's");
    assert!(ring.skip().unwrap() && ring.next().unwrap().is_none());
    assert!(!is_readable(&ring));
}

/// A record that is not finished is there too: who is told of the state and not of changes is told again and again.
pub(super) fn readiness_of_the_unfinished(lab: &dyn Lab) {
    // The other CPU may be done before we come to look.
    for _ in 0..50 {
        let Some((map, start)) = lab.busy() else { return };
        let mut ring: RingBuffer = map.typed().unwrap();
        assert!(!is_readable(&ring));
        let finish = start();
        let nothing = ring.peek().unwrap().is_none();
        let readable = is_readable(&ring);
        let unfinished = nothing && ring.peek().unwrap().is_none();
        assert!(readable || !unfinished, "two records are there");
        finish();
        if unfinished {
            assert!(ring.next_timeout(LONG).unwrap().is_some());
            assert!(is_readable(&ring), "the second one is there");
            return;
        }
    }
    println!("skip: readiness_of_the_unfinished: none was unfinished when looked at");
}

/// A user ring buffer is ready while there is any room.
pub(super) fn readiness_of_room(lab: &dyn Lab) {
    let Some(rig) = lab.user_ring(4096) else { return };
    let ring = rig.open();
    let is_ready = || match ring.waits_for() {
        Readiness::Read => is_readable(&ring),
        _ => {
            let mut fds = [PollFd::new(ring.as_fd(), PollFlags::POLLOUT)];
            poll(&mut fds, PollTimeout::ZERO).unwrap();
            fds[0].revents().unwrap().contains(PollFlags::POLLOUT)
        }
    };
    assert!(is_ready(), "it is empty");
    ring.submit(&[1u64; 256]).unwrap();
    assert!(ring.reserve(2048).unwrap_err().is_full());
    assert!(is_ready(), "there is room, if not for that");
    ring.reserve(2032).unwrap().commit();
    assert!(ring.reserve(0).unwrap_err().is_full());
    assert!(!is_ready(), "it is full");
    assert_eq!(rig.drainer.drain(1, NONE).unwrap(), [1]);
    let start = Instant::now();
    while !is_ready() {
        assert!(start.elapsed() < LONG);
    }
}

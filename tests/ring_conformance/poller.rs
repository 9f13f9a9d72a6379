use std::time::{Duration, Instant};

use skep::ring::RingPoller;
use skep::sys::abi::RingFlags;

use super::{Lab, Rig, rig};

const LONG: Duration = Duration::from_secs(60);

fn three(lab: &dyn Lab) -> Option<[Rig; 3]> {
    let rig = || lab.ring(4096, skep::sys::abi::MapFlags::empty());
    Some([rig()?, rig()?, rig()?])
}

pub(super) fn several(lab: &dyn Lab) {
    let Some(rigs) = three(lab) else { return };
    let mut poller = RingPoller::new().unwrap();
    assert_eq!(poller.poll(Some(Duration::ZERO), |_, _| panic!("there is no ring")).unwrap(), 0);
    let tokens: Vec<_> = rigs.iter().map(|rig| poller.add(rig.open()).unwrap()).collect();
    assert_eq!(poller.rings().map(|(token, _)| token).collect::<Vec<_>>(), tokens);

    let start = Instant::now();
    let timeout = Duration::from_millis(20);
    assert_eq!(poller.poll(Some(timeout), |_, _| panic!("there is none")).unwrap(), 0);
    assert!(start.elapsed() >= timeout);

    // Whichever it is that wakes.
    for round in 0..600u32 {
        let which = round as usize % 3;
        let seen = std::thread::scope(|scope| {
            scope.spawn(|| {
                if round < 3 {
                    std::thread::sleep(timeout);
                }
                rigs[which].output(&round.to_ne_bytes());
            });
            let mut seen = Vec::new();
            let count = poller.poll(Some(LONG), |ring, record| seen.push((ring, record.to_vec()))).unwrap();
            assert_eq!(count, 1);
            seen
        });
        assert_eq!(seen, [(tokens[which], round.to_ne_bytes().to_vec())]);
    }
    // One that wakes nobody is found when another does, or when the time is over.
    rigs[0].producer.output(b"quiet", RingFlags::NO_WAKEUP).unwrap();
    assert_eq!(poller.poll(Some(Duration::ZERO), |ring, _| assert_eq!(ring, tokens[0])).unwrap(), 1);

    let ring = poller.remove(tokens[1]).unwrap().expect("it was added");
    assert!(poller.remove(tokens[1]).unwrap().is_none() && poller.ring(tokens[1]).is_none());
    rigs[1].output(b"alone");
    rigs[2].output(b"together");
    assert_eq!(poller.poll(Some(LONG), |ring, _| assert_eq!(ring, tokens[2])).unwrap(), 1);
    assert_eq!(poller.poll(Some(timeout), |_, _| panic!("it was removed")).unwrap(), 0);
    assert_eq!(ring.available(), 16);
    let again = poller.add(ring).unwrap();
    assert!(!tokens.contains(&again));
    assert_eq!(poller.poll(Some(LONG), |ring, _| assert_eq!(ring, again)).unwrap(), 1);
    assert!(poller.ring_mut(again).unwrap().next().unwrap().is_none());
}

/// A ring that is never empty does not keep the others from theirs.
pub(super) fn fair(lab: &dyn Lab) {
    let Some(rigs) = three(lab) else { return };
    let mut poller = RingPoller::new().unwrap().budget(4);
    let tokens: Vec<_> = rigs.iter().map(|rig| poller.add(rig.open()).unwrap()).collect();
    let fill = |rig: &Rig| while rig.producer.output(&[0; 56], RingFlags::empty()).is_ok() {};
    rigs[1].output(b"one");
    rigs[2].output(b"two");
    let mut firsts = Vec::new();
    for round in 0..6 {
        fill(&rigs[0]);
        let mut turn = Vec::new();
        poller.poll(Some(LONG), |ring, _| turn.push(ring)).unwrap();
        let loud = turn.iter().filter(|ring| **ring == tokens[0]).count();
        assert_eq!(loud, 4, "the budget");
        assert_eq!(turn.len(), if round == 0 { 6 } else { 5 });
        firsts.push(turn[0]);
        rigs[1 + round % 2].output(b"again");
    }
    assert!(firsts.contains(&tokens[0]) && firsts.iter().any(|ring| *ring != tokens[0]), "{firsts:?}");
    rig!(lab, 4096).output(b"not added");
}

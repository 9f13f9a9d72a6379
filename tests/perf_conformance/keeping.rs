//! Rings that keep what was written last, and rings that are paused.

use skep::sys::abi::Errno;

use super::{Seen, World, assert_sample, consume, numbered, numbers, options, pattern, setup};

pub(super) fn overwritable(world: &dyn World) {
    let (mut buffer, producer) = setup(world, options().pages(1).overwritable());
    assert_eq!(consume(&mut buffer), []);
    for n in 0..5 {
        producer.write(0, &numbered(n)).unwrap();
    }
    assert_eq!(numbers(&consume(&mut buffer), 0), [0, 1, 2, 3, 4], "oldest first");
    assert_eq!(consume(&mut buffer), [], "they were given");

    let size = buffer.cpus()[0].size() as u32;
    for n in 5..1000 {
        producer.write(0, &numbered(n)).unwrap();
    }
    let kept = numbers(&consume(&mut buffer), 0);
    let expected = size / 24;
    assert!([expected, expected - 1].contains(&(kept.len() as u32)), "{}", kept.len());
    assert_eq!(kept, (1000 - kept.len() as u32..1000).collect::<Vec<_>>());

    for n in 1000..1003 {
        producer.write(0, &numbered(n)).unwrap();
    }
    let mut rest = Vec::new();
    while let Some(record) = buffer.next_record().unwrap() {
        rest.push(super::seen(record));
    }
    assert_eq!(numbers(&rest, 0), [1000, 1001, 1002]);
    // Nothing is lost that is newer than what is kept.
    assert_eq!((consume(&mut buffer), buffer.lost()), (Vec::new(), 0));
}

pub(super) fn sizes(world: &dyn World) {
    let (mut buffer, producer) = setup(world, options().pages(1).overwritable().ordered());
    for round in 0..200usize {
        let written: Vec<Vec<u8>> =
            (0..round % 9).map(|n| pattern((round * 37 + n * 101) % 700, round as u8)).collect();
        for data in &written {
            producer.write(0, data).unwrap();
        }
        let all = consume(&mut buffer);
        // With the time, 8 bytes more than otherwise.
        let sizes = written.iter().map(|data| (8 + 8 + 4 + data.len()).next_multiple_of(8));
        let total: usize = sizes.sum();
        if total <= 4096 {
            assert_eq!(all.len(), written.len(), "{round}");
        }
        for (seen, data) in all.iter().rev().zip(written.iter().rev()) {
            assert_sample(seen, 0, data);
        }
    }
}

pub(super) fn pause(world: &dyn World) {
    let (mut buffer, producer) = setup(world, options());
    producer.write(0, &numbered(0)).unwrap();
    buffer.pause().unwrap();
    buffer.pause().unwrap();
    assert!(buffer.cpus()[0].is_paused());
    for n in 1..4 {
        assert_eq!(producer.write(0, &numbered(n)), Err(Errno::ENOSPC));
    }
    assert_eq!(numbers(&consume(&mut buffer), 0), [0]);
    buffer.resume().unwrap();
    assert!(!buffer.cpus()[0].is_paused());
    producer.write(0, &numbered(4)).unwrap();
    let all = consume(&mut buffer);
    assert_eq!((all.first(), numbers(&all, 0)), (Some(&Seen::Lost(0, 3)), vec![4]));

    // Reading what is kept does not end a pause.
    let (mut buffer, producer) = setup(world, options().pages(1).overwritable());
    producer.write(0, &numbered(0)).unwrap();
    buffer.pause().unwrap();
    assert_eq!(numbers(&consume(&mut buffer), 0), [0]);
    assert_eq!(producer.write(0, &numbered(1)), Err(Errno::ENOSPC));
    buffer.resume().unwrap();
    producer.write(0, &numbered(2)).unwrap();
    assert_eq!(numbers(&consume(&mut buffer), 0), [2]);
}

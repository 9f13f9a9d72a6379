//! What a ring does when its other end does not keep to the protocol. How it works otherwise is told by the rings'
//! conformance bodies.

use std::ops::ControlFlow;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::*;

const PAGE: usize = 4096;
const SIZE: usize = 4096;

struct Ring {
    words: Arc<[AtomicU64]>,
    fd: OwnedFd,
}

impl Ring {
    fn new() -> Ring {
        let fd = OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
        Ring { words: crate::SharedMemory::zeroed_words((2 * PAGE + 2 * SIZE) / 8), fd }
    }

    fn memory(&self, produces: bool) -> RingMemory {
        RingMemory::heap(self.words.clone(), PAGE, produces).unwrap()
    }

    fn reader(&self) -> RingReader {
        RingReader::new(self.memory(false)).unwrap()
    }

    fn writer(&self) -> RingWriter {
        RingWriter::new(self.memory(true)).unwrap()
    }

    fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    fn set(&self, consumer: u64, producer: u64) {
        self.words[0].store(consumer, Ordering::Release);
        self.words[PAGE / 8].store(producer, Ordering::Release);
    }

    fn header(&self, position: usize, len: u32) {
        self.words[PAGE / 4 + (position & (SIZE - 1)) / 8].store(u64::from(len), Ordering::Release);
    }
}

#[test]
fn positions_that_cannot_be_are_faults() {
    let size = SIZE as u64;
    let wrong = [
        (0, size + 8),
        (0, u64::MAX),
        (8, 0),
        (16, 8),
        (0, 4),
        (4, 16),
        (3, 3 + 8),
        (u64::MAX - 7, 0),
        (1 << 63, 0),
        (0, 1 << 63),
    ];
    for (consumer, producer) in wrong {
        let ring = Ring::new();
        ring.set(consumer, producer);
        let mut reader = ring.reader();
        let fault = RingFault::Positions { consumer, producer, size: SIZE };
        // A producer that wraps around to 0 is as far ahead as it says.
        if producer.wrapping_sub(consumer) <= size && (consumer | producer) % 8 == 0 {
            continue;
        }
        assert_eq!(reader.look(ring.fd()), Err(fault), "{consumer} {producer}");
        assert_eq!(reader.look(ring.fd()), Err(fault), "it stays so");
        assert_eq!(reader.record(), b"");
        let writer = ring.writer();
        assert_eq!(writer.reserve(ring.fd(), 8).err(), Some(fault), "{consumer} {producer}");
        let mut overwriting = RingReader::new(ring.memory(false).overwriting()).unwrap();
        assert_eq!(overwriting.look(ring.fd()), Err(fault), "{consumer} {producer}");
        // All of it can be skipped.
        reader.skip_all();
        assert_eq!(ring.words[0].load(Ordering::Acquire), producer);
    }
}

#[test]
fn records_longer_than_what_was_produced_are_faults() {
    for (produced, len) in [(8, 1), (16, 9), (64, 57), (64, 1 << 20), (4096, 4089), (64, (1 << 30) - 1)] {
        let ring = Ring::new();
        ring.set(0, produced);
        ring.header(0, len);
        let fault = RingFault::RecordLength { position: 0, len, available: produced };
        let mut reader = ring.reader();
        assert_eq!(reader.look(ring.fd()), Err(fault));
        assert_eq!(reader.drain(ring.fd(), 9, |_| ControlFlow::<()>::Continue(())).err(), Some(fault));
        ring.header(0, len | DISCARD);
        assert_eq!(reader.look(ring.fd()), Err(fault), "a discarded one too");
        let mut reader = RingReader::new(ring.memory(false).overwriting()).unwrap();
        assert_eq!(reader.look(ring.fd()), Err(fault));
        ring.header(0, len | BUSY);
        assert_eq!(ring.reader().look(ring.fd()), Ok(false), "it may not be finished");
        let mut reader = ring.reader();
        assert_eq!(reader.skip_all(), produced);
        assert_eq!(reader.look(ring.fd()), Ok(false));
    }
}

/// Any header at any place gives a record inside of the ring, nothing, or a fault.
#[test]
fn no_header_leads_outside() {
    let mut random = 0x9e37_79b9_7f4a_7c15u64;
    let mut next = || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random
    };
    let mut found = [0; 3];
    for _ in 0..20_000 {
        let ring = Ring::new();
        let consumer = (next() % 100_000) & !7;
        ring.set(consumer, (consumer + next() % (SIZE as u64 + 1)) & !7);
        let mut position = consumer;
        for _ in 0..4 {
            let bits = next() as u32 & (BUSY | DISCARD) & next() as u32;
            let len = next() as u32 % 1200;
            ring.header(position as usize, len | bits);
            position += footprint(len);
        }
        let overwriting = next() % 2 == 0;
        let memory = ring.memory(false);
        let mut reader = RingReader::new(if overwriting { memory.overwriting() } else { memory }).unwrap();
        if overwriting {
            ring.words[PAGE / 8 + 2].store(consumer + (next() % 2000), Ordering::Release);
        }
        for _ in 0..6 {
            match reader.look(ring.fd()) {
                Ok(true) => {
                    assert!(reader.record().len() <= SIZE);
                    found[0] += 1;
                    reader.advance();
                }
                Ok(false) => found[1] += 1,
                Err(_) => found[2] += 1,
            }
        }
        assert!(reader.positions().consumer <= consumer + 2 * SIZE as u64);
    }
    assert!(found.iter().all(|&count| count > 1000), "{found:?}");
}

#[test]
fn another_consumer_or_producer_is_noticed() {
    let ring = Ring::new();
    ring.set(0, 32);
    ring.header(0, 8);
    ring.header(16, 8);
    let mut reader = ring.reader();
    assert_eq!(reader.look(ring.fd()), Ok(true));
    ring.words[0].store(32, Ordering::Release);
    reader.advance();
    // What was known of is still read.
    assert_eq!(reader.look(ring.fd()), Ok(true));
    reader.advance();
    let fault = RingFault::Moved { expected: 0, found: 32 };
    assert_eq!(reader.look(ring.fd()), Err(fault));
    reader.skip_all();
    assert_eq!(reader.look(ring.fd()), Ok(false));

    let ring = Ring::new();
    let writer = ring.writer();
    writer.reserve(ring.fd(), 8).unwrap().commit();
    ring.words[PAGE / 8].store(64, Ordering::Release);
    let fault = RingFault::Moved { expected: 16, found: 64 };
    assert_eq!(writer.reserve(ring.fd(), 8).err(), Some(fault));
}

/// A consumer that goes past a sample that is being written gets no one to write over it.
#[test]
fn samples_that_are_written_are_never_given_again() {
    let ring = Ring::new();
    let writer = ring.writer();
    let first = writer.reserve(ring.fd(), 2000).unwrap();
    let second = writer.reserve(ring.fd(), 2000).unwrap();
    ring.words[0].store(2 * footprint(2000), Ordering::Release);
    let available = SIZE as u64 - 2 * footprint(2000);
    let full = RingFault::Full { wanted: 2008, available };
    assert_eq!(writer.reserve(ring.fd(), 2000).err(), Some(full));
    first.commit();
    // The second is the oldest now.
    assert!(writer.reserve(ring.fd(), 2000).is_ok());
    second.commit();
}

#[test]
fn memory_has_the_shape_of_a_ring() {
    let words = |bytes: usize| crate::SharedMemory::zeroed_words(bytes / 8);
    let heap = |page: usize, rest: usize| RingMemory::heap(words(page + rest), page, false).err();
    assert_eq!(heap(4096, 4096 + 2 * 4096), None);
    assert_eq!(heap(65536, 65536 + 2 * 65536), None);
    for (page, rest) in [(4096, 4096), (4096, 4096 + 4096 * 3), (0, 8192), (4096, 0), (8, 24), (4096, 4104)] {
        assert_eq!(heap(page, rest), Some(crate::abi::Errno::EINVAL), "{page} {rest}");
    }
    let ring = Ring::new();
    assert!(RingReader::new(ring.memory(true)).is_none() && RingWriter::new(ring.memory(false)).is_none());
}

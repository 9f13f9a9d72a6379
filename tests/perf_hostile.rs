//! Rings that hold what no kernel writes: reading them says so, goes on, and ends.

#![allow(missing_docs)]

use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use skep::map::Map;
use skep::perf::{PerfBuffer, PerfBufferOptions, PerfError, PerfRecord};
use skep::sys::abi::{Errno, MapType};
use skep::sys::request::{MapCreate, PerfControl, PerfEventOpen, PerfMemory};
use skep::sys::{Backend, Kernel, MapRef, PerfRingError, PerfRingMemory};

const PAGE: usize = 4096;
const SIZE: u64 = 4096;

/// A kernel of one CPU, whose rings anybody may write.
#[derive(Debug, Default)]
struct Open(Mutex<Option<Arc<[AtomicU64]>>>);

fn file() -> Result<OwnedFd, Errno> {
    // Epoll takes no plain files.
    std::io::pipe().map(|(reader, _)| reader.into()).map_err(|_| Errno::EMFILE)
}

impl Backend for Open {
    fn name(&self) -> &str {
        "open"
    }

    fn map_create(&self, _: &MapCreate<'_>) -> Result<OwnedFd, Errno> {
        file()
    }

    fn map_update(&self, _: MapRef<'_>, _: &[u8], _: &[u8], _: u64) -> Result<(), Errno> {
        Ok(())
    }

    fn map_delete(&self, _: MapRef<'_>, _: &[u8]) -> Result<(), Errno> {
        Ok(())
    }

    fn perf_event_open(&self, _: &PerfEventOpen<'_>) -> Result<OwnedFd, Errno> {
        file()
    }

    fn perf_event_control(&self, _: BorrowedFd<'_>, _: PerfControl) -> Result<(), Errno> {
        Ok(())
    }

    fn perf_event_mmap(&self, _: BorrowedFd<'_>, memory: PerfMemory) -> Result<PerfRingMemory, Errno> {
        let words: Arc<[AtomicU64]> = (0..2 * PAGE / 8).map(|_| AtomicU64::new(0)).collect();
        *self.0.lock().unwrap() = Some(words.clone());
        Ok(PerfRingMemory::heap(words, PAGE as u32, memory.writable))
    }

    fn online_cpus(&self) -> Result<Vec<u32>, Errno> {
        Ok(vec![0])
    }
}

struct Ring {
    buffer: PerfBuffer,
    words: Arc<[AtomicU64]>,
}

fn ring(options: PerfBufferOptions) -> Ring {
    let open = Arc::new(Open::default());
    let kernel = Kernel::from_arc(open.clone());
    let map = Map::create(&kernel, &MapCreate::new(MapType::PERF_EVENT_ARRAY, 4, 4, 1)).unwrap();
    let buffer = PerfBuffer::new(&map, options.pages(1)).unwrap();
    let words = open.0.lock().unwrap().clone().unwrap();
    Ring { buffer, words }
}

impl Ring {
    fn put(&self, at: u64, word: u64) {
        self.words[(PAGE as u64 + at % SIZE) as usize / 8].store(word, Ordering::Relaxed);
    }

    fn header(&self, at: u64, record_type: u32, size: u16) {
        self.put(at, u64::from(record_type) | u64::from(size) << 48);
    }

    fn set_head(&self, head: u64) {
        self.words[1024 / 8].store(head, Ordering::Release);
    }

    fn tail(&self) -> u64 {
        self.words[1032 / 8].load(Ordering::Acquire)
    }

    fn consume(&mut self) -> (usize, Result<usize, PerfError>) {
        let mut count = 0;
        let result = self.buffer.consume(|_| count += 1);
        (count, result)
    }
}

#[cfg(target_endian = "little")]
#[test]
fn records_that_cannot_be() {
    let mut ring = ring(PerfBufferOptions::new());
    let mut at = 0;
    // None, less than a header, not a multiple of 8, more than there is, more than there can be.
    for size in [0, 1, 7, 9, 12, 64, 4096, 65528, 65535] {
        ring.header(at, 9, 16);
        ring.put(at + 8, 4);
        ring.header(at + 16, 9, size);
        ring.set_head(at + 48);
        let source = PerfRingError::Record { size, left: 32 };
        assert_eq!(ring.consume(), (1, Err(PerfError::Ring { cpu: 0, source })), "{size}");
        assert_eq!(ring.tail(), at + 48, "it was skipped to where it was written");
        assert_eq!(ring.consume(), (0, Ok(0)));
        at += 48;
    }
    // The same, one by one.
    ring.header(at, 9, 0);
    ring.set_head(at + 16);
    assert!(matches!(ring.buffer.next_record(), Err(PerfError::Ring { .. })));
    assert_eq!(ring.buffer.next_record(), Ok(None));
    assert_eq!(ring.tail(), at + 16);
}

#[test]
fn positions_that_cannot_be() {
    let mut ring = ring(PerfBufferOptions::new());
    let mut tail = 0;
    for head in [SIZE + 8, 1 << 40, 3, u64::MAX - 7, 3 * SIZE, 7] {
        ring.set_head(head);
        let outside = head.wrapping_sub(tail) > SIZE || head % 8 != 0;
        assert!(outside);
        let source = PerfRingError::Position { head, tail, size: SIZE };
        assert_eq!(ring.consume(), (0, Err(PerfError::Ring { cpu: 0, source })), "{head:#x}");
        tail = head & !7;
        assert_eq!(ring.tail(), tail);
        // It goes on from there.
        ring.header(tail, 1, 8);
        tail = tail.wrapping_add(8);
        ring.set_head(tail);
        assert_eq!(ring.consume(), (1, Ok(1)));
    }
}

#[cfg(target_endian = "little")]
#[test]
fn contents_that_cannot_be() {
    let mut ring = ring(PerfBufferOptions::new());
    // A sample longer than its record, one without a length, lost records without a number.
    ring.header(0, 9, 16);
    ring.put(8, 5);
    ring.header(16, 9, 8);
    ring.header(24, 2, 16);
    ring.header(40, 13, 8);
    // A sample that is whole, and a kind that nobody knows.
    ring.header(48, 9, 16);
    ring.put(56, 4 | 0x64636261 << 32);
    ring.header(64, 0xffff, 8);
    ring.set_head(72);
    let mut seen = Vec::new();
    let result = ring.buffer.consume(|record| {
        seen.push(match record {
            PerfRecord::Sample(sample) => String::from_utf8_lossy(sample.data).into_owned(),
            PerfRecord::Other(raw) => raw.record.record_type.to_string(),
            other => panic!("{other:?}"),
        });
    });
    assert_eq!(seen, ["abcd", "record_type_65535"]);
    let error = result.unwrap_err();
    assert_eq!(error.to_string(), "a record of CPU 0 was skipped: a sample that is longer than its record");
    assert_eq!(ring.tail(), 72);
    assert_eq!(ring.consume(), (0, Ok(0)));
}

/// Whatever a ring holds, reading it ends, and gives no more records than fit.
#[test]
fn any_bytes() {
    let mut random = 0x9e37_79b9_7f4a_7c15u64;
    let mut next = move || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random
    };
    for options in [
        PerfBufferOptions::new(),
        PerfBufferOptions::new().ordered(),
        PerfBufferOptions::new().overwritable(),
        PerfBufferOptions::new().overwritable().ordered(),
    ] {
        let mut ring = ring(options);
        let mut head = 0u64;
        for round in 0..3000 {
            for at in (0..SIZE).step_by(8) {
                // Mostly sizes that could be, so that walks go far.
                let word = next();
                let size = if word % 16 < 14 { (word >> 8) % 12 * 8 } else { word >> 48 };
                ring.put(at, (word >> 20 & 0xf) | size << 48);
            }
            head = match next() % 4 {
                0 => next(),
                1 => head.wrapping_sub((next() % SIZE) & !7),
                _ => head.wrapping_add((next() % SIZE) & !7),
            };
            ring.set_head(head);
            let mut count = 0;
            if round % 2 == 0 {
                count = ring.consume().0;
            } else {
                let mut calls = 0;
                loop {
                    calls += 1;
                    assert!(calls <= 3 + SIZE / 8);
                    match ring.buffer.next_record() {
                        Ok(Some(_)) => count += 1,
                        Ok(None) => break,
                        Err(_) => {}
                    }
                }
            }
            assert!(count as u64 <= SIZE / 8);
        }
    }
}

//! What perf buffers and counters do, on any kernel: bodies that the test binaries run on theirs.

#![allow(clippy::print_stdout)]

mod awaited;
mod cpus;
mod keeping;
mod records;
#[cfg(target_os = "linux")]
#[allow(dead_code)]
pub(crate) mod running;
mod waiting;

use std::os::fd::AsFd;
use std::time::Duration;

use skep::map::Map;
use skep::perf::{PerfBuffer, PerfBufferOptions, PerfRecord};
use skep::sys::Kernel;
use skep::sys::abi::{Errno, MapType};
use skep::sys::request::MapCreate;

/// A kernel, and what makes it write records.
pub(crate) trait World: Sync {
    fn kernel(&self) -> &Kernel;

    /// What writes to a map as a program does.
    fn producer(&self, map: &Map) -> Box<dyn Producer>;

    /// Takes a CPU offline or back online. Answers whether that is possible here; if not, says why.
    fn set_online(&self, cpu: u32, online: bool) -> Result<(), String>;
}

/// Runs `bpf_perf_event_output` on a CPU.
pub(crate) trait Producer: Send + Sync {
    /// Writes to the event at an index, of the CPU's own number for none.
    fn write_to(&self, index: Option<u32>, cpu: u32, data: &[u8]) -> Result<(), Errno>;

    fn write(&self, cpu: u32, data: &[u8]) -> Result<(), Errno> {
        self.write_to(None, cpu, data)
    }
}

/// A body: what it does.
pub(crate) type Body = fn(&dyn World);

crate::support::bodies! { ($) perf_conformance;
    per_cpu: records::per_cpu,
    sizes: records::sizes,
    wrap_around: records::wrap_around,
    panics: records::panics,
    lost: records::lost,
    one_by_one: records::one_by_one,
    raw: records::raw,
    a_source_of_events: records::source,
    ordered: records::ordered,
    what_programs_get: records::what_programs_get,
    wakeup_events: waiting::wakeup_events,
    watermark: waiting::watermark,
    timeouts: waiting::timeouts,
    in_an_event_loop: waiting::in_an_event_loop,
    asked: awaited::asked,
    awaited: awaited::records,
    among_threads: waiting::among_threads,
    a_thread_per_cpu: waiting::a_thread_per_cpu,
    overwritable: keeping::overwritable,
    overwritable_sizes: keeping::sizes,
    pause: keeping::pause,
    two_buffers: cpus::two_buffers,
    chosen_cpus: cpus::chosen,
    refused: cpus::refused,
    counters: cpus::counters,
}

/// A body that is run on its own, since it takes CPUs away from all others.
#[allow(dead_code)]
pub(crate) fn cpus_come_and_go(world: &dyn World) {
    cpus::come_and_go(world);
}

/// A map with a place for each CPU.
fn map(world: &dyn World) -> Map {
    map_of(world, world.kernel().possible_cpus().unwrap())
}

fn map_of(world: &dyn World, entries: u32) -> Map {
    let mut request = MapCreate::new(MapType::PERF_EVENT_ARRAY, 4, 4, entries);
    request.name = "under_test";
    Map::create(world.kernel(), &request).unwrap()
}

/// A map, a buffer that reads it, and what writes to it.
fn setup(world: &dyn World, options: PerfBufferOptions) -> (PerfBuffer, Box<dyn Producer>) {
    let map = map(world);
    (PerfBuffer::new(&map, options).unwrap(), world.producer(&map))
}

fn options() -> PerfBufferOptions {
    PerfBufferOptions::new()
}

/// What a record was, in memory of its own.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Seen {
    Sample(u32, Vec<u8>),
    Lost(u32, u64),
}

fn seen(record: PerfRecord<'_>) -> Seen {
    match record {
        PerfRecord::Sample(sample) => Seen::Sample(sample.cpu, sample.data.to_vec()),
        PerfRecord::Lost { cpu, count, .. } => Seen::Lost(cpu, count),
        other => panic!("{other:?}"),
    }
}

fn consume(buffer: &mut PerfBuffer) -> Vec<Seen> {
    let mut all = Vec::new();
    let count = buffer.consume(|record| all.push(seen(record))).unwrap();
    assert_eq!(count, all.len());
    all
}

/// Data of 8 bytes and a number, 12 in all, which fill a record.
fn numbered(number: u32) -> [u8; 12] {
    let mut data = [0xaa; 12];
    data[..4].copy_from_slice(&number.to_ne_bytes());
    data
}

/// The number in such data.
#[track_caller]
fn number(data: &[u8]) -> u32 {
    assert_eq!((data.len(), &data[4..]), (12, &[0xaa; 8][..]));
    u32::from_ne_bytes(data[..4].try_into().unwrap())
}

/// The numbers of the samples of a CPU.
fn numbers(all: &[Seen], cpu: u32) -> Vec<u32> {
    let of_cpu = all.iter().filter_map(|seen| match seen {
        Seen::Sample(of, data) if *of == cpu => Some(number(data)),
        _ => None,
    });
    of_cpu.collect()
}

/// Bytes that say where they are from.
fn pattern(len: usize, seed: u8) -> Vec<u8> {
    (0..len).map(|at| (at as u8).wrapping_mul(31) ^ seed).collect()
}

/// Whether a sample begins with what was written, and has only what fills up a record behind it.
#[track_caller]
fn assert_sample(seen: &Seen, cpu: u32, data: &[u8]) {
    let Seen::Sample(of, got) = seen else { panic!("{seen:?}") };
    assert_eq!(*of, cpu);
    assert_eq!(got.len(), (data.len() + 4).next_multiple_of(8) - 4);
    assert!(got[..data.len()] == *data, "{} bytes differ", data.len());
}

/// Whether a descriptor is readable within that time.
fn readable(fd: &impl AsFd, millis: u64) -> bool {
    let poller = skep::sys::Poller::new().unwrap();
    poller.add(fd.as_fd(), 0).unwrap();
    poller.wait(&mut Vec::new(), Some(Duration::from_millis(millis))).unwrap() > 0
}

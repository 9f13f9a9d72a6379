//! Ring buffers of the running kernel. Needs root, or the capabilities for BPF.
//!
//! A test that cannot run prints `skip: NAME: REASON`, and fails instead when `SKEP_REQUIRE_KERNEL=1`, unless it is the
//! kernel that lacks something.

#![cfg(target_os = "linux")]
#![allow(missing_docs, clippy::print_stdout)]

mod ring_conformance;
mod support;

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use ring_conformance::{Drainer, Finish, Lab, Producer, Rig, Start, UserRig};
use skep::map::Map;
use skep::ring::{RingBuffer, UserRingBuffer};
use skep::sim::RingQuery;
use skep::sys::abi::{Errno, MapFlags, MapType, RingFlags, UpdateFlags};
use skep::sys::request::{MapCreate, TestRun};
use skep::sys::{Feature, Probe};
use skep::{Kernel, Loader, Object, Spec};
use zerocopy::IntoBytes;

struct Linux {
    kernel: Kernel,
    test: String,
}

fn lab(name: &str) -> Option<Linux> {
    let kernel = support::linux_with_bpffs(name)?;
    Some(Linux { kernel, test: name.to_owned() })
}

impl Linux {
    fn has(&self, feature: Feature, what: &str) -> bool {
        let there = matches!(self.kernel.has(feature), Probe::Supported);
        if !there {
            println!("skip: {}: the kernel has no {what}", self.test);
        }
        there
    }

    fn load(&self, object: &str, change: impl FnOnce(&mut Spec)) -> Object {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/run").join(object);
        let mut spec = Spec::open(path).expect("it opens");
        change(&mut spec);
        Loader::new(&self.kernel).load(&spec).expect("it loads")
    }
}

/// Runs a program on a packet that begins with these words, and answers what it returns.
fn run(object: &Object, program: &str, words: &[u64]) -> Result<(), Errno> {
    let mut packet = [0; 64];
    packet[..words.len() * 8].copy_from_slice(words.as_bytes());
    let mut run = TestRun::default();
    run.data_in = &packet;
    match object.program(program).unwrap().test_run(&mut run).expect("it runs").retval {
        0 => Ok(()),
        errno => Err(Errno(errno as i32)),
    }
}

/// `produce` of `ring.c`.
struct Produce {
    object: Object,
    /// Records are handed over in a map, one at a time.
    scratch: Mutex<Map>,
}

impl Producer for Produce {
    fn output(&self, record: &[u8], flags: RingFlags) -> Result<(), Errno> {
        let scratch = self.scratch.lock().unwrap_or_else(PoisonError::into_inner);
        let mut value = vec![0; scratch.value_len()];
        value[..record.len()].copy_from_slice(record);
        scratch.update(&0u32.to_ne_bytes(), &value, UpdateFlags::empty()).unwrap();
        run(&self.object, "produce", &[(record.len() as u64) << 32, flags.bits()])
    }

    fn reserve(&self, [a, b, c]: [u64; 3], discard: bool, flags: RingFlags) -> Result<(), Errno> {
        run(&self.object, "produce", &[if discard { 3 } else { 2 }, flags.bits(), a, b, c])
    }

    fn query(&self, what: RingQuery) -> u64 {
        let what = match what {
            RingQuery::Available => 0,
            RingQuery::Size => 1,
            RingQuery::ConsumerPosition => 2,
            RingQuery::ProducerPosition => 3,
            RingQuery::OverwritePosition => 4,
            _ => panic!("what is that?"),
        };
        run(&self.object, "produce", &[4, what]).unwrap();
        self.object.global("answer").unwrap()
    }
}

/// `drain` of `user_ring.c`.
struct Drain(Mutex<Object>);

impl Drainer for Drain {
    fn drain(&self, most: usize, flags: RingFlags) -> Result<Vec<u64>, Errno> {
        let object = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        object.set_global("taken", &0u64).unwrap();
        run(&object, "drain", &[flags.bits(), most as u64])?;
        let words: skep::map::Array<u64> = object.map("words").unwrap().typed().unwrap();
        let taken: u64 = object.global("taken").unwrap();
        Ok((0..taken as u32).map(|slot| words.get(slot).unwrap().unwrap()).collect())
    }
}

impl Lab for Linux {
    fn kernel(&self) -> &Kernel {
        &self.kernel
    }

    fn ring(&self, size: u32, flags: MapFlags) -> Option<Rig> {
        if !self.has(Feature::MapType(MapType::RINGBUF), "ring buffers (Linux 5.8)") {
            return None;
        }
        let mut request = MapCreate::new(MapType::RINGBUF, 0, 0, size);
        request.flags = flags;
        if matches!(self.kernel.map_create(&request), Err(Errno::EINVAL)) {
            println!("skip: {}: the kernel has no ring buffers that overwrite (Linux 6.19)", self.test);
            return None;
        }
        let object = self.load("ring.o", |spec| {
            let ring = spec.map_mut("ring").unwrap();
            (ring.max_entries, ring.flags) = (size, flags);
        });
        let map = object.map("ring").unwrap().clone();
        let scratch = Mutex::new(object.map("scratch").unwrap().clone());
        Some(Rig { map, producer: Arc::new(Produce { object, scratch }) })
    }

    fn busy(&self) -> Option<(Map, Start)> {
        if !self.has(Feature::MapType(MapType::RINGBUF), "ring buffers (Linux 5.8)")
            || !self.has(Feature::Helper(skep::sys::abi::ProgType::XDP, 181), "bpf_loop (Linux 5.17)")
        {
            return None;
        }
        let object = self.load("ring_busy.o", |_| {});
        let map = object.map("ring").unwrap().clone();
        let positions = map.clone();
        let start = move || {
            let thread = std::thread::spawn(move || run(&object, "slow", &[]).unwrap());
            let page = positions.kernel().page_size() as usize;
            let memory = positions.as_map_fd().mmap(page as u64, page + 2 * 4096, false).unwrap();
            while memory.load_u64(0).unwrap() < 32 {}
            Box::new(move || thread.join().unwrap()) as Finish
        };
        Some((map, Box::new(start)))
    }

    fn user_ring(&self, size: u32) -> Option<UserRig> {
        if !self.has(Feature::MapType(MapType::USER_RINGBUF), "user ring buffers (Linux 6.1)") {
            return None;
        }
        let object = self.load("user_ring.o", |spec| spec.map_mut("samples").unwrap().max_entries = size);
        let map = object.map("samples").unwrap().clone();
        Some(UserRig { map, drainer: Arc::new(Drain(Mutex::new(object))) })
    }
}

fn in_lab(name: &str, body: ring_conformance::Body) {
    if let Some(lab) = lab(name) {
        body(&lab);
    }
}

ring_conformance::tests! { in_lab }

/// Who maps the part of a ring by hand that is the process's has it to itself, too.
#[test]
fn memory_mapped_by_hand_is_held() {
    let Some(lab) = lab("memory_mapped_by_hand_is_held") else { return };
    let (Some(rig), page) = (lab.ring(4096, MapFlags::empty()), lab.kernel.page_size() as usize) else {
        return;
    };
    let memory = rig.map.as_map_fd().mmap(0, page, true).unwrap();
    assert_eq!(rig.map.typed::<RingBuffer>().unwrap_err().errno(), Some(Errno::EBUSY));
    assert_eq!(rig.map.as_map_fd().mmap(0, page, true).unwrap_err().errno(), Some(Errno::EBUSY));
    drop(memory);
    assert!(rig.map.typed::<RingBuffer>().is_ok());
    let Some(rig) = lab.user_ring(4096) else { return };
    for writable in [false, true] {
        let memory = rig.map.as_map_fd().mmap(page as u64, page + 2 * 4096, writable).unwrap();
        assert_eq!(rig.map.typed::<UserRingBuffer>().unwrap_err().errno(), Some(Errno::EBUSY));
        drop(memory);
        assert!(rig.map.typed::<UserRingBuffer>().is_ok());
    }
}

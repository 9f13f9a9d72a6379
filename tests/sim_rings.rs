//! Ring buffers of a simulated kernel.

#![allow(missing_docs)]

mod ring_conformance;
mod support;

use std::sync::Arc;

use ring_conformance::{Drainer, Finish, Lab, Producer, Rig, Start, UserRig};
use skep::map::Map;
use skep::sim::{Features, RingQuery, SimKernel};
use skep::sys::Kernel;
use skep::sys::abi::{Errno, MapFlags, MapType, RingFlags};
use skep::sys::request::MapCreate;

struct Sim {
    sim: SimKernel,
    kernel: Kernel,
}

fn lab(_: &str) -> Option<Sim> {
    let features = Features::default() | Features::RING_OVERWRITE;
    let sim = SimKernel::builder().features(features).build().unwrap();
    Some(Sim { kernel: Kernel::new(sim.clone()), sim })
}

impl Sim {
    fn map(&self, map_type: MapType, size: u32, flags: MapFlags, name: &str) -> Map {
        let mut request = MapCreate::new(map_type, 0, 0, size);
        (request.flags, request.name) = (flags, name);
        Map::create(&self.kernel, &request).unwrap()
    }
}

struct End {
    sim: SimKernel,
    map: Map,
}

impl Producer for End {
    fn output(&self, record: &[u8], flags: RingFlags) -> Result<(), Errno> {
        self.sim.ring_output(self.map.as_map_fd(), record, flags)
    }

    fn reserve(&self, words: [u64; 3], discard: bool, flags: RingFlags) -> Result<(), Errno> {
        let record = self.sim.ring_reserve(self.map.as_map_fd(), 24)?;
        for (at, word) in words.into_iter().enumerate() {
            record.write(at * 8, &word.to_ne_bytes())?;
        }
        if discard { record.discard(flags) } else { record.submit(flags) }
    }

    fn query(&self, what: RingQuery) -> u64 {
        self.sim.ring_query(self.map.as_map_fd(), what).unwrap()
    }
}

impl Drainer for End {
    fn drain(&self, most: usize, flags: RingFlags) -> Result<Vec<u64>, Errno> {
        let mut words = Vec::new();
        self.sim.user_ring_drain_some(self.map.as_map_fd(), flags, |sample| {
            words.push(sample.first_chunk().map_or(u64::MAX, |word| u64::from_ne_bytes(*word)));
            words.len() < most
        })?;
        Ok(words)
    }
}

impl Lab for Sim {
    fn kernel(&self) -> &Kernel {
        &self.kernel
    }

    fn ring(&self, size: u32, flags: MapFlags) -> Option<Rig> {
        let map = self.map(MapType::RINGBUF, size, flags, "ring");
        Some(Rig { map: map.clone(), producer: Arc::new(End { sim: self.sim.clone(), map }) })
    }

    fn busy(&self) -> Option<(Map, Start)> {
        let map = self.map(MapType::RINGBUF, 4096, MapFlags::empty(), "ring");
        let end = End { sim: self.sim.clone(), map: map.clone() };
        let start = move || {
            let first = end.sim.ring_reserve(end.map.as_map_fd(), 8).unwrap();
            first.write(0, &1u64.to_ne_bytes()).unwrap();
            end.output(&2u64.to_ne_bytes(), RingFlags::empty()).unwrap();
            Box::new(move || first.submit(RingFlags::empty()).unwrap()) as Finish
        };
        Some((map, Box::new(start)))
    }

    fn user_ring(&self, size: u32) -> Option<UserRig> {
        let map = self.map(MapType::USER_RINGBUF, size, MapFlags::empty(), "samples");
        Some(UserRig { map: map.clone(), drainer: Arc::new(End { sim: self.sim.clone(), map }) })
    }
}

fn in_lab(name: &str, body: ring_conformance::Body) {
    if let Some(lab) = lab(name) {
        body(&lab);
    }
}

ring_conformance::tests! { in_lab }

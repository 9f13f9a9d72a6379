//! Maps behind their traits: in memory and on the simulated kernel, mocks, events, and errors that a mock can give.

#![allow(missing_docs)]

#[path = "trait_conformance/errors.rs"]
mod errors;
#[path = "trait_conformance/events.rs"]
mod events;
#[path = "trait_conformance/memory.rs"]
mod memory;
#[path = "trait_conformance/mocks.rs"]
mod mocks;
mod trait_conformance;

mod in_memory {
    use skep::map::memory;

    use crate::memory::MemoryMaps;
    use crate::trait_conformance;

    fn maps(_: &str) -> Option<MemoryMaps> {
        Some(MemoryMaps { cpus: 3 })
    }

    trait_conformance::tests! { maps }

    #[test]
    fn events() {
        let events = memory::Events::with_name("under_test", 4096).unwrap();
        let sender = events.sender();
        trait_conformance::sources::source(events, |event| sender.send(&event).unwrap());
    }
}

mod simulated {
    use std::os::fd::AsFd;

    use skep::Kernel;
    use skep::map::Map;
    use skep::map::traits::EventSource;
    use skep::perf::{PerfBuffer, PerfBufferOptions};
    use skep::ring::RingBuffer;
    use skep::sim::SimKernel;
    use skep::sys::abi::{MapType, RingFlags};
    use skep::sys::request::MapCreate;

    use crate::trait_conformance::{self, KernelMaps};

    fn maps(_: &str) -> Option<KernelMaps> {
        Some(KernelMaps(skep::sim::kernel()))
    }

    trait_conformance::tests! { maps }
    trait_conformance::tests! { objects of maps }

    #[test]
    fn ring_events() {
        let sim = SimKernel::new();
        let mut request = MapCreate::new(MapType::RINGBUF, 0, 0, 4096);
        request.name = "under_test";
        let map = Map::create(&Kernel::new(sim.clone()), &request).unwrap();
        let ring: RingBuffer = map.typed().unwrap();
        assert!(EventSource::readiness(&ring).is_some());
        trait_conformance::sources::source(ring, |event| {
            sim.ring_output(map.as_map_fd(), &event.to_ne_bytes(), RingFlags::empty()).unwrap();
        });
    }

    #[test]
    fn perf_events() {
        let sim = SimKernel::new();
        let mut request = MapCreate::new(MapType::PERF_EVENT_ARRAY, 4, 4, 2);
        request.name = "under_test";
        let map = Map::create(&Kernel::new(sim.clone()), &request).unwrap();
        let buffer = PerfBuffer::new(&map, PerfBufferOptions::new().pages(1)).unwrap();
        assert!(buffer.readiness().is_some());
        // The body sends two at a time, which come in order from one CPU.
        trait_conformance::sources::source(buffer, |event| {
            sim.perf_event_output(map.as_fd(), None, 1, &event.to_ne_bytes()).unwrap();
        });
    }

    #[test]
    fn ring_records() {
        let sim = SimKernel::new();
        let mut request = MapCreate::new(MapType::RINGBUF, 0, 0, 4096);
        request.name = "under_test";
        let map = Map::create(&Kernel::new(sim.clone()), &request).unwrap();
        let ring: RingBuffer = map.typed().unwrap();
        assert!(ring.readiness().is_some());
        trait_conformance::sources::source(ring, |event| {
            sim.ring_output(map.as_map_fd(), &event.to_ne_bytes(), RingFlags::empty()).unwrap();
        });
    }
}

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
    use crate::memory::MemoryMaps;
    use crate::trait_conformance;

    fn maps(_: &str) -> Option<MemoryMaps> {
        Some(MemoryMaps { cpus: 3 })
    }

    trait_conformance::tests! { maps }
}

mod simulated {
    use crate::trait_conformance::{self, KernelMaps};

    fn maps(_: &str) -> Option<KernelMaps> {
        Some(KernelMaps(skep::sim::kernel()))
    }

    trait_conformance::tests! { maps }
    trait_conformance::tests! { objects of maps }
}

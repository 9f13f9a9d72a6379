#![no_main]

use skep_fuzz::{heap, mutate_btf, properties};

libfuzzer_sys::fuzz_target!(
    // Reads the objects, which is no cost of an input.
    init: properties::relocate_target(&[]),
    |data: &[u8]| heap::bounded(data.len(), || properties::relocate_target(data))
);

libfuzzer_sys::fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    mutate_btf::kernel(data, size, max_size, seed)
});

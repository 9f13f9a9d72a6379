#![no_main]

use skep_fuzz::{heap, mutate, properties};

libfuzzer_sys::fuzz_target!(|data: &[u8]| heap::bounded(data.len(), || properties::spec(data)));

libfuzzer_sys::fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    mutate::object(data, size, max_size, seed)
});

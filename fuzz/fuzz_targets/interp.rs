#![no_main]

use skep_fuzz::{heap, properties};

libfuzzer_sys::fuzz_target!(|data: &[u8]| heap::bounded(data.len(), || properties::interp(data)));

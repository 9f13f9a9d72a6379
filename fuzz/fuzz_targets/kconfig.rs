#![no_main]

use skep_fuzz::{heap, properties};

libfuzzer_sys::fuzz_target!(
    // Reads what every input uses, which is no cost of one.
    init: properties::kconfig(b""),
    |data: &[u8]| heap::bounded(data.len(), || properties::kconfig(data))
);

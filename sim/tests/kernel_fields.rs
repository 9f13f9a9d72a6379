//! Special fields of values on the running kernel: `UPDATE_GOLDEN=1` records them.

#![cfg(target_os = "linux")]
#![allow(missing_docs, clippy::print_stdout)]

mod fields;

use std::path::Path;

use skep_btf::Kind;
use skep_sys::Kernel;
use skep_sys::abi::{Errno, MapType};
use skep_sys::request::MapCreate;

#[test]
fn special_fields() {
    let kernel = Kernel::linux();
    let skip = |reason: &str| println!("skip: special_fields: {reason}");
    match kernel.map_create(&MapCreate::new(MapType::HASH, 4, 4, 1)) {
        Err(Errno::EPERM) => {
            assert!(
                std::env::var_os("SKEP_REQUIRE_KERNEL").is_none_or(|v| v != "1"),
                "no right to create maps"
            );
            return skip("no right to create maps");
        }
        other => drop(other.unwrap()),
    }
    let Ok(btf) = kernel.btf() else { return skip("the kernel has no types") };
    if let Some(lacks) = fields::KNOWN.iter().find(|name| btf.find(name.as_bytes(), Kind::STRUCT).is_none()) {
        return skip(&format!("the kernel has no {lacks}"));
    }
    let found = fields::all(&kernel);
    if std::env::var_os("UPDATE_GOLDEN").is_some_and(|v| v == "1") {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/golden/fields_6.18.txt");
        std::fs::write(path, found.join("\n") + "\n").unwrap();
        return;
    }
    let golden = include_str!("../../testdata/golden/fields_6.18.txt");
    for (found, golden) in found.iter().zip(golden.lines()) {
        assert_eq!(found, golden, "other than on Linux 6.18");
    }
}

//! Special fields of values on the running kernel: `UPDATE_GOLDEN=1` records them.

#![cfg(target_os = "linux")]
#![allow(missing_docs)]

mod fields;
#[path = "../../tests/support/kernel.rs"]
mod support;

use std::path::Path;

use skep_btf::Kind;

#[test]
fn special_fields() {
    let Some(kernel) = support::linux("special_fields") else { return };
    let skip = |reason: &str| support::skip("special_fields", reason);
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

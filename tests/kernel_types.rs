//! The running kernel's own types: it takes them back, and reading them takes little memory.

#![cfg(target_os = "linux")]
#![allow(missing_docs, clippy::print_stdout)]

mod support;

use skep::Kernel;
use skep::asm::Endian;
use skep::btf::{Btf, BtfBuilder, Kind};

/// The running kernel and its types.
fn types(test: &str) -> Option<(Kernel, Btf)> {
    let kernel = support::linux(test)?;
    match kernel.btf() {
        Ok(btf) => Some((kernel, btf)),
        Err(error) => {
            support::skip(test, error);
            None
        }
    }
}

/// What is written again of them, the kernel takes.
#[test]
fn they_are_taken_back() {
    let Some((kernel, btf)) = types("they_are_taken_back") else { return };
    let written = BtfBuilder::from_btf(&btf).encode(Endian::NATIVE, false);
    let loaded = kernel.btf_load(&written, None).expect("they are its own");
    assert_eq!(loaded.bytes().expect("they can be read"), written);
}

/// Who reads them takes a small part of the memory that they have, and few pieces of it.
#[test]
fn reading_them_takes_little_memory() {
    let Some((_, btf)) = types("reading_them_takes_little_memory") else { return };
    let bytes = btf.bytes().clone();
    let mut parsed = None;
    let parse = allocation_counter::measure(|| parsed = Btf::parse(bytes.clone()).ok());
    let parsed = parsed.expect("they were read before");
    assert!(parse.bytes_max < 2 << 20, "{} bytes for {} types", parse.bytes_max, parsed.len());
    assert!(parse.count_total < 100, "{} allocations", parse.count_total);
    let names: [&[u8]; 4] = [b"task_struct", b"file", b"sk_buff", b"skep_no_such_type"];
    let find = allocation_counter::measure(|| {
        assert!(names.iter().filter(|name| parsed.find(name, Kind::STRUCT).is_some()).count() == 3);
    });
    assert!(find.bytes_max < 4 << 20, "{} bytes to find names", find.bytes_max);
    println!(
        "{} types: {} bytes to read them, {} to find some",
        parsed.len(),
        parse.bytes_max,
        find.bytes_max
    );
}

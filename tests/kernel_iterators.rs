//! Iterators on the running kernel.

#![cfg(target_os = "linux")]
#![allow(missing_docs, clippy::print_stdout)]

mod iter_conformance;

use skep::Kernel;

#[test]
fn iterators_go_through_tasks() {
    let rows = match iter_conformance::tasks(&Kernel::linux()) {
        Ok(rows) => rows,
        Err(error) => {
            assert!(
                std::env::var_os("SKEP_REQUIRE_KERNEL").is_none_or(|v| v != "1"),
                "skip: iterators: {error}"
            );
            println!("skip: iterators: {error}");
            return;
        }
    };
    let own = std::process::id();
    assert!(rows.iter().any(|(_, process, _)| *process == own), "{own} is among {rows:?}");
}

//! Iterators on the running kernel.

#![cfg(target_os = "linux")]
#![allow(missing_docs)]

mod iter_conformance;
mod support;

use skep::Kernel;

#[test]
fn iterators_go_through_tasks() {
    let rows = match iter_conformance::tasks(&Kernel::linux()) {
        Ok(rows) => rows,
        Err(error) => {
            support::denied("iterators_go_through_tasks", error);
            return;
        }
    };
    let own = std::process::id();
    assert!(rows.iter().any(|(_, process, _)| *process == own), "{own} is among {rows:?}");
}

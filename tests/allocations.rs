//! Looking up and writing elements allocates nothing, above a kernel that does nothing.

#![allow(missing_docs)]

mod allocation_conformance;
mod nothing;

#[test]
fn elements() {
    allocation_conformance::elements(&nothing::kernel());
}

#[test]
fn batches() {
    allocation_conformance::batches(&nothing::kernel());
}

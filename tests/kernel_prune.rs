//! Leaving out what makes no difference to programs makes none on the running kernel.

#![allow(clippy::print_stdout)] // a skipped test says so

mod prune_conformance;

use skep::Kernel;
use skep::sys::abi::MapType;
use skep::sys::request::MapCreate;

#[test]
fn programs_do_the_same() {
    let kernel = Kernel::linux();
    if let Err(errno) = kernel.map_create(&MapCreate::new(MapType::ARRAY, 4, 4, 1)) {
        println!("skip: programs_do_the_same: this process may not create a map: {errno}");
        assert!(std::env::var_os("SKEP_REQUIRE_KERNEL").is_none(), "programs_do_the_same was skipped");
        return;
    }
    let loaded = prune_conformance::programs_do_the_same(&kernel, true);
    assert!(loaded > 30, "only {loaded} programs loaded");
}

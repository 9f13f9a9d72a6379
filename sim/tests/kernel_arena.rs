//! Arenas of the running kernel.

#![cfg(target_os = "linux")]
#![allow(missing_docs, clippy::print_stdout)]

mod arenas;

use skep_sys::Kernel;

#[test]
fn programs_and_user_space_share_an_arena() {
    let kernel = Kernel::linux();
    let Err(reason) = arenas::check(&kernel).and_then(|()| arenas::pages::check(&kernel)) else { return };
    let denied = reason.contains("not permitted");
    assert!(
        !denied || std::env::var_os("SKEP_REQUIRE_KERNEL").is_none_or(|v| v != "1"),
        "skip: arena: {reason}"
    );
    println!("skip: arena: {reason}");
}

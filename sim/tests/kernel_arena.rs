//! Arenas of the running kernel.

#![cfg(target_os = "linux")]
#![allow(missing_docs)]

mod arenas;
#[path = "../../tests/support/kernel.rs"]
mod support;

#[test]
fn programs_and_user_space_share_an_arena() {
    let Some(kernel) = support::linux("arena") else { return };
    let Err(reason) = arenas::check(&kernel).and_then(|()| arenas::pages::check(&kernel)) else { return };
    support::skip("arena", reason);
}

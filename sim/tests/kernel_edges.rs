//! Every instruction with operands at the edges, on the running kernel.

#![cfg(target_os = "linux")]
#![allow(missing_docs, clippy::print_stdout)]

mod fuzzed;
mod instructions;
#[path = "../../tests/support/kernel.rs"]
mod support;

#[test]
fn edges() {
    let Some(kernel) = support::linux("instructions") else { return };
    let (count, lacking) = instructions::check(&kernel);
    println!("{count} cases hold");
    for name in lacking {
        println!("skip: instructions: {name}: this kernel has no such instruction");
    }
}

//! Part of skep.
fn main() {}

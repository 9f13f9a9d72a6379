//! What the comparisons share: numbers of a series of runs, and a meter for bpf(2).

pub mod heap;
pub mod meter;
pub mod numbers;

//! Random programs: made from a seed, run on two kernels, compared, and made small where they differ.

#![allow(dead_code, unused_imports, reason = "each test target uses a part")]

mod code;
mod make;
mod probe;
mod run;
mod shrink;

pub(crate) use code::Program;
pub(crate) use make::{Shape, make};
pub(crate) use probe::{MAY_GOTO, ORDERED, V2, V3, V4, has_loop, loads};
pub(crate) use run::{Outcome, Refused, run};
pub(crate) use shrink::shrink;

/// A generator of random numbers (SplitMix64), the same on every machine.
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        Random(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    /// A number below `end`.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    /// True once in `n` times.
    pub(crate) fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    pub(crate) fn of<T: Copy>(&mut self, these: &[T]) -> T {
        these[self.below(these.len())]
    }

    /// A number that is likely at an edge.
    pub(crate) fn edge(&mut self) -> u64 {
        let edges = [0, 1, 2, 7, 8, 31, 32, 33, 63, 64, 0x7f, 0x80, 0xff, 0x7fff, 0x8000, 0xffff];
        let wide = [0x7fff_ffff, 0x8000_0000, 0xffff_ffff, 1 << 32, i64::MAX as u64, 1 << 63, u64::MAX];
        match self.below(6) {
            0 | 1 => self.of(&edges),
            2 => self.of(&wide),
            3 => self.of(&edges).wrapping_neg(),
            4 => self.of(&wide).wrapping_add(self.of(&[1, u64::MAX])),
            _ => self.next() >> self.below(64),
        }
    }
}

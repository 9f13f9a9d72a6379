//! Random programs: made from a seed, run on two kernels, compared, and made small where they differ.

#![allow(dead_code, unused_imports, reason = "each test target uses a part")]

mod code;
mod make;
mod probe;
// The simulated kernel has the same.
#[path = "../../src/world/random.rs"]
mod random;
mod run;
mod shrink;

pub(crate) use code::Program;
pub(crate) use make::{Shape, make};
pub(crate) use probe::{MAY_GOTO, ORDERED, V2, V3, V4, has_loop, loads};
pub(crate) use random::Random;
pub(crate) use run::{Outcome, Refused, run};
pub(crate) use shrink::shrink;

impl Random {
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

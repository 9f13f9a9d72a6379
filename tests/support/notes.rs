//! What a small program notes, and a test reads.

use skep::Kernel;
use skep::asm::{Reg, Size};
use skep::map::Map;
use skep::program::ProgramBuilder;
use skep::sys::abi::{MapType, UpdateFlags};
use skep::sys::request::MapCreate;

/// How many numbers there is room for.
const ROOM: u32 = 64;

/// Numbers of 64 bits that a program notes one behind the other, as it is written.
#[derive(Clone)]
pub(crate) struct Notes {
    map: Map,
    noted: u32,
}

impl Notes {
    pub(crate) fn new(kernel: &Kernel) -> Notes {
        let map = Map::create(kernel, &MapCreate::new(MapType::ARRAY, 4, ROOM * 8, 1)).unwrap();
        Notes { map, noted: 0 }
    }

    /// Lets the program note a register other than `r1`, which is lost.
    pub(crate) fn reg(&mut self, builder: &mut ProgramBuilder, reg: Reg) {
        assert!(self.noted < ROOM);
        builder.load_map_value(Reg::R1, &self.map, self.noted * 8);
        builder.asm().stx(Size::DW, Reg::R1, 0, reg);
        self.noted += 1;
    }

    /// Lets it note what is in memory, by the register that points there; `r7` and `r1` are lost.
    pub(crate) fn field(&mut self, builder: &mut ProgramBuilder, size: Size, base: Reg, at: i16) {
        builder.asm().ldx(size, Reg::R7, base, at);
        self.reg(builder, Reg::R7);
    }

    /// Puts the address of the first number into a register, for a program that notes by itself.
    pub(crate) fn address(&self, builder: &mut ProgramBuilder, reg: Reg) {
        builder.load_map_value(reg, &self.map, 0);
    }

    /// The first ones that it noted.
    pub(crate) fn read<const N: usize>(&self) -> [u64; N] {
        let bytes = self.map.lookup(&0_u32.to_ne_bytes()).unwrap().unwrap();
        std::array::from_fn(|at| u64::from_ne_bytes(bytes[at * 8..at * 8 + 8].try_into().unwrap()))
    }

    /// Forgets what it noted.
    pub(crate) fn clear(&self) {
        let zeros = [0; ROOM as usize * 8];
        self.map.update(&0_u32.to_ne_bytes(), &zeros, UpdateFlags::empty()).unwrap();
    }
}

//! The numbers that make up an instruction's opcode byte.
//!
//! The low three bits are the class. In arithmetic and jump classes bit 3 says whether the operand is a register and
//! the high four bits are the operation; in load and store classes bits 3 and 4 are the size and the high three the
//! mode. RFC 9669 names the same parts.

/// Mask of the class.
pub const CLASS_MASK: u8 = 0x07;
/// Non-standard loads: 64-bit immediate and packet access (`BPF_LD`).
pub const CLASS_LD: u8 = 0x00;
/// Loads from memory to a register (`BPF_LDX`).
pub const CLASS_LDX: u8 = 0x01;
/// Stores of an immediate (`BPF_ST`).
pub const CLASS_ST: u8 = 0x02;
/// Stores of a register, and atomics (`BPF_STX`).
pub const CLASS_STX: u8 = 0x03;
/// 32-bit arithmetic (`BPF_ALU`).
pub const CLASS_ALU: u8 = 0x04;
/// 64-bit jumps, calls and exit (`BPF_JMP`).
pub const CLASS_JMP: u8 = 0x05;
/// 32-bit jumps (`BPF_JMP32`).
pub const CLASS_JMP32: u8 = 0x06;
/// 64-bit arithmetic (`BPF_ALU64`).
pub const CLASS_ALU64: u8 = 0x07;

/// Mask of the operand kind in arithmetic and jumps.
pub const SRC_MASK: u8 = 0x08;
/// The operand is the immediate (`BPF_K`).
pub const SRC_K: u8 = 0x00;
/// The operand is the source register (`BPF_X`).
pub const SRC_X: u8 = 0x08;

/// Mask of the operation in arithmetic and jumps.
pub const OP_MASK: u8 = 0xf0;

/// `dst += src` (`BPF_ADD`).
pub const ALU_ADD: u8 = 0x00;
/// `dst -= src` (`BPF_SUB`).
pub const ALU_SUB: u8 = 0x10;
/// `dst *= src` (`BPF_MUL`).
pub const ALU_MUL: u8 = 0x20;
/// `dst /= src`, signed when the offset is 1 (`BPF_DIV`).
pub const ALU_DIV: u8 = 0x30;
/// `dst |= src` (`BPF_OR`).
pub const ALU_OR: u8 = 0x40;
/// `dst &= src` (`BPF_AND`).
pub const ALU_AND: u8 = 0x50;
/// `dst <<= src` (`BPF_LSH`).
pub const ALU_LSH: u8 = 0x60;
/// `dst >>= src`, filling with zeros (`BPF_RSH`).
pub const ALU_RSH: u8 = 0x70;
/// `dst = -dst` (`BPF_NEG`).
pub const ALU_NEG: u8 = 0x80;
/// `dst %= src`, signed when the offset is 1 (`BPF_MOD`).
pub const ALU_MOD: u8 = 0x90;
/// `dst ^= src` (`BPF_XOR`).
pub const ALU_XOR: u8 = 0xa0;
/// `dst = src`; with a register, offset 8, 16 or 32 extends the sign from there and 1 casts an address space
/// (`BPF_MOV`).
pub const ALU_MOV: u8 = 0xb0;
/// `dst >>= src`, filling with the sign (`BPF_ARSH`).
pub const ALU_ARSH: u8 = 0xc0;
/// Byte swaps; the immediate is the width (`BPF_END`).
pub const ALU_END: u8 = 0xd0;

/// Jump always (`BPF_JA`); the class selects the 16-bit offset or the 32-bit immediate as the distance.
pub const JMP_JA: u8 = 0x00;
/// Jump if equal (`BPF_JEQ`).
pub const JMP_JEQ: u8 = 0x10;
/// Jump if greater, unsigned (`BPF_JGT`).
pub const JMP_JGT: u8 = 0x20;
/// Jump if greater or equal, unsigned (`BPF_JGE`).
pub const JMP_JGE: u8 = 0x30;
/// Jump if any bit of the operand is set (`BPF_JSET`).
pub const JMP_JSET: u8 = 0x40;
/// Jump if not equal (`BPF_JNE`).
pub const JMP_JNE: u8 = 0x50;
/// Jump if greater, signed (`BPF_JSGT`).
pub const JMP_JSGT: u8 = 0x60;
/// Jump if greater or equal, signed (`BPF_JSGE`).
pub const JMP_JSGE: u8 = 0x70;
/// Call (`BPF_CALL`).
pub const JMP_CALL: u8 = 0x80;
/// Return (`BPF_EXIT`).
pub const JMP_EXIT: u8 = 0x90;
/// Jump if less, unsigned (`BPF_JLT`).
pub const JMP_JLT: u8 = 0xa0;
/// Jump if less or equal, unsigned (`BPF_JLE`).
pub const JMP_JLE: u8 = 0xb0;
/// Jump if less, signed (`BPF_JSLT`).
pub const JMP_JSLT: u8 = 0xc0;
/// Jump if less or equal, signed (`BPF_JSLE`).
pub const JMP_JSLE: u8 = 0xd0;
/// Conditional jump on something other than registers (`BPF_JCOND`); source register 0 is `may_goto`.
pub const JMP_JCOND: u8 = 0xe0;

/// Mask of the size in loads and stores.
pub const SIZE_MASK: u8 = 0x18;
/// 4 bytes (`BPF_W`).
pub const SIZE_W: u8 = 0x00;
/// 2 bytes (`BPF_H`).
pub const SIZE_H: u8 = 0x08;
/// 1 byte (`BPF_B`).
pub const SIZE_B: u8 = 0x10;
/// 8 bytes (`BPF_DW`).
pub const SIZE_DW: u8 = 0x18;

/// Mask of the mode in loads and stores.
pub const MODE_MASK: u8 = 0xe0;
/// 64-bit immediate load (`BPF_IMM`).
pub const MODE_IMM: u8 = 0x00;
/// Packet load at a constant position (`BPF_ABS`).
pub const MODE_ABS: u8 = 0x20;
/// Packet load at a position in a register (`BPF_IND`).
pub const MODE_IND: u8 = 0x40;
/// Memory at register plus offset (`BPF_MEM`).
pub const MODE_MEM: u8 = 0x60;
/// Memory at register plus offset, extending the sign (`BPF_MEMSX`).
pub const MODE_MEMSX: u8 = 0x80;
/// Atomic operation; the immediate says which (`BPF_ATOMIC`).
pub const MODE_ATOMIC: u8 = 0xc0;

/// Flag in an atomic's immediate: the old value is put in the source register (`BPF_FETCH`).
pub const ATOMIC_FETCH: i32 = 0x01;
/// Atomic `*(dst + off) += src`.
pub const ATOMIC_ADD: i32 = 0x00;
/// Atomic `*(dst + off) |= src`.
pub const ATOMIC_OR: i32 = 0x40;
/// Atomic `*(dst + off) &= src`.
pub const ATOMIC_AND: i32 = 0x50;
/// Atomic `*(dst + off) ^= src`.
pub const ATOMIC_XOR: i32 = 0xa0;
/// Atomic exchange (`BPF_XCHG`), includes [`ATOMIC_FETCH`].
pub const ATOMIC_XCHG: i32 = 0xe1;
/// Atomic compare with `r0` and exchange (`BPF_CMPXCHG`), includes [`ATOMIC_FETCH`].
pub const ATOMIC_CMPXCHG: i32 = 0xf1;
/// Load with acquire ordering (`BPF_LOAD_ACQ`, Linux 6.15).
pub const ATOMIC_LOAD_ACQ: i32 = 0x100;
/// Store with release ordering (`BPF_STORE_REL`, Linux 6.15).
pub const ATOMIC_STORE_REL: i32 = 0x110;

/// 64-bit immediate load, the only instruction of two slots.
pub const LD_IMM64: u8 = CLASS_LD | MODE_IMM | SIZE_DW;
/// Direct call: helper, sub-program or kernel function.
pub const CALL: u8 = CLASS_JMP | JMP_CALL | SRC_K;
/// Call through a register. Compilers emit it, the kernel rejects it.
pub const CALLX: u8 = CLASS_JMP | JMP_CALL | SRC_X;
/// Return.
pub const EXIT: u8 = CLASS_JMP | JMP_EXIT | SRC_K;
/// Jump always, distance in the 16-bit offset.
pub const JA: u8 = CLASS_JMP | JMP_JA | SRC_K;
/// Jump always, distance in the 32-bit immediate (`gotol`, ISA v4).
pub const GOTOL: u8 = CLASS_JMP32 | JMP_JA | SRC_K;
/// Jump to the address in the destination register (`gotox`, Linux 6.19).
pub const GOTOX: u8 = CLASS_JMP | JMP_JA | SRC_X;
/// Jump that the kernel takes once the program has looped long enough (`may_goto`, Linux 6.9).
pub const MAY_GOTO: u8 = CLASS_JMP | JMP_JCOND | SRC_K;

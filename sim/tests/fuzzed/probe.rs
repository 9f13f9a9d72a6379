//! What a kernel's instruction set has.

use skep_asm::Insn;
use skep_sys::Kernel;
use skep_sys::abi::ProgType;
use skep_sys::request::ProgLoad;

const fn i(opcode: u8, dst: skep_asm::Reg, src: skep_asm::Reg, off: i16, imm: i32) -> Insn {
    Insn::new(opcode, dst, src, off, imm)
}

const R0: skep_asm::Reg = skep_asm::Reg::R0;
const R10: skep_asm::Reg = skep_asm::Reg::R10;

/// `if r0 < 5 goto +0`
pub(crate) const V2: &[Insn] = &[i(0xa5, R0, R0, 0, 5)];
/// `r0 = atomic_fetch_add((u64 *)(r10 - 8), r0)`, behind a jump of 32 bits.
pub(crate) const V3: &[Insn] = &[i(0x7a, R10, R0, -8, 0), i(0x16, R0, R0, 0, 5), i(0xdb, R10, R0, -8, 1)];
/// `r0 = (s8)r0`, then a long jump.
pub(crate) const V4: &[Insn] = &[i(0xbf, R0, R0, 8, 0), i(0x06, R0, R0, 0, 0)];
/// `store_release((u64 *)(r10 - 8), r0)`
pub(crate) const ORDERED: &[Insn] = &[i(0x7a, R10, R0, -8, 0), i(0xdb, R10, R0, -8, 0x110)];
/// `may_goto +0`
pub(crate) const MAY_GOTO: &[Insn] = &[i(0xe5, R0, R0, 0, 0)];

/// Whether a kernel loads instructions between `r0 = 0` and the end.
pub(crate) fn loads(kernel: &Kernel, body: &[Insn]) -> bool {
    let mut insns = vec![i(0xb7, R0, R0, 0, 0)];
    insns.extend(body);
    insns.extend([i(0xb7, R0, R0, 0, 0), i(0x95, R0, R0, 0, 0)]);
    kernel.prog_load(&ProgLoad::new(ProgType::RAW_TRACEPOINT, &insns, "GPL"), None).is_ok()
}

/// Whether a kernel has `bpf_loop`: it complains of its arguments.
pub(crate) fn has_loop(kernel: &Kernel) -> bool {
    let mut log = skep_sys::request::LogBuffer::new(1, 1 << 16);
    let insns = [i(0x85, R0, R0, 0, 181), i(0x95, R0, R0, 0, 0)];
    let _ = kernel.prog_load(&ProgLoad::new(ProgType::RAW_TRACEPOINT, &insns, "GPL"), Some(&mut log));
    !log.text().contains("unknown")
}

//! Instructions as the kernel writes them.

use crate::{Insn, opcode as op, pseudo};

/// What instructions refer to, for [`kernel_text`].
pub trait KernelNames {
    /// What stands behind `call` for a helper or kernel function, such as `bpf_map_lookup_elem#1`, and behind `call pc`
    /// for a sub-program.
    fn call(&self, insn: &Insn) -> Option<String> {
        let _ = insn;
        None
    }

    /// The value of a 64-bit load.
    fn imm64(&self, low: &Insn, high: &Insn) -> Option<String> {
        let _ = (low, high);
        None
    }
}

/// No names: everything is a number.
impl KernelNames for () {}

/// One instruction as the verifier's log and bpftool write it, such as `(85) call bpf_map_lookup_elem#1`. `next` is the
/// slot behind it, the other half of a 64-bit load.
///
/// ```
/// use skep_asm::{Insn, Reg, kernel_text};
///
/// assert_eq!(kernel_text(&Insn::new(0x61, Reg::R1, Reg::R1, 4, 0), None, &()), "(61) r1 = *(u32 *)(r1 +4)");
/// ```
pub fn kernel_text(insn: &Insn, next: Option<&Insn>, names: &impl KernelNames) -> String {
    let text = text(insn, next, names);
    if text.starts_with("BUG") { text } else { format!("({:02x}) {text}", insn.opcode) }
}

/// `BPF_ST | BPF_NOSPEC`, which only the kernel makes.
const NOSPEC: u8 = 0xc2;

fn text(insn: &Insn, next: Option<&Insn>, names: &impl KernelNames) -> String {
    match insn.class() {
        op::CLASS_ALU | op::CLASS_ALU64 => alu(insn),
        op::CLASS_JMP | op::CLASS_JMP32 => jump(insn, names),
        op::CLASS_LDX => {
            let sign = if insn.opcode & op::MODE_MASK == op::MODE_MEMSX { "s" } else { "u" };
            format!("r{} = {}", insn.dst_raw(), memory(sign, insn, insn.src_raw()))
        }
        // The barrier that the verifier puts in against speculation.
        op::CLASS_ST if insn.opcode == NOSPEC => "nospec".to_owned(),
        op::CLASS_ST => format!("{} = {}", memory("u", insn, insn.dst_raw()), insn.imm),
        op::CLASS_STX if insn.opcode & op::MODE_MASK == op::MODE_MEM => {
            format!("{} = r{}", memory("u", insn, insn.dst_raw()), insn.src_raw())
        }
        op::CLASS_STX => atomic(insn),
        _ => load(insn, next, names),
    }
}

fn size(insn: &Insn) -> u32 {
    match insn.opcode & op::SIZE_MASK {
        op::SIZE_W => 32,
        op::SIZE_H => 16,
        op::SIZE_B => 8,
        _ => 64,
    }
}

/// `*(u64 *)(r10 -8)`.
fn memory(sign: &str, insn: &Insn, base: u8) -> String {
    format!("*({sign}{} *)(r{base} {:+})", size(insn), insn.off)
}

fn load(insn: &Insn, next: Option<&Insn>, names: &impl KernelNames) -> String {
    match insn.opcode & op::MODE_MASK {
        op::MODE_ABS => format!("r0 = *(u{} *)skb[{}]", size(insn), insn.imm),
        op::MODE_IND => format!("r0 = *(u{} *)skb[r{} + {}]", size(insn), insn.src_raw(), insn.imm),
        op::MODE_IMM if insn.is_ld_imm64() => {
            let high = next.copied().unwrap_or_default();
            let value = names.imm64(insn, &high).unwrap_or_else(|| {
                // Addresses of maps are the kernel's own business.
                let is_map = matches!(insn.src_raw(), pseudo::MAP_FD | pseudo::MAP_VALUE);
                format!("{:#x}", if is_map { 0 } else { Insn::imm64(insn, &high) })
            });
            format!("r{} = {value}", insn.dst_raw())
        }
        _ => format!("BUG_{:02x}", insn.opcode),
    }
}

fn alu(insn: &Insn) -> String {
    let wide = insn.class() == op::CLASS_ALU64;
    let r = if wide { 'r' } else { 'w' };
    let (dst, src) = (insn.dst_raw(), insn.src_raw());
    let by_register = insn.opcode & op::SRC_MASK == op::SRC_X;
    let operation = insn.opcode & op::OP_MASK;
    let sign = if insn.off == 1 { "s" } else { "" };
    let operator = match operation {
        op::ALU_END => {
            let how = match (wide, by_register) {
                (true, _) => "bswap",
                (false, true) => "be",
                (false, false) => "le",
            };
            return format!("r{dst} = {how}{} r{dst}", insn.imm);
        }
        op::ALU_NEG => return format!("{r}{dst} = -{r}{dst}"),
        op::ALU_MOV if by_register && wide && insn.off == 1 => {
            let spaces = insn.imm.cast_unsigned();
            return format!("r{dst} = addr_space_cast(r{src}, {}, {})", spaces >> 16, spaces & 0xffff);
        }
        // What the verifier makes of the address of a value per CPU.
        op::ALU_MOV if by_register && wide && insn.off == -1 => {
            return format!("r{dst} = &(void __percpu *)(r{src})");
        }
        op::ALU_MOV if by_register && matches!(insn.off, 8 | 16 | 32) => {
            return format!("{r}{dst} = (s{}){r}{src}", insn.off);
        }
        op::ALU_ADD => "+=".to_owned(),
        op::ALU_SUB => "-=".to_owned(),
        op::ALU_MUL => "*=".to_owned(),
        op::ALU_DIV => format!("{sign}/="),
        op::ALU_OR => "|=".to_owned(),
        op::ALU_AND => "&=".to_owned(),
        op::ALU_LSH => "<<=".to_owned(),
        op::ALU_RSH => ">>=".to_owned(),
        op::ALU_MOD => format!("{sign}%="),
        op::ALU_XOR => "^=".to_owned(),
        op::ALU_MOV => "=".to_owned(),
        op::ALU_ARSH => "s>>=".to_owned(),
        _ => return format!("BUG_alu_{:02x}", insn.opcode),
    };
    if by_register {
        format!("{r}{dst} {operator} {r}{src}")
    } else {
        format!("{r}{dst} {operator} {}", insn.imm)
    }
}

fn jump(insn: &Insn, names: &impl KernelNames) -> String {
    let r = if insn.class() == op::CLASS_JMP { 'r' } else { 'w' };
    let operator = match insn.opcode & op::OP_MASK {
        op::JMP_CALL => {
            let named = names.call(insn);
            return match insn.src_raw() {
                pseudo::CALL => format!("call pc{}", named.unwrap_or_else(|| format!("{:+}", insn.imm))),
                pseudo::KFUNC_CALL => {
                    format!("call {}", named.unwrap_or_else(|| format!("kernel-function#{}", insn.imm)))
                }
                _ => format!("call {}", named.unwrap_or_else(|| format!("unknown#{}", insn.imm))),
            };
        }
        op::JMP_EXIT => return "exit".to_owned(),
        op::JMP_JA if insn.opcode == op::GOTOL => return format!("gotol pc{:+}", insn.imm),
        op::JMP_JA if insn.opcode & op::SRC_MASK == op::SRC_X => return format!("gotox r{}", insn.dst_raw()),
        op::JMP_JA => return format!("goto pc{:+}", insn.off),
        op::JMP_JCOND => return format!("may_goto pc{:+}", insn.off),
        op::JMP_JEQ => "==",
        op::JMP_JGT => ">",
        op::JMP_JGE => ">=",
        op::JMP_JSET => "&",
        op::JMP_JNE => "!=",
        op::JMP_JSGT => "s>",
        op::JMP_JSGE => "s>=",
        op::JMP_JLT => "<",
        op::JMP_JLE => "<=",
        op::JMP_JSLT => "s<",
        op::JMP_JSLE => "s<=",
        _ => return format!("BUG_{:02x}", insn.opcode),
    };
    let dst = insn.dst_raw();
    if insn.opcode & op::SRC_MASK == op::SRC_X {
        format!("if {r}{dst} {operator} {r}{} goto pc{:+}", insn.src_raw(), insn.off)
    } else {
        format!("if {r}{dst} {operator} {:#x} goto pc{:+}", insn.imm, insn.off)
    }
}

fn atomic(insn: &Insn) -> String {
    let (dst, src, bits, off) = (insn.dst_raw(), insn.src_raw(), size(insn), insn.off);
    let wide = if bits == 64 { "64" } else { "" };
    let (name, operator) = match insn.imm & !op::ATOMIC_FETCH {
        op::ATOMIC_ADD => ("add", "+="),
        op::ATOMIC_OR => ("or", "|="),
        op::ATOMIC_AND => ("and", "&="),
        op::ATOMIC_XOR => ("xor", "^="),
        _ => ("", ""),
    };
    match insn.imm {
        op::ATOMIC_LOAD_ACQ => format!("r{dst} = load_acquire((u{bits} *)(r{src} {off:+}))"),
        op::ATOMIC_STORE_REL => format!("store_release((u{bits} *)(r{dst} {off:+}), r{src})"),
        op::ATOMIC_XCHG => format!("r{src} = atomic{wide}_xchg((u{bits} *)(r{dst} {off:+}), r{src})"),
        op::ATOMIC_CMPXCHG => {
            format!("r0 = atomic{wide}_cmpxchg((u{bits} *)(r{dst} {off:+}), r0, r{src})")
        }
        _ if name.is_empty() => format!("BUG_{:02x}", insn.opcode),
        imm if imm & op::ATOMIC_FETCH != 0 => {
            format!("r{src} = atomic{wide}_fetch_{name}((u{bits} *)(r{dst} {off:+}), r{src})")
        }
        _ => format!("lock *(u{bits} *)(r{dst} {off:+}) {operator} r{src}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Reg;

    struct Names;

    impl KernelNames for Names {
        fn call(&self, insn: &Insn) -> Option<String> {
            (insn.src_raw() == 0 && insn.imm == 7).then(|| "bpf_get_prandom_u32#7".to_owned())
        }
    }

    /// What Linux 6.18 wrote of these instructions.
    #[test]
    fn as_the_kernel_writes_them() {
        let cases = [
            (0x7a, 10, 0, -8, 5, "(7a) *(u64 *)(r10 -8) = 5"),
            (0x63, 10, 1, -16, 0, "(63) *(u32 *)(r10 -16) = r1"),
            (0x61, 1, 1, 0, 0, "(61) r1 = *(u32 *)(r1 +0)"),
            (0x81, 2, 10, -8, 0, "(81) r2 = *(s32 *)(r10 -8)"),
            (0xb4, 3, 0, 0, 7, "(b4) w3 = 7"),
            (0xbc, 5, 4, 16, 0, "(bc) w5 = (s16)w4"),
            (0x37, 4, 0, 1, 3, "(37) r4 s/= 3"),
            (0x87, 4, 0, 0, 0, "(87) r4 = -r4"),
            (0xdc, 4, 0, 0, 16, "(dc) r4 = be16 r4"),
            (0xd7, 4, 0, 0, 64, "(d7) r4 = bswap64 r4"),
            (0xcc, 4, 3, 0, 0, "(cc) w4 s>>= w3"),
            (0xdb, 10, 3, -8, 0, "(db) lock *(u64 *)(r10 -8) += r3"),
            (0xc3, 10, 3, -8, 0x51, "(c3) r3 = atomic_fetch_and((u32 *)(r10 -8), r3)"),
            (0xdb, 10, 3, -8, 0xe1, "(db) r3 = atomic64_xchg((u64 *)(r10 -8), r3)"),
            (0xdb, 10, 3, -8, 0xf1, "(db) r0 = atomic64_cmpxchg((u64 *)(r10 -8), r0, r3)"),
            (0xd3, 2, 10, -8, 0x100, "(d3) r2 = load_acquire((u8 *)(r10 -8))"),
            (0xdb, 10, 3, -8, 0x110, "(db) store_release((u64 *)(r10 -8), r3)"),
            (0x45, 3, 0, 0, -1, "(45) if r3 & 0xffffffff goto pc+0"),
            (0x6e, 3, 4, -2, 0, "(6e) if w3 s> w4 goto pc-2"),
            (0x06, 0, 0, 0, 0, "(06) gotol pc+0"),
            (0xe5, 0, 0, 0, 0, "(e5) may_goto pc+0"),
            (0x85, 0, 0, 0, 7, "(85) call bpf_get_prandom_u32#7"),
            (0x85, 0, 0, 0, 195_896_080, "(85) call unknown#195896080"),
            (0x85, 0, 1, 0, 2, "(85) call pc+2"),
            (0x50, 0, 1, 0, 3, "(50) r0 = *(u8 *)skb[r1 + 3]"),
            (0x95, 0, 0, 0, 0, "(95) exit"),
        ];
        for (opcode, dst, src, off, imm, expected) in cases {
            let (dst, src) = (Reg::new(dst).unwrap(), Reg::new(src).unwrap());
            assert_eq!(kernel_text(&Insn::new(opcode, dst, src, off, imm), None, &Names), expected);
        }
        let low = Insn::new(op::LD_IMM64, Reg::R1, Reg::R0, 0, 5);
        let high = Insn::new(0, Reg::R0, Reg::R0, 0, 6);
        assert_eq!(kernel_text(&low, Some(&high), &()), "(18) r1 = 0x600000005");
    }
}

//! Building programs.

use std::collections::BTreeMap;

use crate::{
    AluOp, AsmError, AtomicOp, Cond, DecodeError, Endian, Imm64, Insn, Op, Operand, Reg, Size, SwapWidth,
    Width,
};

#[cfg(test)]
mod tests;

/// Writes a program instruction by instruction, with labels for what jumps and calls refer to.
///
/// Every method but [`finish`](Assembler::finish) appends one instruction and gives the assembler back, so that calls
/// can be chained. A label may be used before it is placed; jumps to it are resolved and checked by `finish`. Method
/// names end in the kind of their last operand, and 32 or 64 in them is the width of the operation.
///
/// ```
/// use skep_asm::{Assembler, Cond, Reg, disassemble};
///
/// // r0 = the sum of the numbers from 1 to 10
/// let insns = Assembler::new()
///     .mov64_imm(Reg::R0, 0)
///     .mov64_imm(Reg::R1, 10)
///     .label("next")
///     .add64_reg(Reg::R0, Reg::R1)
///     .sub64_imm(Reg::R1, 1)
///     .jmp64_imm(Cond::Ne, Reg::R1, 0, "next")
///     .exit()
///     .finish()?;
///
/// assert_eq!(insns.len(), 6);
/// assert_eq!(disassemble(&insns[4..]).next().unwrap().to_string(), "if r1 != 0x0 goto -0x3");
/// # Ok::<(), skep_asm::AsmError>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Assembler {
    insns: Vec<Insn>,
    labels: BTreeMap<String, usize>,
    uses: Vec<Use>,
    error: Option<AsmError>,
}

/// A place where the distance to a label is to be written.
#[derive(Clone, Debug)]
struct Use {
    index: usize,
    label: String,
    field: Distance,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Distance {
    /// In the 16-bit offset.
    Off,
    /// In the 32-bit immediate.
    Imm,
}

/// Two methods, for an immediate and for a register, of an operation in both widths.
macro_rules! alu {
    ($($op:ident $text:literal: $i64:ident $r64:ident $i32:ident $r32:ident;)*) => {$(
        #[doc = concat!("`dst ", $text, " imm`.")]
        pub fn $i64(&mut self, dst: Reg, imm: i32) -> &mut Self {
            self.alu(Width::W64, AluOp::$op, dst, imm)
        }

        #[doc = concat!("`dst ", $text, " src`.")]
        pub fn $r64(&mut self, dst: Reg, src: Reg) -> &mut Self {
            self.alu(Width::W64, AluOp::$op, dst, src)
        }

        #[doc = concat!("`dst ", $text, " imm` in the lower half; the upper one becomes zero.")]
        pub fn $i32(&mut self, dst: Reg, imm: i32) -> &mut Self {
            self.alu(Width::W32, AluOp::$op, dst, imm)
        }

        #[doc = concat!("`dst ", $text, " src` in the lower half; the upper one becomes zero.")]
        pub fn $r32(&mut self, dst: Reg, src: Reg) -> &mut Self {
            self.alu(Width::W32, AluOp::$op, dst, src)
        }
    )*};
}

impl Assembler {
    /// An empty program.
    pub fn new() -> Assembler {
        Assembler::default()
    }

    /// The slot that the next instruction will take.
    pub fn here(&self) -> usize {
        self.insns.len()
    }

    /// Places a label at the next instruction.
    pub fn label(&mut self, label: impl Into<String>) -> &mut Self {
        let (label, second) = (label.into(), self.here());
        if let Some(&first) = self.labels.get(&label) {
            self.fail(AsmError::DuplicateLabel { label, first, second });
        } else {
            self.labels.insert(label, second);
        }
        self
    }

    /// Appends any operation, with the distance that it has in it.
    pub fn op(&mut self, op: Op) -> &mut Self {
        let slots = op.encode();
        if let Err(error) = Op::decode(&slots, 0) {
            self.fail(AsmError::Invalid(at(error, self.here())));
        }
        self.insns.extend_from_slice(&slots);
        self
    }

    /// Appends slots as they are, unchecked.
    pub fn insns(&mut self, insns: &[Insn]) -> &mut Self {
        self.insns.extend_from_slice(insns);
        self
    }

    /// Resolves all labels and gives the program.
    ///
    /// # Errors
    /// The first thing that was wrong in what was appended, otherwise the first use of a label that is not placed or
    /// is too far away.
    pub fn finish(&self) -> Result<Vec<Insn>, AsmError> {
        if let Some(error) = &self.error {
            return Err(error.clone());
        }
        let mut insns = self.insns.clone();
        for Use { index, label, field } in &self.uses {
            let Some(&target) = self.labels.get(label) else {
                return Err(AsmError::UndefinedLabel { index: *index, label: label.clone() });
            };
            // slots in memory: both fit in i64
            let distance = target as i64 - *index as i64 - 1;
            let out_of_range =
                |bits| AsmError::OutOfRange { index: *index, label: label.clone(), distance, bits };
            let Some(insn) = insns.get_mut(*index) else { continue };
            match field {
                Distance::Off => insn.off = distance.try_into().map_err(|_| out_of_range(16))?,
                Distance::Imm => insn.imm = distance.try_into().map_err(|_| out_of_range(32))?,
            }
        }
        Ok(insns)
    }

    fn fail(&mut self, error: AsmError) {
        self.error.get_or_insert(error);
    }

    fn refer(&mut self, op: Op, field: Distance, label: impl Into<String>) -> &mut Self {
        self.uses.push(Use { index: self.here(), label: label.into(), field });
        self.op(op)
    }

    alu! {
        Add "+=": add64_imm add64_reg add32_imm add32_reg;
        Sub "-=": sub64_imm sub64_reg sub32_imm sub32_reg;
        Mul "*=": mul64_imm mul64_reg mul32_imm mul32_reg;
        Div "/=": div64_imm div64_reg div32_imm div32_reg;
        Sdiv "s/=": sdiv64_imm sdiv64_reg sdiv32_imm sdiv32_reg;
        Mod "%=": mod64_imm mod64_reg mod32_imm mod32_reg;
        Smod "s%=": smod64_imm smod64_reg smod32_imm smod32_reg;
        Or "|=": or64_imm or64_reg or32_imm or32_reg;
        And "&=": and64_imm and64_reg and32_imm and32_reg;
        Xor "^=": xor64_imm xor64_reg xor32_imm xor32_reg;
        Lsh "<<=": lsh64_imm lsh64_reg lsh32_imm lsh32_reg;
        Rsh ">>=": rsh64_imm rsh64_reg rsh32_imm rsh32_reg;
        Arsh "s>>=": arsh64_imm arsh64_reg arsh32_imm arsh32_reg;
    }

    /// `dst op src` for any operation, width and operand.
    pub fn alu(&mut self, width: Width, op: AluOp, dst: Reg, src: impl Into<Operand>) -> &mut Self {
        self.op(Op::Alu { width, op, dst, src: src.into() })
    }

    /// `dst = imm`, extended by its sign.
    pub fn mov64_imm(&mut self, dst: Reg, imm: i32) -> &mut Self {
        self.op(Op::Mov { width: Width::W64, dst, src: imm.into() })
    }

    /// `dst = src`.
    pub fn mov64_reg(&mut self, dst: Reg, src: Reg) -> &mut Self {
        self.op(Op::Mov { width: Width::W64, dst, src: src.into() })
    }

    /// `dst = imm` in the lower half; the upper one becomes zero.
    pub fn mov32_imm(&mut self, dst: Reg, imm: i32) -> &mut Self {
        self.op(Op::Mov { width: Width::W32, dst, src: imm.into() })
    }

    /// `dst = src` in the lower half; the upper one becomes zero.
    pub fn mov32_reg(&mut self, dst: Reg, src: Reg) -> &mut Self {
        self.op(Op::Mov { width: Width::W32, dst, src: src.into() })
    }

    /// `dst = (s8|s16|s32)src`.
    pub fn movsx64(&mut self, from: Size, dst: Reg, src: Reg) -> &mut Self {
        self.op(Op::MovSx { width: Width::W64, from, dst, src })
    }

    /// `dst = (s8|s16)src` in the lower half; the upper one becomes zero.
    pub fn movsx32(&mut self, from: Size, dst: Reg, src: Reg) -> &mut Self {
        self.op(Op::MovSx { width: Width::W32, from, dst, src })
    }

    /// `dst = -dst`.
    pub fn neg64(&mut self, dst: Reg) -> &mut Self {
        self.op(Op::Neg { width: Width::W64, dst })
    }

    /// `dst = -dst` in the lower half; the upper one becomes zero.
    pub fn neg32(&mut self, dst: Reg) -> &mut Self {
        self.op(Op::Neg { width: Width::W32, dst })
    }

    /// `dst = le16|le32|le64 dst`.
    pub fn to_le(&mut self, bits: SwapWidth, dst: Reg) -> &mut Self {
        self.op(Op::ToEndian { order: Endian::Little, bits, dst })
    }

    /// `dst = be16|be32|be64 dst`.
    pub fn to_be(&mut self, bits: SwapWidth, dst: Reg) -> &mut Self {
        self.op(Op::ToEndian { order: Endian::Big, bits, dst })
    }

    /// `dst = bswap16|bswap32|bswap64 dst`.
    pub fn bswap(&mut self, bits: SwapWidth, dst: Reg) -> &mut Self {
        self.op(Op::Bswap { bits, dst })
    }

    /// `dst = addr_space_cast(src, to, from)`.
    pub fn addr_space_cast(&mut self, dst: Reg, src: Reg, to: u16, from: u16) -> &mut Self {
        self.op(Op::AddrSpaceCast { dst, src, to, from })
    }

    /// `dst = value ll`.
    pub fn ld_imm64(&mut self, dst: Reg, value: u64) -> &mut Self {
        self.op(Op::LdImm64 { dst, imm: Imm64::Value(value) })
    }

    /// `dst = ` the map with this file descriptor.
    pub fn ld_map_fd(&mut self, dst: Reg, fd: i32) -> &mut Self {
        self.op(Op::LdImm64 { dst, imm: Imm64::MapFd(fd) })
    }

    /// `dst = ` the address `off` bytes into the first value of the map with this file descriptor.
    pub fn ld_map_value(&mut self, dst: Reg, fd: i32, off: i32) -> &mut Self {
        self.op(Op::LdImm64 { dst, imm: Imm64::MapValue { fd, off } })
    }

    /// `dst = ` the map at this index of the program's `fd_array`.
    pub fn ld_map_idx(&mut self, dst: Reg, index: i32) -> &mut Self {
        self.op(Op::LdImm64 { dst, imm: Imm64::MapIdx(index) })
    }

    /// `dst = ` the address `off` bytes into the first value of the map at this index of the program's `fd_array`.
    pub fn ld_map_idx_value(&mut self, dst: Reg, index: i32, off: i32) -> &mut Self {
        self.op(Op::LdImm64 { dst, imm: Imm64::MapIdxValue { index, off } })
    }

    /// `dst = ` the address of the kernel variable with this BTF id; `btf_fd` is its module's BTF or 0.
    pub fn ld_btf_id(&mut self, dst: Reg, btf_id: i32, btf_fd: i32) -> &mut Self {
        self.op(Op::LdImm64 { dst, imm: Imm64::BtfId { btf_id, btf_fd } })
    }

    /// `dst = ` the address of the sub-program at `label`.
    pub fn ld_func(&mut self, dst: Reg, label: impl Into<String>) -> &mut Self {
        self.refer(Op::LdImm64 { dst, imm: Imm64::Func { distance: 0 } }, Distance::Imm, label)
    }

    /// `r0 = *(size *)skb[off]`, of classic BPF.
    pub fn ld_abs(&mut self, size: Size, off: i32) -> &mut Self {
        self.op(Op::LoadAbs { size, off })
    }

    /// `r0 = *(size *)skb[index + off]`, of classic BPF.
    pub fn ld_ind(&mut self, size: Size, index: Reg, off: i32) -> &mut Self {
        self.op(Op::LoadInd { size, index, off })
    }

    /// `dst = *(size *)(base + off)`, filling with zeros.
    pub fn ldx(&mut self, size: Size, dst: Reg, base: Reg, off: i16) -> &mut Self {
        self.op(Op::Load { size, dst, base, off })
    }

    /// `dst = *(signed size *)(base + off)`, extending the sign.
    pub fn ldsx(&mut self, size: Size, dst: Reg, base: Reg, off: i16) -> &mut Self {
        self.op(Op::LoadSx { size, dst, base, off })
    }

    /// `*(size *)(base + off) = src`.
    pub fn stx(&mut self, size: Size, base: Reg, off: i16, src: Reg) -> &mut Self {
        self.op(Op::Store { size, base, off, src: src.into() })
    }

    /// `*(size *)(base + off) = imm`.
    pub fn st(&mut self, size: Size, base: Reg, off: i16, imm: i32) -> &mut Self {
        self.op(Op::Store { size, base, off, src: imm.into() })
    }

    /// An atomic read-modify-write of `*(size *)(base + off)`.
    pub fn atomic(&mut self, op: AtomicOp, size: Size, base: Reg, off: i16, src: Reg) -> &mut Self {
        self.op(Op::Atomic { op, size, base, off, src })
    }

    /// `dst = load_acquire((size *)(base + off))`.
    pub fn load_acquire(&mut self, size: Size, dst: Reg, base: Reg, off: i16) -> &mut Self {
        self.op(Op::LoadAcquire { size, dst, base, off })
    }

    /// `store_release((size *)(base + off), src)`.
    pub fn store_release(&mut self, size: Size, base: Reg, off: i16, src: Reg) -> &mut Self {
        self.op(Op::StoreRelease { size, base, off, src })
    }

    /// `goto label`, at most 32767 slots away.
    pub fn ja(&mut self, label: impl Into<String>) -> &mut Self {
        self.refer(Op::Jump { off: 0 }, Distance::Off, label)
    }

    /// `gotol label`, however far.
    pub fn gotol(&mut self, label: impl Into<String>) -> &mut Self {
        self.refer(Op::JumpLong { distance: 0 }, Distance::Imm, label)
    }

    /// `gotox target`.
    pub fn gotox(&mut self, target: Reg) -> &mut Self {
        self.op(Op::JumpReg { target })
    }

    /// `may_goto label`.
    pub fn may_goto(&mut self, label: impl Into<String>) -> &mut Self {
        self.refer(Op::MayGoto { off: 0 }, Distance::Off, label)
    }

    /// `if dst cond imm goto label`, comparing whole registers.
    pub fn jmp64_imm(&mut self, cond: Cond, dst: Reg, imm: i32, label: impl Into<String>) -> &mut Self {
        self.jmp(Width::W64, cond, dst, imm, label)
    }

    /// `if dst cond src goto label`, comparing whole registers.
    pub fn jmp64_reg(&mut self, cond: Cond, dst: Reg, src: Reg, label: impl Into<String>) -> &mut Self {
        self.jmp(Width::W64, cond, dst, src, label)
    }

    /// `if dst cond imm goto label`, comparing lower halves.
    pub fn jmp32_imm(&mut self, cond: Cond, dst: Reg, imm: i32, label: impl Into<String>) -> &mut Self {
        self.jmp(Width::W32, cond, dst, imm, label)
    }

    /// `if dst cond src goto label`, comparing lower halves.
    pub fn jmp32_reg(&mut self, cond: Cond, dst: Reg, src: Reg, label: impl Into<String>) -> &mut Self {
        self.jmp(Width::W32, cond, dst, src, label)
    }

    /// `if dst cond src goto label` for any width and operand.
    pub fn jmp(
        &mut self,
        width: Width,
        cond: Cond,
        dst: Reg,
        src: impl Into<Operand>,
        label: impl Into<String>,
    ) -> &mut Self {
        self.refer(Op::JumpIf { width, cond, dst, src: src.into(), off: 0 }, Distance::Off, label)
    }

    /// Calls the helper with this number (`BPF_FUNC_*`).
    pub fn call_helper(&mut self, id: i32) -> &mut Self {
        self.op(Op::CallHelper { id })
    }

    /// Calls the sub-program at `label`.
    pub fn call(&mut self, label: impl Into<String>) -> &mut Self {
        self.refer(Op::CallFunc { distance: 0 }, Distance::Imm, label)
    }

    /// Calls the kernel function with this BTF id; `fd_index` is the place of its module's BTF in the program's
    /// `fd_array`, 0 for vmlinux.
    pub fn call_kfunc(&mut self, btf_id: i32, fd_index: i16) -> &mut Self {
        self.op(Op::CallKfunc { btf_id, fd_index })
    }

    /// `callx target`.
    pub fn callx(&mut self, target: Reg) -> &mut Self {
        self.op(Op::CallReg { target })
    }

    /// `exit`.
    pub fn exit(&mut self) -> &mut Self {
        self.op(Op::Exit)
    }
}

/// The same error for an instruction that stands `by` slots further on.
fn at(error: DecodeError, by: usize) -> DecodeError {
    let mut error = error;
    match &mut error {
        DecodeError::Length { .. } | DecodeError::End { .. } => {}
        DecodeError::Truncated { index }
        | DecodeError::Opcode { index, .. }
        | DecodeError::Reserved { index, .. }
        | DecodeError::Variant { index, .. }
        | DecodeError::Register { index, .. } => *index = index.saturating_add(by),
    }
    error
}

//! Instructions: bytes and slots and operations are the same thing.

use std::fmt::Write;

use skep::asm::{DecodeError, Endian, Insn, Op, decode, disassemble, encode};

/// Decoding and encoding lose nothing, in either byte order, and every slot is printed once.
pub fn insn_decode(data: &[u8]) {
    let whole = data.len() - data.len() % Insn::SIZE;
    for endian in [Endian::Little, Endian::Big] {
        if whole != data.len() {
            assert!(decode(data, endian).is_err());
        }
        let bytes = &data[..whole];
        let insns = decode(bytes, endian).expect("whole slots");
        assert_eq!(encode(&insns, endian), bytes);
        let other = if endian.is_little() { Endian::Big } else { Endian::Little };
        assert_eq!(decode(&encode(&insns, other), other).as_ref(), Ok(&insns));
        operations(&insns);
        lines(&insns);
    }
}

fn operations(insns: &[Insn]) {
    for (index, insn) in insns.iter().enumerate() {
        let _ = (insn.jump_target(index), insn.func_target(index));
        match Op::decode(insns, index) {
            Ok((op, slots)) => {
                assert_eq!(slots, op.slots());
                assert_eq!(*op.encode(), insns[index..index + slots], "{op:?}");
                assert_eq!(Op::try_from(*insn).is_ok(), slots == 1);
            }
            Err(error) => assert!(error != DecodeError::Length { len: 0 }),
        }
    }
    assert!(Op::decode(insns, insns.len()).is_err());
    assert!(Op::decode(insns, usize::MAX).is_err());
}

fn lines(insns: &[Insn]) {
    let mut text = String::new();
    let mut next = 0;
    for line in disassemble(insns) {
        assert_eq!(line.index, next);
        next += line.slots;
        text.clear();
        write!(text, "{line}").expect("a string");
        assert!(!text.is_empty() && !text.contains('\n'));
    }
    assert_eq!(next, insns.len());
}

//! The cases, family by family.

use skep_asm::opcode as op;

use super::{Case, Insn, Needs, i};

const IMMEDIATES: &[i32] =
    &[0, 1, 2, 7, 31, 32, 63, 0x7f, -0x80, 0xff, 0x7fff, -0x8000, 0x1234_5678, i32::MAX, i32::MIN, -2, -1];
/// Where the cases keep what they need in memory.
const SLOT: i16 = -8;

pub(super) fn all() -> Vec<Case> {
    let mut cases = Vec::new();
    arithmetic(&mut cases);
    moves(&mut cases);
    swaps(&mut cases);
    jumps(&mut cases);
    memory(&mut cases);
    atomics(&mut cases);
    ordered(&mut cases);
    cases
}

fn case(
    name: impl Into<String>,
    needs: Needs,
    code: Vec<Insn>,
    expected: impl Fn(u64, u64) -> u64 + 'static,
) -> Case {
    Case { name: name.into(), needs, code, expected: Box::new(expected) }
}

/// A number of `bits` bits as one with a sign.
fn signed(value: u64, bits: u32) -> i128 {
    let value = i128::from(value) % (1 << bits);
    if value >> (bits - 1) == 1 { value - (1 << bits) } else { value }
}

/// A number with a sign in so many bits.
fn unsigned(value: i128, bits: u32) -> u64 {
    (value & ((1 << bits) - 1)) as u64
}

/// An operation on numbers of `bits` bits.
fn compute(operation: u8, off: i16, a: u64, b: u64, bits: u32) -> u64 {
    let (sa, sb) = (signed(a, bits), signed(b, bits));
    let (a, b) = (unsigned(i128::from(a), bits), unsigned(i128::from(b), bits));
    let (ua, ub) = (i128::from(a), i128::from(b));
    let shift = ub & i128::from(bits - 1);
    let result = match (operation, off) {
        (op::ALU_ADD, _) => ua + ub,
        (op::ALU_SUB, _) => ua - ub,
        (op::ALU_MUL, _) => sa * sb,
        (op::ALU_OR, _) => ua | ub,
        (op::ALU_AND, _) => ua & ub,
        (op::ALU_XOR, _) => ua ^ ub,
        (op::ALU_LSH, _) => ua << shift,
        (op::ALU_RSH, _) => ua >> shift,
        (op::ALU_ARSH, _) => sa >> shift,
        (op::ALU_DIV, _) if b == 0 => 0,
        (op::ALU_MOD, _) if b == 0 => ua,
        (op::ALU_DIV, 0) => ua / ub,
        (op::ALU_MOD, 0) => ua % ub,
        (op::ALU_DIV, _) => sa / sb,
        (op::ALU_MOD, _) => sa % sb,
        (op::ALU_MOV, _) => ub,
        other => panic!("{other:?}"),
    };
    unsigned(result, bits)
}

const WIDTHS: [(u8, u32); 2] = [(op::CLASS_ALU64, 64), (op::CLASS_ALU, 32)];

fn arithmetic(cases: &mut Vec<Case>) {
    let operations: &[(&str, u8, i16)] = &[
        ("+=", op::ALU_ADD, 0),
        ("-=", op::ALU_SUB, 0),
        ("*=", op::ALU_MUL, 0),
        ("/=", op::ALU_DIV, 0),
        ("|=", op::ALU_OR, 0),
        ("&=", op::ALU_AND, 0),
        ("<<=", op::ALU_LSH, 0),
        (">>=", op::ALU_RSH, 0),
        ("%=", op::ALU_MOD, 0),
        ("^=", op::ALU_XOR, 0),
        ("s>>=", op::ALU_ARSH, 0),
        ("s/=", op::ALU_DIV, 1),
        ("s%=", op::ALU_MOD, 1),
    ];
    for &(symbol, operation, off) in operations {
        let needs = if off == 0 { Needs::V1 } else { Needs::V4 };
        for (class, bits) in WIDTHS {
            let code = vec![i(0xbf, 0, 6, 0, 0), i(class | operation | op::SRC_X, 0, 7, off, 0)];
            cases.push(case(format!("{bits}: x {symbol} y"), needs, code, move |x, y| {
                compute(operation, off, x, y, bits)
            }));
            // The same register on both sides.
            let code = vec![i(0xbf, 0, 6, 0, 0), i(class | operation | op::SRC_X, 0, 0, off, 0)];
            cases.push(case(format!("{bits}: x {symbol} x"), needs, code, move |x, _| {
                compute(operation, off, x, x, bits)
            }));
            for &imm in IMMEDIATES {
                let shifts = matches!(operation, op::ALU_LSH | op::ALU_RSH | op::ALU_ARSH);
                let divides = matches!(operation, op::ALU_DIV | op::ALU_MOD);
                if shifts && !(0..bits as i32).contains(&imm) || divides && imm == 0 {
                    continue; // which no kernel takes
                }
                let code = vec![i(0xbf, 0, 6, 0, 0), i(class | operation, 0, 0, off, imm)];
                cases.push(case(format!("{bits}: x {symbol} {imm}"), needs, code, move |x, _| {
                    compute(operation, off, x, i64::from(imm) as u64, bits)
                }));
            }
        }
    }
    for (class, bits) in WIDTHS {
        let code = vec![i(0xbf, 0, 6, 0, 0), i(class | op::ALU_NEG, 0, 0, 0, 0)];
        cases
            .push(case(format!("{bits}: -x"), Needs::V1, code, move |x, _| unsigned(-signed(x, bits), bits)));
    }
}

fn moves(cases: &mut Vec<Case>) {
    for (class, bits) in WIDTHS {
        let code = vec![i(0xbf, 0, 7, 0, 0), i(class | op::ALU_MOV | op::SRC_X, 0, 6, 0, 0)];
        cases
            .push(case(format!("{bits}: mov x"), Needs::V1, code, move |x, _| unsigned(i128::from(x), bits)));
        for &imm in IMMEDIATES {
            let code = vec![i(0xbf, 0, 7, 0, 0), i(class | op::ALU_MOV, 0, 0, 0, imm)];
            cases.push(case(format!("{bits}: mov {imm}"), Needs::V1, code, move |_, _| {
                unsigned(i128::from(imm), bits)
            }));
        }
        for from in [8, 16, 32].into_iter().filter(|from| *from < bits) {
            let code = vec![i(0xbf, 0, 7, 0, 0), i(class | op::ALU_MOV | op::SRC_X, 0, 6, from as i16, 0)];
            cases.push(case(format!("{bits}: mov (s{from})x"), Needs::V4, code, move |x, _| {
                unsigned(signed(x, from), bits)
            }));
        }
    }
    let code = vec![i(op::LD_IMM64, 0, 0, 0, -2), i(0, 0, 0, 0, 0x1234_5678)];
    cases.push(case("ld_imm64", Needs::V1, code, |_, _| 0x1234_5678_ffff_fffe));
}

fn swaps(cases: &mut Vec<Case>) {
    let swapped = |value: u64, bits: u32| {
        let bytes = value.to_le_bytes();
        bytes[..bits as usize / 8].iter().fold(0, |value, byte| value << 8 | u64::from(*byte))
    };
    for bits in [16, 32, 64] {
        for (name, opcode, needs, swaps) in [
            ("le", 0xd4, Needs::V1, cfg!(target_endian = "big")),
            ("be", 0xdc, Needs::V1, cfg!(target_endian = "little")),
            ("bswap", 0xd7, Needs::V4, true),
        ] {
            let code = vec![i(0xbf, 0, 6, 0, 0), i(opcode, 0, 0, 0, bits as i32)];
            cases.push(case(format!("{name}{bits} x"), needs, code, move |x, _| {
                if swaps { swapped(x, bits) } else { unsigned(i128::from(x), bits) }
            }));
        }
    }
}

fn holds(condition: u8, a: u64, b: u64, bits: u32) -> bool {
    let (sa, sb) = (signed(a, bits), signed(b, bits));
    let (a, b) = (unsigned(i128::from(a), bits), unsigned(i128::from(b), bits));
    match condition {
        op::JMP_JEQ => a == b,
        op::JMP_JNE => a != b,
        op::JMP_JSET => a & b > 0,
        op::JMP_JGT => a > b,
        op::JMP_JGE => a >= b,
        op::JMP_JLT => a < b,
        op::JMP_JLE => a <= b,
        op::JMP_JSGT => sa > sb,
        op::JMP_JSGE => sa >= sb,
        op::JMP_JSLT => sa < sb,
        _ => sa <= sb,
    }
}

fn jumps(cases: &mut Vec<Case>) {
    let conditions: &[(&str, u8)] = &[
        ("==", op::JMP_JEQ),
        ("!=", op::JMP_JNE),
        ("&", op::JMP_JSET),
        (">", op::JMP_JGT),
        (">=", op::JMP_JGE),
        ("<", op::JMP_JLT),
        ("<=", op::JMP_JLE),
        ("s>", op::JMP_JSGT),
        ("s>=", op::JMP_JSGE),
        ("s<", op::JMP_JSLT),
        ("s<=", op::JMP_JSLE),
    ];
    for &(symbol, condition) in conditions {
        for (class, bits) in [(op::CLASS_JMP, 64), (op::CLASS_JMP32, 32)] {
            let lower = matches!(condition, op::JMP_JLT | op::JMP_JLE | op::JMP_JSLT | op::JMP_JSLE);
            let needs = match (bits, lower) {
                (32, _) => Needs::V3,
                (_, true) => Needs::V2,
                _ => Needs::V1,
            };
            let code = |test| vec![i(0xb7, 0, 0, 0, 1), test, i(0xb7, 0, 0, 0, 0)];
            let by_register = code(i(class | condition | op::SRC_X, 6, 7, 1, 0));
            cases.push(case(format!("{bits}: if x {symbol} y"), needs, by_register, move |x, y| {
                holds(condition, x, y, bits).into()
            }));
            for &imm in IMMEDIATES {
                let by_number = code(i(class | condition, 6, 0, 1, imm));
                cases.push(case(format!("{bits}: if x {symbol} {imm}"), needs, by_number, move |x, _| {
                    holds(condition, x, i64::from(imm) as u64, bits).into()
                }));
            }
        }
    }
    // No instruction may be out of reach, so a branch comes to what is jumped over.
    let code = vec![
        i(0xb7, 0, 0, 0, 1),
        i(0x15, 6, 0, 1, 0),
        i(op::GOTOL, 0, 0, 0, 1),
        i(0xb7, 0, 0, 0, 2),
        i(0x07, 0, 0, 0, 4),
    ];
    cases.push(case("gotol", Needs::V4, code, |x, _| if x == 0 { 6 } else { 5 }));
    let code = vec![i(0xb7, 0, 0, 0, 1), i(op::JA, 0, 0, 0, 0), i(0x07, 0, 0, 0, 4)];
    cases.push(case("goto", Needs::V1, code, |_, _| 5));
}

const SIZES: [(u8, usize); 4] = [(op::SIZE_B, 1), (op::SIZE_H, 2), (op::SIZE_W, 4), (op::SIZE_DW, 8)];

/// `value` with `len` bytes from `at` on replaced by the low ones of `by`.
fn spliced(value: u64, at: usize, len: usize, by: u64) -> u64 {
    let mut bytes = value.to_ne_bytes();
    let by = by.to_ne_bytes();
    let from = if cfg!(target_endian = "big") { 8 - len } else { 0 };
    bytes[at..at + len].copy_from_slice(&by[from..from + len]);
    u64::from_ne_bytes(bytes)
}

/// `len` bytes of `value` from `at` on, as a number.
fn part(value: u64, at: usize, len: usize) -> u64 {
    let bytes = &value.to_ne_bytes()[at..at + len];
    let append = |value: u64, byte: &u8| value << 8 | u64::from(*byte);
    if cfg!(target_endian = "big") {
        bytes.iter().fold(0, append)
    } else {
        bytes.iter().rev().fold(0, append)
    }
}

/// Memory at the stack and at a map's value: the register with its address, and the offset.
const PLACES: [(&str, u8, i16); 2] = [("stack", 10, SLOT), ("value", 8, 0)];

fn memory(cases: &mut Vec<Case>) {
    for (place, base, slot) in PLACES {
        for (size, len) in SIZES {
            let bits = len as u32 * 8;
            for at in (0..8).step_by(len) {
                let off = slot + at as i16;
                let put = i(0x7b, base, 6, slot, 0);
                let get = i(0x79, 0, base, slot, 0);
                let load = i(op::CLASS_LDX | op::MODE_MEM | size, 0, base, off, 0);
                cases.push(case(
                    format!("{place}: load {len} at {at}"),
                    Needs::V1,
                    vec![put, load],
                    move |x, _| part(x, at, len),
                ));
                if len < 8 {
                    let load = i(op::CLASS_LDX | op::MODE_MEMSX | size, 0, base, off, 0);
                    let name = format!("{place}: load signed {len} at {at}");
                    cases.push(case(name, Needs::V4, vec![put, load], move |x, _| {
                        unsigned(signed(part(x, at, len), bits), 64)
                    }));
                }
                let store = i(op::CLASS_STX | op::MODE_MEM | size, base, 7, off, 0);
                let name = format!("{place}: store {len} at {at}");
                cases.push(case(name, Needs::V1, vec![put, store, get], move |x, y| spliced(x, at, len, y)));
                for imm in [-2, 0x1234_5678] {
                    let store = i(op::CLASS_ST | op::MODE_MEM | size, base, 0, off, imm);
                    let name = format!("{place}: store {imm} in {len} at {at}");
                    cases.push(case(name, Needs::V1, vec![put, store, get], move |x, _| {
                        spliced(x, at, len, i64::from(imm) as u64)
                    }));
                }
            }
        }
    }
    // Across words.
    for (size, len) in SIZES.into_iter().filter(|(_, len)| *len > 1) {
        let off = 8 - len as i16 / 2;
        let put = [i(0x7b, 8, 6, 0, 0), i(0x7b, 8, 7, 8, 0)];
        let load = vec![put[0], put[1], i(op::CLASS_LDX | op::MODE_MEM | size, 0, 8, off, 0)];
        cases.push(case(format!("value: load {len} across"), Needs::V1, load, move |x, y| {
            let bytes = [x.to_ne_bytes(), y.to_ne_bytes()].concat();
            let mut word = [0; 8];
            word[..len].copy_from_slice(&bytes[off as usize..off as usize + len]);
            part(u64::from_ne_bytes(word), 0, len)
        }));
        let store =
            vec![put[0], put[1], i(op::CLASS_STX | op::MODE_MEM | size, 8, 6, off, 0), i(0x79, 0, 8, 8, 0)];
        cases.push(case(format!("value: store {len} across"), Needs::V1, store, move |x, y| {
            let mut bytes = [x.to_ne_bytes(), y.to_ne_bytes()].concat();
            let low = spliced(0, 0, len, x).to_ne_bytes();
            bytes[off as usize..off as usize + len].copy_from_slice(&low[..len]);
            u64::from_ne_bytes(bytes[8..].try_into().unwrap())
        }));
    }
}

fn atomics(cases: &mut Vec<Case>) {
    let operations: &[(&str, i32, u8)] = &[
        ("+", op::ATOMIC_ADD, op::ALU_ADD),
        ("|", op::ATOMIC_OR, op::ALU_OR),
        ("&", op::ATOMIC_AND, op::ALU_AND),
        ("^", op::ATOMIC_XOR, op::ALU_XOR),
    ];
    for (place, base, slot) in PLACES {
        for (size, len) in [(op::SIZE_W, 4), (op::SIZE_DW, 8)] {
            let bits = len as u32 * 8;
            for at in (0..8).step_by(len) {
                let off = slot + at as i16;
                let put = i(0x7b, base, 6, slot, 0);
                let get = i(0x79, 0, base, slot, 0);
                let atomic =
                    |src: u8, imm: i32| i(op::CLASS_STX | op::MODE_ATOMIC | size, base, src, off, imm);
                for &(symbol, code, alu) in operations {
                    let after =
                        move |x: u64, y: u64| spliced(x, at, len, compute(alu, 0, part(x, at, len), y, bits));
                    let needs = if code == op::ATOMIC_ADD { Needs::V1 } else { Needs::V3 };
                    let name = format!("{place}: atomic {symbol} {len} at {at}");
                    cases.push(case(name.clone(), needs, vec![put, atomic(7, code), get], after));
                    let fetch = vec![put, atomic(7, code | op::ATOMIC_FETCH), get];
                    cases.push(case(format!("{name}, fetching"), Needs::V3, fetch, after));
                    let old = vec![put, atomic(7, code | op::ATOMIC_FETCH), i(0xbf, 0, 7, 0, 0)];
                    cases.push(case(format!("{name}, what was fetched"), Needs::V3, old, move |x, _| {
                        part(x, at, len)
                    }));
                }
                let name = format!("{place}: xchg {len} at {at}");
                let code = vec![put, atomic(7, op::ATOMIC_XCHG), get];
                cases.push(case(name.clone(), Needs::V3, code, move |x, y| spliced(x, at, len, y)));
                let code = vec![put, atomic(7, op::ATOMIC_XCHG), i(0xbf, 0, 7, 0, 0)];
                cases.push(case(format!("{name}, old"), Needs::V3, code, move |x, _| part(x, at, len)));
                // Compared with y, so that it fits where both are the same.
                let name = format!("{place}: cmpxchg {len} at {at}");
                let compare =
                    [put, i(0xbf, 0, 7, 0, 0), i(0xb7, 1, 0, 0, -77), atomic(1, op::ATOMIC_CMPXCHG)];
                let mut code = compare.to_vec();
                code.push(get);
                cases.push(case(name.clone(), Needs::V3, code, move |x, y| {
                    let fits = part(x, at, len) == unsigned(i128::from(y), bits);
                    if fits { spliced(x, at, len, -77_i64 as u64) } else { x }
                }));
                cases.push(case(format!("{name}, old"), Needs::V3, compare.to_vec(), move |x, _| {
                    part(x, at, len)
                }));
            }
        }
    }
}

fn ordered(cases: &mut Vec<Case>) {
    for (place, base, slot) in PLACES {
        for (size, len) in SIZES {
            for at in (0..8).step_by(len) {
                let off = slot + at as i16;
                let put = i(0x7b, base, 6, slot, 0);
                let atomic = op::CLASS_STX | op::MODE_ATOMIC | size;
                let code = vec![put, i(atomic, 0, base, off, op::ATOMIC_LOAD_ACQ)];
                let name = format!("{place}: load_acquire {len} at {at}");
                cases.push(case(name, Needs::Ordered, code, move |x, _| part(x, at, len)));
                let code =
                    vec![put, i(atomic, base, 7, off, op::ATOMIC_STORE_REL), i(0x79, 0, base, slot, 0)];
                let name = format!("{place}: store_release {len} at {at}");
                cases.push(case(name, Needs::Ordered, code, move |x, y| spliced(x, at, len, y)));
            }
        }
    }
}

//! Makes programs smaller.

use super::code::{Op, Piece, Program};

/// A program that still differs, from which nothing can be taken.
pub(crate) fn shrink(mut programs: Vec<Program>, differs: &dyn Fn(&[Program]) -> bool) -> Vec<Program> {
    loop {
        let before = total(&programs);
        if programs.len() > 1 && differs(&programs[..1]) {
            programs.truncate(1);
        }
        for program in 0..programs.len() {
            for function in 0..programs[program].functions.len() {
                // Large parts first, then single ones.
                let mut width = programs[program].functions[function].body.len().max(1);
                while width > 0 {
                    let mut at = 0;
                    loop {
                        let mut smaller = programs.clone();
                        let body = &mut smaller[program].functions[function].body;
                        if !take_out(body, &mut at.clone(), width) {
                            break;
                        }
                        if smaller != programs && differs(&smaller) {
                            programs = smaller;
                        } else {
                            at += 1;
                        }
                    }
                    width /= 2;
                }
            }
        }
        if total(&programs) == before {
            return programs;
        }
    }
}

fn total(programs: &[Program]) -> usize {
    programs.iter().map(|program| program.size() + pieces(program)).sum()
}

fn pieces(program: &Program) -> usize {
    fn count(ops: &[Op]) -> usize {
        ops.iter()
            .map(|op| match op {
                Op::Plain(pieces) => pieces.iter().filter(|piece| matches!(piece, Piece::Insn(_))).count(),
                Op::If { then, otherwise, .. } => count(then) + count(otherwise),
                Op::Loop { body, .. } => count(body),
            })
            .sum()
    }
    program.functions.iter().map(|function| count(&function.body)).sum()
}

/// Takes `width` parts out from the `at`-th on, or the branch or loop around a body. False when there is none.
fn take_out(ops: &mut Vec<Op>, at: &mut usize, width: usize) -> bool {
    let mut index = 0;
    while index < ops.len() {
        if *at == 0 {
            let end = (index + width).min(ops.len());
            ops.drain(index..end);
            return true;
        }
        *at -= 1;
        match &mut ops[index] {
            Op::Plain(_) => {}
            Op::If { then, otherwise, .. } => {
                if *at == 0 {
                    let inner: Vec<Op> = then.drain(..).chain(otherwise.drain(..)).collect();
                    ops.splice(index..=index, inner);
                    return true;
                }
                *at -= 1;
                if take_out(then, at, width) || take_out(otherwise, at, width) {
                    return true;
                }
            }
            Op::Loop { body, .. } => {
                if *at == 0 {
                    let inner = std::mem::take(body);
                    ops.splice(index..=index, inner);
                    return true;
                }
                *at -= 1;
                if take_out(body, at, width) {
                    return true;
                }
            }
        }
        index += 1;
    }
    false
}

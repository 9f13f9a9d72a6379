//! From a place back to where the program begins.

use std::collections::BTreeSet;

use skep_asm::Op;

use super::Flow;

/// Steps of going backwards from places to the entry, all places together.
const MAX_BACK: usize = 20_000_000;

/// Goes backwards from a place, to see whether the verifier comes to it whatever is not known of the target.
pub(super) struct Backwards {
    /// By instruction: from where it is come to.
    before: Vec<Vec<u32>>,
    /// By instruction: how many ways lead on, where all of them have to. 1 elsewhere.
    needs: Vec<u8>,
    entries: BTreeSet<usize>,
    steps: usize,
}

impl Backwards {
    pub(super) fn new(flow: &Flow<'_>) -> Backwards {
        let count = flow.marks.len();
        let mut back = Backwards {
            before: vec![Vec::new(); count],
            needs: vec![1; count],
            entries: [0].into(),
            steps: 0,
        };
        back.entries.extend(flow.functions.iter().filter(|function| function.global).map(|f| f.start));
        for (at, mark) in flow.marks.iter().enumerate().filter(|(_, mark)| mark.reached) {
            let insn = flow.program.insns.get(at).copied().unwrap_or_default();
            let next = at + flow.originals.get(&at).map_or(insn.slots(), Op::slots);
            let jump = insn.jump_target(at).and_then(|to| usize::try_from(to).ok());
            if mark.falls {
                back.edge(at, next);
            }
            if let Some(to) = jump.filter(|_| mark.jumps) {
                back.edge(at, to);
            } else if mark.jumps {
                let targets = flow.table_targets(at);
                back.steps += flow.program.jump_tables.iter().map(|table| table.targets.len()).sum::<usize>();
                if back.steps > MAX_BACK {
                    return back;
                }
                targets.into_iter().for_each(|to| back.edge(at, to));
            }
            if let (true, Some(needs)) = (mark.open && jump != Some(next), back.needs.get_mut(at)) {
                *needs = 2;
            }
        }
        for function in &flow.functions {
            for &caller in &function.callers {
                back.edge(caller, function.start);
            }
        }
        back
    }

    fn edge(&mut self, from: usize, to: usize) {
        if let Some(before) = self.before.get_mut(to) {
            before.push(from as u32);
        }
    }

    pub(super) fn always_reaches(&mut self, place: usize) -> bool {
        self.steps += self.needs.len();
        if self.steps > MAX_BACK {
            return false;
        }
        let mut needs = self.needs.clone();
        let mut work = vec![place];
        let mut done = BTreeSet::new();
        while let Some(at) = work.pop() {
            if !done.insert(at) {
                continue;
            }
            if self.entries.contains(&at) {
                return true;
            }
            self.steps += 1;
            if self.steps > MAX_BACK {
                return false;
            }
            for &from in self.before.get(at).into_iter().flatten() {
                let from = from as usize;
                let Some(needs) = needs.get_mut(from) else { continue };
                *needs = needs.saturating_sub(1);
                if *needs == 0 {
                    work.push(from);
                }
            }
        }
        false
    }
}

//! What lines programs come to.

use std::collections::BTreeMap;
use std::fmt::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use skep_asm::Op;

use crate::name::is_called;
use crate::prog::Prog;
use crate::vm::{SourceLine, Vm};

/// Programs of the same name and instructions are one.
type Key = (String, [u8; 8]);

/// What was counted so far.
#[derive(Debug, Default)]
pub(super) struct Covered {
    programs: BTreeMap<Key, Counts>,
}

/// The counts of one program, by slot.
#[derive(Clone, Debug)]
struct Counts {
    program: Described,
    executed: Vec<u64>,
    /// How often a conditional jump jumped.
    taken: Vec<u64>,
}

/// What is needed of a program when it is gone.
#[derive(Clone, Debug)]
struct Described {
    /// By slot: the line, and whether the instruction is a conditional jump.
    slots: Vec<(Option<SourceLine>, bool)>,
    functions: Vec<(usize, String)>,
}

impl Described {
    fn new(prog: &Prog) -> Described {
        let insns = prog.insns();
        let mut slots = Vec::with_capacity(insns.len());
        while slots.len() < insns.len() {
            let slot = slots.len();
            let (op, width) = match Op::decode(insns, slot) {
                Ok((op, width)) => (Some(op), width),
                Err(_) => (None, 1),
            };
            slots.push((prog.source_line(slot), matches!(op, Some(Op::JumpIf { .. }))));
            // The second half of a wide instruction is never executed by itself.
            slots.resize(slot + width, (None, false));
        }
        Described { slots, functions: prog.functions() }
    }
}

impl Covered {
    /// Counts for a program, all 0 when it is new.
    pub(super) fn program(&mut self, prog: &Prog) {
        self.counts(prog);
    }

    fn counts(&mut self, prog: &Prog) -> &mut Counts {
        let key = (prog.name().to_owned(), prog.tag());
        self.programs.entry(key).or_insert_with(|| {
            let program = Described::new(prog);
            let len = program.slots.len();
            Counts { program, executed: vec![0; len], taken: vec![0; len] }
        })
    }

    pub(super) fn report(&self) -> Coverage {
        let programs = self.programs.iter().map(|((name, _), counts)| counts.report(name)).collect();
        Coverage { programs }
    }
}

impl Counts {
    fn report(&self, name: &str) -> ProgramCoverage {
        let mut lines: BTreeMap<(String, u32), LineCoverage> = BTreeMap::new();
        let mut instructions = (0, 0);
        for (slot, (source, branches)) in self.program.slots.iter().enumerate() {
            let Some(source) = source else { continue };
            let executed = self.executed.get(slot).copied().unwrap_or(0);
            instructions.0 += 1; // programs have at most a million slots
            instructions.1 += usize::from(executed > 0);
            let line = lines.entry((source.file.clone(), source.line)).or_insert_with(|| LineCoverage {
                source: source.clone(),
                count: 0,
                branches: Vec::new(),
            });
            line.count = line.count.max(executed);
            if *branches {
                let taken = self.taken.get(slot).copied().unwrap_or(0);
                line.branches.push(BranchCoverage {
                    index: slot,
                    taken,
                    passed: executed.saturating_sub(taken),
                });
            }
        }
        let functions = self.program.functions.iter().filter_map(|(slot, name)| {
            let (source, _) = self.program.slots.get(*slot)?;
            let source = source.clone()?;
            Some((name.clone(), source.file, source.line, self.executed.get(*slot).copied().unwrap_or(0)))
        });
        ProgramCoverage {
            name: name.to_owned(),
            instructions: instructions.0,
            executed: instructions.1,
            functions: functions.collect(),
            lines: lines.into_values().collect(),
        }
    }
}

/// Counts for one run.
#[derive(Debug)]
pub(super) struct Counter {
    covered: Arc<Mutex<Covered>>,
    /// The program that runs now, and how often it came where since the last time that it was noted.
    now: Option<(Arc<Prog>, Vec<u64>, Vec<u64>)>,
    last: usize,
}

impl Counter {
    pub(super) fn new(covered: Arc<Mutex<Covered>>) -> Counter {
        Counter { covered, now: None, last: usize::MAX }
    }

    pub(super) fn step(&mut self, vm: &Vm) {
        if self.now.as_ref().is_none_or(|(prog, _, _)| !Arc::ptr_eq(prog, vm.prog())) {
            self.end();
            let slots = vm.prog().insns().len();
            self.now = Some((vm.prog().clone(), vec![0; slots], vec![0; slots]));
        }
        let Some((_, executed, taken)) = &mut self.now else { return };
        // A jump that is conditional and jumps is not followed by the next instruction.
        if self.last.checked_add(1) != Some(vm.pc())
            && let Some(count) = taken.get_mut(self.last)
        {
            *count = count.saturating_add(1);
        }
        if let Some(count) = executed.get_mut(vm.pc()) {
            *count = count.saturating_add(1);
        }
        self.last = vm.pc();
    }

    /// Notes what was counted.
    pub(super) fn end(&mut self) {
        self.last = usize::MAX;
        let Some((prog, executed, taken)) = self.now.take() else { return };
        let mut covered = self.covered.lock().unwrap_or_else(PoisonError::into_inner);
        let counts = covered.counts(&prog);
        let add = |to: &mut Vec<u64>, from: Vec<u64>| {
            to.iter_mut().zip(from).for_each(|(to, from)| *to = to.saturating_add(from));
        };
        add(&mut counts.executed, executed);
        add(&mut counts.taken, taken);
    }
}

impl Drop for Counter {
    fn drop(&mut self) {
        self.end();
    }
}

/// What programs came to: [`SimKernel::coverage`](crate::SimKernel::coverage).
///
/// It prints a line for each program and each line of C: how often it was come to, and at conditional jumps how often each
/// way was gone. Lines that were not come to are marked with `#####`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Coverage {
    /// The programs, by name.
    pub programs: Vec<ProgramCoverage>,
}

/// What one program came to.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProgramCoverage {
    /// Its name.
    pub name: String,
    /// Instructions that come from lines of C.
    pub instructions: usize,
    /// Those of them that were executed.
    pub executed: usize,
    /// Its functions: name, file, line and how often each was called.
    pub functions: Vec<(String, String, u32, u64)>,
    /// The lines that it has instructions of, by file and number.
    pub lines: Vec<LineCoverage>,
}

/// How often a program came to a line.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LineCoverage {
    /// The line.
    pub source: SourceLine,
    /// How often; 0 when never.
    pub count: u64,
    /// The conditional jumps that the line became.
    pub branches: Vec<BranchCoverage>,
}

/// Which way a program went at a conditional jump.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BranchCoverage {
    /// Slot of the instruction.
    pub index: usize,
    /// How often it jumped.
    pub taken: u64,
    /// How often it did not.
    pub passed: u64,
}

impl ProgramCoverage {
    /// How often a line was come to, by the end of its file's path; none when the program has no instruction of it.
    pub fn line(&self, file: &str, line: u32) -> Option<u64> {
        let found = self.lines.iter().find(|known| known.source.line == line && known.source.is_in(file));
        found.map(|line| line.count)
    }

    /// The lines that were never come to.
    pub fn missed(&self) -> impl Iterator<Item = &SourceLine> {
        self.lines.iter().filter(|line| line.count == 0).map(|line| &line.source)
    }
}

impl Coverage {
    /// What a program came to, by its name, of which the kernel keeps 15 bytes.
    pub fn program(&self, name: &str) -> Option<&ProgramCoverage> {
        self.programs.iter().find(|program| is_called(&program.name, name))
    }

    /// Adds what was counted elsewhere, such as on the kernel of another test, line by line.
    pub fn merge(&mut self, other: &Coverage) {
        for theirs in &other.programs {
            let same = |ours: &&mut ProgramCoverage| {
                let lines = ours.lines.iter().map(|line| (&line.source, line.branches.len()));
                ours.name == theirs.name
                    && lines.eq(theirs.lines.iter().map(|line| (&line.source, line.branches.len())))
            };
            let Some(ours) = self.programs.iter_mut().find(same) else {
                self.programs.push(theirs.clone());
                continue;
            };
            ours.executed = ours.executed.max(theirs.executed);
            for (ours, theirs) in ours.functions.iter_mut().zip(&theirs.functions) {
                ours.3 = ours.3.saturating_add(theirs.3);
            }
            for (ours, theirs) in ours.lines.iter_mut().zip(&theirs.lines) {
                ours.count = ours.count.saturating_add(theirs.count);
                for (ours, theirs) in ours.branches.iter_mut().zip(&theirs.branches) {
                    ours.taken = ours.taken.saturating_add(theirs.taken);
                    ours.passed = ours.passed.saturating_add(theirs.passed);
                }
            }
        }
        self.programs.sort_by(|a, b| a.name.cmp(&b.name));
    }

    /// The report as `lcov` and what reads its files take it (`genhtml`, editors, coverage services).
    pub fn lcov(&self) -> String {
        let mut files: BTreeMap<&str, Vec<&ProgramCoverage>> = BTreeMap::new();
        for program in &self.programs {
            for line in &program.lines {
                let programs = files.entry(&line.source.file).or_default();
                if programs.last().is_none_or(|last| !std::ptr::eq(*last, program)) {
                    programs.push(program);
                }
            }
        }
        let mut text = String::new();
        for (file, programs) in files {
            let _ = write!(text, "TN:\nSF:{file}\n"); // writing to a string does not fail
            let mut functions: BTreeMap<(u32, &str), u64> = BTreeMap::new();
            let mut lines: BTreeMap<u32, u64> = BTreeMap::new();
            let mut branches = String::new();
            let (mut found, mut hit) = (0, 0);
            for (block, program) in programs.iter().enumerate() {
                for (name, _, line, count) in program.functions.iter().filter(|(_, of, _, _)| of == file) {
                    let known = functions.entry((*line, name)).or_default();
                    *known = known.saturating_add(*count);
                }
                for line in program.lines.iter().filter(|line| line.source.file == file) {
                    let known = lines.entry(line.source.line).or_default();
                    *known = known.saturating_add(line.count);
                    for (number, count) in
                        line.branches.iter().flat_map(|branch| [branch.taken, branch.passed]).enumerate()
                    {
                        let told = if line.count == 0 { "-".to_owned() } else { count.to_string() };
                        let _ = writeln!(branches, "BRDA:{},{block},{number},{told}", line.source.line);
                        found += 1; // at most two for each of a million slots
                        hit += usize::from(count > 0);
                    }
                }
            }
            for (line, name) in functions.keys() {
                let _ = writeln!(text, "FN:{line},{name}");
            }
            for ((_, name), count) in &functions {
                let _ = writeln!(text, "FNDA:{count},{name}");
            }
            let called = functions.values().filter(|&&count| count > 0).count();
            let _ = write!(text, "FNF:{}\nFNH:{called}\n{branches}BRF:{found}\nBRH:{hit}\n", functions.len());
            for (line, count) in &lines {
                let _ = writeln!(text, "DA:{line},{count}");
            }
            let come_to = lines.values().filter(|&&count| count > 0).count();
            let _ = write!(text, "LF:{}\nLH:{come_to}\nend_of_record\n", lines.len());
        }
        text
    }
}

impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.programs.iter().try_for_each(|program| write!(f, "{program}"))
    }
}

impl fmt::Display for ProgramCoverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hit = self.lines.iter().filter(|line| line.count > 0).count();
        let branches = || self.lines.iter().flat_map(|line| &line.branches).flat_map(|b| [b.taken, b.passed]);
        writeln!(
            f,
            "{}: {hit} of {} lines, {} of {} branches, {} of {} instructions",
            self.name,
            self.lines.len(),
            branches().filter(|&count| count > 0).count(),
            branches().count(),
            self.executed,
            self.instructions,
        )?;
        let mut file = None;
        for LineCoverage { source, count, branches } in &self.lines {
            if file != Some(&source.file) {
                writeln!(f, "  {}", source.file)?;
                file = Some(&source.file);
            }
            let count = if *count == 0 { "#####".to_owned() } else { count.to_string() };
            write!(f, "  {count:>9} {:>5}: {}", source.line, source.text.trim_end())?;
            for BranchCoverage { taken, passed, .. } in branches {
                write!(f, "  [{taken}/{passed}]")?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

//! Every instruction as it is executed.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use skep_asm::Reg;

use crate::vm::{SourceLine, Vm};

/// Who is told of instructions.
#[derive(Clone)]
pub(super) struct Sink(Arc<Mutex<Each>>);

type Each = dyn FnMut(&TraceStep) + Send;

impl Sink {
    pub(super) fn new(each: impl FnMut(&TraceStep) + Send + 'static) -> Sink {
        Sink(Arc::new(Mutex::new(each)))
    }
}

impl fmt::Debug for Sink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sink")
    }
}

/// An instruction that was executed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TraceStep {
    /// Name of the program.
    pub program: String,
    /// Slot of the instruction.
    pub index: usize,
    /// The instruction, as the kernel's log writes it.
    pub instruction: String,
    /// The line of C that it comes from.
    pub source: Option<SourceLine>,
    /// Whether it is the first instruction that was executed of that line.
    pub new_line: bool,
    /// How many functions had been called and not returned.
    pub depth: usize,
    /// Registers that it changed, and what they hold since.
    pub changed: Vec<(Reg, u64)>,
}

/// The line of C where a new one begins, then the instruction and what it changed.
impl fmt::Display for TraceStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let indent = self.depth * 2;
        if let Some(source) = self.source.as_ref().filter(|_| self.new_line) {
            writeln!(f, "{:indent$}; {source}", "")?;
        }
        write!(f, "{:indent$}{:4}: {}", "", self.index, self.instruction)?;
        for (at, (reg, value)) in self.changed.iter().enumerate() {
            write!(f, "{}{reg}={value:#x}", if at == 0 { "  ; " } else { " " })?;
        }
        Ok(())
    }
}

/// Tells of one run.
#[derive(Debug)]
pub(super) struct Tracer {
    sink: Sink,
    /// What is being executed, and the registers before.
    last: Option<(TraceStep, [u64; 11])>,
    line: Option<(String, u32)>,
}

impl Tracer {
    pub(super) fn new(sink: Sink) -> Tracer {
        Tracer { sink, last: None, line: None }
    }

    pub(super) fn step(&mut self, vm: &mut Vm) {
        self.end(vm);
        let mut registers = [0; 11];
        registers.copy_from_slice(vm.registers());
        let source = vm.prog().source_line(vm.pc());
        let line = source.as_ref().map(|source| (source.file.clone(), source.line));
        let new_line = line.is_some() && line != self.line;
        self.line = line;
        let step = TraceStep {
            program: vm.prog().name().to_owned(),
            index: vm.pc(),
            instruction: vm.text(vm.pc()),
            source,
            new_line,
            depth: vm.depth(),
            changed: Vec::new(),
        };
        self.last = Some((step, registers));
    }

    /// The instruction is executed, or the run ends at it.
    pub(super) fn end(&mut self, vm: &mut Vm) {
        let Some((mut step, before)) = self.last.take() else { return };
        let changed =
            (0..).zip(before.iter().zip(vm.registers())).filter(|(_, (before, after))| before != after);
        step.changed = changed.filter_map(|(number, (_, &after))| Some((Reg::new(number)?, after))).collect();
        let mut sink = self.sink.0.lock().unwrap_or_else(PoisonError::into_inner);
        sink(&step);
    }
}

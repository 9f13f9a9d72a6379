use std::collections::BTreeMap;
use std::fmt;

use skep_asm::{Insn, KernelNames, kernel_text};
use skep_sys::abi::{Errno, MapId};

use super::names::Names;
use super::source::Source;
use crate::error::Error;
use crate::program::Program;
use crate::reloc::{PlacedFunction, SourceLine};

/// The instructions of a loaded program as the verifier left them, with functions and source lines
/// ([`Program::xlated`]).
///
/// `Display` prints it as `bpftool prog dump xlated linum` does, with names of functions where that has declarations; the
/// alternate form (`{:#}`) has the names of maps beside their ids.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Xlated {
    /// All slots. Loads of maps have the ids of the maps in them; calls of helpers and kernel functions have distances.
    pub insns: Vec<Insn>,
    /// The functions, if the program has records of them.
    pub functions: Vec<PlacedFunction>,
    /// Where source lines begin, ordered, if the program has records of them.
    pub lines: Vec<XlatedLine>,
    names: Names,
}

/// Where a source line begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct XlatedLine {
    /// Index of its first instruction.
    pub insn: u32,
    /// The line.
    pub source: SourceLine,
}

/// One instruction of a dump.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct XlatedEntry<'x> {
    /// Index of its first slot.
    pub index: u32,
    /// Its first slot.
    pub insn: Insn,
    /// Its text as the kernel writes it, with what it refers to by name.
    pub text: String,
    /// The function that begins here.
    pub function: Option<&'x PlacedFunction>,
    /// The source line that begins here.
    pub source: Option<&'x SourceLine>,
}

impl Program {
    /// The instructions as the verifier left them, with the source lines that they come from (Linux 4.13; lines 5.0).
    ///
    /// ```
    /// use skep::asm::Reg;
    /// use skep::program::ProgramBuilder;
    /// use skep::sys::abi::ProgType;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let kernel = skep::sim::kernel();
    /// let mut builder = ProgramBuilder::new(ProgType::XDP, "GPL");
    /// builder.asm().call_helper(5).mov64_imm(Reg::R0, 2).exit();
    /// let program = builder.load(&kernel)?;
    /// assert_eq!(
    ///     program.xlated()?.to_string(),
    ///     "   0: (85) call bpf_ktime_get_ns#5\n   1: (b7) r0 = 2\n   2: (95) exit\n"
    /// );
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// When the kernel refuses, or does not show this process the instructions ([`Errno::EPERM`]).
    pub fn xlated(&self) -> Result<Xlated, Error> {
        let info = self.info()?;
        let dump = self.loaded().dump().map_err(|source| self.failed("dump its instructions", source))?;
        if dump.xlated.is_empty() {
            let step = "dump its instructions (the kernel shows them to who has CAP_BPF, and where constants are \
                        blinded or addresses hidden, CAP_SYSLOG)";
            return Err(self.failed(step, Errno::EPERM));
        }
        let source = Source::of(self, &info);
        let functions = source.functions(&dump);
        let lines = source.lines(&dump).into_iter();
        let names = Names::of(self.kernel(), &dump, &functions, &info.map_ids);
        Ok(Xlated {
            lines: lines.filter_map(|(insn, source)| Some(XlatedLine { insn, source: source? })).collect(),
            insns: dump.xlated,
            functions,
            names,
        })
    }
}

impl Xlated {
    /// The instructions one by one.
    pub fn entries(&self) -> impl Iterator<Item = XlatedEntry<'_>> {
        self.walk(false)
    }

    /// Names of the maps that the program uses, as far as they have any.
    pub fn maps(&self) -> &BTreeMap<MapId, String> {
        &self.names.maps
    }

    fn walk(&self, with_names: bool) -> impl Iterator<Item = XlatedEntry<'_>> {
        let names = Resolved { names: &self.names, with_names };
        let mut functions = self.functions.iter().peekable();
        let mut lines = self.lines.iter().peekable();
        let mut next = 0usize;
        std::iter::from_fn(move || {
            let insn = self.insns.get(next)?;
            let high = self.insns.get(next + 1); // `next` is an index
            let index = u32::try_from(next).ok()?;
            next += insn.slots();
            let source = lines.next_if(|line| line.insn == index);
            // What belongs to no instruction, such as the second half of one, is passed over.
            while lines.next_if(|line| line.insn <= index).is_some() {}
            let function = functions.next_if(|function| function.start == index);
            while functions.next_if(|function| function.start <= index).is_some() {}
            Some(XlatedEntry {
                index,
                insn: *insn,
                text: kernel_text(insn, high, &names),
                function,
                source: source.map(|line| &line.source),
            })
        })
    }
}

struct Resolved<'n> {
    names: &'n Names,
    with_names: bool,
}

impl KernelNames for Resolved<'_> {
    fn call(&self, insn: &Insn) -> Option<String> {
        Some(self.names.call(insn))
    }

    fn imm64(&self, low: &Insn, high: &Insn) -> Option<String> {
        Some(self.names.imm64(low, high, self.with_names))
    }
}

impl fmt::Display for Xlated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for entry in self.walk(f.alternate()) {
            if let Some(function) = entry.function {
                writeln!(f, "{}:", function.name)?;
            }
            if let Some(source) = entry.source {
                write_line(f, source)?;
            }
            writeln!(f, "{:>4}: {}", entry.index, entry.text)?;
        }
        Ok(())
    }
}

/// A source line as bpftool writes it.
pub(super) fn write_line(f: &mut fmt::Formatter<'_>, source: &SourceLine) -> fmt::Result {
    let SourceLine { file, line, column, text } = source;
    writeln!(f, "; {} [file:{file} line_num:{line} line_col:{column}]", text.trim_start())
}

use std::fmt;

use super::source::Source;
use super::xlated::write_line;
use crate::error::Error;
use crate::program::Program;
use crate::reloc::SourceLine;

/// The machine code of a loaded program, by functions ([`Program::jited`]).
///
/// `Display` prints the bytes in hexadecimal, each function with its name and address, and source lines where they begin.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Jited {
    /// The functions, the main one first. None where the kernel interprets the program, or does not show the code.
    pub functions: Vec<JitedFunction>,
}

/// The machine code of a function.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct JitedFunction {
    /// Name; empty when the program has no records of its functions and it is not the main one.
    pub name: String,
    /// Where it is in the kernel, if the kernel shows addresses to this process.
    pub address: Option<u64>,
    /// Machine code.
    pub code: Vec<u8>,
    /// Where source lines begin, ordered.
    pub lines: Vec<JitedLine>,
}

/// Where a source line begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JitedLine {
    /// Offset in the function's code.
    pub offset: usize,
    /// The line.
    pub source: SourceLine,
}

impl Program {
    /// The machine code that the kernel made of it (Linux 4.13; functions 4.18; lines 5.0).
    ///
    /// # Errors
    ///
    /// When the kernel refuses. That it shows no code is no error.
    pub fn jited(&self) -> Result<Jited, Error> {
        let info = self.info()?;
        let dump = self.loaded().dump().map_err(|source| self.failed("dump its machine code", source))?;
        let source = Source::of(self, &info);
        let names = source.functions(&dump);
        let lines = source.lines(&dump);
        if dump.jited.is_empty() {
            return Ok(Jited::default());
        }
        // Who may not see addresses gets no lengths either; then all is one function.
        let mut lengths: Vec<usize> = dump.jited_func_lens.iter().map(|&len| len as usize).collect();
        if lengths.iter().try_fold(0, |sum: usize, &len| sum.checked_add(len)) != Some(dump.jited.len()) {
            lengths = vec![dump.jited.len()];
        }
        let mut rest = dump.jited.as_slice();
        let functions = lengths.into_iter().enumerate().map(|(number, len)| {
            let (code, behind) = rest.split_at_checked(len).unwrap_or((rest, &[]));
            rest = behind;
            let name = match names.get(number) {
                Some(function) => function.name.clone(),
                None if number == 0 => self.name.clone(),
                None => String::new(),
            };
            let address = dump.jited_ksyms.get(number).copied().filter(|&address| address != 0);
            let place = |(at, (_, source)): (&u64, &(u32, Option<SourceLine>))| {
                let offset = usize::try_from(at.checked_sub(address?)?).ok()?;
                Some(JitedLine { offset, source: source.clone().filter(|_| offset < code.len())? })
            };
            let mut lines: Vec<JitedLine> =
                dump.jited_line_info.iter().zip(&lines).filter_map(place).collect();
            lines.sort_by_key(|line| line.offset);
            JitedFunction { name, address, code: code.to_vec(), lines }
        });
        Ok(Jited { functions: functions.collect() })
    }
}

/// Bytes of code in a line of text.
const ROW: usize = 16;

impl fmt::Display for Jited {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for function in &self.functions {
            match function.address {
                Some(address) => writeln!(f, "{}: # {address:#x}", function.name)?,
                None => writeln!(f, "{}:", function.name)?,
            }
            let mut lines = function.lines.iter().peekable();
            let mut at = 0;
            while at < function.code.len() {
                while let Some(line) = lines.next_if(|line| line.offset <= at) {
                    write_line(f, &line.source)?;
                }
                let next_line = lines.peek().map_or(function.code.len(), |line| line.offset);
                let end = next_line.min(at.saturating_add(ROW)).min(function.code.len());
                write!(f, "{at:>4x}:")?;
                for byte in function.code.get(at..end).unwrap_or_default() {
                    write!(f, " {byte:02x}")?;
                }
                writeln!(f)?;
                at = end;
            }
        }
        Ok(())
    }
}

//! What ends a program before its exit.

use std::fmt;

use skep_asm::Reg;

/// Why a program was stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FaultKind {
    /// It accessed memory that is not there, or not in that way.
    Access {
        /// Whether it wrote.
        write: bool,
        /// The address.
        address: u64,
        /// How many bytes.
        len: usize,
        /// What is wrong with it.
        why: String,
    },
    /// An atomic operation at an address that is not a multiple of its size.
    Misaligned {
        /// The address.
        address: u64,
        /// How many bytes.
        len: usize,
    },
    /// A helper was given something else than what it takes.
    NotA {
        /// What it takes.
        what: &'static str,
        /// What it was given.
        address: u64,
    },
    /// It executed as many instructions as it may ([`Builder::budget`](crate::Builder::budget)).
    Budget {
        /// The number of instructions.
        instructions: u64,
    },
    /// More functions call each other than the kernel allows (`MAX_CALL_FRAMES`).
    CallDepth,
    /// It holds more pointers at once than a run may have.
    Memory,
    /// It called a helper function or kernel function that is not simulated.
    Unsupported {
        /// Name and number of the function.
        function: String,
    },
    /// An instruction that no kernel executes.
    Instruction {
        /// The instruction.
        text: String,
    },
    /// Control left the code.
    Jump,
    /// A helper that a test registered, or one that cannot go on, says why.
    Helper {
        /// What it says.
        message: String,
    },
}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FaultKind::Access { write, address, len, why } => {
                let access = if *write { "write" } else { "read" };
                write!(f, "invalid {access} of {len} bytes at {address:#x}: {why}")
            }
            FaultKind::Misaligned { address, len } => {
                write!(f, "atomic operation on {len} bytes at {address:#x}, which is no multiple of {len}")
            }
            FaultKind::NotA { what, address } => write!(f, "{address:#x} is not a {what}"),
            FaultKind::Budget { instructions } => {
                write!(
                    f,
                    "it ran for {instructions} instructions, which is all that it may; raise the budget or look for the loop"
                )
            }
            FaultKind::CallDepth => f.write_str("more than 8 functions call each other"),
            FaultKind::Memory => f.write_str("it made more pointers than a run may have"),
            FaultKind::Unsupported { function } => {
                let how = match function.rsplit_once('#') {
                    Some((_, number)) => format!("Builder::helper({number}, ...)"),
                    None => format!("Builder::kfunc(\"{function}\", ...)"),
                };
                write!(f, "{function} is not simulated; give the kernel one of your own: {how}")
            }
            FaultKind::Instruction { text } => write!(f, "instruction `{text}` cannot be executed"),
            FaultKind::Jump => f.write_str("control left the code"),
            FaultKind::Helper { message } => f.write_str(message),
        }
    }
}

/// A fault on its way out of the interpreter: small, since every instruction may give one.
#[derive(Debug)]
pub(crate) struct Trap(Box<FaultKind>);

impl From<FaultKind> for Trap {
    #[cold]
    fn from(kind: FaultKind) -> Trap {
        Trap(Box::new(kind))
    }
}

impl Trap {
    pub(crate) fn into_kind(self) -> FaultKind {
        *self.0
    }
}

/// A program that was stopped: why, where, and what its registers held.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Fault {
    /// Why.
    pub kind: FaultKind,
    /// Name of the program.
    pub program: String,
    /// Slot of the instruction.
    pub index: usize,
    /// The instruction, as the kernel's log writes it.
    pub instruction: String,
    /// Where it comes from: `file.c:line`, and the text of the line, when the program has line information.
    pub source: Option<SourceLine>,
    /// `r0` to `r10`.
    pub registers: [u64; 11],
    /// How many functions called each other.
    pub depth: usize,
}

/// A line of C.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub struct SourceLine {
    /// The file.
    pub file: String,
    /// Its number, from 1.
    pub line: u32,
    /// Column, from 1; 0 when it is not known.
    pub column: u32,
    /// The text.
    pub text: String,
}

impl SourceLine {
    /// Whether it is of a file, by the end of its path: all of it, or from a slash on.
    pub fn is_in(&self, file: &str) -> bool {
        SourceLine::path_ends_in(&self.file, file)
    }

    pub(crate) fn path_ends_in(path: &str, file: &str) -> bool {
        path.strip_suffix(file).is_some_and(|before| before.is_empty() || before.ends_with('/'))
    }
}

impl fmt::Display for SourceLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.text.trim())
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "program `{}` faulted: {}\n  at instruction {}: {}",
            self.program, self.kind, self.index, self.instruction
        )?;
        if let Some(source) = &self.source {
            write!(f, "\n  source: {source}")?;
        }
        f.write_str("\n  registers:")?;
        for (number, value) in (0..).zip(self.registers) {
            let reg = Reg::new(number).unwrap_or_default();
            write!(f, " {reg}={value:#x}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Fault {}

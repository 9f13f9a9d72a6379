use std::sync::Arc;

use skep_btf::relo::{CoreError, PatchError};

use super::TargetError;

/// Why an object cannot be made ready for a kernel.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RelocateError {
    /// A program or reference of an edited spec names a function that is not there.
    #[error("function {index} does not exist")]
    NoSuchFunction {
        /// Index in [`Spec::functions`](crate::spec::Spec::functions).
        index: usize,
    },
    /// A reference of an edited spec names a map or extern that is not there.
    #[error("function `{function}`, instruction {insn}: {what} {index} does not exist")]
    NoSuchReference {
        /// Function.
        function: String,
        /// Instruction in it.
        insn: u32,
        /// What kind of thing.
        what: &'static str,
        /// Its index.
        index: usize,
    },
    /// A program with its sub-programs exceeds what a kernel takes.
    #[error("function `{function}` makes the program longer than {limit} instructions")]
    TooLong {
        /// Function.
        function: String,
        /// Limit in instructions.
        limit: usize,
    },
    /// Programs that each call many of the same sub-programs.
    #[error(
        "program `{program}` makes the programs of the object larger than {limit} bytes: load fewer of them at once"
    )]
    TooLarge {
        /// The program that does not fit any more.
        program: String,
        /// Limit in bytes.
        limit: usize,
    },
    /// A sub-program without records in an object whose program has them.
    #[error(
        "sub-program `{function}` has no {what} records in .BTF.ext although its program has: was one of them compiled without -g?"
    )]
    NoRecords {
        /// Sub-program.
        function: String,
        /// `function` or `line`.
        what: &'static str,
    },
    /// An instruction that refers to nothing: a call of what is no function, or a relocation that leads nowhere.
    #[error("function `{function}`, instruction {insn}: {reason}")]
    Stray {
        /// Function.
        function: String,
        /// Instruction in it.
        insn: u32,
        /// What is wrong with it.
        reason: String,
    },
    /// A program whose section name says no type, and that was given none.
    #[error(
        "program `{program}`: section `{section}` names no program type: rename the section, set a type, or switch autoload off"
    )]
    NoType {
        /// Program.
        program: String,
        /// Its section.
        section: String,
    },
    /// The kernel cannot tell what is needed.
    #[error("program `{program}` needs to know more of the kernel")]
    Target {
        /// Program.
        program: String,
        /// What and why.
        source: TargetError,
    },
    /// A CO-RE relocation that cannot be decided.
    #[error("function `{function}`")]
    Core {
        /// Function.
        function: String,
        /// Which and why.
        source: Arc<CoreError>,
    },
    /// A CO-RE relocation that its instruction cannot take.
    #[error("function `{function}`, instruction {insn}: {access}")]
    Patch {
        /// Function.
        function: String,
        /// Instruction in it.
        insn: u32,
        /// The relocation.
        access: String,
        /// Why.
        source: PatchError,
    },
    /// A CO-RE relocation of an instruction that an earlier one has changed.
    #[error(
        "function `{function}`, instruction {insn}: {access}: another CO-RE record has changed it before"
    )]
    PatchedBefore {
        /// Function.
        function: String,
        /// Instruction in it.
        insn: u32,
        /// The relocation that comes too late.
        access: String,
        /// What it finds.
        source: PatchError,
    },
    /// What a program attaches to is not in the kernel's types.
    #[error("program `{program}` (section `{section}`): {reason}")]
    AttachTarget {
        /// Program.
        program: String,
        /// Its section.
        section: String,
        /// What is missing, and what to do.
        reason: String,
    },
    /// An arena that is too small for its first variables.
    #[error(
        "arena `{map}`: its variables take {needed} bytes in whole pages, and it has {size}: raise max_entries"
    )]
    Arena {
        /// Its name.
        map: String,
        /// Bytes that the variables take.
        needed: u64,
        /// Bytes that it has.
        size: u64,
    },
    /// An exception callback that cannot be one.
    #[error("program `{program}`: {reason}")]
    ExceptionCallback {
        /// Program.
        program: String,
        /// What is wrong.
        reason: String,
    },
    /// A `struct_ops` table that does not fit the kernel's structure.
    #[error("struct_ops table `{map}`: {reason}")]
    StructOps {
        /// Its name.
        map: String,
        /// What does not fit, and what to do.
        reason: String,
    },
    /// More jump tables than a program can use.
    #[error("program `{program}`: more than {limit} jump tables")]
    JumpTables {
        /// Program.
        program: String,
        /// Limit.
        limit: usize,
    },
    /// A jump table that leads out of the function that uses it.
    #[error(
        "function `{function}`, instruction {insn}: entry {entry} of jump table `{table}` leads to instruction {target} of \
         its section, which is outside of the function"
    )]
    JumpTable {
        /// Function.
        function: String,
        /// Instruction in it that names the table.
        insn: u32,
        /// The table.
        table: String,
        /// Entry of the table.
        entry: usize,
        /// Where that leads.
        target: u32,
    },
    /// An extern that is not there, or not what the object expects.
    #[error("extern `{name}`: {reason}")]
    Extern {
        /// Its name.
        name: String,
        /// What is wrong.
        reason: String,
    },
}

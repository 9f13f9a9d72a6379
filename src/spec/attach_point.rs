//! What follows the slash of a section name: where a program is to be attached.

use super::{AutoAttach, ProgramSpec};

/// When a program at a function runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum When {
    /// When the function is entered.
    Entry,
    /// When the function returns.
    Return,
    /// Both, and the first run decides about the second.
    Session,
}

/// Where a section name says to attach a program.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AttachPoint {
    /// An instruction of a kernel function (`kprobe/FUNCTION+OFFSET`, `kretprobe/FUNCTION`).
    KernelFunction {
        /// The function.
        function: String,
        /// Offset of the instruction in bytes, 0 for the function's first.
        offset: u64,
        /// When it runs.
        when: When,
    },
    /// All kernel functions whose names match (`kprobe.multi/PATTERN`, `kretprobe.multi`, `kprobe.session`).
    KernelFunctions {
        /// The pattern: `*` for any text, `?` for any character.
        pattern: String,
        /// When it runs.
        when: When,
    },
    /// An instruction of a function of a binary (`uprobe/PATH:FUNCTION+OFFSET`, `uretprobe/PATH:FUNCTION`).
    BinaryFunction {
        /// Path of the binary, or its name to be searched for; `ARCHIVE!/MEMBER` for one in an archive.
        binary: String,
        /// The symbol, which may have a version (`malloc@@GLIBC_2.2.5`).
        function: String,
        /// Offset of the instruction in bytes, 0 for the function's first.
        offset: u64,
        /// When it runs.
        when: When,
    },
    /// All functions of a binary whose names match (`uprobe.multi/PATH:PATTERN`, `uretprobe.multi`, `uprobe.session`).
    BinaryFunctions {
        /// Path of the binary, or its name to be searched for.
        binary: String,
        /// The pattern.
        pattern: String,
        /// When it runs.
        when: When,
    },
    /// A system call (`ksyscall/NAME`, `kretsyscall/NAME`).
    Syscall {
        /// Its name, such as `openat`.
        name: String,
        /// When it runs.
        when: When,
    },
    /// A static tracepoint of a binary (`usdt/PATH:PROVIDER:NAME`).
    Usdt {
        /// Path of the binary, or its name to be searched for.
        binary: String,
        /// Provider.
        provider: String,
        /// Name of the tracepoint.
        name: String,
    },
    /// A tracepoint (`tp/CATEGORY/NAME`).
    Tracepoint {
        /// Category.
        category: String,
        /// Name.
        name: String,
    },
    /// A raw tracepoint (`raw_tp/NAME`).
    RawTracepoint {
        /// Name.
        name: String,
    },
    /// A function, tracepoint, security hook or iterator of the kernel that is known by its type (`fentry/FUNCTION`,
    /// `tp_btf/NAME`, `lsm/HOOK`, `iter/KIND`), or a function of another program.
    KernelType {
        /// The module to look in, when the name begins with one: `vmlinux` for the kernel itself.
        module: Option<String>,
        /// Its name.
        name: String,
    },
    /// All kernel functions whose names match, by type (`fentry.multi/MODULE:PATTERN`).
    KernelTypes {
        /// The module to look in.
        module: Option<String>,
        /// The pattern.
        pattern: String,
    },
}

/// Why what follows the slash of a section name is no attach point.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("section `{section}`: {reason}; write {form}")]
pub struct AttachPointError {
    /// The section.
    pub section: String,
    /// What is wrong.
    pub reason: &'static str,
    /// What it should look like.
    pub form: &'static str,
}

/// The characters of names of kernel functions, and of patterns of them.
fn is_name(text: &str, extra: &str) -> bool {
    text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '.' || extra.contains(c))
}

impl ProgramSpec {
    /// Where the section name says to attach the program: none when it names nothing, as for sections without a slash and
    /// for kinds that are attached by hand.
    ///
    /// What libbpf overlooks at the end of a name (`kprobe/function junk`) is refused.
    ///
    /// ```
    /// use skep::Spec;
    /// use skep::spec::AttachPoint;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let spec = Spec::parse("tracepoint", include_bytes!("../../testdata/tracepoint.o"))?;
    /// let program = &spec.programs[0];
    /// assert_eq!(program.section, "tracepoint/sched/sched_process_exec");
    /// let Some(AttachPoint::Tracepoint { category, name }) = program.attach_point()? else { panic!() };
    /// assert_eq!((category.as_str(), name.as_str()), ("sched", "sched_process_exec"));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`AttachPointError`] when something follows that is not understood, with the form that is.
    pub fn attach_point(&self) -> Result<Option<AttachPoint>, AttachPointError> {
        let Some(text) = self.attach_to.as_deref() else { return Ok(None) };
        let kind = self.section.split('/').next().unwrap_or_default();
        let when = if kind.contains(".session") {
            When::Session
        } else if kind.starts_with("kret") || kind.starts_with("uret") {
            When::Return
        } else {
            When::Entry
        };
        let found = match self.auto_attach {
            AutoAttach::Kprobe => kernel_function(text, when),
            AutoAttach::KprobeMulti | AutoAttach::KprobeSession => pattern(text, "*?", KERNEL_PATTERN)
                .map(|pattern| AttachPoint::KernelFunctions { pattern, when }),
            AutoAttach::Uprobe => binary_function(text, when),
            AutoAttach::UprobeMulti => binary_functions(text, when),
            AutoAttach::Ksyscall => {
                pattern(text, "", SYSCALL).map(|name| AttachPoint::Syscall { name, when })
            }
            AutoAttach::Usdt => usdt(text),
            AutoAttach::Tracepoint => tracepoint(text),
            AutoAttach::RawTracepoint => {
                named(text, RAW_TRACEPOINT).map(|name| AttachPoint::RawTracepoint { name })
            }
            AutoAttach::TracingMulti => {
                let (module, rest) = module(text);
                pattern(rest, "*?:", KERNEL_TYPES).map(|pattern| AttachPoint::KernelTypes { module, pattern })
            }
            _ if self.attach_btf => {
                let (module, name) = module(text);
                named(name, KERNEL_TYPE).map(|name| AttachPoint::KernelType { module, name })
            }
            _ => return Ok(None),
        };
        let broken = |(reason, form)| AttachPointError { section: self.section.clone(), reason, form };
        found.map(Some).map_err(broken)
    }
}

/// What is wrong, and what it should look like.
type Wrong = (&'static str, &'static str);

const KERNEL_FUNCTION: &str = "kprobe/FUNCTION or kprobe/FUNCTION+OFFSET";
const KERNEL_PATTERN: &str = "kprobe.multi/PATTERN with letters, digits, `_`, `.`, `*` and `?`";
const BINARY_FUNCTION: &str = "uprobe/PATH:FUNCTION or uprobe/PATH:FUNCTION+OFFSET";
const BINARY_PATTERN: &str = "uprobe.multi/PATH:PATTERN";
const SYSCALL: &str = "ksyscall/NAME, such as ksyscall/openat";
const USDT: &str = "usdt/PATH:PROVIDER:NAME";
const TRACEPOINT: &str = "tp/CATEGORY/NAME";
const RAW_TRACEPOINT: &str = "raw_tp/NAME";
const KERNEL_TYPE: &str = "the name after the slash";
const KERNEL_TYPES: &str = "fentry.multi/PATTERN or fentry.multi/MODULE:PATTERN";
const NO_OFFSET: &str = "a probe of a function's return has no offset";

fn named(text: &str, form: &'static str) -> Result<String, Wrong> {
    if text.is_empty() { Err(("nothing follows the slash", form)) } else { Ok(text.to_owned()) }
}

fn pattern(text: &str, extra: &str, form: &'static str) -> Result<String, Wrong> {
    let text = named(text, form)?;
    if is_name(&text, extra) { Ok(text) } else { Err(("it holds a character that no such name has", form)) }
}

fn module(text: &str) -> (Option<String>, &str) {
    match text.split_once(':') {
        Some((module, name)) => (Some(module.to_owned()), name),
        None => (None, text),
    }
}

/// A number as C reads it: decimal, `0x` hexadecimal, `0` octal.
fn number(text: &str) -> Option<u64> {
    let digits = |text: &str, radix| {
        // `from_str_radix` would take a sign.
        text.bytes()
            .all(|b| b.is_ascii_alphanumeric())
            .then(|| u64::from_str_radix(text, radix).ok())
            .flatten()
    };
    match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(hex) => digits(hex, 16),
        None if text.len() > 1 && text.starts_with('0') => digits(text.get(1..)?, 8),
        None => digits(text, 10),
    }
}

fn kernel_function(text: &str, when: When) -> Result<AttachPoint, Wrong> {
    let form = KERNEL_FUNCTION;
    let (function, offset) = match text.split_once('+') {
        Some((function, offset)) => (function, number(offset).ok_or(("its offset is no number", form))?),
        None => (text, 0),
    };
    let function = pattern(function, "", form)?;
    if offset != 0 && when == When::Return {
        return Err((NO_OFFSET, form));
    }
    Ok(AttachPoint::KernelFunction { function, offset, when })
}

/// Splits at the first colon: paths have none.
fn binary<'t>(text: &'t str, form: &'static str) -> Result<(String, &'t str), Wrong> {
    let (binary, rest) = text.split_once(':').ok_or(("no function follows the path of the binary", form))?;
    if binary.is_empty() || rest.is_empty() {
        return Err(("the path or the function is missing", form));
    }
    Ok((binary.to_owned(), rest))
}

fn binary_function(text: &str, when: When) -> Result<AttachPoint, Wrong> {
    let (binary, rest) = binary(text, BINARY_FUNCTION)?;
    // A plus that no number follows is a part of the name, as in C++ operators.
    let (function, offset) = match rest.rsplit_once('+').and_then(|(name, tail)| Some((name, number(tail)?)))
    {
        Some((function, offset)) if !function.is_empty() => (function, offset),
        _ => (rest, 0),
    };
    if offset != 0 && when == When::Return {
        return Err((NO_OFFSET, BINARY_FUNCTION));
    }
    Ok(AttachPoint::BinaryFunction { binary, function: function.to_owned(), offset, when })
}

fn binary_functions(text: &str, when: When) -> Result<AttachPoint, Wrong> {
    let (binary, pattern) = binary(text, BINARY_PATTERN)?;
    Ok(AttachPoint::BinaryFunctions { binary, pattern: pattern.to_owned(), when })
}

fn usdt(text: &str) -> Result<AttachPoint, Wrong> {
    let mut parts = text.split(':');
    match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(binary), Some(provider), Some(name), None)
            if !binary.is_empty() && !provider.is_empty() && !name.is_empty() =>
        {
            let (binary, provider, name) = (binary.to_owned(), provider.to_owned(), name.to_owned());
            Ok(AttachPoint::Usdt { binary, provider, name })
        }
        _ => Err(("it has not three parts", USDT)),
    }
}

fn tracepoint(text: &str) -> Result<AttachPoint, Wrong> {
    match text.split_once('/') {
        Some((category, name)) if !category.is_empty() && !name.is_empty() => {
            Ok(AttachPoint::Tracepoint { category: category.to_owned(), name: name.to_owned() })
        }
        _ => Err(("category or name is missing", TRACEPOINT)),
    }
}

#[cfg(test)]
mod tests;

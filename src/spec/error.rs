use skep_btf::BtfError;

/// Why an object file was refused.
///
/// It says in which section, symbol or map, and what was wrong there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SpecError {
    /// The bytes are not an ELF file, or a broken one.
    #[error("not a readable ELF file: {0}")]
    Elf(String),
    /// An ELF file, but not a relocatable eBPF object.
    #[error("not an eBPF object: {0}")]
    NotBpf(String),
    /// A section cannot be what its name says.
    #[error("section `{section}`: {reason}")]
    Section {
        /// Name of the section.
        section: String,
        /// What is wrong.
        reason: String,
    },
    /// A function's symbol is wrong.
    #[error("function `{function}` in section `{section}`: {reason}")]
    Function {
        /// Name of the function.
        function: String,
        /// Section that it is in.
        section: String,
        /// What is wrong.
        reason: String,
    },
    /// A relocation cannot be applied.
    #[error("relocation {index} of section `{section}` (at byte {offset}, symbol `{symbol}`): {reason}")]
    Relocation {
        /// Section that is relocated.
        section: String,
        /// Number of the relocation.
        index: usize,
        /// Where it applies, in bytes from the section's start.
        offset: u64,
        /// Symbol that it names.
        symbol: String,
        /// What is wrong.
        reason: String,
    },
    /// A map's definition is wrong.
    #[error("map `{map}`: {reason}")]
    Map {
        /// Name of the map.
        map: String,
        /// What is wrong.
        reason: String,
    },
    /// A variable's definition is wrong.
    #[error("variable `{variable}` in section `{section}`: {reason}")]
    Variable {
        /// Name of the variable.
        variable: String,
        /// Section that it is in.
        section: String,
        /// What is wrong.
        reason: String,
    },
    /// An extern's declaration is wrong.
    #[error("extern `{name}`: {reason}")]
    Extern {
        /// Its name.
        name: String,
        /// What is wrong.
        reason: String,
    },
    /// The object's types are needed and cannot be read.
    #[error("section `{section}`")]
    Btf {
        /// `.BTF` or `.BTF.ext`.
        section: &'static str,
        /// What is wrong.
        source: BtfError,
    },
}

impl SpecError {
    pub(super) fn section(section: &str, reason: impl Into<String>) -> Self {
        SpecError::Section { section: section.to_owned(), reason: reason.into() }
    }

    pub(super) fn map(map: &str, reason: impl Into<String>) -> Self {
        SpecError::Map { map: map.to_owned(), reason: reason.into() }
    }
}

//! Byte order of a program.

use std::fmt;

/// The byte order in which a program's instructions are stored.
///
/// It is a property of the object file and must match the kernel that runs the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Endian {
    /// Least significant byte first (`EM_BPF` with `ELFDATA2LSB`, clang's `-target bpfel`).
    Little,
    /// Most significant byte first (`EM_BPF` with `ELFDATA2MSB`, clang's `-target bpfeb`).
    Big,
}

impl Endian {
    /// The byte order of the machine that this code was compiled for.
    pub const NATIVE: Endian = if cfg!(target_endian = "big") { Endian::Big } else { Endian::Little };

    /// [`Endian::Little`] when `little`, otherwise [`Endian::Big`].
    pub const fn from_is_little(little: bool) -> Endian {
        if little { Endian::Little } else { Endian::Big }
    }

    /// Whether this is [`Endian::Little`].
    pub const fn is_little(self) -> bool {
        matches!(self, Endian::Little)
    }

    /// Whether this is the byte order of this machine, [`Endian::NATIVE`].
    pub const fn is_native(self) -> bool {
        self.is_little() == Endian::NATIVE.is_little()
    }
}

impl fmt::Display for Endian {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_little() { "little" } else { "big" })
    }
}

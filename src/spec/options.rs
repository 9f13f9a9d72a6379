use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::{Spec, SpecError};
use crate::error::Error;

/// Largest file that is read.
const FILE_MAX: u64 = 1 << 30;

/// How to read an object file, where that differs from the usual.
///
/// ```
/// use skep::spec::SpecOptions;
///
/// # fn main() -> Result<(), skep::Error> {
/// // Map definitions of before BTF are accepted unless one asks for libbpf's judgement.
/// let bytes = include_bytes!("../../testdata/maps_legacy.o");
/// assert!(SpecOptions::new().parse("maps_legacy", bytes).is_ok());
/// let refused = SpecOptions::new().strict_maps(true).parse("maps_legacy", bytes);
/// assert!(refused.unwrap_err().to_string().contains("legacy map definitions"));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default)]
pub struct SpecOptions {
    pub(super) strict_maps: bool,
}

impl SpecOptions {
    /// What [`Spec::parse`] and [`Spec::open`] do.
    pub fn new() -> Self {
        SpecOptions::default()
    }

    /// Refuses map definitions of before BTF, in sections `maps` and `maps/NAME`, as libbpf does since 1.0. Off if nothing
    /// is said.
    pub fn strict_maps(mut self, strict: bool) -> Self {
        self.strict_maps = strict;
        self
    }

    /// As [`Spec::parse`].
    ///
    /// # Errors
    ///
    /// Those of [`Spec::parse`], and for what these options refuse.
    pub fn parse(&self, name: &str, bytes: &[u8]) -> Result<Spec, SpecError> {
        super::parse(name, bytes, self)
    }

    /// As [`Spec::open`].
    ///
    /// # Errors
    ///
    /// When the file cannot be read, and those of [`parse`](Self::parse).
    pub fn open(&self, path: impl AsRef<Path>) -> Result<Spec, Error> {
        let path = path.as_ref();
        let bytes = read(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        self.parse(&name, &bytes).map_err(|source| Error::ParseFile { path: path.to_owned(), source })
    }
}

/// The bytes of a file, which may be one that never ends.
fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    let too_large = || std::io::Error::other("more than 1 GiB, which is no object file");
    let file = File::open(path)?;
    if file.metadata()?.len() > FILE_MAX {
        return Err(too_large());
    }
    let mut bytes = Vec::new();
    // What a pipe or a device holds is not known beforehand.
    (&file).take(FILE_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_MAX { Err(too_large()) } else { Ok(bytes) }
}

use std::io::{Read, Seek};
use std::path::Path;

/// A file that is mapped into a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProcessFile<'a> {
    /// The process.
    pub pid: u32,
    /// Where the mapping begins.
    pub start: u64,
    /// Where it ends.
    pub end: u64,
    /// Path of the file, as the process sees it.
    pub path: &'a Path,
}

/// A file that is read in parts.
pub trait ReadSeek: Read + Seek + Send {}

impl<T: Read + Seek + Send> ReadSeek for T {}

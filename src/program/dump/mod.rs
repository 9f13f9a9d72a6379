//! The code of loaded programs, with the source lines that it comes from.

mod jited;
mod names;
mod source;
mod xlated;

pub use jited::{Jited, JitedFunction, JitedLine};
pub use xlated::{Xlated, XlatedEntry, XlatedLine};

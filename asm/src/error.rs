//! Errors.

use thiserror::Error;

/// Why bytes are not a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The byte length is not a multiple of 8, the size of an instruction slot.
    #[error("{len} bytes of instructions are not a multiple of 8")]
    Length {
        /// The length in bytes.
        len: usize,
    },
}

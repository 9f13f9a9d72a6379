//! What lies where in a Rust type, and whether a type of BTF has the same.

mod btf;
mod compare;
mod show;
#[cfg(test)]
mod tests;

use std::fmt;

pub(super) use compare::compare;
pub use show::{LayoutLine, LayoutMismatch};

/// What lies where in a plain Rust type; see [`PlainData::SHAPE`](super::PlainData::SHAPE).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Name of the type. Empty for arrays, which are named by their elements.
    pub name: &'static str,
    /// Size in bytes.
    pub size: usize,
    /// What it is made of.
    pub kind: LayoutKind,
}

/// What a plain Rust type is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LayoutKind {
    /// An integer.
    Integer {
        /// Whether it can be negative.
        signed: bool,
    },
    /// A floating-point number.
    Float,
    /// Elements of one type, one behind the other.
    Array {
        /// What an element is.
        element: &'static Layout,
        /// How many there are.
        len: usize,
    },
    /// Fields, in the order of their offsets.
    Struct(&'static [Field]),
    /// Only the size is known.
    Opaque,
}

/// A field of a Rust struct.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// Name; the number of the field in a tuple struct.
    pub name: &'static str,
    /// Offset in bytes from the start of the struct.
    pub offset: usize,
    /// What it is.
    pub layout: &'static Layout,
}

impl Layout {
    /// Name of the type as Rust writes it: `u32`, `[u8; 4]`, `Flow`.
    pub fn type_name(&self) -> String {
        match self.kind {
            LayoutKind::Array { element, len } => format!("[{}; {len}]", element.type_name()),
            _ => self.name.to_owned(),
        }
    }

    /// Whether it is bytes, or only a size: what may stand for anything of that size.
    fn is_bytes(&self) -> bool {
        match self.kind {
            LayoutKind::Opaque => true,
            LayoutKind::Array { element, .. } => element.is_byte() || element.is_bytes(),
            _ => self.size == 0,
        }
    }

    fn is_byte(&self) -> bool {
        self.size == 1 && matches!(self.kind, LayoutKind::Integer { .. })
    }
}

/// As a line of Rust: the fields of the type itself, and of what they are only the names.
impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let LayoutKind::Struct(fields) = self.kind else { return f.write_str(&self.type_name()) };
        f.write_str(self.name)?;
        for (nth, field) in fields.iter().enumerate() {
            let before = if nth == 0 { " { " } else { ", " };
            write!(f, "{before}{}: {}", field.name, field.layout.type_name())?;
        }
        if fields.is_empty() { Ok(()) } else { f.write_str(" }") }
    }
}

//! Arguments of functions and tracepoints.

use crate::image::KernelObject;

/// An argument as a register holds it: a number, with its sign extended, or the address of an object.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Argument(pub(crate) u64);

macro_rules! numbers {
    ($($ty:ty => $wide:ty),* $(,)?) => {$(
        impl From<$ty> for Argument {
            fn from(value: $ty) -> Self {
                Argument(<$wide>::from(value) as u64)
            }
        }
    )*};
}

numbers!(u8 => u64, u16 => u64, u32 => u64, u64 => u64, bool => u64, i8 => i64, i16 => i64, i32 => i64, i64 => i64);

impl From<usize> for Argument {
    fn from(value: usize) -> Self {
        Argument(value as u64)
    }
}

impl From<&KernelObject> for Argument {
    fn from(object: &KernelObject) -> Self {
        Argument(object.address())
    }
}

//! What is put into a field.

use std::borrow::Cow;
use std::fmt;

use super::object::KernelObject;

/// A value for a field of a [`KernelObject`]: a number, bytes, a text, or a pointer to another object. What they mean
/// depends on the field; see [`KernelObject::set`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldValue<'a>(pub(super) Value<'a>);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value<'a> {
    Number(i128),
    Bytes(Cow<'a, [u8]>),
    Text(Cow<'a, str>),
    Pointer(u64),
}

macro_rules! numbers {
    ($($ty:ty)*) => {$(
        impl From<$ty> for FieldValue<'_> {
            fn from(value: $ty) -> Self {
                FieldValue(Value::Number(i128::from(value)))
            }
        }
    )*};
}

numbers!(u8 u16 u32 u64 i8 i16 i32 i64 bool);

impl From<usize> for FieldValue<'_> {
    fn from(value: usize) -> Self {
        FieldValue(Value::Number(value as i128))
    }
}

impl<'a> From<&'a [u8]> for FieldValue<'a> {
    fn from(value: &'a [u8]) -> Self {
        FieldValue(Value::Bytes(value.into()))
    }
}

impl<'a, const N: usize> From<&'a [u8; N]> for FieldValue<'a> {
    fn from(value: &'a [u8; N]) -> Self {
        FieldValue(Value::Bytes(value.as_slice().into()))
    }
}

impl From<Vec<u8>> for FieldValue<'_> {
    fn from(value: Vec<u8>) -> Self {
        FieldValue(Value::Bytes(value.into()))
    }
}

impl<'a> From<&'a str> for FieldValue<'a> {
    fn from(value: &'a str) -> Self {
        FieldValue(Value::Text(value.into()))
    }
}

impl From<String> for FieldValue<'_> {
    fn from(value: String) -> Self {
        FieldValue(Value::Text(value.into()))
    }
}

impl From<&KernelObject> for FieldValue<'_> {
    fn from(object: &KernelObject) -> Self {
        FieldValue(Value::Pointer(object.address()))
    }
}

impl fmt::Display for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Number(number) => write!(f, "{number}"),
            Value::Bytes(bytes) => write!(f, "{} bytes", bytes.len()),
            Value::Text(text) => write!(f, "{text:?}"),
            Value::Pointer(address) => write!(f, "a pointer to {address:#x}"),
        }
    }
}

impl FieldValue<'_> {
    /// The same, which borrows nothing.
    pub fn into_owned(self) -> FieldValue<'static> {
        FieldValue(match self.0 {
            Value::Number(number) => Value::Number(number),
            Value::Bytes(bytes) => Value::Bytes(bytes.into_owned().into()),
            Value::Text(text) => Value::Text(text.into_owned().into()),
            Value::Pointer(address) => Value::Pointer(address),
        })
    }

    /// What stands behind the fields of a record for a dynamic one: a text with its NUL, or bytes.
    pub(crate) fn dynamic(&self) -> Option<Vec<u8>> {
        match &self.0 {
            Value::Text(text) => Some(text.bytes().chain([0]).collect()),
            Value::Bytes(bytes) => Some(bytes.to_vec()),
            _ => None,
        }
    }

    /// Its bytes in a field of so many, if they fit.
    pub(crate) fn plain(&self, size: usize) -> Option<Vec<u8>> {
        let number = |number: i128| {
            let mut bytes = vec![0; size];
            let width = size.min(8);
            let bits = width as u32 * 8;
            let fits = number >> bits == 0 || number >> (bits.max(1) - 1) == -1;
            crate::words::narrow_any(number as u64, bytes.get_mut(..width)?); // the low bits of what fits
            fits.then_some(bytes)
        };
        let padded = |bytes: &[u8]| {
            let mut bytes = bytes.to_vec();
            (bytes.len() <= size).then(|| {
                bytes.resize(size, 0);
                bytes
            })
        };
        match &self.0 {
            Value::Number(value) => number(*value),
            Value::Pointer(address) => number(i128::from(*address)),
            Value::Text(text) => padded(text.as_bytes()),
            Value::Bytes(bytes) => padded(bytes),
        }
    }
}

impl fmt::Display for FieldValue<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

//! Values of the kernel's configuration: how a configuration writes them, and how `__kconfig` externs hold them.

#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap};
use std::fmt::{self, Display, Formatter};

use skep_asm::Endian;
use skep_btf::{Btf, Kind, TypeId};

use super::{ExternKind, Spec};
use crate::error::Error;

/// What the names of options begin with.
pub(crate) const PREFIX: &str = "CONFIG_";
/// What the names of values begin with that the loader makes.
pub(crate) const VIRTUAL_PREFIX: &str = "LINUX_";

/// A value of a kernel's configuration.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum KconfigValue {
    /// `n`: off.
    No,
    /// `y`: built in.
    Yes,
    /// `m`: a module.
    Module,
    /// A number; a negative one in two's complement, so -1 is [`u64::MAX`].
    Number(u64),
    /// A text. A configuration has it in quotes.
    Text(String),
}

impl Display for KconfigValue {
    /// As a configuration writes it, numbers without a sign.
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            KconfigValue::No => f.write_str("n"),
            KconfigValue::Yes => f.write_str("y"),
            KconfigValue::Module => f.write_str("m"),
            KconfigValue::Number(number) => write!(f, "{number}"),
            KconfigValue::Text(text) => write!(f, "\"{text}\""),
        }
    }
}

impl From<bool> for KconfigValue {
    fn from(on: bool) -> Self {
        if on { KconfigValue::Yes } else { KconfigValue::No }
    }
}

impl From<&str> for KconfigValue {
    fn from(text: &str) -> Self {
        KconfigValue::Text(text.to_owned())
    }
}

impl From<String> for KconfigValue {
    fn from(text: String) -> Self {
        KconfigValue::Text(text)
    }
}

macro_rules! numbers {
    ($wide:ty: $($number:ty)*) => {$(
        impl From<$number> for KconfigValue {
            fn from(number: $number) -> Self {
                KconfigValue::Number(<$wide>::from(number) as u64)
            }
        }
    )*};
}

numbers!(u64: u8 u16 u32 u64);
numbers!(i64: i8 i16 i32 i64);

impl Spec {
    /// Sets what a `__kconfig` extern is, whatever the kernel says: an option (`CONFIG_HZ`), or a value that the
    /// loader makes (`LINUX_KERNEL_VERSION`). A kernel whose configuration cannot be read needs none for those that
    /// are set.
    ///
    /// # Errors
    ///
    /// When the object has no such extern, or its type cannot hold the value.
    ///
    /// ```
    /// use skep::Spec;
    /// use skep::spec::KconfigValue;
    ///
    /// # fn main() -> Result<(), skep::Error> {
    /// let mut spec = Spec::parse("kconfig", include_bytes!("../../testdata/kconfig.o"))?;
    /// spec.set_kconfig("CONFIG_HZ", 250)?;
    /// spec.set_kconfig("CONFIG_BPF_SYSCALL", true)?;
    /// spec.set_kconfig("CONFIG_BPF_JIT", KconfigValue::Module)?;
    /// spec.set_kconfig("CONFIG_DEFAULT_HOSTNAME", "(none)")?;
    /// spec.set_kconfig("LINUX_KERNEL_VERSION", 0x06_0c_01)?;
    /// assert!(spec.set_kconfig("CONFIG_HZ", "fast").is_err());
    /// # Ok(())
    /// # }
    /// ```
    pub fn set_kconfig(&mut self, name: &str, value: impl Into<KconfigValue>) -> Result<(), Error> {
        let value = value.into();
        let endian = self.endian;
        let there = || self.externs.iter().filter(|found| matches!(found.kind, ExternKind::Kconfig { .. }));
        let found = there().find(|found| found.name == name).ok_or_else(|| Error::NoSuch {
            object: self.name.clone(),
            what: "configuration value",
            name: name.to_owned(),
            there: there().map(|found| found.name.clone()).collect(),
        })?;
        let shape = self.shape(found.type_id).and_then(|shape| {
            shape.write(&value, endian, &mut vec![0; shape.size() as usize])?;
            Ok(())
        });
        shape.map_err(|reason| self.unfit(name, reason))?;
        if let Some(found) = self.externs.iter_mut().find(|found| found.name == name) {
            found.value = Some(value);
        }
        Ok(())
    }

    /// Sets options by the text of a configuration, lines such as `CONFIG_HZ=250`: what it says comes before what the
    /// kernel's own says. Other lines, and options that the object does not use, are passed over; of several
    /// lines for one option the first counts.
    ///
    /// # Errors
    ///
    /// When a line has no value, or one that the extern's type cannot hold. Nothing is set then.
    ///
    /// ```
    /// use skep::Spec;
    /// use skep::spec::KconfigValue;
    ///
    /// # fn main() -> Result<(), skep::Error> {
    /// let mut spec = Spec::parse("kconfig", include_bytes!("../../testdata/kconfig.o"))?;
    /// spec.set_kconfig_text("CONFIG_HZ=250\nCONFIG_SMP=y\n# CONFIG_BPF_JIT is not set\n")?;
    /// let hz = spec.externs.iter().find(|found| found.name == "CONFIG_HZ").expect("the object has it");
    /// assert_eq!(hz.value, Some(KconfigValue::Number(250)));
    /// assert!(spec.set_kconfig_text("CONFIG_HZ=y\n").is_err());
    /// # Ok(())
    /// # }
    /// ```
    pub fn set_kconfig_text(&mut self, text: &str) -> Result<(), Error> {
        let config = Config::parse(text, &self.option_names())
            .map_err(|reason| Error::KconfigText { object: self.name.clone(), reason })?;
        let mut values = Vec::new();
        for (index, found) in self.externs.iter().enumerate() {
            if !matches!(found.kind, ExternKind::Kconfig { .. }) {
                continue;
            }
            let value =
                self.shape(found.type_id).and_then(|shape| config.get(&found.name, shape, self.endian));
            let value = value.map_err(|reason| self.unfit(&found.name, reason))?;
            values.extend(value.map(|value| (index, value)));
        }
        for (index, value) in values {
            if let Some(found) = self.externs.get_mut(index) {
                found.value = Some(value);
            }
        }
        Ok(())
    }

    /// The options that the object uses.
    pub(crate) fn option_names(&self) -> BTreeSet<&str> {
        let configs = self.externs.iter().filter(|found| matches!(found.kind, ExternKind::Kconfig { .. }));
        configs.map(|found| found.name.as_str()).filter(|name| name.starts_with(PREFIX)).collect()
    }

    fn unfit(&self, name: &str, reason: String) -> Error {
        Error::Kconfig { object: self.name.clone(), name: name.to_owned(), reason }
    }

    fn shape(&self, type_id: TypeId) -> Result<Shape, String> {
        Shape::of(self.btf.as_ref().ok_or("the object has no types")?, type_id)
    }
}

/// Options of a configuration, by name, as they are written. The first line of a name counts.
pub(crate) struct Config<'t> {
    lines: HashMap<&'t str, &'t str>,
}

impl<'t> Config<'t> {
    /// Reads those of `wanted`. All lines are checked for a value.
    pub(crate) fn parse(text: &'t str, wanted: &BTreeSet<&str>) -> Result<Config<'t>, String> {
        let mut lines = HashMap::new();
        // Other systems end lines with a carriage return as well.
        let all = text.split('\n').map(|line| line.strip_suffix('\r').unwrap_or(line));
        for (number, line) in (1..).zip(all).filter(|(_, line)| line.starts_with(PREFIX)) {
            let shown = || line.chars().take(80).collect::<String>();
            let Some((name, value)) = line.split_once('=') else {
                return Err(format!("line {number}, `{}`, has no `=`", shown()));
            };
            if value.is_empty() {
                return Err(format!("line {number}, `{}`, has no value", shown()));
            }
            if wanted.contains(name) {
                lines.entry(name).or_insert(value);
            }
        }
        Ok(Config { lines })
    }

    /// What an option is for an extern of this shape; none where it is not set.
    pub(crate) fn get(
        &self,
        name: &str,
        shape: Shape,
        endian: Endian,
    ) -> Result<Option<KconfigValue>, String> {
        let Some(text) = self.lines.get(name) else { return Ok(None) };
        let value = value(text)?;
        if let (Shape::Bool, KconfigValue::Number(number)) = (shape, &value) {
            return Err(format!("its value {number} is a number: declare it as an integer"));
        }
        shape.write(&value, endian, &mut vec![0; shape.size() as usize])?;
        Ok(Some(value))
    }
}

/// What stands behind the `=`. Of what begins with `y`, `n` or `m` only that counts, as in libbpf.
fn value(text: &str) -> Result<KconfigValue, String> {
    Ok(match text.as_bytes() {
        [b'y', ..] => KconfigValue::Yes,
        [b'n', ..] => KconfigValue::No,
        [b'm', ..] => KconfigValue::Module,
        [b'"', ..] => {
            let inner = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
            KconfigValue::Text(
                inner.ok_or_else(|| format!("its value {text} has no closing quote"))?.to_owned(),
            )
        }
        _ => KconfigValue::Number(number(text).ok_or_else(|| {
            format!("its value `{text}` is neither y, n, m, a text in quotes, nor a number of 64 bits")
        })?),
    })
}

/// A number as C's `strtoull` reads it: decimal, hexadecimal or octal, with a sign.
fn number(text: &str) -> Option<u64> {
    let text = text.trim_start_matches([' ', '\t', '\n', '\u{b}', '\u{c}', '\r']);
    let (negative, digits) = match text.as_bytes() {
        [b'-', ..] => (true, text.get(1..)?),
        [b'+', ..] => (false, text.get(1..)?),
        _ => (false, text),
    };
    let (digits, radix) = match digits.as_bytes() {
        [b'0', b'x' | b'X', ..] => (digits.get(2..)?, 16),
        [b'0', _, ..] => (digits.get(1..)?, 8),
        _ => (digits, 10),
    };
    // A second sign is one for `from_str_radix`.
    if digits.starts_with(['+', '-']) {
        return None;
    }
    let value = u64::from_str_radix(digits, radix).ok()?;
    Some(if negative { value.wrapping_neg() } else { value })
}

/// The type that an extern is declared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// A `bool` of one byte.
    Bool,
    /// Another integer of one byte.
    Char {
        /// Whether it has a sign.
        signed: bool,
    },
    /// An integer of two, four or eight bytes.
    Int {
        /// In bytes.
        size: u32,
        /// Whether it has a sign.
        signed: bool,
    },
    /// `enum libbpf_tristate`.
    Tristate {
        /// In bytes.
        size: u32,
    },
    /// An array of characters.
    Text {
        /// In bytes; at least 1.
        len: u32,
    },
}

impl Shape {
    pub(crate) fn of(btf: &Btf, id: TypeId) -> Result<Shape, String> {
        let ty = btf.peel(id).map_err(|error| error.to_string())?;
        let size = ty.size();
        let odd = |what: String| {
            format!(
                "{what} cannot hold a configuration value: declare it as bool, an integer, an array of char or \
                 enum libbpf_tristate"
            )
        };
        if let Some(int) = ty.int() {
            let signed = int.encoding.is_signed();
            return match size {
                1 if int.encoding.is_bool() => Ok(Shape::Bool),
                _ if int.encoding.is_bool() => Err(odd(format!("a bool of {size} bytes"))),
                1 => Ok(Shape::Char { signed }),
                2 | 4 | 8 => Ok(Shape::Int { size, signed }),
                _ => Err(odd(format!("an integer of {size} bytes"))),
            };
        }
        if ty.kind().is_enum() {
            let fits = match ty.kind() {
                Kind::ENUM => size == 4,
                _ => matches!(size, 1 | 2 | 4 | 8),
            };
            return if fits && ty.name_bytes() == b"libbpf_tristate" {
                Ok(Shape::Tristate { size })
            } else {
                Err(odd(format!("enum `{}` of {size} bytes", ty.name())))
            };
        }
        let Some(array) = ty.array() else { return Err(odd(format!("a {}", ty.kind()))) };
        let element = btf.peel(array.element).map_err(|error| error.to_string())?;
        match element.int() {
            Some(int) if element.size() == 1 && !int.encoding.is_bool() && array.len > 0 => {
                Ok(Shape::Text { len: array.len })
            }
            _ => Err(odd(format!("an array of {} {}", array.len, element.kind()))),
        }
    }

    /// In bytes.
    pub(crate) fn size(self) -> u32 {
        match self {
            Shape::Bool | Shape::Char { .. } => 1,
            Shape::Int { size, .. } | Shape::Tristate { size } | Shape::Text { len: size } => size,
        }
    }

    /// Puts a value where the extern is.
    pub(crate) fn write(self, value: &KconfigValue, endian: Endian, place: &mut [u8]) -> Result<(), String> {
        use KconfigValue::{Module, No, Number, Text, Yes};
        let mut put = |number: u64| put(place, number, endian);
        match (self, value) {
            (Shape::Bool, Module) => Err("its value is `m`, which a bool cannot hold".into()),
            (Shape::Bool, Yes | No) => put((*value == Yes).into()),
            (Shape::Bool, Number(number @ (0 | 1))) => put(*number),
            (Shape::Bool, Number(number)) => {
                Err(format!("its value {number} is neither 0 nor 1, as a bool is"))
            }
            (Shape::Char { .. }, Yes) => put(b'y'.into()),
            (Shape::Char { .. }, No) => put(b'n'.into()),
            (Shape::Char { .. }, Module) => put(b'm'.into()),
            (Shape::Char { signed }, Number(number)) => put(in_range(*number, 1, signed)?),
            (Shape::Int { size, signed }, Number(number)) => put(in_range(*number, size, signed)?),
            (Shape::Tristate { .. }, No) => put(0),
            (Shape::Tristate { .. }, Yes) => put(1),
            (Shape::Tristate { .. }, Module) => put(2),
            (Shape::Text { .. }, Text(text)) => {
                // A text that is too long is cut, and always ends with a NUL.
                let room = place.len().saturating_sub(1);
                let kept = text.as_bytes().get(..room).unwrap_or(text.as_bytes());
                place.fill(0);
                place.iter_mut().zip(kept).for_each(|(place, byte)| *place = *byte);
                Ok(())
            }
            (Shape::Int { .. }, Yes | No | Module) => {
                Err(format!("its value is `{value}`: declare it as a bool or enum libbpf_tristate"))
            }
            (Shape::Text { .. }, Yes | No | Module) => Err(format!(
                "its value is `{value}`, without quotes: declare it as a bool or enum libbpf_tristate"
            )),
            (_, Text(_)) => Err("its value is a text: declare it as an array of char".into()),
            (_, Number(number)) => Err(format!("its value {number} is a number: declare it as an integer")),
        }
    }
}

/// Whether no bit of a number is lost in `size` bytes.
fn in_range(number: u64, size: u32, signed: bool) -> Result<u64, String> {
    let bits = size * 8;
    let fits = match (bits, signed) {
        (64.., _) => true,
        (_, true) => number.wrapping_add(1 << (bits - 1)) < 1 << bits,
        (_, false) => number >> bits == 0,
    };
    if fits {
        Ok(number)
    } else if signed {
        Err(format!("its value {} does not fit {size} bytes with a sign", number.cast_signed()))
    } else {
        Err(format!("its value {number} does not fit {size} bytes without a sign"))
    }
}

/// The last bytes of a number.
fn put(place: &mut [u8], number: u64, endian: Endian) -> Result<(), String> {
    let size = place.len();
    let (little, big) = (number.to_le_bytes(), number.to_be_bytes());
    let bytes = if endian.is_little() { little.get(..size) } else { big.get(8 - size.min(8)..) };
    place.copy_from_slice(bytes.filter(|bytes| bytes.len() == size).ok_or("it is wider than 8 bytes")?);
    Ok(())
}

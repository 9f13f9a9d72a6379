//! Values of the kernel's configuration, as `__kconfig` externs read them.

use std::collections::HashMap;
use std::io::{self, BufRead, Read};

use skep_btf::{Btf, Kind};

/// Longest configuration that is read, unpacked.
const CONFIG_MAX: u64 = 16 << 20;
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// The text of a configuration, which may be compressed by gzip as `/proc/config.gz` is.
pub(crate) fn read(mut source: impl BufRead) -> io::Result<String> {
    let packed = source.fill_buf()?.starts_with(&GZIP_MAGIC);
    let mut bytes = Vec::new();
    if packed {
        flate2::bufread::MultiGzDecoder::new(source).take(CONFIG_MAX).read_to_end(&mut bytes)?;
    } else {
        source.take(CONFIG_MAX).read_to_end(&mut bytes)?;
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The version that a configuration says it is for, as in `# Linux/x86 6.12.107 Kernel Configuration`.
pub(super) fn version_of(text: &str) -> Option<u32> {
    let named = |line: &str| {
        let words = line.strip_prefix("# Linux/")?.strip_suffix(" Kernel Configuration")?;
        version_code(words.split_whitespace().nth(1)?)
    };
    text.lines().take(8).find_map(named)
}

/// `KERNEL_VERSION(a, b, c)` of a text such as `6.12.107` or `5.10.0-32-amd64`. The last number stops at 255, as in
/// the kernel.
pub(super) fn version_code(text: &str) -> Option<u32> {
    let numbers = text.split(|c: char| !c.is_ascii_digit() && c != '.').next()?;
    let mut parts = numbers.split('.');
    let mut next = || parts.next().filter(|part| !part.is_empty()).map(|part| part.parse::<u32>().ok());
    let (major, minor, patch) = (next()??, next()??, next().unwrap_or(Some(0))?);
    (major <= 0xffff && minor <= 0xff).then(|| major << 16 | minor << 8 | patch.min(255))
}

/// Most bytes that the configuration values of an object may take.
pub(super) const MAX_SIZE: usize = 1 << 20;

/// The text of a configuration, by name. The first line of a name counts.
pub(super) struct Config {
    lines: HashMap<String, String>,
}

/// A value of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    /// `y`, `n` or `m`.
    Tristate(char),
    /// A quoted text, without its quotes.
    Text(String),
    /// A number.
    Number(i128),
}

impl Config {
    pub(super) fn parse(text: String) -> Config {
        let mut lines = HashMap::new();
        for line in text.lines() {
            if let Some((name, value)) = line.split_once('=')
                && name.starts_with("CONFIG_")
            {
                lines.entry(name.to_owned()).or_insert_with(|| value.trim_end().to_owned());
            }
        }
        Config { lines }
    }

    pub(super) fn get(&self, name: &str) -> Result<Option<Value>, String> {
        let Some(text) = self.lines.get(name) else { return Ok(None) };
        let first = text.chars().next().ok_or("the configuration has an empty value")?;
        let value = match first {
            'y' | 'n' | 'm' => Value::Tristate(first),
            '"' => {
                let inner = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
                Value::Text(inner.ok_or_else(|| format!("its value {text} has no closing quote"))?.to_owned())
            }
            _ => Value::Number(number(text).ok_or_else(|| format!("its value `{text}` is not a number"))?),
        };
        Ok(Some(value))
    }
}

/// A number as C writes it: decimal, hexadecimal or octal, with a sign.
fn number(text: &str) -> Option<i128> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text),
    };
    let value = if let Some(hex) = digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        u64::from_str_radix(hex, 16)
    } else if digits.len() > 1 && digits.starts_with('0') {
        u64::from_str_radix(digits, 8)
    } else {
        digits.parse()
    };
    let value = i128::from(value.ok()?);
    Some(if negative { -value } else { value })
}

/// The type that an extern is declared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    Bool,
    Char { signed: bool },
    Int { size: u32, signed: bool },
    Tristate,
    Text { len: u32 },
}

impl Shape {
    pub(super) fn of(btf: &Btf, id: skep_btf::TypeId) -> Result<Shape, String> {
        let ty = btf.peel(id).map_err(|error| error.to_string())?;
        let odd = || format!("a {} cannot hold a configuration value", ty.kind());
        if let Some(int) = ty.int() {
            return match ty.size() {
                1 if int.encoding.is_bool() => Ok(Shape::Bool),
                1 => Ok(Shape::Char { signed: int.encoding.is_signed() }),
                size @ (2 | 4 | 8) => Ok(Shape::Int { size, signed: int.encoding.is_signed() }),
                size => Err(format!("an integer of {size} bytes cannot hold a configuration value")),
            };
        }
        if ty.kind().is_enum() {
            return if ty.name_bytes() == b"libbpf_tristate" { Ok(Shape::Tristate) } else { Err(odd()) };
        }
        if let Some(array) = ty.array() {
            let element = btf.peel(array.element).map_err(|error| error.to_string())?;
            if element.kind() == Kind::INT && element.size() == 1 && array.len > 0 {
                return Ok(Shape::Text { len: array.len });
            }
        }
        Err(odd())
    }

    /// Puts a value where the extern is.
    pub(super) fn write(self, value: &Value, place: &mut [u8]) -> Result<(), String> {
        match (self, value) {
            (Shape::Bool, Value::Tristate('m')) => Err("its value is `m`, which a bool cannot hold".into()),
            (Shape::Bool, Value::Tristate(letter)) => put(place, i128::from(*letter == 'y')),
            (Shape::Char { .. }, Value::Tristate(letter)) => put(place, i128::from(u32::from(*letter))),
            (Shape::Tristate, Value::Tristate(letter)) => put(
                place,
                match letter {
                    'y' => 1,
                    'm' => 2,
                    _ => 0,
                },
            ),
            (Shape::Int { .. }, Value::Tristate(letter)) => {
                Err(format!("its value is `{letter}`, which an integer cannot hold"))
            }
            (Shape::Text { len }, Value::Text(text)) => {
                // A text that is too long is cut, and always ends with a NUL.
                let room = (len as usize - 1).min(place.len().saturating_sub(1)); // Shape::of: len is at least 1
                let bytes = text.as_bytes();
                let kept = bytes.get(..room).unwrap_or(bytes);
                place.fill(0);
                place.iter_mut().zip(kept).for_each(|(place, byte)| *place = *byte);
                Ok(())
            }
            (Shape::Int { size, signed }, Value::Number(number)) => in_range(*number, size, signed, place),
            // The LINUX_HAS_… values are numbers, and are declared as bool.
            (Shape::Bool, Value::Number(number @ (0 | 1))) => put(place, *number),
            (Shape::Char { signed }, Value::Number(number)) => in_range(*number, 1, signed, place),
            (_, Value::Text(_)) => Err("its value is a text: declare it as an array of char".into()),
            (_, Value::Number(number)) => {
                Err(format!("its value {number} is a number: declare it as an integer"))
            }
            (Shape::Text { .. }, Value::Tristate(_)) => {
                Err("its value is y, n or m: declare it as a bool or tristate".into())
            }
        }
    }
}

fn in_range(number: i128, size: u32, signed: bool, place: &mut [u8]) -> Result<(), String> {
    let bits = size * 8;
    let (low, high) =
        if signed { (-(1i128 << (bits - 1)), (1i128 << (bits - 1)) - 1) } else { (0, (1i128 << bits) - 1) };
    if !(low..=high).contains(&number) {
        return Err(format!("its value {number} does not fit {size} bytes"));
    }
    put(place, number)
}

fn put(place: &mut [u8], number: i128) -> Result<(), String> {
    let bytes = number.to_ne_bytes();
    let size = place.len();
    let bytes =
        if cfg!(target_endian = "little") { bytes.get(..size) } else { bytes.get(16 - size.min(16)..) };
    place.copy_from_slice(bytes.ok_or("it is wider than 16 bytes")?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Config {
        Config::parse(text.to_owned())
    }

    #[test]
    fn lines_are_read_by_name_and_the_first_counts() {
        let config = config(
            "# CONFIG_A is not set\nCONFIG_A=y\nCONFIG_A=n\nCONFIG_B=\"x\"\nCONFIG_C=0x1f\nCONFIG_D=-1\nCONFIG_E=017\nCONFIG_F=\nCONFIG_G=\"\nCONFIG_H=zz\n",
        );
        assert_eq!(config.get("CONFIG_A"), Ok(Some(Value::Tristate('y'))));
        assert_eq!(config.get("CONFIG_B"), Ok(Some(Value::Text("x".into()))));
        assert_eq!(config.get("CONFIG_C"), Ok(Some(Value::Number(0x1f))));
        assert_eq!(config.get("CONFIG_D"), Ok(Some(Value::Number(-1))));
        assert_eq!(config.get("CONFIG_E"), Ok(Some(Value::Number(15))));
        assert_eq!(config.get("CONFIG_X"), Ok(None));
        for broken in ["CONFIG_F", "CONFIG_G", "CONFIG_H"] {
            assert!(config.get(broken).is_err(), "{broken}");
        }
    }

    #[test]
    fn values_fit_the_declared_type_or_are_refused() {
        let write = |shape: Shape, value: Value, size: usize| {
            let mut place = vec![0xaa; size];
            shape.write(&value, &mut place).map(|()| place)
        };
        let int = |size, signed| Shape::Int { size, signed };
        assert_eq!(write(int(4, false), Value::Number(6), 4), Ok(6u32.to_ne_bytes().to_vec()));
        assert_eq!(write(int(2, true), Value::Number(-2), 2), Ok((-2i16).to_ne_bytes().to_vec()));
        assert!(write(int(2, true), Value::Number(40_000), 2).is_err());
        assert!(write(int(8, false), Value::Number(-1), 8).is_err());
        assert_eq!(write(Shape::Bool, Value::Tristate('y'), 1), Ok(vec![1]));
        assert!(write(Shape::Bool, Value::Tristate('m'), 1).is_err());
        assert_eq!(write(Shape::Char { signed: true }, Value::Tristate('m'), 1), Ok(vec![b'm']));
        assert_eq!(write(Shape::Tristate, Value::Tristate('m'), 4), Ok(2u32.to_ne_bytes().to_vec()));
        assert_eq!(write(Shape::Text { len: 4 }, Value::Text("abcdef".into()), 4), Ok(b"abc\0".to_vec()));
        assert_eq!(write(Shape::Text { len: 1 }, Value::Text("a".into()), 1), Ok(vec![0]));
        assert!(write(int(4, false), Value::Tristate('y'), 4).is_err());
        assert!(write(Shape::Bool, Value::Number(2), 1).is_err());
    }
}

//! Configurations: whatever the text, each option is what a second reading of libbpf's rules says, or all is refused.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;

use skep::asm::Endian;
use skep::btf::Btf;
use skep::reloc::{ConfigFeature, Target, TargetError};
use skep::spec::{ExternKind, Spec};

/// How an option of the object holds its value.
#[derive(Clone, Copy)]
enum Holds {
    Bool,
    Char(bool),
    Int(usize, bool),
    Tristate,
    Text(usize),
}

const OPTIONS: [(&str, Holds); 13] = [
    ("CONFIG_BOOL", Holds::Bool),
    ("CONFIG_QUALIFIED", Holds::Bool),
    ("CONFIG_CHAR", Holds::Char(true)),
    ("CONFIG_U8", Holds::Char(false)),
    ("CONFIG_S16", Holds::Int(2, true)),
    ("CONFIG_U16", Holds::Int(2, false)),
    ("CONFIG_S32", Holds::Int(4, true)),
    ("CONFIG_U32", Holds::Int(4, false)),
    ("CONFIG_S64", Holds::Int(8, true)),
    ("CONFIG_U64", Holds::Int(8, false)),
    ("CONFIG_TRISTATE", Holds::Tristate),
    ("CONFIG_TEXT", Holds::Text(6)),
    ("CONFIG_LETTER", Holds::Text(1)),
];

/// The bytes of options; none where the text is refused.
type Values = Option<BTreeMap<&'static str, Vec<u8>>>;

fn specs() -> &'static [Spec; 2] {
    static SPECS: OnceLock<[Spec; 2]> = OnceLock::new();
    SPECS.get_or_init(|| {
        let little: &[u8] = include_bytes!("../../testdata/kconfig_types.o");
        let big = include_bytes!("../../testdata/kconfig_types.eb.o");
        [little, big].map(|bytes| {
            let mut spec = Spec::parse("kconfig", bytes).expect("testdata");
            // Only the map of the values is looked at.
            spec.programs.clear();
            spec.functions.clear();
            spec.globals.clear();
            spec
        })
    })
}

/// A kernel of which only the configuration is known.
#[derive(Debug)]
struct Configured<'t>(&'t str);

impl Target for Configured<'_> {
    fn btf(&self) -> Result<Btf, TargetError> {
        Err(TargetError::new("types", "there are none"))
    }

    fn kconfig(&self) -> Result<String, TargetError> {
        Ok(self.0.to_owned())
    }

    fn version_code(&self) -> Result<u32, TargetError> {
        Ok(0x0006_0c01)
    }

    fn has(&self, _: ConfigFeature) -> Result<bool, TargetError> {
        Ok(true)
    }
}

/// Gives a text to an object as its own configuration, and as that of a kernel. Its length chooses the byte order.
pub fn kconfig(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let spec = &specs()[data.len() % 2];
    let expected = read(&text, spec.endian);
    let kernel = Configured(&text);
    assert_eq!(values(spec, &kernel), expected, "as the kernel's: {text:?}");
    let mut own = spec.clone();
    match own.set_kconfig_text(&text) {
        Ok(()) => {
            assert_eq!(values(&own, &Configured("")), expected, "as the object's: {text:?}");
            assert_eq!(values(&own, &kernel), expected, "as both: {text:?}");
        }
        Err(error) => {
            assert_eq!(expected, None, "{error}: {text:?}");
            assert_eq!(own, *spec);
        }
    }
}

/// What the options are in a plan.
fn values(spec: &Spec, target: &dyn Target) -> Values {
    let plan = spec.relocate(target).ok()?;
    let contents = &plan.map(".kconfig").expect("the object has options").spec.contents;
    let mut values = BTreeMap::new();
    for (name, _) in OPTIONS {
        let found = spec.externs.iter().find(|found| found.name == name).expect("the object has it");
        let ExternKind::Kconfig { offset, size } = found.kind else { panic!("{name} is no option") };
        values.insert(name, contents[offset as usize..][..size as usize].to_vec());
    }
    Some(values)
}

/// Reads a text by libbpf's rules, one character at a time.
fn read(text: &str, endian: Endian) -> Values {
    let mut values = BTreeMap::new();
    let mut set = BTreeSet::new();
    for (name, holds) in OPTIONS {
        values.insert(name, vec![0; size(holds)]);
    }
    for line in text.split('\n') {
        let line = line.strip_suffix('\r').unwrap_or(line);
        if !line.starts_with("CONFIG_") {
            continue;
        }
        let at = line.find('=')?;
        let (name, value) = (&line[..at], &line[at + 1..]);
        if value.is_empty() {
            return None;
        }
        let Some((name, holds)) = OPTIONS.iter().find(|(option, _)| *option == name) else { continue };
        if set.insert(*name) {
            values.insert(name, hold(value, *holds, endian)?);
        }
    }
    Some(values)
}

fn size(holds: Holds) -> usize {
    match holds {
        Holds::Bool | Holds::Char(_) => 1,
        Holds::Int(size, _) | Holds::Text(size) => size,
        Holds::Tristate => 4,
    }
}

fn hold(value: &str, holds: Holds, endian: Endian) -> Option<Vec<u8>> {
    let number = match (value.chars().next()?, holds) {
        ('y' | 'n', Holds::Bool) => i128::from(value.starts_with('y')),
        (letter @ ('y' | 'n' | 'm'), Holds::Char(_)) => i128::from(u32::from(letter)),
        ('n', Holds::Tristate) => 0,
        ('y', Holds::Tristate) => 1,
        ('m', Holds::Tristate) => 2,
        ('y' | 'n' | 'm', _) => return None,
        ('"', Holds::Text(size)) => {
            let mut bytes = value.as_bytes()[1..].to_vec();
            if bytes.pop() != Some(b'"') {
                return None;
            }
            bytes.resize(size - 1, 0);
            bytes.push(0);
            return Some(bytes);
        }
        (_, Holds::Char(signed)) => whole(value, 1, signed)?,
        (_, Holds::Int(size, signed)) => whole(value, size, signed)?,
        _ => return None,
    };
    let size = size(holds);
    Some(match endian {
        Endian::Little => number.to_le_bytes()[..size].to_vec(),
        Endian::Big => number.to_be_bytes()[16 - size..].to_vec(),
    })
}

/// A number of C that fits.
fn whole(value: &str, size: usize, signed: bool) -> Option<i128> {
    let mut rest = value.trim_start_matches([' ', '\t', '\n', '\r', '\x0b', '\x0c']);
    let negative = rest.starts_with('-');
    rest = rest.strip_prefix(['-', '+']).unwrap_or(rest);
    let base = match rest.as_bytes() {
        [b'0', b'x' | b'X', ..] => 16,
        [b'0', ..] => 8,
        _ => 10,
    };
    if base == 16 {
        rest = &rest[2..];
    }
    if rest.is_empty() {
        return None;
    }
    let mut number = 0u128;
    for digit in rest.chars() {
        number = number.checked_mul(base.into())? + u128::from(digit.to_digit(base)?);
    }
    let number = u64::try_from(number).ok()?;
    let number = if negative { 0u64.wrapping_sub(number) } else { number };
    // Both readings of the 64 bits count, so that -1 and its complement are one.
    let bits = 8 * size as u32;
    let readings = [i128::from(number), i128::from(number as i64)];
    let (low, high) = if signed { (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) } else { (0, (1 << bits) - 1) };
    let fits = |number: &i128| bits == 64 || (low..=high).contains(number);
    readings.into_iter().find(fits)
}

//! Operations on maps as text: made from a seed, played on any kernel, written down with what came of them, and played anew.
//!
//! A map is described by a line that begins with `==`, and under it there is a line for each operation: what is tried, and
//! after an arrow the result. Keys are hexadecimal, or `@` and the name of what a descriptor stands for. Values are `#` and a
//! number that their bytes follow from, or `@` and a name, or a number and perhaps a program: `2@xdp_devmap`.

#![allow(dead_code, reason = "each test target uses a part")]

pub(crate) mod generate;
pub(crate) mod objects;
pub(crate) mod play;

use std::collections::BTreeMap;
use std::fmt::{self, Display, Write};

use skep_sys::abi::{MapFlags, MapType};

/// A map to be made.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Spec {
    pub(crate) kind: MapType,
    pub(crate) key: u32,
    pub(crate) value: u32,
    pub(crate) max: u32,
    pub(crate) flags: MapFlags,
    pub(crate) extra: u64,
    /// What the types of the value are.
    pub(crate) types: Types,
    /// The name of the map that those in a map of maps look like.
    pub(crate) inner: Option<&'static str>,
}

/// The types of a map's key and value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Types {
    None,
    /// Integers and bytes.
    Plain,
    /// The value begins with a spin lock.
    Locked,
}

impl Spec {
    pub(crate) fn new(kind: MapType, key: u32, value: u32, max: u32) -> Spec {
        let flags = MapFlags::empty();
        Spec { kind, key, value, max, flags, extra: 0, types: Types::None, inner: None }
    }

    /// Whether elements are in an order that no one knows.
    pub(crate) fn is_unordered(&self) -> bool {
        use MapType as M;
        matches!(
            self.kind,
            M::HASH
                | M::PERCPU_HASH
                | M::LRU_HASH
                | M::LRU_PERCPU_HASH
                | M::HASH_OF_MAPS
                | M::SOCKHASH
                | M::DEVMAP_HASH
        )
    }
}

impl Display for Spec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Spec { kind, key, value, max, flags, .. } = self;
        write!(f, "{kind} key={key} value={value} max={max} flags={:#x}", flags.bits())?;
        if self.extra != 0 {
            write!(f, " extra={}", self.extra)?;
        }
        match self.types {
            Types::None => {}
            Types::Plain => f.write_str(" types=plain")?,
            Types::Locked => f.write_str(" types=locked")?,
        }
        self.inner.map_or(Ok(()), |inner| write!(f, " inner={inner}"))
    }
}

fn parse_spec(line: &str) -> Spec {
    let mut words = line.split(' ');
    let kind = MapType::from_name(words.next().unwrap_or_default()).unwrap_or_else(|| panic!("kind: {line}"));
    let mut spec = Spec::new(kind, 0, 0, 0);
    for word in words {
        let (name, text) = word.split_once('=').unwrap_or_else(|| panic!("{line}"));
        let number = || text.parse::<u32>().unwrap_or_else(|_| panic!("{line}"));
        match name {
            "key" => spec.key = number(),
            "value" => spec.value = number(),
            "max" => spec.max = number(),
            "flags" => spec.flags = MapFlags::from_bits_retain(hex_number(text) as u32),
            "extra" => spec.extra = number().into(),
            "types" => spec.types = if text == "locked" { Types::Locked } else { Types::Plain },
            "inner" => spec.inner = Some(objects::known(text)),
            _ => panic!("{line}"),
        }
    }
    spec
}

fn hex_number(text: &str) -> u64 {
    let digits = text.strip_prefix("0x").unwrap_or_else(|| panic!("hexadecimal: {text}"));
    u64::from_str_radix(digits, 16).unwrap_or_else(|_| panic!("hexadecimal: {text}"))
}

#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Key {
    None,
    Bytes(Vec<u8>),
    /// The descriptor of an object.
    Object(&'static str),
}

#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Value {
    /// Bytes that follow from a number.
    Bytes(u32),
    /// The descriptor of an object.
    Object(&'static str),
    /// A number and, where there is room, the descriptor of a program.
    Word(u32, Option<&'static str>),
}

#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Op {
    Lookup(Key, u64),
    Update(Key, Value, u64),
    Delete(Key),
    Next(Key),
    Take(Key, u64),
    /// All keys.
    Keys,
    /// All elements, so many at a time, or more where the kernel says that there are more in one place.
    LookupAll(u32, u64),
    /// One call that starts at the beginning, for kinds with an order.
    LookupBatch(u32, u64),
    TakeAll(u32, u64),
    UpdateBatch(Vec<(Key, Value)>, u64),
    DeleteBatch(Vec<Key>),
    Freeze,
    Info,
    Poll,
    /// A mapping that goes at once: offset, length, whether it can be written.
    Map(u64, u32, bool),
    /// Makes a mapping that stays, and can be written if asked for.
    Hold(u32, bool),
    /// Writes into it.
    Poke(u32, u8),
    /// Reads from it.
    Peek(u32, u32),
    /// Lets go of it.
    Drop,
    /// Goes on with a descriptor with this mode.
    Reopen(u32),
}

impl Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Key::None => f.write_str("-"),
            Key::Bytes(bytes) => bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}")),
            Key::Object(name) => write!(f, "@{name}"),
        }
    }
}

impl Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Bytes(number) => write!(f, "#{number}"),
            Value::Object(name) => write!(f, "@{name}"),
            Value::Word(number, None) => write!(f, "{number}"),
            Value::Word(number, Some(name)) => write!(f, "{number}@{name}"),
        }
    }
}

impl Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Op::Lookup(key, flags) => write!(f, "lookup {key} {flags:#x}"),
            Op::Update(key, value, flags) => write!(f, "update {key} {value} {flags:#x}"),
            Op::Delete(key) => write!(f, "delete {key}"),
            Op::Next(key) => write!(f, "next {key}"),
            Op::Take(key, flags) => write!(f, "take {key} {flags:#x}"),
            Op::Keys => f.write_str("keys"),
            Op::LookupAll(count, flags) => write!(f, "lookup_all {count} {flags:#x}"),
            Op::LookupBatch(count, flags) => write!(f, "lookup_batch {count} {flags:#x}"),
            Op::TakeAll(count, flags) => write!(f, "take_all {count} {flags:#x}"),
            Op::UpdateBatch(elements, flags) => {
                write!(f, "update_batch {flags:#x}")?;
                elements.iter().try_for_each(|(key, value)| write!(f, " {key}={value}"))
            }
            Op::DeleteBatch(keys) => {
                f.write_str("delete_batch")?;
                keys.iter().try_for_each(|key| write!(f, " {key}"))
            }
            Op::Freeze => f.write_str("freeze"),
            Op::Info => f.write_str("info"),
            Op::Poll => f.write_str("poll"),
            Op::Map(offset, len, write) => write!(f, "map {offset} {len} {}", mode(*write)),
            Op::Hold(len, write) => write!(f, "hold {len} {}", mode(*write)),
            Op::Poke(offset, byte) => write!(f, "poke {offset} {byte}"),
            Op::Peek(offset, len) => write!(f, "peek {offset} {len}"),
            Op::Drop => f.write_str("drop"),
            Op::Reopen(flags) => write!(f, "reopen {flags}"),
        }
    }
}

fn mode(write: bool) -> &'static str {
    if write { "rw" } else { "r" }
}

fn parse_key(text: &str) -> Key {
    if text == "-" {
        return Key::None;
    }
    if let Some(name) = text.strip_prefix('@') {
        return Key::Object(objects::known(name));
    }
    let digits = text.as_bytes().chunks(2);
    let byte = |pair: &[u8]| u8::from_str_radix(str::from_utf8(pair).unwrap_or_default(), 16);
    Key::Bytes(digits.map(|pair| byte(pair).unwrap_or_else(|_| panic!("key: {text}"))).collect())
}

fn parse_value(text: &str) -> Value {
    let number = |text: &str| text.parse().unwrap_or_else(|_| panic!("value: {text}"));
    match text.split_once('@') {
        Some(("", name)) => Value::Object(objects::known(name)),
        Some((word, name)) => Value::Word(number(word), Some(objects::known(name))),
        None => text
            .strip_prefix('#')
            .map_or_else(|| Value::Word(number(text), None), |n| Value::Bytes(number(n))),
    }
}

fn parse_op(line: &str) -> Op {
    let words: Vec<&str> = line.split(' ').collect();
    let number = |at: usize| words[at].parse::<u32>().unwrap_or_else(|_| panic!("{line}"));
    let flags = |at: usize| hex_number(words[at]);
    let key = |at: usize| parse_key(words[at]);
    match words[0] {
        "lookup" => Op::Lookup(key(1), flags(2)),
        "update" => Op::Update(key(1), parse_value(words[2]), flags(3)),
        "delete" => Op::Delete(key(1)),
        "next" => Op::Next(key(1)),
        "take" => Op::Take(key(1), flags(2)),
        "keys" => Op::Keys,
        "lookup_all" => Op::LookupAll(number(1), flags(2)),
        "lookup_batch" => Op::LookupBatch(number(1), flags(2)),
        "take_all" => Op::TakeAll(number(1), flags(2)),
        "update_batch" => {
            let pair = |word: &&str| word.split_once('=').map(|(k, v)| (parse_key(k), parse_value(v)));
            Op::UpdateBatch(words[2..].iter().map(|word| pair(word).expect("a pair")).collect(), flags(1))
        }
        "delete_batch" => Op::DeleteBatch(words[1..].iter().map(|word| parse_key(word)).collect()),
        "freeze" => Op::Freeze,
        "info" => Op::Info,
        "poll" => Op::Poll,
        "map" => Op::Map(number(1).into(), number(2), words[3] == "rw"),
        "hold" => Op::Hold(number(1), words[2] == "rw"),
        "poke" => Op::Poke(number(1), number(2) as u8),
        "peek" => Op::Peek(number(1), number(2)),
        "drop" => Op::Drop,
        "reopen" => Op::Reopen(number(1)),
        _ => panic!("{line}"),
    }
}

/// A map, what was done with it, and what came of that.
#[derive(Debug)]
pub(crate) struct Recorded {
    pub(crate) spec: Spec,
    /// What came of making it.
    pub(crate) created: String,
    pub(crate) ops: Vec<(Op, String)>,
}

/// Reads what [`write`] wrote.
pub(crate) fn read(text: &str) -> Vec<Recorded> {
    let mut all: Vec<Recorded> = Vec::new();
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (tried, result) = line.rsplit_once(" -> ").unwrap_or_else(|| panic!("no result: {line}"));
        if let Some(spec) = tried.strip_prefix("== ") {
            let (spec, created) = (parse_spec(spec), result.to_owned());
            all.push(Recorded { spec, created, ops: Vec::new() });
        } else {
            let last = all.last_mut().expect("a map before its operations");
            last.ops.push((parse_op(tried), result.to_owned()));
        }
    }
    all
}

pub(crate) fn write(all: &[Recorded]) -> String {
    let mut text = String::new();
    for Recorded { spec, created, ops } in all {
        writeln!(text, "\n== {spec} -> {created}").expect("a string");
        for (op, result) in ops {
            writeln!(text, "{op} -> {result}").expect("a string");
        }
    }
    text
}

/// How many rows hold, by kind: those of its creation, and those of its operations.
pub(crate) fn table(counts: &BTreeMap<String, (usize, usize)>) -> String {
    let mut text = String::new();
    for (kind, (holds, all)) in counts {
        let percent = *holds as f64 * 100.0 / (*all).max(1) as f64;
        writeln!(text, "{kind:32} {holds:5} of {all:5}  {percent:5.1} %").expect("a string");
    }
    text
}

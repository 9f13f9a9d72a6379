//! Format strings of programs, with the rules and the results of the kernel's (`bpf_bprintf_prepare`, `bstr_printf`).
//!
//! The kernel first looks at the whole format, and copies the arguments and the strings that they point to into a buffer;
//! what does not fit there, or is not allowed, is an error. Then it prints. So it is here, with the space counted and not used.

use skep_sys::abi::Errno;

use crate::vm::Vm;

/// Bytes of the buffer for arguments (`MAX_BPRINTF_BIN_ARGS`).
const ARGS_LEN: usize = 512;
/// Widest field (`FIELD_WIDTH_MAX`).
const WIDTH_MAX: usize = (1 << 23) - 1;

/// An argument as the kernel has it after the first pass.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Value {
    Number(u64),
    Text(Vec<u8>),
}

/// What is printed: the first bytes of it, and how many there would be.
#[derive(Debug)]
pub(super) struct Sink {
    pub(super) bytes: Vec<u8>,
    room: usize,
    pub(super) len: usize,
}

impl Sink {
    /// One that keeps up to `room` bytes.
    pub(super) fn new(room: usize) -> Sink {
        Sink { bytes: Vec::new(), room, len: 0 }
    }

    fn pad(&mut self, byte: u8, count: usize) {
        let kept = self.bytes.len().saturating_add(count).min(self.room);
        if self.len == self.bytes.len() {
            self.bytes.resize(kept.max(self.bytes.len()), byte);
        }
        self.len = self.len.saturating_add(count);
    }

    pub(super) fn put(&mut self, bytes: &[u8]) {
        if self.len == self.bytes.len() {
            let left = self.room.saturating_sub(self.bytes.len());
            self.bytes.extend_from_slice(bytes.get(..left).unwrap_or(bytes));
        }
        self.len = self.len.saturating_add(bytes.len());
    }
}

/// Flags and width between `%` and the conversion.
#[derive(Clone, Copy, Default, Debug)]
struct Spec {
    zero: bool,
    left: bool,
    plus: bool,
    space: bool,
    width: Option<usize>,
}

impl Spec {
    /// Reads it from the start of `text`. Answers how long it was.
    fn parse(text: &[u8]) -> (Spec, usize) {
        let mut spec = Spec::default();
        let mut at = 0;
        loop {
            match text.get(at) {
                Some(b'0') => spec.zero = true,
                Some(b'-') => spec.left = true,
                Some(b'+') => spec.plus = true,
                Some(b' ') => spec.space = true,
                _ => break,
            }
            at += 1; // inside of the text
        }
        let digits = text.iter().skip(at).take_while(|byte| byte.is_ascii_digit());
        let mut width = None;
        for digit in digits {
            at += 1; // inside of the text
            let known: usize = width.unwrap_or(0);
            width = Some(known.saturating_mul(10).saturating_add((digit - b'0').into()).min(WIDTH_MAX)); // a digit
        }
        spec.width = width;
        (spec, at)
    }

    /// A number, as `number()` of the kernel writes it.
    fn number(self, sink: &mut Sink, magnitude: u64, sign: Option<u8>, base: u64, upper: bool) {
        let mut digits = [0; 24];
        let mut first = digits.len();
        let mut rest = magnitude;
        loop {
            let digit = (rest % base) as u8; // a base is 10 or 16
            let letter = if upper { b'A' } else { b'a' };
            let text = if digit < 10 { b'0' + digit } else { letter + (digit - 10) }; // below 16
            first -= 1; // 64 bits have at most 20 digits
            if let Some(place) = digits.get_mut(first) {
                *place = text;
            }
            rest /= base; // a base is 10 or 16
            if rest == 0 {
                break;
            }
        }
        let digits = digits.get(first..).unwrap_or_default();
        let taken = digits.len() + usize::from(sign.is_some());
        let fill = self.width.unwrap_or(0).saturating_sub(taken);
        let zero = self.zero && !self.left;
        if !zero && !self.left {
            sink.pad(b' ', fill);
        }
        if let Some(sign) = sign {
            sink.put(&[sign]);
        }
        if zero {
            sink.pad(b'0', fill);
        }
        sink.put(digits);
        if self.left {
            sink.pad(b' ', fill);
        }
    }

    fn signed(self, sink: &mut Sink, value: i64) {
        let sign = match value {
            ..0 => Some(b'-'),
            _ if self.plus => Some(b'+'),
            _ if self.space => Some(b' '),
            _ => None,
        };
        self.number(sink, value.unsigned_abs(), sign, 10, false);
    }

    fn text(self, sink: &mut Sink, text: &[u8]) {
        let fill = self.width.unwrap_or(0).saturating_sub(text.len());
        if !self.left {
            sink.pad(b' ', fill);
        }
        sink.put(text);
        if self.left {
            sink.pad(b' ', fill);
        }
    }

    /// An address with all its digits.
    fn pointer(mut self, sink: &mut Sink, address: u64) {
        if self.width.is_none() {
            self.width = Some(16);
            self.zero = true;
        }
        self.number(sink, address, None, 16, false);
    }
}

/// What is kept of the space for arguments.
struct Space(usize);

impl Space {
    /// Takes a number, which lies at a multiple of 4.
    fn number(&mut self, len: usize) -> Result<(), Errno> {
        self.0 = self.0.next_multiple_of(4);
        if ARGS_LEN.saturating_sub(self.0) < len {
            return Err(Errno::ENOSPC);
        }
        self.0 += len; // below the limit
        Ok(())
    }

    fn left(&self) -> usize {
        ARGS_LEN.saturating_sub(self.0)
    }
}

fn byte(format: &[u8], at: usize) -> u8 {
    format.get(at).copied().unwrap_or(0)
}

/// As the kernel's `isspace` and `ispunct` see ASCII.
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | 9..=13)
}

fn ends_conversion(byte: u8) -> bool {
    byte == 0 || is_space(byte) || byte.is_ascii_punctuation()
}

/// Prints. The format ends before its NUL. `args` are as many as there are, which may be more than are used.
///
/// # Errors
/// What helpers answer: `EINVAL` for a format that is not allowed, `ENOSPC` for too much in the arguments.
pub(super) fn print(vm: &mut Vm, format: &[u8], args: &[u64], sink: &mut Sink) -> Result<(), Errno> {
    let values = prepare(vm, format, args)?;
    let mut values = values.into_iter();
    let mut at = 0;
    while at < format.len() {
        let literal = format.iter().skip(at).take_while(|byte| **byte != b'%').count();
        sink.put(format.get(at..at + literal).unwrap_or_default());
        at += literal + 1;
        if at > format.len() {
            break;
        }
        if byte(format, at) == b'%' {
            sink.put(b"%");
            at += 1;
            continue;
        }
        let (spec, len) = Spec::parse(format.get(at..).unwrap_or_default());
        at += len;
        let value = values.next().unwrap_or(Value::Number(0));
        at += print_value(vm, sink, spec, format.get(at..).unwrap_or_default(), &value);
    }
    Ok(())
}

/// Prints one value. Answers how long the conversion is.
fn print_value(vm: &Vm, sink: &mut Sink, spec: Spec, conversion: &[u8], value: &Value) -> usize {
    let longs = conversion.iter().take_while(|byte| **byte == b'l').count().min(2);
    let number = match value {
        Value::Number(number) => *number,
        Value::Text(_) => 0,
    };
    let wide = longs > 0;
    match byte(conversion, longs) {
        b'd' | b'i' => {
            spec.signed(sink, if wide { number.cast_signed() } else { i64::from(number as u32 as i32) })
        }
        b'u' => spec.number(sink, if wide { number } else { u64::from(number as u32) }, None, 10, false),
        kind @ (b'x' | b'X') => {
            let number = if wide { number } else { u64::from(number as u32) };
            spec.number(sink, number, None, 16, kind == b'X');
        }
        b'c' => spec.text(sink, &[number as u8]),
        b's' => {
            if let Value::Text(text) = value {
                spec.text(sink, text);
            }
        }
        b'p' => {
            match (value, byte(conversion, 1)) {
                // Printed before, without its width.
                (Value::Text(text), _) => sink.put(text),
                (_, b's') => spec.text(sink, symbol(vm, number, false).as_bytes()),
                (_, b'S') => spec.text(sink, symbol(vm, number, true).as_bytes()),
                (_, b'x') => spec.pointer(sink, number),
                // What stands for an address: always the same one.
                _ => spec.pointer(sink, hashed(number)),
            }
            let rest = conversion.get(1..).unwrap_or_default();
            return 1 + rest.iter().take_while(|byte| byte.is_ascii_alphanumeric()).count();
        }
        _ => {}
    }
    longs + 1
}

/// What is printed for an address instead of it. Null and errors are printed as they are.
pub(super) fn hashed(address: u64) -> u64 {
    const ERRORS: u64 = 4095;

    if address == 0 || address > u64::MAX - ERRORS {
        return address;
    }
    let hash = (address ^ address >> 32).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    u64::from((hash >> 32) as u32)
}

/// A place in the kernel's code, by its name.
fn symbol(vm: &Vm, address: u64, with_offset: bool) -> String {
    match vm.kernel.0.symbol_at(address) {
        Some(found) if with_offset => format!("{}+{:#x}/{:#x}", found.name, found.offset, found.size),
        Some(found) => found.name,
        None => format!("{address:#x}"),
    }
}

/// The first pass: checks the format and takes the arguments.
fn prepare(vm: &mut Vm, format: &[u8], args: &[u64]) -> Result<Vec<Value>, Errno> {
    let mut values = Vec::new();
    let mut space = Space(0);
    let mut at = 0;
    while at < format.len() {
        let here = byte(format, at);
        let printable = here.is_ascii_graphic() || is_space(here);
        if !printable {
            return Err(Errno::EINVAL);
        }
        at += 1;
        if here != b'%' {
            continue;
        }
        if byte(format, at) == b'%' {
            at += 1;
            continue;
        }
        let arg = *args.get(values.len()).ok_or(Errno::EINVAL)?;
        let (_, len) = Spec::parse(format.get(at..).unwrap_or_default());
        at += len;
        let (value, len) = take(vm, format.get(at..).unwrap_or_default(), arg, &mut space)?;
        values.push(value);
        at += len;
    }
    Ok(values)
}

/// Takes the argument of one conversion. Answers how long the conversion is.
fn take(vm: &mut Vm, conversion: &[u8], arg: u64, space: &mut Space) -> Result<(Value, usize), Errno> {
    let at = |index| byte(conversion, index);
    match at(0) {
        b'p' if at(1) != b'%' && ends_conversion(at(1)) => {
            space.number(8)?;
            Ok((Value::Number(arg), 1))
        }
        b'p' => match (at(1), at(2)) {
            (b'k' | b'u', b's') => {
                let text = string(vm, arg, at(3), space, at(1) == b'u')?;
                Ok((text, 3))
            }
            (b'K' | b'x' | b's' | b'S', _) => {
                space.number(8)?;
                Ok((Value::Number(arg), 2))
            }
            (b'B', _) => {
                let text = symbol(vm, arg, true).into_bytes();
                space.0 = space.0.saturating_add(text.len() + 1);
                Ok((Value::Text(text), 2))
            }
            (kind @ (b'i' | b'I'), version @ (b'4' | b'6')) => {
                let len = if version == b'4' { 4 } else { 16 };
                if space.left() < len {
                    return Err(Errno::ENOSPC);
                }
                let mut bytes = [0; 16];
                let bytes = bytes.get_mut(..len).unwrap_or_default();
                if vm.memory.read(arg, bytes).is_err() {
                    bytes.fill(0);
                }
                let mut text = ip(kind == b'I', bytes).into_bytes();
                let needed = text.len() + 1;
                text.truncate(space.left().saturating_sub(1));
                space.0 = space.0.saturating_add(needed);
                Ok((Value::Text(text), 3))
            }
            _ => Err(Errno::EINVAL),
        },
        b's' => Ok((string(vm, arg, at(1), space, false)?, 1)),
        b'c' => {
            if space.left() == 0 {
                return Err(Errno::ENOSPC);
            }
            space.0 += 1; // there is space
            Ok((Value::Number(arg & 0xff), 1))
        }
        _ => {
            let longs = conversion.iter().take_while(|byte| **byte == b'l').count().min(2);
            if !matches!(at(longs), b'i' | b'd' | b'u' | b'x' | b'X') {
                return Err(Errno::EINVAL);
            }
            space.number(if longs == 0 { 4 } else { 8 })?;
            Ok((Value::Number(arg), longs + 1))
        }
    }
}

/// The string at an address. What cannot be read is an empty one.
fn string(vm: &mut Vm, address: u64, after: u8, space: &mut Space, user: bool) -> Result<Value, Errno> {
    if !ends_conversion(after) {
        return Err(Errno::EINVAL);
    }
    if space.left() == 0 {
        return Err(Errno::ENOSPC);
    }
    let text = vm.text_at(address, space.left() - 1, user).unwrap_or_default(); // above 0
    space.0 = space.0.saturating_add(text.len() + 1);
    Ok(Value::Text(text))
}

/// An address of the internet. `readable` is with colons, or without leading zeros.
fn ip(readable: bool, bytes: &[u8]) -> String {
    if bytes.len() == 4 {
        let parts = bytes.iter().map(|byte| if readable { byte.to_string() } else { format!("{byte:03}") });
        return parts.collect::<Vec<_>>().join(".");
    }
    let (pairs, _) = bytes.as_chunks::<2>();
    let parts: Vec<String> = pairs.iter().map(|[a, b]| format!("{a:02x}{b:02x}")).collect();
    parts.join(if readable { ":" } else { "" })
}

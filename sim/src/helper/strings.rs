//! Numbers out of text, and the functions on strings.

use skep_sys::abi::Errno;

use super::memory::with_bytes;
use super::{HelperFn, negative};
use crate::vm::{Trap, Vm};

pub(super) const HELPERS: &[(i32, HelperFn)] = &[
    (105, |vm, [text, len, flags, to, _]| parse(vm, text, len, flags, to, signed)),
    (106, |vm, [text, len, flags, to, _]| parse(vm, text, len, flags, to, unsigned)),
    (182, strncmp),
];

pub(super) const KFUNCS: &[(&str, HelperFn)] = &[
    ("bpf_strcmp", |vm, [a, b, ..]| compare(vm, a, b, false)),
    ("bpf_strcasecmp", |vm, [a, b, ..]| compare(vm, a, b, true)),
    ("bpf_strnchr", |vm, [text, max, byte, ..]| find(vm, text, max, byte, false)),
    ("bpf_strchr", |vm, [text, byte, ..]| find(vm, text, LEN_MAX, byte, false)),
    ("bpf_strchrnul", |vm, [text, byte, ..]| find(vm, text, LEN_MAX, byte, true)),
    ("bpf_strrchr", find_last),
    ("bpf_strnlen", |vm, [text, max, ..]| length(vm, text, max)),
    ("bpf_strlen", |vm, [text, ..]| length(vm, text, LEN_MAX)),
    ("bpf_strspn", |vm, [text, set, ..]| span(vm, text, set, true)),
    ("bpf_strcspn", |vm, [text, set, ..]| span(vm, text, set, false)),
    ("bpf_strstr", |vm, [text, part, ..]| search(vm, text, part, LEN_MAX)),
    ("bpf_strnstr", |vm, [text, part, max, ..]| search(vm, text, part, max)),
];

/// Bits of the flags that are the base.
const BASE: u64 = 0x1f;
/// Bytes of a number that are looked at.
const DIGITS_MAX: usize = 63;
/// Longest string that is looked at (`XATTR_SIZE_MAX`).
const LEN_MAX: u64 = 65_536;

/// `bpf_strtol(text, len, flags, result)` and `bpf_strtoul`: how many bytes the number was.
fn parse(
    vm: &mut Vm,
    text: u64,
    len: u64,
    flags: u64,
    to: u64,
    number: fn(bool, u64) -> Result<u64, Errno>,
) -> Result<u64, Trap> {
    let len = u64::from(len as u32) as usize;
    vm.memory.write(to, &0u64.to_ne_bytes())?;
    with_bytes(vm, text, len, |vm, bytes| {
        let found = parse_integer(bytes, flags);
        match found.and_then(|(negative, value, taken)| Ok((number(negative, value)?, taken))) {
            Ok((value, taken)) => {
                vm.memory.write(to, &value.to_ne_bytes())?;
                Ok(taken as u64)
            }
            Err(errno) => Ok(negative(errno)),
        }
    })
}

fn signed(negative: bool, value: u64) -> Result<u64, Errno> {
    let value = if negative { value.wrapping_neg() } else { value };
    let other = if negative { value.cast_signed() > 0 } else { value.cast_signed() < 0 };
    if other { Err(Errno::ERANGE) } else { Ok(value) }
}

fn unsigned(negative: bool, value: u64) -> Result<u64, Errno> {
    if negative { Err(Errno::EINVAL) } else { Ok(value) }
}

/// The sign, the number, and how many bytes it is with what is before it.
fn parse_integer(bytes: &[u8], flags: u64) -> Result<(bool, u64, usize), Errno> {
    let mut base = flags & BASE;
    if bytes.is_empty() || !matches!(base, 0 | 8 | 10 | 16) || flags & !BASE != 0 {
        return Err(Errno::EINVAL);
    }
    // 0xa0 is a space to the kernel.
    let mut before = bytes.iter().take_while(|byte| matches!(byte, b' ' | 9..=13 | 0xa0)).count();
    let negative = bytes.get(before) == Some(&b'-');
    before += usize::from(negative);
    let rest = bytes.get(before..).unwrap_or_default();
    let rest = rest.get(..DIGITS_MAX).unwrap_or(rest);
    if rest.is_empty() {
        return Err(Errno::EINVAL);
    }
    let is_hex = matches!(rest, [b'0', b'x' | b'X', digit, ..] if digit.is_ascii_hexdigit());
    if base == 0 {
        base = match rest {
            [b'0', ..] if is_hex => 16,
            [b'0', ..] => 8,
            _ => 10,
        };
    }
    let prefix = if base == 16 && matches!(rest, [b'0', b'x' | b'X', ..]) { 2 } else { 0 };
    let digits = rest.get(prefix..).unwrap_or_default();
    let (mut value, mut count, mut overflow) = (0u64, 0, false);
    for byte in digits {
        let Some(digit) = char::from(*byte).to_digit(16).map(u64::from).filter(|digit| *digit < base) else {
            break;
        };
        let next = value.checked_mul(base).and_then(|value| value.checked_add(digit));
        overflow |= next.is_none();
        value = next.unwrap_or(0);
        count += 1;
    }
    match (overflow, count) {
        (true, _) => Err(Errno::ERANGE),
        (_, 0) => Err(Errno::EINVAL),
        _ => Ok((negative, value, before + prefix + count)),
    }
}

/// `bpf_strncmp(a, a_len, b)`.
fn strncmp(vm: &mut Vm, [a, len, b, ..]: [u64; 5]) -> Result<u64, Trap> {
    let len = u64::from(len as u32) as usize;
    with_bytes(vm, a, len, |vm, a| {
        for (at, byte) in (0..).zip(a) {
            let mut other = [0];
            vm.memory.read(b.wrapping_add(at), &mut other)?;
            let [other] = other;
            if *byte != other {
                return Ok(if *byte < other { -1i64 as u64 } else { 1 });
            }
            if *byte == 0 {
                break;
            }
        }
        Ok(0)
    })
}

/// A byte of a string, which may be anywhere.
fn byte(vm: &mut Vm, address: u64, at: u64) -> Result<u8, Errno> {
    let mut byte = [0];
    match vm.memory.read(address.wrapping_add(at), &mut byte) {
        Ok(()) => Ok(byte[0]), // one byte
        // Null and what is in the first page is no address of the kernel.
        Err(_) if address < 4096 => Err(Errno::ERANGE),
        Err(_) => Err(Errno::EFAULT),
    }
}

/// What a function on strings returns: an `int`.
fn int(result: Result<u64, Errno>) -> Result<u64, Trap> {
    Ok(result.unwrap_or_else(negative))
}

fn compare(vm: &mut Vm, a: u64, b: u64, fold: bool) -> Result<u64, Trap> {
    let mut compare = || {
        for at in 0..LEN_MAX {
            let (mut x, mut y) = (byte(vm, a, at)?, byte(vm, b, at)?);
            if fold {
                (x, y) = (x.to_ascii_lowercase(), y.to_ascii_lowercase());
            }
            if x != y {
                return Ok(if x < y { -1i64 as u64 } else { 1 });
            }
            if x == 0 {
                return Ok(0);
            }
        }
        Err(Errno::E2BIG)
    };
    int(compare())
}

fn find(vm: &mut Vm, text: u64, max: u64, wanted: u64, or_end: bool) -> Result<u64, Trap> {
    let mut find = || {
        for at in 0..max.min(LEN_MAX) {
            match byte(vm, text, at)? {
                found if found == wanted as u8 => return Ok(at),
                0 if or_end => return Ok(at),
                0 => return Err(Errno::ENOENT),
                _ => {}
            }
        }
        Err(if max < LEN_MAX { Errno::ENOENT } else { Errno::E2BIG })
    };
    int(find())
}

fn find_last(vm: &mut Vm, [text, wanted, ..]: [u64; 5]) -> Result<u64, Trap> {
    let mut find = || {
        let mut last = None;
        for at in 0..LEN_MAX {
            let found = byte(vm, text, at)?;
            if found == wanted as u8 {
                last = Some(at);
            }
            if found == 0 {
                return last.ok_or(Errno::ENOENT);
            }
        }
        Err(Errno::E2BIG)
    };
    int(find())
}

fn length(vm: &mut Vm, text: u64, max: u64) -> Result<u64, Trap> {
    let mut length = || {
        for at in 0..max.min(LEN_MAX) {
            if byte(vm, text, at)? == 0 {
                return Ok(at);
            }
        }
        if max < LEN_MAX { Ok(max) } else { Err(Errno::E2BIG) }
    };
    int(length())
}

/// How many bytes at the start are in a set, or not in it.
fn span(vm: &mut Vm, text: u64, set: u64, inside: bool) -> Result<u64, Trap> {
    let mut span = || {
        let mut members = [false; 256];
        for at in 0.. {
            match byte(vm, set, at)? {
                0 => break,
                _ if at >= LEN_MAX => return Err(Errno::E2BIG),
                member => members[usize::from(member)] = true, // 256 of them
            }
        }
        for at in 0..LEN_MAX {
            let here = byte(vm, text, at)?;
            let is_member = members[usize::from(here)]; // 256 of them
            if here == 0 || is_member != inside {
                return Ok(at);
            }
        }
        Err(Errno::E2BIG)
    };
    int(span())
}

/// Where a string begins in another one, of which the first `max` bytes are looked at.
fn search(vm: &mut Vm, text: u64, part: u64, max: u64) -> Result<u64, Trap> {
    let mut search = || {
        let mut wanted = Vec::new();
        loop {
            match byte(vm, part, wanted.len() as u64)? {
                0 => break,
                _ if wanted.len() as u64 >= LEN_MAX => return Err(Errno::E2BIG),
                byte => wanted.push(byte),
            }
        }
        if wanted.is_empty() {
            return Ok(0);
        }
        let mut there = Vec::new();
        for at in 0..max.min(LEN_MAX) {
            match byte(vm, text, at)? {
                0 => return Err(Errno::ENOENT),
                byte => there.push(byte),
            }
            if there.ends_with(&wanted) {
                return Ok((there.len() - wanted.len()) as u64); // it ends with it
            }
        }
        Err(if max < LEN_MAX { Errno::ENOENT } else { Errno::E2BIG })
    };
    int(search())
}

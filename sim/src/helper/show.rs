//! Objects written as text by the kernel's types (`bpf_snprintf_btf`, `bpf_seq_printf_btf`), in the form that the kernel has.

use std::sync::Arc;

use skep_btf::{Btf, Kind, Member, Type, TypeId};
use skep_sys::abi::Errno;

use super::format::{Sink, hashed};
use super::{EFFECT, HelperFn, answer, negative, refuse};
use crate::btf::BtfObject;
use crate::vm::{Trap, Vm};
use crate::words::widen_any;

pub(super) const HELPERS: &[(i32, HelperFn)] = &[(149, snprintf_btf), (150, seq_printf_btf)];

/// Flags (`BTF_F_*`).
const COMPACT: u64 = 1;
const NO_NAME: u64 = 1 << 1;
const RAW_POINTERS: u64 = 1 << 2;
const ZERO: u64 = 1 << 3;
/// `sizeof(struct btf_ptr)`.
const BTF_PTR: u32 = 16;
/// Pointers, arrays and typedefs of a name (`BTF_SHOW_MAX_ITER`).
const NESTED_MAX: usize = 10;
/// Most spaces before a line.
const INDENT_MAX: usize = 32;
/// Longest name with its member and type (`BTF_SHOW_NAME_SIZE`, with its NUL).
const NAME_MAX: usize = 79;
/// Values that are looked at, so that types with arrays without an end come to one.
const VALUES_MAX: usize = 1 << 20;
/// Types in types.
const DEPTH_MAX: usize = 64;
/// Largest object.
const OBJECT_MAX: usize = 1 << 20;

/// `bpf_snprintf_btf(to, size, ptr, ptr_size, flags)`: the length that all of it has.
fn snprintf_btf(vm: &mut Vm, [to, size, ptr, ptr_size, flags]: [u64; 5]) -> Result<u64, Trap> {
    let size = size as u32 as usize; // the helper takes 32 bits
    vm.memory.check(to, size, true)?;
    let (btf, ty, address) = match prepare(vm, ptr, ptr_size, flags)? {
        Ok(prepared) => prepared,
        Err(errno) => return Ok(negative(errno)),
    };
    let mut sink = Sink::new(size.saturating_sub(1));
    let shown = show(vm, &btf, ty, address, flags, &mut sink)?;
    if size > 0 {
        sink.bytes.push(0);
        vm.memory.write(to, &sink.bytes)?;
    }
    Ok(shown.map_or_else(negative, |()| sink.len as u64))
}

/// `bpf_seq_printf_btf(seq, ptr, ptr_size, flags)`.
fn seq_printf_btf(vm: &mut Vm, [seq, ptr, ptr_size, flags, _]: [u64; 5]) -> Result<u64, Trap> {
    let seq = vm.seq_file(seq)?;
    let (btf, ty, address) = match prepare(vm, ptr, ptr_size, flags)? {
        Ok(prepared) => prepared,
        Err(errno) => return Ok(negative(errno)),
    };
    let mut sink = Sink::new(seq.size());
    let shown = show(vm, &btf, ty, address, flags, &mut sink)?;
    if shown.is_ok() {
        // That there was no room is told by the buffer.
        let _ = seq.write(&sink.bytes, sink.len);
    }
    Ok(answer(shown))
}

/// What a `struct btf_ptr` says: the types of the kernel, the type, and the address of the object.
#[allow(clippy::type_complexity, reason = "both kinds of failure beside three things")]
fn prepare(
    vm: &mut Vm,
    ptr: u64,
    size: u64,
    flags: u64,
) -> Result<Result<(Arc<BtfObject>, TypeId, u64), Errno>, Trap> {
    if flags & !(COMPACT | NO_NAME | RAW_POINTERS | ZERO) != 0 || size as u32 != BTF_PTR {
        return Ok(Err(Errno::EINVAL));
    }
    let bytes = vm.memory.bytes(ptr, BTF_PTR as usize)?;
    let address = widen_any(bytes.get(..8).unwrap_or_default());
    let id = widen_any(bytes.get(8..12).unwrap_or_default()) as u32;
    let Some(btf) = vm.kernel.0.vmlinux().cloned() else { return Ok(Err(Errno::EINVAL)) };
    if id.cast_signed() <= 0 {
        return Ok(Err(Errno::EINVAL));
    }
    if btf.btf.ty(TypeId(id)).is_err() {
        return Ok(Err(Errno::ENOENT));
    }
    Ok(Ok((btf, TypeId(id), address)))
}

fn show(
    vm: &mut Vm,
    btf: &BtfObject,
    ty: TypeId,
    address: u64,
    flags: u64,
    sink: &mut Sink,
) -> Result<Result<(), Errno>, Trap> {
    let btf = &btf.btf;
    let size = size_of(btf, ty, DEPTH_MAX);
    if size > OBJECT_MAX {
        return Ok(Err(Errno::E2BIG));
    }
    let mut data = vec![0; size];
    if vm.memory.read(address, &mut data).is_err() {
        return Ok(Err(Errno::EFAULT));
    }
    let mut show = Show {
        btf,
        flags,
        sink,
        data: &data,
        depth: 0,
        depth_check: 0,
        depth_to_show: 0,
        member: None,
        state: None,
        in_array: false,
        chars: false,
        terminated: false,
        left: VALUES_MAX,
    };
    let shown = show.value(ty, 0, 0);
    let values = VALUES_MAX - show.left; // it counts down from there
    vm.spend(values as u64 * EFFECT);
    shown.map_err(|()| refuse("the type has more members than are shown"))?;
    Ok(Ok(()))
}

/// Bytes of an object of a type.
fn size_of(btf: &Btf, id: TypeId, depth: usize) -> usize {
    let Some(depth) = depth.checked_sub(1) else { return 0 };
    let Ok(ty) = btf.peel(id) else { return 0 };
    match ty.kind() {
        Kind::PTR => 8,
        Kind::ARRAY => ty
            .array()
            .map_or(0, |array| size_of(btf, array.element, depth).saturating_mul(array.len as usize)),
        Kind::INT | Kind::STRUCT | Kind::UNION | Kind::ENUM | Kind::ENUM64 | Kind::FLOAT => {
            ty.size() as usize
        }
        _ => 0,
    }
}

/// An object that is being written, with the state that the kernel has on the way (`struct btf_show`).
struct Show<'a> {
    btf: &'a Btf,
    flags: u64,
    sink: &'a mut Sink,
    data: &'a [u8],
    depth: usize,
    /// While it is only looked whether something is to be shown: the depth of what is, plus one.
    depth_check: usize,
    /// The deepest level where something was to be shown.
    depth_to_show: usize,
    member: Option<Member<'a>>,
    /// The type that is shown now.
    state: Option<(TypeId, Kind)>,
    in_array: bool,
    /// Whether the elements of the array are shown as characters, and whether their end was seen.
    chars: bool,
    terminated: bool,
    left: usize,
}

impl<'a> Show<'a> {
    fn put(&mut self, text: &str) {
        if self.depth_check == 0 {
            self.sink.put(text.as_bytes());
        }
    }

    fn has(&self, flag: u64) -> bool {
        self.flags & flag != 0
    }

    fn indent(&self) -> String {
        if self.has(COMPACT) { String::new() } else { " ".repeat(self.depth.min(INDENT_MAX)) }
    }

    fn newline(&self) -> &'static str {
        if self.has(COMPACT) { "" } else { "\n" }
    }

    fn delimiter(&self) -> &'static str {
        match self.state {
            _ if self.depth == 0 => "",
            Some((_, Kind::UNION)) if self.has(COMPACT) => "|",
            _ => ",",
        }
    }

    fn qualified(&self, id: TypeId) -> Option<Type<'a>> {
        let mut ty = self.btf.ty(id).ok()?;
        for _ in 0..DEPTH_MAX {
            match ty.kind() {
                Kind::CONST | Kind::VOLATILE | Kind::RESTRICT | Kind::TYPE_TAG => {
                    ty = self.btf.ty(ty.type_id()).ok()?;
                }
                _ => break,
            }
        }
        Some(ty)
    }

    /// What stands before a value: its member and type, and the bracket that it begins with.
    fn name(&self) -> String {
        if self.in_array {
            return String::new();
        }
        let named = self.name_of();
        let mut text = named.unwrap_or_default();
        while text.len() > NAME_MAX {
            text.pop();
        }
        text
    }

    fn name_of(&self) -> Option<String> {
        let member = self.member.map(|member| (member.name().into_owned(), member.type_id));
        let (member, start) = match member {
            Some((name, id)) => (name, id),
            None => (String::new(), self.state?.0),
        };
        let mut ty = self.btf.ty(start).ok()?;
        let (mut name, mut pointers, mut arrays, mut parens) = (None, 0, 0, "");
        let mut is_typedef = false;
        let mut rounds = 0;
        loop {
            if rounds == NESTED_MAX {
                return None;
            }
            rounds += 1; // below the limit
            let next = match ty.kind() {
                Kind::TYPEDEF => {
                    name.get_or_insert_with(|| ty.name().into_owned());
                    is_typedef = true;
                    ty.type_id()
                }
                Kind::ARRAY => {
                    parens = "[";
                    arrays += 1; // once a round
                    ty.array()?.element
                }
                Kind::PTR => {
                    pointers += 1; // once a round
                    ty.type_id()
                }
                _ => break,
            };
            if next.0 == 0 {
                break;
            }
            ty = self.qualified(next)?;
        }
        let name = name
            .unwrap_or_else(|| if ty.kind() == Kind::PTR { String::new() } else { ty.name().into_owned() });
        let mut prefix = match ty.kind() {
            Kind::STRUCT | Kind::UNION => {
                if arrays == 0 {
                    parens = "{";
                }
                if ty.kind() == Kind::STRUCT { "struct" } else { "union" }
            }
            Kind::ENUM | Kind::ENUM64 => "enum",
            _ => "",
        };
        if pointers > 0 {
            parens = "";
        }
        if is_typedef {
            prefix = "";
        }
        if self.has(NO_NAME) {
            return Some(parens.to_owned());
        }
        let member = if member.is_empty() { String::new() } else { format!(".{member} = ") };
        let space = if !prefix.is_empty() && !name.is_empty() { " " } else { "" };
        let stars = if pointers > 0 { format!(" {}", "*".repeat(pointers)) } else { String::new() };
        Some(format!("{member}({prefix}{space}{name}{stars}{}){parens}", "[]".repeat(arrays)))
    }

    /// Writes a value unless it is zero and zeros are left out.
    fn put_value(&mut self, text: &str, is_zero: bool) {
        if is_zero && !self.has(ZERO) && self.depth != 0 {
            return;
        }
        let line = [&self.indent(), &self.name(), text, self.delimiter(), self.newline()].concat();
        self.put(&line);
        self.depth_to_show = self.depth_to_show.max(self.depth);
    }

    fn bytes(&self, at: usize, len: usize) -> &'a [u8] {
        self.data.get(at..at.saturating_add(len)).unwrap_or_default()
    }

    /// Shows what is at a place, as the type says. An error when there is too much.
    fn value(&mut self, id: TypeId, at: usize, bit: u32) -> Result<(), ()> {
        self.left = self.left.checked_sub(1).ok_or(())?;
        let Ok(ty) = self.btf.peel(id) else { return Ok(()) };
        if self.depth >= DEPTH_MAX {
            return Err(());
        }
        match ty.kind() {
            Kind::STRUCT | Kind::UNION => self.checked(|show| show.members(id, ty, at))?,
            Kind::ARRAY => self.checked(|show| show.elements(id, ty, at))?,
            Kind::INT => self.with_type(id, ty, |show| show.int(ty, at, bit)),
            Kind::PTR => self.with_type(id, ty, |show| {
                let value = padded(show.bytes(at, 8)) as u64;
                let shown = if show.has(RAW_POINTERS) { value } else { hashed(value) };
                show.put_value(&format!("0x{shown:016x}"), value == 0);
            }),
            Kind::ENUM | Kind::ENUM64 => self.with_type(id, ty, |show| show.enumerator(ty, at)),
            kind => self.put(&format!("<unsupported kind:{}>", kind.0)),
        }
        Ok(())
    }

    fn with_type(&mut self, id: TypeId, ty: Type<'a>, with: impl FnOnce(&mut Self)) {
        self.state = Some((id, ty.kind()));
        with(self);
        self.state = None;
    }

    /// Shows something with parts, if one of them is to be shown: that is looked for first.
    fn checked(&mut self, mut with: impl FnMut(&mut Self) -> Result<(), ()>) -> Result<(), ()> {
        let member = self.member;
        if self.depth > 0 && !self.has(ZERO) {
            if self.depth_check == 0 {
                self.depth_check = self.depth + 1; // below the limit
                self.depth_to_show = 0;
            }
            with(self)?;
            self.member = member;
            if self.depth_check != self.depth + 1 {
                return Ok(());
            }
            self.depth_check = 0;
            if self.depth_to_show <= self.depth {
                return Ok(());
            }
        }
        with(self)
    }

    fn begin(&mut self, id: TypeId, ty: Type<'a>) {
        self.state = Some((id, ty.kind()));
        let line = [&self.indent(), &self.name(), self.newline()].concat();
        self.put(&line);
        self.depth += 1; // below the limit
    }

    fn end(&mut self, bracket: &str) {
        self.depth = self.depth.saturating_sub(1);
        let line = [&self.indent(), bracket, self.delimiter(), self.newline()].concat();
        self.put(&line);
        self.state = None;
    }

    fn members(&mut self, id: TypeId, ty: Type<'a>, at: usize) -> Result<(), ()> {
        self.begin(id, ty);
        for member in ty.members() {
            self.member = Some(member);
            let (byte, bit) = (at.saturating_add(member.bit_offset as usize / 8), member.bit_offset % 8);
            if member.bitfield_size == 0 {
                self.value(member.type_id, byte, bit)?;
            } else if let Ok(inner) = self.btf.ty(member.type_id) {
                self.left = self.left.checked_sub(1).ok_or(())?;
                self.with_type(member.type_id, inner, |show| show.bits(byte, bit, member.bitfield_size));
            }
            self.member = None;
        }
        self.end("}");
        Ok(())
    }

    fn elements(&mut self, id: TypeId, ty: Type<'a>, at: usize) -> Result<(), ()> {
        let Some(array) = ty.array() else { return Ok(()) };
        let element = self.btf.peel(array.element).ok();
        // The kernel takes pointers for having no size.
        let sized = element.filter(|ty| !matches!(ty.kind(), Kind::PTR | Kind::ARRAY));
        let size = sized.map_or(0, |ty| ty.size() as usize);
        self.chars =
            element.is_some_and(|ty| ty.int().is_some_and(|int| size == 1 || int.encoding.is_char()));
        self.terminated = false;
        self.begin(id, ty);
        for index in 0..array.len as usize {
            self.in_array = true;
            self.value(array.element, at.saturating_add(index.saturating_mul(size)), 0)?;
            self.in_array = false;
            if self.terminated {
                break;
            }
        }
        (self.chars, self.terminated) = (false, false);
        self.end("]");
        Ok(())
    }

    fn int(&mut self, ty: Type<'a>, at: usize, bit: u32) {
        let Some(int) = ty.int() else { return };
        let signed = int.encoding.is_signed();
        let size = ty.size() as usize;
        if bit != 0 || int.offset != 0 || int.bits % 8 != 0 || !matches!(int.bits, 8 | 16 | 32 | 64) {
            if int.bits == 128 {
                return self.wide(padded(self.bytes(at, 16)));
            }
            return self.bits(at, bit + int.offset, int.bits);
        }
        let value = padded(self.bytes(at, size)) as u64;
        if int.bits == 8 && self.chars {
            let Some(&byte) = self.bytes(at, 1).first() else { return };
            if self.terminated {
                return;
            }
            if byte == 0 {
                self.terminated = true;
                return;
            }
            if byte.is_ascii_graphic() || byte == b' ' || byte >= 0xa0 {
                // One byte, whatever it stands for.
                let line = [&self.indent(), &self.name(), "'"].concat();
                self.put(&line);
                if self.depth_check == 0 {
                    self.sink.put(&[byte]);
                }
                let rest = ["'", self.delimiter(), self.newline()].concat();
                self.put(&rest);
                self.depth_to_show = self.depth_to_show.max(self.depth);
                return;
            }
        }
        let spare = 64 - int.bits; // 8 to 64
        let text = match signed {
            true => ((value << spare).cast_signed() >> spare).to_string(),
            false => value.to_string(),
        };
        self.put_value(&text, value == 0);
    }

    /// A bit field, which is shown as a number of base 16.
    fn bits(&mut self, at: usize, bit: u32, count: u32) {
        let len = (bit as usize).saturating_add(count as usize).div_ceil(8).min(16);
        let value = padded(self.bytes(at, len));
        let mask = if count >= 128 { u128::MAX } else { (1 << count) - 1 };
        self.wide(value.checked_shr(bit).unwrap_or(0) & mask);
    }

    fn wide(&mut self, value: u128) {
        let (high, low) = ((value >> 64) as u64, value as u64);
        let text = if high == 0 { format!("0x{low:x}") } else { format!("0x{high:x}{low:016x}") };
        self.put_value(&text, value == 0);
    }

    fn enumerator(&mut self, ty: Type<'a>, at: usize) {
        let wide = ty.kind() == Kind::ENUM64;
        let raw = padded(self.bytes(at, if wide { 8 } else { 4 })) as u64;
        let bits = if wide { raw } else { u64::from(raw as u32) };
        let same = |value: i128| if wide { value as u64 == bits } else { value as u32 == bits as u32 };
        if let Some(found) = ty.enumerators().find(|known| same(known.c_value())) {
            // A name is shown also where it is that of zero.
            let name = found.name().into_owned();
            return self.put_value(&name, false);
        }
        let text = match (ty.kind_flag(), wide) {
            (true, true) => bits.cast_signed().to_string(),
            (true, false) => (bits as u32).cast_signed().to_string(),
            (false, _) => bits.to_string(),
        };
        self.put_value(&text, bits == 0);
    }
}

/// The number that bytes are, with zeros above it.
fn padded(bytes: &[u8]) -> u128 {
    let mut wide = [0; 16];
    if cfg!(target_endian = "big") {
        wide.iter_mut().rev().zip(bytes.iter().rev()).for_each(|(to, from)| *to = *from);
    } else {
        wide.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
    }
    u128::from_ne_bytes(wide)
}

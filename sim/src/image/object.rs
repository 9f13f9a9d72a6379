//! Objects in the kernel's memory.

use std::fmt;
use std::sync::Arc;

use skep_btf::{Btf, Kind, TypeId};

use super::error::ImageError;
use super::memory::MemoryImage;
use super::path::{self, OBJECT_MAX, Spot, Walk, type_name};
use super::value::{FieldValue, Value};
use crate::btf::BtfObject;
use crate::kernel::SimKernel;

/// An object in the memory of a simulated kernel, made by [`KernelMemory::object`](crate::KernelMemory::object).
///
/// Its fields are named by paths from the kernel's BTF, and lie where that says. A program that was compiled against other
/// headers finds them after relocation. The object stays as long as the kernel; this is a name for it that can be cloned.
#[derive(Clone)]
pub struct KernelObject {
    sim: SimKernel,
    btf: Arc<BtfObject>,
    address: u64,
    ty: TypeId,
}

impl fmt::Debug for KernelObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {:#x}", self.type_name(), self.address)
    }
}

impl KernelObject {
    pub(crate) fn new(sim: &SimKernel, btf: &Arc<BtfObject>, address: u64, ty: TypeId) -> KernelObject {
        KernelObject { sim: sim.clone(), btf: btf.clone(), address, ty }
    }

    /// Its address, as a program gets it.
    pub fn address(&self) -> u64 {
        self.address
    }

    /// Its type as C writes it: `struct task_struct`.
    pub fn type_name(&self) -> String {
        type_name(&self.btf.btf, self.ty)
    }

    /// Its size in bytes.
    ///
    /// # Errors
    /// [`ImageError::Declared`], [`ImageError::Broken`]: the BTF does not tell it.
    pub fn size(&self) -> Result<u32, ImageError> {
        path::size_of(&self.btf.btf, self.ty, "")
    }

    fn spot(&self) -> Spot {
        Spot { address: self.address, ty: self.ty, bits: None }
    }

    /// Does something at the end of a path.
    fn with<T>(
        &self,
        path: &str,
        makes: bool,
        with: impl FnOnce(&Btf, &mut MemoryImage, Spot) -> Result<T, ImageError>,
    ) -> Result<T, ImageError> {
        let mut world = self.sim.0.world();
        let btf = &self.btf.btf;
        let spot = Walk { btf, memory: &mut world.memory, makes }.find(self.spot(), path)?;
        with(btf, &mut world.memory, spot)
    }

    /// Sets a field. The path goes through members, indexes and pointers: `comm`, `cred.uid`,
    /// `mm.exe_file.f_path.dentry.d_name.name`, `fs->pwd`, `thread_pid.numbers[0].nr`. Members of structs and unions
    /// without a name are found by their own. What a null pointer on the way should point to is made.
    ///
    /// What a value means depends on the field:
    /// - numbers go into integers, bit fields, enumerations, pointers (as addresses), and into structs that wrap one
    ///   number, such as `kuid_t` and `atomic_t`;
    /// - a text or bytes go into arrays, whose rest becomes zero; behind pointers, for which they are put somewhere, a text
    ///   with a NUL; bytes of its size into a struct; a text into an enumeration by the name of its value;
    /// - a [`KernelObject`] is what a pointer points to.
    ///
    /// ```
    /// # let btf = std::fs::read("../testdata/btf/6.18.btf")?;
    /// let sim = skep_sim::SimKernel::builder().btf(btf).build()?;
    /// let task = sim.memory().object("task_struct")?;
    /// task.set("pid", 7)?.set("comm", "bash")?.set("cred.uid", 1000)?.set("real_parent.tgid", 1)?;
    /// assert_eq!(task.get("real_parent.tgid")?, 1);
    ///
    /// let error = task.set("real_parent.gid", 1).unwrap_err();
    /// assert!(error.to_string().starts_with(
    ///     "`real_parent.gid`: `struct task_struct` has no member `gid`; it has `pid`, `tgid`"
    /// ), "{error}");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`ImageError`] names the path and what is wrong; nothing is changed but for objects that were made on the way.
    pub fn set<'v>(&self, path: &str, value: impl Into<FieldValue<'v>>) -> Result<&Self, ImageError> {
        let FieldValue(value) = value.into();
        self.with(path, true, |btf, memory, spot| put(btf, memory, spot, &value, path))?;
        Ok(self)
    }

    /// The number in a field, with its sign. Of a pointer it is the address.
    ///
    /// # Errors
    /// As [`set`](KernelObject::set); [`ImageError::Nothing`] for a null pointer on the way.
    pub fn get(&self, path: &str) -> Result<i128, ImageError> {
        self.with(path, false, |btf, memory, spot| number(btf, memory, spot, path))
    }

    /// The bytes of a field.
    ///
    /// # Errors
    /// As [`get`](KernelObject::get).
    pub fn bytes(&self, path: &str) -> Result<Vec<u8>, ImageError> {
        self.with(path, false, |btf, memory, spot| {
            let mut bytes = vec![0; path::size_of(btf, spot.ty, path)? as usize];
            memory.read_kernel(spot.address, &mut bytes).ok_or_else(|| nothing(path, spot.address))?;
            Ok(bytes)
        })
    }

    /// The field as an object: of a pointer, what it points to. What a null pointer should point to is made.
    ///
    /// ```
    /// # let btf = std::fs::read("../testdata/btf/6.18.btf")?;
    /// # let sim = skep_sim::SimKernel::builder().btf(btf).build()?;
    /// let file = sim.memory().object("file")?;
    /// let dentry = file.at("f_path.dentry")?;
    /// dentry.set("d_name.name", "passwd")?;
    /// // A member of a struct has an address inside of it.
    /// assert_eq!(file.at("f_path")?.get("dentry")?, i128::from(dentry.address()));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`set`](KernelObject::set). A bit field has no address.
    pub fn at(&self, path: &str) -> Result<KernelObject, ImageError> {
        let mut world = self.sim.0.world();
        let btf = &self.btf.btf;
        let mut walk = Walk { btf, memory: &mut world.memory, makes: true };
        let mut spot = walk.find(self.spot(), path)?;
        if path::peel(btf, spot.ty, path)?.kind() == Kind::PTR {
            spot = walk.find(spot, "[0]")?;
        }
        if spot.bits.is_some() {
            return Err(path::broken(path, "a bit field has no address"));
        }
        drop(world);
        Ok(KernelObject { address: spot.address, ty: spot.ty, ..self.clone() })
    }
}

fn nothing(path: &str, address: u64) -> ImageError {
    ImageError::Nothing { path: path.to_owned(), address }
}

/// Puts a value into a field.
fn put(
    btf: &Btf,
    memory: &mut MemoryImage,
    spot: Spot,
    value: &Value<'_>,
    path: &str,
) -> Result<(), ImageError> {
    let unfit = |why: String| ImageError::Unfit {
        path: path.to_owned(),
        value: value.to_string(),
        ty: type_name(btf, spot.ty),
        why,
    };
    let ty = path::peel(btf, spot.ty, path)?;
    let kind = ty.kind();
    let numeric = kind == Kind::INT || kind.is_enum();
    match value {
        Value::Text(name) if kind.is_enum() => {
            let found = ty.enumerators().find(|value| value.name_bytes() == name.as_bytes());
            let found = found.ok_or_else(|| unfit("the enumeration has no such name".to_owned()))?;
            put(btf, memory, spot, &Value::Number(found.c_value()), path)
        }
        Value::Number(number) if numeric => {
            let size = spot.bits.map_or(ty.size().saturating_mul(8), |(_, bits)| bits);
            let signed = ty.int().map_or(ty.kind_flag(), |int| int.encoding.is_signed());
            let (low, high) = range(size, signed);
            // A field without a sign takes -1 too, which C programs write for all ones.
            let all_ones = !signed && (range(size, true).0..0).contains(number);
            if !(low..=high).contains(number) && !all_ones {
                return Err(unfit(format!("it holds {low} to {high}")));
            }
            write_number(memory, spot, ty.size(), *number).ok_or_else(|| nothing(path, spot.address))
        }
        Value::Pointer(address) if kind == Kind::PTR || numeric && ty.size() == 8 => {
            write_number(memory, spot, 8, i128::from(*address)).ok_or_else(|| nothing(path, spot.address))
        }
        Value::Number(address) if kind == Kind::PTR => {
            let address =
                u64::try_from(*address).or_else(|_| i64::try_from(*address).map(i64::cast_unsigned));
            let address = address.map_err(|_| unfit("it is no address".to_owned()))?;
            write_number(memory, spot, 8, i128::from(address)).ok_or_else(|| nothing(path, spot.address))
        }
        Value::Text(_) | Value::Bytes(_) if kind == Kind::PTR => {
            let mut bytes = bytes_of(value).to_vec();
            if matches!(value, Value::Text(_)) {
                bytes.push(0);
            }
            let address = memory.allocate(bytes.len());
            memory.write_kernel(address, &bytes).ok_or_else(|| nothing(path, address))?;
            write_number(memory, spot, 8, i128::from(address)).ok_or_else(|| nothing(path, spot.address))
        }
        Value::Text(_) | Value::Bytes(_) if kind == Kind::ARRAY || kind.is_composite() || numeric => {
            let from = bytes_of(value);
            let size = path::size_of(btf, spot.ty, path)? as usize;
            let flexible = ty.array().is_some_and(|array| array.len == 0);
            if from.len() > size && !flexible || kind != Kind::ARRAY && from.len() != size {
                return Err(unfit(format!("it has {size} bytes")));
            }
            let mut bytes = from.to_vec();
            bytes.resize(size.max(from.len()), 0);
            memory.write_kernel(spot.address, &bytes).ok_or_else(|| nothing(path, spot.address))
        }
        Value::Number(_) | Value::Pointer(_) if kind.is_composite() => {
            let mut members = ty.members();
            match (members.next(), members.next()) {
                (Some(member), None) if member.bit_offset == 0 => {
                    let spot = Spot { address: spot.address, ty: member.type_id, bits: None };
                    put(btf, memory, spot, value, path)
                }
                _ => Err(unfit("it has more than one member; name one of them".to_owned())),
            }
        }
        _ => Err(unfit("a value of another kind is needed".to_owned())),
    }
}

fn bytes_of<'v>(value: &'v Value<'_>) -> &'v [u8] {
    match value {
        Value::Text(text) => text.as_bytes(),
        Value::Bytes(bytes) => bytes,
        _ => &[],
    }
}

/// The numbers that so many bits hold.
fn range(bits: u32, signed: bool) -> (i128, i128) {
    let bits = bits.clamp(1, 64);
    if signed { (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) } else { (0, (1 << bits) - 1) }
}

/// Writes the low bits of a number.
fn write_number(memory: &mut MemoryImage, spot: Spot, size: u32, number: i128) -> Option<()> {
    let Some((first, count)) = spot.bits else {
        let value = number as u64; // the low bits of what was checked to fit
        let mut bytes = [0; 8];
        let to = bytes.get_mut(..size.min(8) as usize)?;
        crate::words::narrow_any(value, to);
        return memory.write_kernel(spot.address, to);
    };
    let mut bytes = vec![0; (first.checked_add(count)?).div_ceil(8) as usize];
    memory.read_kernel(spot.address, &mut bytes)?;
    put_bits(&mut bytes, (first, count), number);
    memory.write_kernel(spot.address, &bytes)
}

/// Writes the low bits of a number into a bit field, whose first bit is so far in the bytes. What is behind them is left out.
pub(super) fn put_bits(bytes: &mut [u8], (first, count): (u32, u32), number: i128) {
    for bit in 0..count {
        let (byte, mask, shift) = place(first + bit, bit, count);
        let Some(byte) = bytes.get_mut(byte) else { return };
        *byte = if number >> shift & 1 != 0 { *byte | mask } else { *byte & !mask };
    }
}

/// Where the `bit`-th bit of a bit field is: its byte, its mask in it, and which bit of the value it is.
fn place(at: u32, bit: u32, count: u32) -> (usize, u8, u32) {
    if cfg!(target_endian = "little") {
        (at as usize / 8, 1 << (at % 8), bit)
    } else {
        (at as usize / 8, 0x80 >> (at % 8), count - 1 - bit)
    }
}

/// The number in a field.
fn number(btf: &Btf, memory: &MemoryImage, spot: Spot, path: &str) -> Result<i128, ImageError> {
    let ty = path::peel(btf, spot.ty, path)?;
    if ty.kind().is_composite() {
        let mut members = ty.members();
        if let (Some(member), None) = (members.next(), members.next()) {
            return number(btf, memory, Spot { ty: member.type_id, ..spot }, path);
        }
    }
    let signed = ty.int().map_or(ty.kind().is_enum() && ty.kind_flag(), |int| int.encoding.is_signed());
    let size = if ty.kind() == Kind::PTR { 8 } else { ty.size() };
    if !(ty.kind() == Kind::PTR || ty.kind() == Kind::INT || ty.kind().is_enum()) || size > 8 {
        return Err(ImageError::NotComposite { path: path.to_owned(), ty: type_name(btf, spot.ty) });
    }
    let gone = || nothing(path, spot.address);
    let (value, bits) = match spot.bits {
        Some((first, count)) => {
            let mut bytes = vec![0; first.saturating_add(count).div_ceil(8) as usize];
            memory.read_kernel(spot.address, &mut bytes).ok_or_else(gone)?;
            let mut value = 0u64;
            for bit in 0..count.min(64) {
                let (byte, mask, shift) = place(first + bit, bit, count.min(64));
                if bytes.get(byte).is_some_and(|byte| byte & mask != 0) {
                    value |= 1 << shift;
                }
            }
            (value, count.min(64))
        }
        None => {
            let mut bytes = vec![0; size as usize];
            memory.read_kernel(spot.address, &mut bytes).ok_or_else(gone)?;
            (crate::words::widen_any(&bytes), size * 8)
        }
    };
    let spare = 64 - bits.clamp(1, 64);
    Ok(if signed { i128::from((value << spare).cast_signed() >> spare) } else { i128::from(value) })
}

/// Makes an object of a type.
pub(super) fn make(
    sim: &SimKernel,
    btf: &Arc<BtfObject>,
    ty: TypeId,
    name: &str,
    place: impl FnOnce(&mut MemoryImage, usize) -> u64,
) -> Result<KernelObject, ImageError> {
    let size = path::size_of(&btf.btf, ty, name)? as usize;
    if size > OBJECT_MAX {
        return Err(path::broken(name, "it would be too large"));
    }
    let address = place(&mut sim.0.world().memory, size);
    Ok(KernelObject::new(sim, btf, address, ty))
}

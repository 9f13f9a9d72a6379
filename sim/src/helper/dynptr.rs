//! Dynptrs: pointers to bytes whose number is only known at run time (`struct bpf_dynptr`).
//!
//! As in the kernel, one is 16 bytes on the program's stack: an address, the size with the kind in its upper bits, and an
//! offset. What is there is never trusted: the address is checked at every access.

use skep_sys::abi::{Errno, ProgType};

use super::{HelperFn, answer, builtin, memory, negative, net, refuse};
use crate::packet::packet_bounds;
use crate::vm::{Trap, Vm, What};

pub(super) const HELPERS: &[(i32, HelperFn)] =
    &[(197, from_mem), (201, read_bytes), (202, write_bytes), (203, data)];

pub(super) const KFUNCS: &[(&str, HelperFn)] = &[
    ("bpf_dynptr_from_skb", |vm, [skb, flags, to, ..]| from_packet(vm, skb, flags, to, Kind::Skb)),
    ("bpf_dynptr_from_xdp", |vm, [xdp, flags, to, ..]| from_packet(vm, xdp, flags, to, Kind::Xdp)),
    ("bpf_dynptr_from_skb_meta", from_skb_meta),
    ("bpf_dynptr_slice", |vm, [ptr, at, buffer, len, _]| slice(vm, ptr, at, buffer, len, false)),
    ("bpf_dynptr_slice_rdwr", |vm, [ptr, at, buffer, len, _]| slice(vm, ptr, at, buffer, len, true)),
    ("bpf_dynptr_adjust", adjust),
    ("bpf_dynptr_is_null", |vm, [ptr, ..]| Ok(u64::from(read(vm, ptr)?.data == 0))),
    ("bpf_dynptr_is_rdonly", is_read_only),
    ("bpf_dynptr_size", size),
    ("bpf_dynptr_clone", clone),
    ("bpf_dynptr_copy", copy),
    ("bpf_dynptr_memset", set),
];

/// Bytes of a dynptr.
pub(crate) const LEN: usize = 16;
/// Largest size (`DYNPTR_MAX_SIZE`).
pub(crate) const SIZE_MAX: u32 = (1 << 24) - 1;
const KIND_SHIFT: u32 = 28;
const READ_ONLY: u32 = 1 << 31;

/// What a dynptr points to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// Memory that the program could reach.
    Local,
    /// A record of a ring buffer.
    Ring,
    /// The packet of a `__sk_buff`, whose address it has.
    Skb,
    /// The packet of an `xdp_md`, whose address it has.
    Xdp,
    /// What XDP programs left before the packet of a `__sk_buff`, whose address it has.
    SkbMeta,
}

const KINDS: [Kind; 5] = [Kind::Local, Kind::Ring, Kind::Skb, Kind::Xdp, Kind::SkbMeta];

/// A dynptr. Without an address it is null.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dynptr {
    pub(crate) data: u64,
    pub(crate) size: u32,
    pub(crate) offset: u32,
    pub(crate) kind: Kind,
    pub(crate) read_only: bool,
}

impl Dynptr {
    pub(crate) const NULL: Dynptr =
        Dynptr { data: 0, size: 0, offset: 0, kind: Kind::Local, read_only: false };

    /// Whether it points to memory, and not to a packet that may lie in pieces.
    fn is_memory(&self) -> bool {
        matches!(self.kind, Kind::Local | Kind::Ring)
    }

    /// `E2BIG` when bytes are not all inside.
    fn check(&self, at: u64, len: u64) -> Result<(), Errno> {
        let size = u64::from(self.size);
        if len > size || at > size - len { Err(Errno::E2BIG) } else { Ok(()) }
    }

    fn address(&self, at: u64) -> u64 {
        self.data.wrapping_add(self.offset.into()).wrapping_add(at)
    }
}

/// The dynptr at an address of the program's.
pub(crate) fn read(vm: &mut Vm, address: u64) -> Result<Dynptr, Trap> {
    let mut bytes = [0; LEN];
    vm.memory.read(address, &mut bytes)?;
    let [a, b, c, d, e, f, g, h, size @ .., k, l, m, n] = bytes;
    let data = u64::from_ne_bytes([a, b, c, d, e, f, g, h]);
    let size = u32::from_ne_bytes(size);
    if data == 0 {
        return Ok(Dynptr::NULL);
    }
    let kind = (size >> KIND_SHIFT & 7) as usize; // three bits
    let Some(kind) = kind.checked_sub(1).and_then(|kind| KINDS.get(kind)) else {
        return Err(refuse(format!("there is no dynptr at {address:#x}: nothing has made one")));
    };
    Ok(Dynptr {
        data,
        size: size & SIZE_MAX,
        offset: u32::from_ne_bytes([k, l, m, n]),
        kind: *kind,
        read_only: size & READ_ONLY != 0,
    })
}

/// Writes a dynptr to an address of the program's.
pub(crate) fn write(vm: &mut Vm, address: u64, dynptr: &Dynptr) -> Result<(), Trap> {
    let mut bytes = [0; LEN];
    if dynptr.data != 0 {
        let kind = KINDS.iter().position(|kind| *kind == dynptr.kind).map_or(0, |kind| kind as u32 + 1); // of five
        let size = dynptr.size & SIZE_MAX | kind << KIND_SHIFT | if dynptr.read_only { READ_ONLY } else { 0 };
        let (data, rest) = bytes.split_at_mut(8);
        data.copy_from_slice(&dynptr.data.to_ne_bytes());
        let (size_at, offset_at) = rest.split_at_mut(4);
        size_at.copy_from_slice(&size.to_ne_bytes());
        offset_at.copy_from_slice(&dynptr.offset.to_ne_bytes());
    }
    vm.memory.write(address, &bytes)
}

/// `bpf_dynptr_from_mem(data, size, flags, dynptr)`.
fn from_mem(vm: &mut Vm, [data, size, flags, to, _]: [u64; 5]) -> Result<u64, Trap> {
    let size = size as u32;
    let refused = match (size > SIZE_MAX, flags) {
        (true, _) => Some(Errno::E2BIG),
        (_, 0) => None,
        _ => Some(Errno::EINVAL),
    };
    if let Some(errno) = refused {
        write(vm, to, &Dynptr::NULL)?;
        return Ok(negative(errno));
    }
    vm.memory.check(data, size as usize, true)?;
    write(vm, to, &Dynptr { data, size, offset: 0, kind: Kind::Local, read_only: false })?;
    Ok(0)
}

/// `bpf_dynptr_from_skb(skb, flags, dynptr)` and `bpf_dynptr_from_xdp`. Programs that may not write the packet get one that
/// is only read.
fn from_packet(vm: &mut Vm, packet: u64, flags: u64, to: u64, kind: Kind) -> Result<u64, Trap> {
    if flags != 0 {
        write(vm, to, &Dynptr::NULL)?;
        return Ok(negative(Errno::EINVAL));
    }
    let size = match kind {
        Kind::Xdp => helper(vm, 188, [packet, 0, 0, 0, 0])? as u32,
        _ => match packet_bounds(vm, packet) {
            Some((start, end)) => end.saturating_sub(start) as u32, // far below 2^32
            None => vm.memory.load::<4>(packet)? as u32,            // the length of a `__sk_buff`
        },
    };
    use ProgType as P;
    let writers = [P::SCHED_CLS, P::SCHED_ACT, P::XDP, P::LWT_XMIT, P::SK_SKB];
    let read_only = !writers.contains(&vm.prog().prog_type);
    write(vm, to, &Dynptr { data: packet, size, offset: 0, kind, read_only })?;
    Ok(0)
}

/// `bpf_dynptr_from_skb_meta(skb, flags, dynptr)`.
fn from_skb_meta(vm: &mut Vm, [skb, flags, to, ..]: [u64; 5]) -> Result<u64, Trap> {
    let (start, end) = net::meta_bounds(vm, skb)?;
    if flags != 0 {
        write(vm, to, &Dynptr::NULL)?;
        return Ok(negative(Errno::EINVAL));
    }
    let size = end.saturating_sub(start) as u32; // at most 252
    write(vm, to, &Dynptr { data: skb, size, offset: 0, kind: Kind::SkbMeta, read_only: false })?;
    Ok(0)
}

/// Where bytes of the metadata of a packet are, which move with it.
fn meta_address(vm: &mut Vm, dynptr: &Dynptr, at: u64) -> Result<u64, Trap> {
    let (start, _) = net::meta_bounds(vm, dynptr.data)?;
    Ok(start.wrapping_add(dynptr.offset.into()).wrapping_add(at))
}

/// `bpf_dynptr_read(to, len, dynptr, offset, flags)`.
fn read_bytes(vm: &mut Vm, [to, len, ptr, at, flags]: [u64; 5]) -> Result<u64, Trap> {
    let dynptr = read(vm, ptr)?;
    let len = u64::from(len as u32);
    vm.memory.check(to, len as usize, true)?;
    if flags != 0 {
        return Ok(negative(Errno::EINVAL));
    }
    load(vm, &dynptr, at, to, len)
}

/// Copies bytes of a dynptr to an address.
fn load(vm: &mut Vm, dynptr: &Dynptr, at: u64, to: u64, len: u64) -> Result<u64, Trap> {
    if dynptr.data == 0 {
        return Ok(negative(Errno::EINVAL));
    }
    if let Err(errno) = dynptr.check(at, len) {
        return Ok(negative(errno));
    }
    let at_packet = u64::from(dynptr.offset).wrapping_add(at);
    match dynptr.kind {
        Kind::Local | Kind::Ring => {
            memory::with_bytes(vm, dynptr.address(at), len as usize, |vm, bytes| vm.memory.write(to, bytes))?;
            Ok(0)
        }
        Kind::Skb => helper(vm, 26, [dynptr.data, at_packet, to, len, 0]),
        Kind::Xdp => helper(vm, 189, [dynptr.data, at_packet, to, len, 0]),
        Kind::SkbMeta => {
            let from = meta_address(vm, dynptr, at)?;
            memory::with_bytes(vm, from, len as usize, |vm, bytes| vm.memory.write(to, bytes))?;
            Ok(0)
        }
    }
}

/// `bpf_dynptr_write(dynptr, offset, from, len, flags)`.
fn write_bytes(vm: &mut Vm, [ptr, at, from, len, flags]: [u64; 5]) -> Result<u64, Trap> {
    let dynptr = read(vm, ptr)?;
    let len = u64::from(len as u32);
    vm.memory.check(from, len as usize, false)?;
    store(vm, &dynptr, at, from, len, flags)
}

fn store(vm: &mut Vm, dynptr: &Dynptr, at: u64, from: u64, len: u64, flags: u64) -> Result<u64, Trap> {
    if dynptr.data == 0 || dynptr.read_only {
        return Ok(negative(Errno::EINVAL));
    }
    if let Err(errno) = dynptr.check(at, len) {
        return Ok(negative(errno));
    }
    let at_packet = u64::from(dynptr.offset).wrapping_add(at);
    match dynptr.kind {
        Kind::Skb => helper(vm, 9, [dynptr.data, at_packet, from, len, flags]),
        _ if flags != 0 => Ok(negative(Errno::EINVAL)),
        Kind::Xdp => helper(vm, 190, [dynptr.data, at_packet, from, len, 0]),
        Kind::Local | Kind::Ring | Kind::SkbMeta => {
            let to = match dynptr.kind {
                Kind::SkbMeta => meta_address(vm, dynptr, at)?,
                _ => dynptr.address(at),
            };
            memory::with_bytes(vm, from, len as usize, |vm, bytes| vm.memory.write(to, bytes))?;
            Ok(0)
        }
    }
}

/// Calls a helper for packets.
fn helper(vm: &mut Vm, number: i32, args: [u64; 5]) -> Result<u64, Trap> {
    match builtin(number) {
        Some(function) => function(vm, args),
        None => Err(refuse("dynptrs of packets are not simulated")),
    }
}

/// `bpf_dynptr_data(dynptr, offset, len)`: a pointer to the bytes, or null.
fn data(vm: &mut Vm, [ptr, at, len, ..]: [u64; 5]) -> Result<u64, Trap> {
    let dynptr = read(vm, ptr)?;
    let len = u64::from(len as u32);
    let fits = dynptr.data != 0 && dynptr.check(at, len).is_ok();
    Ok(if fits && !dynptr.read_only && dynptr.is_memory() { dynptr.address(at) } else { 0 })
}

/// `bpf_dynptr_slice(dynptr, offset, buffer, len)`: a pointer to the bytes, or to a copy in the buffer, or null.
fn slice(vm: &mut Vm, ptr: u64, at: u64, buffer: u64, len: u64, writes: bool) -> Result<u64, Trap> {
    let dynptr = read(vm, ptr)?;
    let len = u64::from(len as u32);
    if buffer != 0 {
        vm.memory.check(buffer, len as usize, true)?;
    }
    slice_of(vm, &dynptr, at, buffer, len, writes)
}

pub(super) fn slice_of(
    vm: &mut Vm,
    dynptr: &Dynptr,
    at: u64,
    buffer: u64,
    len: u64,
    writes: bool,
) -> Result<u64, Trap> {
    if dynptr.data == 0 || writes && dynptr.read_only || dynptr.check(at, len).is_err() {
        return Ok(0);
    }
    if dynptr.is_memory() {
        return Ok(dynptr.address(at));
    }
    if dynptr.kind == Kind::SkbMeta {
        return meta_address(vm, dynptr, at);
    }
    // What of the packet lies in one piece is pointed to.
    let (start, end) = match packet_bounds(vm, dynptr.data) {
        Some((start, end)) => (Ok(start), Ok(end)),
        None => {
            let (start, end) = if dynptr.kind == Kind::Skb { (76, 80) } else { (0, 4) };
            let start = vm.memory.load::<4>(dynptr.data.wrapping_add(start));
            (start, vm.memory.load::<4>(dynptr.data.wrapping_add(end)))
        }
    };
    let first = u64::from(dynptr.offset).saturating_add(at);
    match (start, end) {
        (Ok(start), Ok(end)) if first.saturating_add(len) <= end.saturating_sub(start) => {
            return Ok(start + first); // both are below 2^33
        }
        (Ok(_), Ok(_)) => {}
        // Programs of this kind have no pointer into the packet, and only read it.
        _ => {
            let copy = vm.own(What::Other("bytes of the packet"), vec![0; len as usize], true)?;
            return Ok(if load(vm, dynptr, at, copy, len)? == 0 { copy } else { 0 });
        }
    }
    if buffer == 0 || load(vm, dynptr, at, buffer, len)? != 0 {
        return Ok(0);
    }
    Ok(buffer)
}

/// `bpf_dynptr_adjust(dynptr, start, end)`.
fn adjust(vm: &mut Vm, [ptr, start, end, ..]: [u64; 5]) -> Result<u64, Trap> {
    let mut dynptr = read(vm, ptr)?;
    if dynptr.data == 0 || start > end {
        return Ok(negative(Errno::EINVAL));
    }
    // Both are below the size, which is 24 bits.
    if end > dynptr.size.into() {
        return Ok(negative(Errno::ERANGE));
    }
    dynptr.offset = dynptr.offset.wrapping_add(start as u32);
    dynptr.size = (end - start) as u32;
    write(vm, ptr, &dynptr)?;
    Ok(0)
}

fn is_read_only(vm: &mut Vm, [ptr, ..]: [u64; 5]) -> Result<u64, Trap> {
    let dynptr = read(vm, ptr)?;
    Ok(u64::from(dynptr.data != 0 && dynptr.read_only))
}

fn size(vm: &mut Vm, [ptr, ..]: [u64; 5]) -> Result<u64, Trap> {
    let dynptr = read(vm, ptr)?;
    Ok(if dynptr.data == 0 { negative(Errno::EINVAL) } else { dynptr.size.into() })
}

/// `bpf_dynptr_clone(dynptr, clone)`.
fn clone(vm: &mut Vm, [ptr, to, ..]: [u64; 5]) -> Result<u64, Trap> {
    let dynptr = read(vm, ptr)?;
    write(vm, to, &dynptr)?;
    Ok(answer(if dynptr.data == 0 { Err(Errno::EINVAL) } else { Ok(()) }))
}

/// `bpf_dynptr_copy(to, to_offset, from, from_offset, len)`.
fn copy(vm: &mut Vm, [to, to_at, from, from_at, len]: [u64; 5]) -> Result<u64, Trap> {
    let (to, from) = (read(vm, to)?, read(vm, from)?);
    let to_slice = slice_of(vm, &to, to_at, 0, len, true)?;
    let from_slice = slice_of(vm, &from, from_at, 0, len, false)?;
    if from_slice != 0 {
        return store(vm, &to, to_at, from_slice, len, 0);
    }
    if to_slice != 0 {
        return load(vm, &from, from_at, to_slice, len);
    }
    if to.check(to_at, len).is_err() || from.check(from_at, len).is_err() {
        return Ok(negative(Errno::E2BIG));
    }
    // Both are packets in pieces.
    let through = vm.own(What::Other("bytes on their way"), vec![0; len as usize], true)?;
    match load(vm, &from, from_at, through, len)? {
        0 => store(vm, &to, to_at, through, len, 0),
        errno => Ok(errno),
    }
}

/// `bpf_dynptr_memset(dynptr, offset, size, value)`.
fn set(vm: &mut Vm, [ptr, at, len, value, _]: [u64; 5]) -> Result<u64, Trap> {
    let dynptr = read(vm, ptr)?;
    if dynptr.data == 0 || dynptr.read_only {
        return Ok(negative(Errno::EINVAL));
    }
    if let Err(errno) = dynptr.check(at, len) {
        return Ok(negative(errno));
    }
    let bytes = vec![value as u8; len as usize]; // at most 16 MiB, as just checked
    if dynptr.is_memory() {
        vm.memory.write(dynptr.address(at), &bytes)?;
        return Ok(0);
    }
    let from = vm.own(What::Other("bytes on their way"), bytes, false)?;
    store(vm, &dynptr, at, from, len, 0)
}

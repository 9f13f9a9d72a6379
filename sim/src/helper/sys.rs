//! Helpers with which a program calls bpf(2): loaders that are programs themselves, as those of light skeletons.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use skep_asm::{Insn, pseudo};
use skep_btf::Kind;
use skep_sys::abi::{AttachType, Errno, MapFlags, MapType, OpenFlags, ProgFlags, ProgType};
use skep_sys::request::{
    AttachTarget, BtfLoad, LinkCreate, LinkTarget, LogBuffer, MapBtf, MapCreate, OpenById, ProgLoad, Records,
};
use skep_sys::{Backend, ObjectKind};

use super::{HelperFn, answer, negative, refuse};
use crate::fd::Access;
use crate::object::Object;
use crate::vm::{Trap, Vm};

pub(super) const HELPERS: &[(i32, HelperFn)] =
    &[(166, sys_bpf), (167, find_by_name), (168, close), (179, lookup_symbol)];

/// Bytes of `union bpf_attr` that are looked at.
const ATTR: usize = 256;
/// Longest text, log, and most descriptors of a call.
const TEXT_MAX: usize = 256;
const LOG_MAX: usize = 16 << 20;
const FDS_MAX: usize = 1 << 12;
/// Most bytes of BTF and of records.
const BYTES_MAX: usize = 16 << 20;

/// What a call of bpf(2) or a search among all types of the kernel counts as, in instructions.
const CALL: u64 = 1 << 12;
/// The same for each instruction of a program that is loaded, which is checked and decoded.
const LOADED: u64 = 16;

/// The attributes of a call, zero where the program gave less.
struct Attr([u8; ATTR]);

impl Attr {
    fn u32(&self, at: usize) -> u32 {
        self.0.get(at..).and_then(|bytes| bytes.first_chunk()).map_or(0, |bytes| u32::from_ne_bytes(*bytes))
    }

    fn i32(&self, at: usize) -> i32 {
        self.u32(at).cast_signed()
    }

    fn u64(&self, at: usize) -> u64 {
        self.0.get(at..).and_then(|bytes| bytes.first_chunk()).map_or(0, |bytes| u64::from_ne_bytes(*bytes))
    }

    /// The name in a field of 16 bytes.
    fn name(&self, at: usize) -> String {
        let bytes = self.0.get(at..at + 16).unwrap_or_default();
        let text = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
        String::from_utf8_lossy(text).into_owned()
    }
}

/// What a call answers: what the program may go on with, or a trap for what no kernel would have come to.
type Answer<T = u64> = Result<Result<T, Errno>, Trap>;

/// `bpf_sys_bpf(cmd, attr, attr_size)`.
fn sys_bpf(vm: &mut Vm, [command, attr, size, ..]: [u64; 5]) -> Result<u64, Trap> {
    let size = size as u32 as usize; // the helper takes 32 bits
    vm.spend(CALL);
    let bytes = vm.memory.bytes(attr, size.min(ATTR))?;
    let mut attr = Attr([0; ATTR]);
    attr.0.iter_mut().zip(&bytes).for_each(|(to, from)| *to = *from);
    let done = match command as u32 {
        0 => map_create(vm, &attr),
        2 => change_element(vm, &attr, true),
        3 => change_element(vm, &attr, false),
        5 => prog_load(vm, &attr),
        14 => get_map_by_id(vm, &attr),
        17 => raw_tracepoint_open(vm, &attr),
        18 => btf_load(vm, &attr),
        22 => map_freeze(vm, &attr),
        28 => link_create(vm, &attr),
        _ => Ok(Err(Errno::EINVAL)),
    };
    Ok(done?.unwrap_or_else(negative))
}

/// A descriptor that stands for the same as the one of a number, which has to be one of this kernel.
fn descriptor(vm: &Vm, number: i32) -> Result<OwnedFd, Errno> {
    vm.kernel.0.object_number(number)?;
    // It cannot be borrowed from a bare number without unsafe code; opened anew it is the same pipe.
    File::open(format!("/dev/fd/{number}")).map(OwnedFd::from).map_err(|_| Errno::EBADF)
}

/// The same where 0 means none.
fn some_descriptor(vm: &Vm, number: i32) -> Result<Option<OwnedFd>, Errno> {
    if number == 0 { Ok(None) } else { descriptor(vm, number).map(Some) }
}

/// Gives a descriptor to the program, and so to the process.
fn give(vm: &Vm, made: Result<OwnedFd, Errno>) -> Result<u64, Errno> {
    let fd = made?;
    let number = fd.as_raw_fd();
    vm.kernel.0.give(fd);
    Ok(number as u64)
}

/// Goes on with what was made of the attributes, or with the errno of what is wrong with them.
macro_rules! or_errno {
    ($result:expr) => {
        match $result {
            Ok(value) => value,
            Err(errno) => return Ok(Err(errno)),
        }
    };
}

fn map_create(vm: &mut Vm, attr: &Attr) -> Answer {
    let name = attr.name(28);
    let inner = or_errno!(some_descriptor(vm, attr.i32(20)));
    let btf = or_errno!(some_descriptor(vm, attr.i32(48)));
    let mut request = MapCreate::new(MapType(attr.u32(0)), attr.u32(4), attr.u32(8), attr.u32(12));
    request.flags = MapFlags::from_bits_retain(attr.u32(16));
    request.inner_map = inner.as_ref().map(AsFd::as_fd);
    (request.numa_node, request.name, request.ifindex) = (attr.u32(24), &name, attr.u32(44));
    request.btf =
        btf.as_ref().map(|btf| MapBtf { btf: btf.as_fd(), key_type: attr.u32(52), value_type: attr.u32(56) });
    (request.vmlinux_value_type_id, request.map_extra) = (attr.u32(60), attr.u64(64));
    Ok(give(vm, vm.kernel.0.map_create(&request)))
}

fn change_element(vm: &mut Vm, attr: &Attr, update: bool) -> Answer {
    let kernel = vm.kernel.clone();
    let found = kernel.0.state().descriptors.get_number(attr.i32(0)).and_then(|(object, access)| {
        let map = object.map()?.clone();
        Ok((map, access))
    });
    let (map, access) = or_errno!(found);
    let key = vm.memory.bytes(attr.u64(8), map.shape.key_size as usize)?;
    if !update {
        return Ok(map.delete(access, &key).map(|()| 0));
    }
    let value = vm.memory.bytes(attr.u64(16), map.shape.value_len())?;
    if crate::tables::is_table(&map) {
        let updated = crate::tables::update(&kernel.0, &map, access, (&key, &value), attr.u64(24));
        return Ok(updated.map(|()| 0));
    }
    let updated = map.update(access, &key, &value, attr.u64(24), &|number| kernel.0.object_number(number));
    Ok(updated.map(|()| 0))
}

fn map_freeze(vm: &mut Vm, attr: &Attr) -> Answer {
    let map = or_errno!(descriptor(vm, attr.i32(0)));
    Ok(vm.kernel.0.map_freeze(map.as_fd()).map(|()| 0))
}

fn get_map_by_id(vm: &mut Vm, attr: &Attr) -> Answer {
    let mut request = OpenById::new(ObjectKind::Map, attr.u32(0));
    request.flags = OpenFlags::from_bits_retain(attr.u32(8));
    Ok(give(vm, vm.kernel.0.open_by_id(&request)))
}

fn btf_load(vm: &mut Vm, attr: &Attr) -> Answer {
    let len = attr.u32(16) as usize;
    if len > BYTES_MAX {
        return Ok(Err(Errno::E2BIG));
    }
    let bytes = vm.memory.bytes(attr.u64(0), len)?;
    vm.spend(len as u64); // 16 MiB at most
    let mut log = log_buffer(attr.u32(24), attr.u32(20));
    let made = vm.kernel.0.btf_load(&BtfLoad::new(&bytes), log.as_mut());
    write_log(vm, attr.u64(8), log);
    Ok(give(vm, made))
}

fn log_buffer(level: u32, size: u32) -> Option<LogBuffer> {
    (level != 0).then(|| LogBuffer::new(level, (size as usize).min(LOG_MAX)))
}

/// Writes a log to where it was wanted, which is in the process.
fn write_log(vm: &Vm, address: u64, log: Option<LogBuffer>) {
    let Some(log) = log else { return };
    let tgid = vm.current(|task| task.tgid());
    let text = log.bytes.split(|byte| *byte == 0).next().unwrap_or_default();
    let bytes = [text, &[0]].concat();
    let mut world = vm.kernel.0.world();
    let _ = world.memory.user_mut(tgid).write(address, &bytes); // as far as it has the memory
}

/// The text at an address.
fn text(vm: &mut Vm, address: u64) -> Result<String, Trap> {
    let bytes = vm.memory.string(address, TEXT_MAX)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn prog_load(vm: &mut Vm, attr: &Attr) -> Answer {
    let count = attr.u32(4) as usize;
    if count > BYTES_MAX / Insn::SIZE {
        return Ok(Err(Errno::E2BIG));
    }
    if attr.u32(116) != 0 {
        return Err(refuse(
            "the program is to be relocated by the kernel (core_relos), which is not simulated; load the object itself",
        ));
    }
    let code = vm.memory.bytes(attr.u64(8), count * Insn::SIZE)?;
    vm.spend(count as u64 * LOADED); // 16 MiB of them at most
    let (slots, _) = code.as_chunks::<8>();
    let insns: Vec<Insn> =
        slots.iter().map(|slot| Insn::from_bytes(skep_asm::Endian::NATIVE, *slot)).collect();
    let (license, name) = (text(vm, attr.u64(16))?, attr.name(48));
    let records = |vm: &mut Vm, size: usize, at: usize, count: usize| {
        let len = (attr.u32(size) as usize).saturating_mul(attr.u32(count) as usize);
        if len == 0 { Ok(Vec::new()) } else { vm.memory.bytes(attr.u64(at), len.min(BYTES_MAX)) }
    };
    let (funcs, lines) = (records(vm, 76, 80, 88)?, records(vm, 92, 96, 104)?);
    let btf = or_errno!(some_descriptor(vm, attr.i32(72)));
    let target = or_errno!(some_descriptor(vm, attr.i32(112)));
    let table = or_errno!(fd_table(vm, attr.u64(120), &insns)?);
    let table: Vec<Option<BorrowedFd<'_>>> = table.iter().map(|fd| fd.as_ref().map(AsFd::as_fd)).collect();
    let mut request = ProgLoad::new(ProgType(attr.u32(0)), &insns, &license);
    (request.kern_version, request.flags) = (attr.u32(40), ProgFlags::from_bits_retain(attr.u32(44)));
    (request.name, request.ifindex) = (&name, attr.u32(64));
    request.expected_attach_type = AttachType(attr.u32(68));
    request.btf = btf.as_ref().map(AsFd::as_fd);
    request.func_info = Records { record_size: attr.u32(76), bytes: &funcs };
    request.line_info = Records { record_size: attr.u32(92), bytes: &lines };
    request.fd_array = &table;
    request.attach = match (&target, attr.u32(108)) {
        (None, 0) => AttachTarget::None,
        (Some(fd), type_id) if vm.kernel.0.object(fd.as_fd()).is_ok_and(|object| object.prog().is_ok()) => {
            AttachTarget::Program { prog: fd.as_fd(), type_id }
        }
        (module, type_id) => AttachTarget::KernelType { type_id, module: module.as_ref().map(AsFd::as_fd) },
    };
    let mut log = log_buffer(attr.u32(24), attr.u32(28));
    let made = vm.kernel.0.prog_load(&request, log.as_mut());
    write_log(vm, attr.u64(32), log);
    Ok(give(vm, made))
}

/// The descriptors that instructions name by their place in a table, as many as they need.
fn fd_table(vm: &mut Vm, address: u64, insns: &[Insn]) -> Answer<Vec<Option<OwnedFd>>> {
    let needed = insns.iter().filter_map(|insn| match insn.src_raw() {
        pseudo::MAP_IDX | pseudo::MAP_IDX_VALUE if insn.is_ld_imm64() => usize::try_from(insn.imm).ok(),
        _ if insn.is_kfunc_call() => usize::try_from(insn.off).ok().filter(|off| *off > 0),
        _ => None,
    });
    let count = needed.max().map_or(0, |last| last.saturating_add(1));
    if address == 0 || count == 0 {
        return Ok(Ok(Vec::new()));
    }
    if count > FDS_MAX {
        return Ok(Err(Errno::E2BIG));
    }
    let bytes = vm.memory.bytes(address, count * 4)?;
    let (words, _) = bytes.as_chunks::<4>();
    Ok(Ok(words.iter().map(|word| descriptor(vm, i32::from_ne_bytes(*word)).ok()).collect()))
}

fn raw_tracepoint_open(vm: &mut Vm, attr: &Attr) -> Answer {
    let name = if attr.u64(0) == 0 { None } else { Some(text(vm, attr.u64(0))?) };
    let prog = or_errno!(descriptor(vm, attr.i32(8)));
    Ok(give(vm, vm.kernel.0.raw_tracepoint_open(prog.as_fd(), name.as_deref(), attr.u64(16))))
}

fn link_create(vm: &mut Vm, attr: &Attr) -> Answer {
    let prog = or_errno!(descriptor(vm, attr.i32(0)));
    let attach_type = AttachType(attr.u32(8));
    let target = descriptor(vm, attr.i32(4)).ok().filter(|_| attr.i32(4) != 0);
    let target = match (&target, attr.u32(4)) {
        (Some(fd), _) => LinkTarget::Fd(fd.as_fd()),
        (None, 0) => LinkTarget::Loaded,
        (None, ifindex) => LinkTarget::Ifindex(ifindex),
    };
    let mut request = LinkCreate::new(prog.as_fd(), target, attach_type);
    request.flags = attr.u32(12);
    if matches!(request.target, LinkTarget::Loaded) {
        request.cookie = attr.u64(24);
    }
    Ok(give(vm, vm.kernel.0.link_create(&request)))
}

/// A name that a helper is given with its length, which counts the NUL; none when that is missing.
fn named(vm: &mut Vm, address: u64, size: u64) -> Result<Option<Vec<u8>>, Trap> {
    let size = size as u32 as usize; // the helpers take 32 bits
    if size <= 1 || size > TEXT_MAX {
        return Ok(None);
    }
    let mut bytes = vm.memory.bytes(address, size)?;
    if bytes.pop() != Some(0) {
        return Ok(None);
    }
    bytes.truncate(bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len()));
    Ok(Some(bytes))
}

/// `bpf_btf_find_by_name_kind(name, name_sz, kind, flags)`: the id of the type, and for one of a module a descriptor of its types
/// in the upper half.
fn find_by_name(vm: &mut Vm, [name, size, kind, flags, _]: [u64; 5]) -> Result<u64, Trap> {
    let Some(name) = named(vm, name, size)?.filter(|_| flags as u32 == 0) else {
        return Ok(negative(Errno::EINVAL));
    };
    let kind = u8::try_from(kind as u32).map(Kind);
    let kernel = vm.kernel.clone();
    vm.spend(CALL);
    let vmlinux = kernel.0.vmlinux();
    for btf in kernel.0.kernel_btfs() {
        let Some(id) = kind.ok().and_then(|kind| btf.btf.find(&name, kind)) else { continue };
        if vmlinux.is_some_and(|vmlinux| std::sync::Arc::ptr_eq(vmlinux, btf)) {
            return Ok(id.0.into());
        }
        let fd = give(vm, kernel.0.open(Object::Btf(btf.clone()), Access::ALL));
        return Ok(fd.map_or_else(negative, |fd| fd << 32 | u64::from(id.0)));
    }
    Ok(negative(Errno::ENOENT))
}

/// `bpf_sys_close(fd)`. Only what programs opened is theirs to close.
fn close(vm: &mut Vm, [fd, ..]: [u64; 5]) -> Result<u64, Trap> {
    let taken = vm.kernel.take_descriptor(fd as u32 as i32); // the helper takes 32 bits
    Ok(answer(taken.map(drop).ok_or(Errno::EBADF)))
}

/// `bpf_kallsyms_lookup_name(name, name_sz, flags, res)`.
fn lookup_symbol(vm: &mut Vm, [name, size, flags, to, _]: [u64; 5]) -> Result<u64, Trap> {
    vm.memory.write(to, &[0; 8])?;
    let Some(name) = named(vm, name, size)?.filter(|_| flags as u32 == 0) else {
        return Ok(negative(Errno::EINVAL));
    };
    let name = String::from_utf8_lossy(&name);
    let Some(address) = vm.kernel.0.variable_address(&name) else {
        return Ok(negative(Errno::ENOENT));
    };
    vm.memory.write(to, &address.to_ne_bytes())?;
    Ok(0)
}

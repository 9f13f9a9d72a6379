//! The one place that both loaders go through: the C library's `syscall`, which has no other definition in this program.
//! It notes what bpf(2) was asked, and passes it on, or answers itself as a kernel would that accepts everything.

use std::arch::asm;
use std::ffi::c_long;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::attr::Attr;
use crate::tape::{Element, Id, Map, Program, Records, Reference, Tape, Types, Value};

const MAP_CREATE: usize = 0;
const MAP_UPDATE_ELEM: usize = 2;
const PROG_LOAD: usize = 5;
const OBJ_PIN: usize = 6;
const PROG_GET_NEXT_ID: usize = 11;
const BTF_GET_FD_BY_ID: usize = 19;
const MAP_GET_FD_BY_ID: usize = 14;
const OBJ_GET_INFO_BY_FD: usize = 15;
const BTF_LOAD: usize = 18;
const MAP_FREEZE: usize = 22;
const BTF_GET_NEXT_ID: usize = 23;
const LINK_CREATE: usize = 28;
const PROG_BIND_MAP: usize = 35;

const PROG_ARRAY: u32 = 3;
const PER_CPU: [u32; 4] = [5, 6, 10, 21];
const OF_MAPS: [u32; 2] = [12, 13];
const ARENA: u32 = 33;
/// Marks the identities of the running kernel's objects, among inodes.
const RUNNING: Id = 1 << 63;
const TRACE_UPROBE_MULTI: u32 = 48;

/// Who answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kernel {
    /// The one that runs.
    Running,
    /// Nobody: everything is accepted and nothing is done. What is only read comes from the one that runs.
    Nobody,
}

struct State {
    kernel: Kernel,
    tape: Tape,
    /// Identities that were given out by nobody.
    made_up: Vec<Id>,
}

static STATE: Mutex<State> = Mutex::new(State {
    kernel: Kernel::Running,
    tape: Tape { maps: Vec::new(), programs: Vec::new(), types: Vec::new() },
    made_up: Vec::new(),
});

fn state() -> MutexGuard<'static, State> {
    STATE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Chooses who answers from now on, and forgets what was noted.
pub(crate) fn ask(kernel: Kernel) {
    let mut state = state();
    state.kernel = kernel;
    state.tape = Tape::default();
    state.made_up.clear();
}

/// What was noted since.
pub(crate) fn take() -> Tape {
    std::mem::take(&mut state().tape)
}

/// What a descriptor stands for, to find it in the tape.
pub(crate) fn map_id(fd: i32) -> Option<Id> {
    identity(&state(), fd, 4)
}

/// As [`map_id`], for a program.
pub(crate) fn program_id(fd: i32) -> Option<Id> {
    identity(&state(), fd, 4)
}

/// The tag that the running kernel gave a program.
pub(crate) fn tag(fd: i32) -> Option<String> {
    if state().kernel != Kernel::Running {
        return None;
    }
    let info = info(fd)?;
    Some(hex(info.get(8..16)?))
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The C library's function of this name.
///
/// # Safety
/// As the system call that it makes.
#[unsafe(no_mangle)]
#[cfg(target_arch = "x86_64")]
pub(crate) unsafe extern "C" fn syscall(
    number: c_long,
    a: usize,
    b: usize,
    c: usize,
    d: usize,
    e: usize,
    f: usize,
) -> c_long {
    let answer = if number == libc::SYS_bpf {
        // SAFETY: the caller's promises are those of bpf(2): `b` points to `c` bytes.
        unsafe { bpf(a, b, c) }
    } else {
        // SAFETY: the caller's promises.
        unsafe { raw(number, [a, b, c, d, e, f]) }
    };
    if (-4095..0).contains(&answer) {
        // SAFETY: the C library's place for the error of this thread.
        unsafe { *libc::__errno_location() = -answer as i32 };
        return -1;
    }
    answer as c_long
}

/// # Safety
/// As the system call.
unsafe fn raw(number: c_long, [a, b, c, d, e, f]: [usize; 6]) -> isize {
    let answer: isize;
    // SAFETY: the caller's promises are those of the system call; the registers are those of its calling convention.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number as isize => answer,
            in("rdi") a,
            in("rsi") b,
            in("rdx") c,
            in("r10") d,
            in("r8") e,
            in("r9") f,
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    answer
}

/// # Safety
/// As bpf(2).
unsafe fn bpf(command: usize, address: usize, len: usize) -> isize {
    // SAFETY: the caller's promise.
    let attr = unsafe { Attr::read(address, len) };
    let mut state = state();
    let answer = match state.kernel {
        // SAFETY: the caller's promises.
        Kernel::Running => unsafe { raw(libc::SYS_bpf, [command, address, len, 0, 0, 0]) },
        // SAFETY: the caller's promises.
        Kernel::Nobody => unsafe { pretend(&mut state, command, &attr, address, len) },
    };
    if answer >= 0 {
        // SAFETY: the caller's promises: what the attribute points to is still there.
        unsafe { note(&mut state, command, &attr, i32::try_from(answer).unwrap_or(-1)) };
    }
    answer
}

/// # Safety
/// As bpf(2).
unsafe fn pretend(state: &mut State, command: usize, attr: &Attr, address: usize, len: usize) -> isize {
    let refuse = |errno: i32| -(errno as isize);
    match command {
        // Its memory is written to before programs are loaded, and only the kernel can map it; that costs nothing yet.
        MAP_CREATE if attr.u32(0) == ARENA => {
            // SAFETY: the caller's promises.
            unsafe { raw(libc::SYS_bpf, [command, address, len, 0, 0, 0]) }
        }
        MAP_CREATE => {
            let [value, entries] = [attr.u32(8), attr.u32(12)].map(u64::from);
            // As much as libbpf maps of it, in pages; there is nothing in them before they are written to.
            let size = value.next_multiple_of(8).saturating_mul(entries);
            make_up(state, size.min(1 << 40).next_multiple_of(4096))
        }
        PROG_LOAD if attr.name(48) == "global_reloc" => {
            // libbpf asks whether any offset into a map is accepted, by what a kernel complains of.
            let text = b"invalid access to map value pointer\0";
            if attr.u32(28) as usize >= text.len() {
                let log = attr.u64(32) as usize as *mut u8;
                // SAFETY: the caller's log buffer has room for it.
                unsafe { std::ptr::copy_nonoverlapping(text.as_ptr(), log, text.len()) };
            }
            refuse(libc::EACCES)
        }
        PROG_LOAD | BTF_LOAD => make_up(state, 0),
        MAP_UPDATE_ELEM | MAP_FREEZE | PROG_BIND_MAP | OBJ_PIN => 0,
        OBJ_GET_INFO_BY_FD if made_up(state, attr.fd(0)).is_some() => 0,
        // These change nothing.
        PROG_GET_NEXT_ID..=MAP_GET_FD_BY_ID | OBJ_GET_INFO_BY_FD | BTF_GET_FD_BY_ID | BTF_GET_NEXT_ID => {
            // SAFETY: the caller's promises.
            unsafe { raw(libc::SYS_bpf, [command, address, len, 0, 0, 0]) }
        }
        // As for a descriptor that is none; a wrong process is met before that.
        LINK_CREATE if attr.u32(8) == TRACE_UPROBE_MULTI && attr.u32(56) == u32::MAX => refuse(libc::EINVAL),
        LINK_CREATE => refuse(libc::EBADF),
        _ => refuse(libc::EINVAL),
    }
}

/// A descriptor of an empty file, whose inode is the identity of what it stands for.
fn make_up(state: &mut State, size: u64) -> isize {
    // SAFETY: the name is a string.
    let fd = unsafe {
        raw(libc::SYS_memfd_create, [c"made-up".as_ptr() as usize, libc::MFD_CLOEXEC as usize, 0, 0, 0, 0])
    };
    if let Ok(fd) = i32::try_from(fd)
        && fd >= 0
    {
        // SAFETY: a system call that reads no memory.
        unsafe { raw(libc::SYS_ftruncate, [fd as usize, size as usize, 0, 0, 0, 0]) };
        state.made_up.extend(inode(fd));
    }
    fd
}

fn inode(fd: i32) -> Option<Id> {
    // SAFETY: plain data for which zero is valid.
    let mut stat: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: `stat` is ours and outlives the call.
    (unsafe { libc::fstat(fd, &raw mut stat) } == 0).then_some(stat.st_ino)
}

/// What the running kernel says of an object; all kinds begin with numbers, and addresses in it are null.
fn info(fd: i32) -> Option<[u8; 256]> {
    let mut info = [0u8; 256];
    let attr = [u64::from(fd.cast_unsigned()) | 256 << 32, info.as_mut_ptr() as u64];
    // SAFETY: the kernel writes no more than the 256 bytes that the attribute says.
    let answer = unsafe {
        raw(libc::SYS_bpf, [OBJ_GET_INFO_BY_FD, attr.as_ptr() as usize, size_of_val(&attr), 0, 0, 0])
    };
    (answer == 0).then_some(info)
}

/// The inode of what is made up, or the number that the running kernel has for it, which is at `at` in its information.
fn identity(state: &State, fd: i32, at: usize) -> Option<Id> {
    if let Some(id) = made_up(state, fd) {
        return Some(id);
    }
    let info = info(fd)?;
    Some(RUNNING | u64::from(u32::from_ne_bytes(info.get(at..at + 4)?.try_into().ok()?)))
}

fn made_up(state: &State, fd: i32) -> Option<Id> {
    inode(fd).filter(|id| state.made_up.contains(id))
}

/// Name of a kernel's or module's own types; empty for those of an object.
fn types_name(state: &State, fd: i32) -> String {
    if made_up(state, fd).is_some() {
        return String::new();
    }
    let mut name = [0u8; 64];
    let mut info = [0u64; 4];
    info[2] = name.as_mut_ptr() as u64;
    info[3] = 64;
    let attr = [u64::from(fd.cast_unsigned()) | 32 << 32, info.as_mut_ptr() as u64];
    // SAFETY: the kernel writes no more than 32 bytes of `info` and 64 of `name`, as the attribute and `info` say.
    unsafe { raw(libc::SYS_bpf, [OBJ_GET_INFO_BY_FD, attr.as_ptr() as usize, size_of_val(&attr), 0, 0, 0]) };
    let end = name.iter().position(|&b| b == 0).unwrap_or(name.len());
    String::from_utf8_lossy(&name[..end]).into_owned()
}

/// # Safety
/// As bpf(2), which has just answered.
unsafe fn note(state: &mut State, command: usize, attr: &Attr, answer: i32) {
    match command {
        MAP_CREATE => {
            let optional = |at: usize, number: usize| {
                Some(attr.fd(at)).filter(|fd| *fd > 0).and_then(|fd| identity(state, fd, number))
            };
            let map = Map {
                id: identity(state, answer, 4).unwrap_or(0),
                name: attr.name(28),
                map_type: attr.u32(0),
                key_size: attr.u32(4),
                value_size: attr.u32(8),
                max_entries: attr.u32(12),
                flags: attr.u32(16),
                inner: optional(20, 4),
                numa_node: attr.u32(24),
                ifindex: attr.u32(44),
                types: optional(48, 12),
                key_type: attr.u32(52),
                value_type: attr.u32(56),
                kernel_value_type: attr.u32(60),
                extra: attr.u64(64),
                value_type_module: Some(attr.fd(72)).filter(|fd| *fd > 0).map(|fd| types_name(state, fd)),
                // SAFETY: the caller's promise: that many bytes are there.
                exclusive: unsafe { attr.bytes(80, attr.u32(88) as usize) },
                elements: Vec::new(),
                frozen: false,
            };
            state.tape.maps.push(map);
        }
        MAP_UPDATE_ELEM => {
            let Some(map) = identity(state, attr.fd(0), 4).and_then(|id| state.tape.map(id)) else { return };
            let len = match PER_CPU.contains(&map.map_type) {
                true => map.value_size.next_multiple_of(8) as usize * possible_cpus(),
                false => map.value_size as usize,
            };
            // SAFETY: the caller's promise: keys and values have the sizes that the map has.
            let (key, bytes) = unsafe { (attr.bytes(8, map.key_size as usize), attr.bytes(16, len)) };
            let held = bytes.get(..4).and_then(|fd| fd.try_into().ok()).map_or(-1, i32::from_ne_bytes);
            let value = match map.map_type {
                PROG_ARRAY => Value::Program(identity(state, held, 4)),
                kind if OF_MAPS.contains(&kind) => Value::Map(identity(state, held, 4)),
                _ => Value::Bytes(bytes),
            };
            let (id, element) = (map.id, Element { key, value, flags: attr.u64(24) });
            if let Some(map) = state.tape.map_mut(id) {
                map.elements.push(element);
            }
        }
        MAP_FREEZE => {
            let id = identity(state, attr.fd(0), 4);
            if let Some(map) = id.and_then(|id| state.tape.map_mut(id)) {
                map.frozen = true;
            }
        }
        BTF_LOAD => {
            let id = identity(state, answer, 12).unwrap_or(0);
            // SAFETY: the caller's promise.
            let bytes = unsafe { attr.bytes(0, attr.u32(16) as usize) };
            state.tape.types.push(Types { id, bytes });
        }
        PROG_BIND_MAP => {
            let (program, map) = (identity(state, attr.fd(0), 4), identity(state, attr.fd(4), 4));
            let found = state.tape.programs.iter_mut().find(|found| Some(found.id) == program);
            if let (Some(program), Some(map)) = (found, map) {
                program.bound.push(map);
            }
        }
        PROG_LOAD => {
            // SAFETY: the caller's promise.
            let program = unsafe { program(state, attr, answer) };
            state.tape.programs.push(program);
        }
        _ => {}
    }
}

fn possible_cpus() -> usize {
    let text = std::fs::read_to_string("/sys/devices/system/cpu/possible").unwrap_or_default();
    let last = text.trim().rsplit(['-', ',']).next().and_then(|last| last.parse::<usize>().ok());
    last.map_or(1, |last| last + 1)
}

/// # Safety
/// As bpf(2), which has just loaded it.
unsafe fn program(state: &State, attr: &Attr, answer: i32) -> Program {
    // SAFETY: the caller's promise.
    let records = |size: usize, at: usize, count: usize| unsafe {
        Records {
            size: attr.u32(size),
            bytes: attr.bytes(at, attr.u32(size) as usize * attr.u32(count) as usize),
        }
    };
    // SAFETY: the caller's promise.
    let code = unsafe { attr.bytes(8, attr.u32(4) as usize * 8) };
    let mut insns: Vec<[u8; 8]> = code.as_chunks::<8>().0.to_vec();
    let mut references = Vec::new();
    let mut at = 0;
    while at < insns.len() {
        let insn = insns[at];
        let source = insn[1] >> 4;
        let imm = |at: usize| i32::from_ne_bytes(std::array::from_fn(|n| insns[at][4 + n]));
        match (insn[0], source) {
            (0x18, 1 | 2) => {
                references.push((at, Reference::Map(identity(state, imm(at), 4))));
                insns[at][4..].fill(0);
            }
            (0x18, 3) if at + 1 < insns.len() && imm(at + 1) != 0 => {
                references.push((at, Reference::Module(types_name(state, imm(at + 1)))));
                insns[at + 1][4..].fill(0);
            }
            (0x85, 2) => {
                let off = i16::from_ne_bytes([insn[2], insn[3]]);
                let array = attr.u64(120) as usize as *const i32;
                if off > 0 && !array.is_null() {
                    // SAFETY: the caller's promise: the offset of such a call is an index of the array.
                    let fd = unsafe { array.add(off as usize).read_unaligned() };
                    references.push((at, Reference::Module(types_name(state, fd))));
                    insns[at][2..4].fill(0);
                }
            }
            _ => {}
        }
        at += if insn[0] == 0x18 { 2 } else { 1 };
    }
    let target = attr.fd(112);
    Program {
        id: identity(state, answer, 4).unwrap_or(0),
        name: attr.name(48),
        prog_type: attr.u32(0),
        // SAFETY: the caller's promise.
        license: unsafe { attr.string(16) },
        kern_version: attr.u32(40),
        flags: attr.u32(44),
        ifindex: attr.u32(64),
        attach_type: attr.u32(68),
        types: Some(attr.fd(72)).filter(|fd| *fd > 0).and_then(|fd| identity(state, fd, 12)),
        func_info: records(76, 80, 88),
        line_info: records(92, 96, 104),
        attach_btf_id: attr.u32(108),
        attach_module: if target > 0 { types_name(state, target) } else { String::new() },
        core_relos: attr.u32(116),
        insns,
        references,
        bound: Vec::new(),
    }
}

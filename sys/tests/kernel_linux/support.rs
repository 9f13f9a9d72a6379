use std::fs;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use skep_asm::{Insn, Reg, opcode};
use skep_sys::abi::{Errno, MapType, ProgType};
use skep_sys::request::{MapCreate, ProgLoad};
use skep_sys::{Kernel, LoadedProgram, MapFd};

use crate::pins::PinDir;

/// Says why a test does not run; a failure where everything must run.
pub(crate) fn skip(name: &str, reason: &str) {
    assert!(std::env::var_os("SKEP_REQUIRE_KERNEL").is_none_or(|v| v != "1"), "skip: {name}: {reason}");
    println!("skip: {name}: {reason}");
}

/// The running kernel, if this process may use it.
pub(crate) fn kernel(name: &str) -> Option<Kernel> {
    let kernel = Kernel::linux();
    match kernel.map_create(&MapCreate::new(MapType::HASH, 4, 4, 1)) {
        Ok(_) => Some(kernel),
        Err(Errno::EPERM) => {
            skip(name, "no right to create maps");
            None
        }
        Err(errno) => panic!("cannot create a map: {errno}"),
    }
}

pub(crate) fn map(kernel: &Kernel, map_type: MapType, key: u32, value: u32, entries: u32) -> MapFd {
    kernel.map_create(&MapCreate::new(map_type, key, value, entries)).unwrap()
}

/// `r0 = value; exit`
pub(crate) fn returns(value: i32) -> [Insn; 2] {
    [
        Insn::new(opcode::CLASS_ALU64 | opcode::ALU_MOV, Reg::R0, Reg::R0, 0, value),
        Insn::new(opcode::EXIT, Reg::R0, Reg::R0, 0, 0),
    ]
}

pub(crate) fn program(kernel: &Kernel, prog_type: ProgType, name: &str, value: i32) -> LoadedProgram {
    let insns = returns(value);
    let mut request = ProgLoad::new(prog_type, &insns, "GPL");
    request.name = name;
    kernel.prog_load(&request, None).unwrap()
}

/// A directory for pins, where there is a bpffs.
pub(crate) fn pin_dir(kernel: &Kernel, name: &str) -> Option<PinDir> {
    if kernel.backend().is_bpffs(Path::new("/sys/fs/bpf")) != Ok(true) {
        skip(name, "no bpffs at /sys/fs/bpf");
        return None;
    }
    Some(PinDir::new(kernel, name))
}

/// Tests that count descriptors, that need them to be closed when they close them, or that start processes, which have them too
/// for a moment, must not do so beside each other.
pub(crate) fn exclusively() -> MutexGuard<'static, ()> {
    static DESCRIPTORS: Mutex<()> = Mutex::new(());
    DESCRIPTORS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Paths of this process's descriptors that are BPF objects.
pub(crate) fn bpf_descriptors() -> usize {
    fs::read_dir("/proc/self/fd")
        .unwrap()
        .flatten()
        .filter_map(|entry| fs::read_link(entry.path()).ok())
        .filter(|target| {
            let target = target.to_string_lossy();
            target.starts_with("anon_inode:bpf") || target.starts_with("anon_inode:btf")
        })
        .count()
}

pub(crate) fn assert_above_streams(fd: &impl AsFd) {
    use std::os::fd::AsRawFd;
    assert!(fd.as_fd().as_raw_fd() > 2);
}

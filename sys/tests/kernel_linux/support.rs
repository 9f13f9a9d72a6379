use std::fs;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use skep_asm::{Insn, Reg, opcode};
use skep_sys::abi::{Errno, MapType, ProgType};
use skep_sys::request::{MapCreate, ProgLoad};
use skep_sys::{Kernel, LoadedProgram, MapFd};

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

/// A directory on a bpffs that goes with its pins.
pub(crate) struct PinDir(PathBuf);

impl PinDir {
    pub(crate) fn new(kernel: &Kernel, name: &str) -> Option<PinDir> {
        let root = Path::new("/sys/fs/bpf");
        if kernel.backend().is_bpffs(root) != Ok(true) {
            skip(name, "no bpffs at /sys/fs/bpf");
            return None;
        }
        let path = root.join(format!("skep-sys-{}-{name}", std::process::id()));
        // Of a process of before, which had the number.
        drop(PinDir(path.clone()));
        kernel.backend().create_pin_dir(&path).unwrap();
        Some(PinDir(path))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for PinDir {
    fn drop(&mut self) {
        let pins = fs::read_dir(&self.0).into_iter().flatten().flatten();
        for pin in pins {
            let _ = fs::remove_file(pin.path());
        }
        let _ = fs::remove_dir(&self.0);
    }
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

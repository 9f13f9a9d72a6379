//! Pins.

use std::path::Path;

use skep_sys::Kernel;
use skep_sys::abi::{MapFlags, MapType, OpenFlags, ProgType};
use skep_sys::request::ProgLoad;

use crate::bodies::{Numbers, Outcome, Script, create};

/// `dir` is an empty directory on a bpffs.
pub(super) fn all(kernel: &Kernel, dir: &Path, lines: &mut Vec<String>) {
    let mut s = Script::new(kernel, "pin", lines);
    let backend = kernel.backend();
    let map = create(kernel, MapType::HASH, [4, 8, 4], MapFlags::empty());
    let insns = skep_asm::Assembler::new().mov64_imm(skep_asm::Reg::R0, 0).exit().finish().unwrap();
    let prog = kernel.prog_load(&ProgLoad::new(ProgType::XDP, &insns, "GPL"), None).unwrap();
    Numbers(&map).update(1, 1).unwrap();
    s.row("pin outside bpffs (/tmp/zz)", map.pin(std::env::temp_dir().join("skep-no-such-pin")));
    map.pin(dir.join("m")).unwrap();
    prog.pin(dir.join("q")).unwrap();
    let open =
        |name: &str, flags: u32| kernel.map_open_pinned(dir.join(name), OpenFlags::from_bits_retain(flags));
    s.row("get map", open("m", 0));
    s.row("get RDONLY then lookup", Numbers(&open("m", 8).unwrap()).lookup(1).map(drop));
    s.row("get regular file", kernel.map_open_pinned("/proc/self/comm", OpenFlags::empty()));
    let path = |name: &str| dir.join(name);
    s.row("get prog RDONLY", backend.open_pinned(&path("q"), OpenFlags::RDONLY));
    s.row("rename pin", backend.rename_pin(&path("m"), &path("m2")));
    map.pin(path("m3")).unwrap();
    s.row("rename over existing pin", backend.rename_pin(&path("m2"), &path("m3")));
    s.row("symlink in bpffs", backend.symlink_pin(Path::new("m3"), &path("link")));
    s.row("get via symlink", open("link", 0));
    backend.unpin(&path("link")).unwrap();
    backend.rename_pin(&path("m3"), &path("m")).unwrap();
    let id = map.info().unwrap().id;
    drop(map);
    let kept = kernel.map_by_id(id, OpenFlags::empty()).is_ok();
    s.row("pin keeps map alive after close", kept.text());
    s.row("unlink", backend.unpin(&dir.join("m")));
    backend.unpin(&dir.join("q")).unwrap();
}

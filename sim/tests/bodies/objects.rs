//! Pins, ids and links.

use std::os::fd::AsFd;
use std::path::Path;

use skep_asm::{Assembler, Reg};
use skep_sys::abi::{AttachType, Errno, MapFlags, MapType, OpenFlags, ProgType};
use skep_sys::request::{LinkCreate, LinkPlace, LinkTarget, Pin, ProgLoad};
use skep_sys::{Kernel, LoadedProgram, ObjectKind};

use super::{Numbers, Outcome, Script, create};

pub(super) fn all(kernel: &Kernel, pins: &Path, lines: &mut Vec<String>) {
    pin(Script::new(kernel, "pin", lines), pins);
    ids(Script::new(kernel, "id", lines));
    tracepoints(Script::new(kernel, "link", lines), pins);
    xdp(Script::new(kernel, "xdp", lines));
}

fn pin(mut s: Script<'_>, dir: &Path) {
    let kernel = s.kernel;
    let backend = kernel.backend();
    let map = create(kernel, MapType::HASH, [4, 8, 4], MapFlags::empty());
    let prog = super::maps::program(kernel, ProgType::XDP);
    let btf = kernel.btf_load(INT, None).unwrap();
    let open =
        |name: &str, flags: u32| kernel.map_open_pinned(dir.join(name), OpenFlags::from_bits_retain(flags));
    s.row("is bpffs", backend.is_bpffs(dir));
    s.row("is bpffs missing", backend.is_bpffs(&dir.join("none")));
    s.row("is bpffs elsewhere", backend.is_bpffs(Path::new("/tmp")));
    s.row("pin map", map.pin(dir.join("a")));
    s.row("pin again same path", map.pin(dir.join("a")));
    s.row("pin map 2nd path", map.pin(dir.join("b")));
    s.row("pin prog", prog.pin(dir.join("p")));
    s.row("pin btf fd", backend.pin(Pin { fd: btf.as_fd(), path: &dir.join("t") }));
    s.row("pin stdin", backend.pin(Pin { fd: std::io::stdin().as_fd(), path: &dir.join("s") }));
    s.row("pin outside bpffs", map.pin("/tmp/skep-no-such-pin"));
    s.row("pin missing parent", map.pin(dir.join("none/x")));
    s.row("pin missing parent outside", map.pin("/tmp/skep-no-such-dir/x"));
    s.row("pin name with '.'", map.pin(dir.join("a.b")));
    s.row("pin '..hidden'", map.pin(dir.join("..hidden")));
    s.row("get name with '.'", kernel.map_open_pinned(dir.join("a.b"), OpenFlags::empty()));
    s.row("pin path empty", map.pin(""));
    s.row("pin long name 255", map.pin(dir.join("x".repeat(255))));
    s.row("pin long name 256", map.pin(dir.join("x".repeat(256))));
    s.row("pin on dir", map.pin(dir));
    s.row("pin below a pin", map.pin(dir.join("a/x")));
    s.row("mkdir", backend.create_pin_dir(&dir.join("d")));
    s.row("mkdir again", backend.create_pin_dir(&dir.join("d")));
    s.row("mkdir over pin", backend.create_pin_dir(&dir.join("a")));
    s.row("mkdir missing parent", backend.create_pin_dir(&dir.join("none/d")));
    s.row("mkdir 'a.b'", backend.create_pin_dir(&dir.join("a.b")));
    s.row("pin in subdir", map.pin(dir.join("d/x")));
    s.row("pin by a way around", map.pin(dir.join("d/../d/./y")));
    s.row("rmdir non-empty", backend.remove_pin_dir(&dir.join("d")));
    s.row("rmdir of pin", backend.remove_pin_dir(&dir.join("a")));
    s.row("rmdir missing", backend.remove_pin_dir(&dir.join("none")));
    s.row("unpin dir", backend.unpin(&dir.join("d")));

    let same = open("b", 0).is_ok_and(|found| found.info().unwrap().id == map.info().unwrap().id);
    s.row("get: same map id", same);
    s.row("get missing", open("none", 0));
    s.row("get below a pin", open("a/x", 0));
    s.row("get dir", open("d", 0));
    s.row("get dir itself", kernel.map_open_pinned(dir, OpenFlags::empty()));
    s.row("get prog as map", open("p", 0));
    s.row("get prog", kernel.prog_open_pinned(dir.join("p")));
    s.row("get map as prog", kernel.prog_open_pinned(dir.join("a")));
    let read = open("a", 8).unwrap();
    s.row("get RDONLY then update", Numbers(&read).update(1, 1));
    s.row("get RDONLY then lookup", Numbers(&read).lookup(1));
    let write = open("a", 16).unwrap();
    s.row("get WRONLY then update", Numbers(&write).update(1, 1));
    s.row("get WRONLY then lookup", Numbers(&write).lookup(1));
    s.row("get RD|WR", open("a", 24));
    s.row("get flags=1", open("a", 1));

    let id = map.info().unwrap().id;
    drop((map, read, write));
    s.row("pin keeps map alive after close", kernel.map_by_id(id, OpenFlags::empty()));
    for name in ["a", "b", &"x".repeat(255), "d/x", "d/y", "p"] {
        s.row("unlink", backend.unpin(&dir.join(name)));
    }
    s.row("get after unlink", open("a", 0));
    s.row("unlink again", backend.unpin(&dir.join("a")));
    s.row("rmdir", backend.remove_pin_dir(&dir.join("d")));
    s.row("id gone after unlink+close", gone(|| kernel.map_by_id(id, OpenFlags::empty())));
}

/// BTF with nothing but a 32-bit `int`.
const INT: &[u8] = &[
    0x9f, 0xeb, 1, 0, 24, 0, 0, 0, 0, 0, 0, 0, 16, 0, 0, 0, 16, 0, 0, 0, 5, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1,
    4, 0, 0, 0, 32, 0, 0, 1, 0, b'i', b'n', b't', 0,
];

/// Waits for an object to go: the running kernel frees it a little later.
fn gone<T: Outcome>(open: impl Fn() -> Result<T, Errno>) -> String {
    for _ in 0..6000 {
        if let Err(errno) = open() {
            return errno.text();
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    "still there".to_owned()
}

fn ids(mut s: Script<'_>) {
    let kernel = s.kernel;
    let backend = kernel.backend();
    let new = || create(kernel, MapType::HASH, [4, 8, 4], MapFlags::empty());
    let (first, second) = (new(), new());
    let (a, b) = (first.info().unwrap().id, second.info().unwrap().id);
    s.row("ids increase monotonically (2 creates)", a < b);
    s.row("MAP_GET_NEXT_ID from mid-1", backend.next_id(ObjectKind::Map, a.0 - 1) == Ok(a.0));
    s.row("MAP_GET_NEXT_ID from 0xffffffff", next(kernel, u32::MAX));
    s.row("MAP_GET_NEXT_ID past the end", next(kernel, i32::MAX as u32 - 1));
    s.row("MAP_GET_FD_BY_ID ok", kernel.map_by_id(a, OpenFlags::empty()));
    s.row("MAP_GET_FD_BY_ID id=0", kernel.map_by_id(Default::default(), OpenFlags::empty()));
    let read = kernel.map_by_id(a, OpenFlags::RDONLY).unwrap();
    s.row("MAP_GET_FD_BY_ID open_flags=RDONLY then update", Numbers(&read).update(1, 1));
    s.row("MAP_GET_FD_BY_ID open_flags=RD|WR", kernel.map_by_id(a, OpenFlags::from_bits_retain(24)));
    s.row("MAP_GET_FD_BY_ID open_flags=1", kernel.map_by_id(a, OpenFlags::from_bits_retain(1)));
    s.row("PROG_GET_FD_BY_ID missing", kernel.prog_by_id(skep_sys::abi::ProgId(i32::MAX as u32)));
    s.row("LINK_GET_FD_BY_ID missing", kernel.link_by_id(skep_sys::abi::LinkId(i32::MAX as u32)));
    s.row("BTF_GET_FD_BY_ID missing", kernel.btf_by_id(skep_sys::abi::BtfObjectId(i32::MAX as u32)));
    let copy = first.try_clone().unwrap();
    drop((first, read));
    s.row("a duplicate keeps it", kernel.map_by_id(a, OpenFlags::empty()));
    drop(copy);
    s.row("MAP_GET_FD_BY_ID missing", gone(|| kernel.map_by_id(a, OpenFlags::empty())));
    s.row("lookup of no map", kernel.map_from_fd(std::io::stdin().as_fd().try_clone_to_owned().unwrap()));
    let btf = kernel.btf_load(INT, None).unwrap();
    s.row("btf bytes", btf.bytes().is_ok_and(|bytes| bytes == INT));
    s.row("btf size", btf.info().map(|info| info.size as usize));
    s.row("map info of btf", kernel.map_from_fd(btf.as_fd().try_clone_to_owned().unwrap()));
    s.row("prog info of map", kernel.prog_from_fd(second.as_fd().try_clone_to_owned().unwrap()));
    let prog = super::maps::program(kernel, ProgType::SOCKET_FILTER);
    s.row("bind", prog.bind_map(&second));
    s.row("bind again", prog.bind_map(&second));
    s.row("bound", prog.info().unwrap().map_ids == [b]);
    drop(second);
    s.row("a program keeps its map", kernel.map_by_id(b, OpenFlags::empty()));
    drop(prog);
    s.row("and lets it go", gone(|| kernel.map_by_id(b, OpenFlags::empty())));
}

fn next(kernel: &Kernel, id: u32) -> Result<usize, Errno> {
    kernel.backend().next_id(ObjectKind::Map, id).map(|id| id as usize)
}

fn returning(kernel: &Kernel, prog_type: ProgType, value: i32) -> LoadedProgram {
    let mut asm = Assembler::new();
    asm.mov64_imm(Reg::R0, value).exit();
    kernel.prog_load(&ProgLoad::new(prog_type, &asm.finish().unwrap(), "GPL"), None).unwrap()
}

fn tracepoints(mut s: Script<'_>, dir: &Path) {
    let kernel = s.kernel;
    let prog = returning(kernel, ProgType::RAW_TRACEPOINT, 0);
    let open = |prog: &LoadedProgram, name| kernel.raw_tracepoint_open(prog, name, 0);
    s.row("no such tracepoint", open(&prog, Some("skep_no_such_thing")));
    s.row("xdp program", open(&returning(kernel, ProgType::XDP, 2), Some("sched_switch")));
    let link = open(&prog, Some("sched_process_exec")).unwrap();
    s.row("twice", open(&prog, Some("sched_process_exec")));
    let info = link.info().unwrap();
    s.row("info type", info.link_type.to_string());
    s.row("info program", info.prog_id == prog.info().unwrap().id);
    s.row("info place", info.place == LinkPlace::RawTracepoint { name: "sched_process_exec".to_owned() });
    s.row("detach", link.detach());
    s.row("update", link.update(&prog, None));
    s.row("pin", link.pin(dir.join("link")));
    drop(link);
    let link = kernel.link_open_pinned(dir.join("link")).unwrap();
    s.row("same id", link.info().unwrap().id == info.id);
    s.row("by id", kernel.link_by_id(info.id));
    s.row("unlink", kernel.backend().unpin(&dir.join("link")));
    let id = prog.info().unwrap().id;
    drop(prog);
    s.row("a link keeps its program", kernel.prog_by_id(id));
    drop(link);
    s.row("gone", gone(|| kernel.link_by_id(info.id)));
    s.row("its program too", gone(|| kernel.prog_by_id(id)));
}

/// On the loopback device, where everything goes on passing.
fn xdp(mut s: Script<'_>) {
    const PASS: i32 = 2;
    /// `XDP_FLAGS_SKB_MODE`
    const GENERIC: u32 = 2;

    let kernel = s.kernel;
    let prog = returning(kernel, ProgType::XDP, PASS);
    let filter = returning(kernel, ProgType::SOCKET_FILTER, PASS);
    let index = kernel.backend().ifindex("lo".as_ref());
    s.row("ifindex of lo", index.is_ok());
    s.row("ifindex of nothing", kernel.backend().ifindex("skep-none".as_ref()).is_err());
    let index = index.unwrap();
    let attach = |prog: &LoadedProgram, index, attach_type| {
        let mut request = LinkCreate::new(prog.as_fd(), LinkTarget::Ifindex(index), attach_type);
        request.flags = GENERIC;
        kernel.link_create(&request)
    };
    s.row("LINK_CREATE xdp bad ifindex", attach(&prog, 0x7fff_ff00, AttachType::XDP));
    s.row("LINK_CREATE other prog type", attach(&filter, index, AttachType::XDP));
    let link = attach(&prog, index, AttachType::XDP).unwrap();
    s.row("second xdp link on lo", attach(&prog, index, AttachType::XDP));
    s.row("info", link.info().is_ok_and(|info| info.place == LinkPlace::Xdp { ifindex: index }));
    let other = returning(kernel, ProgType::XDP, PASS);
    s.row("LINK_UPDATE", link.update(&other, None));
    s.row("updated", link.info().unwrap().prog_id == other.info().unwrap().id);
    s.row("LINK_UPDATE other prog type", link.update(&filter, None));
    s.row("LINK_UPDATE F_REPLACE wrong old", link.update(&prog, Some(&prog)));
    s.row("LINK_UPDATE F_REPLACE", link.update(&prog, Some(&other)));
    s.row("LINK_DETACH", link.detach());
    s.row("LINK_DETACH again", link.detach());
    s.row("LINK_UPDATE after detach", link.update(&other, None));
    s.row("info after detach", link.info().is_ok_and(|info| info.place == LinkPlace::Xdp { ifindex: 0 }));
    let again = attach(&prog, index, AttachType::XDP).unwrap();
    drop(again);
    drop(attach(&prog, index, AttachType::XDP).expect("dropped links are detached"));
}

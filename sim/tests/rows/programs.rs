//! What is loaded and what is refused, and links to the first device.

use std::os::fd::{AsFd, AsRawFd};

use skep_asm::{Assembler, Insn, Reg, Size};
use skep_sys::abi::{AttachFlags, AttachType, MapFlags, MapType, ProgFlags, ProgType};
use skep_sys::request::{LinkCreate, LinkTarget, LinkUpdate, LogBuffer, ProgLoad};
use skep_sys::{Kernel, LoadedProgram};

use crate::bodies::{Outcome, Script, create};

const NONE: MapFlags = MapFlags::empty();

pub(super) fn all(kernel: &Kernel, lines: &mut Vec<String>) {
    let mut s = Script::new(kernel, "bpf", lines);
    loads(&mut s);
    attributes(&mut s);
    with_maps(&mut s);
    links(&mut s);
}

fn i(opcode: u8, dst: u8, src: u8, off: i16, imm: i32) -> Insn {
    Insn::new(opcode, Reg::new(dst).unwrap(), Reg::new(src).unwrap(), off, imm)
}

/// The error and the last line of the log, which says why.
fn outcome(kernel: &Kernel, request: &ProgLoad<'_>) -> String {
    let mut log = LogBuffer::new(1, 1 << 20);
    let Err(errno) = kernel.prog_load(request, Some(&mut log)) else { return "ok".to_owned() };
    let text = log.text();
    let mut lines = text.lines().filter(|line| !line.starts_with("processed ") && !line.contains(": R1=ctx"));
    match lines.next_back() {
        Some(reason) if !reason.trim().is_empty() => {
            // Where the kernel forgot to end the line.
            let end = reason.find("processed ").unwrap_or(reason.len());
            let reason = reason[..end].trim();
            // Numbers that follow, which were not written down.
            let end = reason.find(" forbidden,").map_or(reason.len(), |at| at + " forbidden".len());
            format!("{}: {}", errno.text(), &reason[..end])
        }
        _ => errno.text(),
    }
}

fn load(s: &mut Script<'_>, label: &str, prog_type: ProgType, license: &str, insns: &[Insn]) {
    let text = outcome(s.kernel, &ProgLoad::new(prog_type, insns, license));
    s.row(label, text);
}

fn loads(s: &mut Script<'_>) {
    const MOV: fn(i32) -> Insn = |imm| i(0xb7, 0, 0, 0, imm);
    const CALL: fn(i32) -> Insn = |id| i(0x85, 0, 0, 0, id);
    let exit = i(0x95, 0, 0, 0, 0);
    let zero = i(0, 0, 0, 0, 0);
    let xdp: &[(&str, &[Insn])] = &[
        ("ok trivial", &[MOV(2), exit]),
        ("insn_cnt=0", &[]),
        ("no exit at end", &[MOV(2)]),
        ("r0 uninit", &[exit]),
        ("unreachable insn", &[MOV(2), exit, MOV(1), exit]),
        ("jump out of range", &[MOV(2), i(5, 0, 0, 100, 0), exit]),
        ("jump -1 infinite loop", &[MOV(2), i(5, 0, 0, -1, 0), exit]),
        ("unknown opcode 0xff", &[i(0xff, 0, 0, 0, 0), exit]),
        ("unknown helper 9999", &[CALL(9999), exit]),
        ("helper 0", &[CALL(0), exit]),
        ("helper not allowed for type (xdp calls skb_load_bytes)", &[MOV(0), CALL(26), exit]),
        ("LDIMM64 map fd bad (-1)", &[i(0x18, 1, 1, 0, -1), zero, MOV(2), exit]),
        ("LDIMM64 map fd = prog/stdin(0)", &[i(0x18, 1, 1, 0, 0), zero, MOV(2), exit]),
        ("LDIMM64 truncated (last insn)", &[MOV(2), i(0x18, 1, 0, 0, 0)]),
        ("LDIMM64 src=9", &[i(0x18, 1, 9, 0, 0), zero, MOV(2), exit]),
        ("stack access -520", &[i(0x7a, 10, 0, -520, 0), MOV(2), exit]),
        ("stack access +8", &[i(0x7a, 10, 0, 8, 0), MOV(2), exit]),
        ("uninit stack read (privileged ok?)", &[i(0x79, 0, 10, -8, 0), MOV(2), exit]),
        ("write r10", &[i(0xb7, 10, 0, 0, 0), MOV(2), exit]),
        ("div by zero imm", &[MOV(2), i(0x37, 0, 0, 0, 0), exit]),
        ("shift imm 64", &[MOV(2), i(0x67, 0, 0, 0, 64), exit]),
        ("ctx write xdp_md.data", &[i(0x62, 1, 0, 0, 0), MOV(2), exit]),
        ("ctx OOB read off 24", &[i(0x61, 0, 1, 24, 0), MOV(2), exit]),
        ("pseudo call into middle / out of range", &[i(0x85, 0, 1, 0, 100), MOV(2), exit]),
    ];
    for (label, insns) in xdp {
        load(s, label, ProgType::XDP, "GPL", insns);
    }
    let trace = &[i(0xb7, 2, 0, 0, 4), i(0xbf, 1, 10, 0, 0), i(0x07, 1, 0, 0, -8), CALL(6), MOV(2), exit];
    let label = "GPL-only helper (trace_printk=6) in non-GPL prog";
    load(s, label, ProgType::XDP, "Proprietary", trace);
    let time = &[CALL(5), MOV(2), exit];
    load(s, "GPL-only helper (ktime_get_ns=5) in non-GPL prog", ProgType::XDP, "Proprietary", time);
    let read = &[
        i(0xbf, 1, 10, 0, 0),
        i(0x07, 1, 0, 0, -8),
        i(0xb7, 2, 0, 0, 8),
        i(0xb7, 3, 0, 0, 0),
        CALL(113),
        MOV(0),
        exit,
    ];
    let label = "probe_read_kernel GPL-only from raw_tp non-GPL";
    load(s, label, ProgType::RAW_TRACEPOINT, "Proprietary", read);
    load(s, "cgroup_skb returns 5", ProgType::CGROUP_SKB, "GPL", &[MOV(5), exit]);
    let mut long = vec![MOV(0); 1_000_000];
    long.push(exit);
    load(s, "1,000,001 insns", ProgType::XDP, "GPL", &long);
    long.remove(0);
    // Whose log would be too long for any buffer.
    let loaded = s.kernel.prog_load(&ProgLoad::new(ProgType::XDP, &long, "GPL"), None);
    s.row("1,000,000 insns (mov..exit)", loaded);
    let valid = [MOV(2), exit];
    let label = "log too small, program valid";
    let mut log = LogBuffer::new(2, 16);
    let loaded = s.kernel.prog_load(&ProgLoad::new(ProgType::XDP, &valid, "GPL"), Some(&mut log));
    s.row(label, loaded);
    let mut log = LogBuffer::new(2, 1);
    let loaded = s.kernel.prog_load(&ProgLoad::new(ProgType::XDP, &valid, "GPL"), Some(&mut log));
    s.row("log_size=1 (too small)", format!("{} | read {}", loaded.text(), log.text().len()));
}

fn attributes(s: &mut Script<'_>) {
    let insns = [i(0xb7, 0, 0, 0, 1), i(0x95, 0, 0, 0, 0)];
    let mut row = |label: &str, prog_type, change: &dyn Fn(&mut ProgLoad<'_>)| {
        let mut request = ProgLoad::new(prog_type, &insns, "GPL");
        change(&mut request);
        let text = outcome(s.kernel, &request);
        s.row(label, text);
    };
    let plain = |_: &mut ProgLoad<'_>| {};
    row("unknown prog type 99", ProgType(99), &plain);
    row("prog type 0 unspec", ProgType(0), &plain);
    row("prog_flags=1<<30", ProgType::XDP, &|r| r.flags = ProgFlags::from_bits_retain(1 << 30));
    row("cgroup_sock_addr without expected_attach_type", ProgType::CGROUP_SOCK_ADDR, &plain);
    row("cgroup_skb eat=99", ProgType::CGROUP_SKB, &|r| r.expected_attach_type = AttachType(99));
    row("xdp eat=99", ProgType::XDP, &|r| r.expected_attach_type = AttachType(99));
    row("kprobe kern_version=0", ProgType::KPROBE, &plain);
}

fn with_maps(s: &mut Script<'_>) {
    let kernel = s.kernel;
    let hash = create(kernel, MapType::HASH, [4, 8, 4], NONE);
    let array = create(kernel, MapType::ARRAY, [4, 8, 4], NONE);
    let one = create(kernel, MapType::ARRAY, [4, 8, 1], NONE);
    let read = create(kernel, MapType::ARRAY, [4, 8, 1], MapFlags::RDONLY_PROG);
    let mut row = |label: &str, prog_type, license: &str, build: &dyn Fn(&mut Assembler)| {
        let mut code = Assembler::new();
        build(&mut code);
        code.mov64_imm(Reg::R0, 0).exit();
        let insns = code.finish().unwrap();
        load(s, label, prog_type, license, &insns);
    };
    let fd = |map: &skep_sys::MapFd| map.as_fd().as_raw_fd();
    let xdp = ProgType::XDP;
    row("LDIMM64 map value on hash", xdp, "GPL", &|code| {
        code.ld_map_value(Reg::R1, fd(&hash), 0);
    });
    row("LDIMM64 map value array max_entries=4", xdp, "GPL", &|code| {
        code.ld_map_value(Reg::R1, fd(&array), 0);
    });
    row("LDIMM64 map value off=8 of 8", xdp, "GPL", &|code| {
        code.ld_map_value(Reg::R1, fd(&one), 8);
    });
    row("write RDONLY_PROG map from prog", xdp, "GPL", &|code| {
        code.ld_map_value(Reg::R1, fd(&read), 0).st(Size::DW, Reg::R1, 0, 1);
    });
    let lookup = |code: &mut Assembler, size| {
        code.st(size, Reg::R10, -4, 1).ld_map_fd(Reg::R1, fd(&hash)).mov64_reg(Reg::R2, Reg::R10);
        code.add64_imm(Reg::R2, -4).call_helper(1);
    };
    row("NULL deref after lookup w/o check", xdp, "GPL", &|code| {
        lookup(code, Size::W);
        code.ldx(Size::DW, Reg::R1, Reg::R0, 0);
    });
    row("key buffer 4B at stack only 2 inited", xdp, "GPL", &|code| lookup(code, Size::H));
    row("kprobe non-GPL with only map helpers", ProgType::KPROBE, "Proprietary", &|code| {
        lookup(code, Size::W);
    });
    row("tail call by wrong map type", xdp, "GPL", &|code| {
        code.ld_map_fd(Reg::R2, fd(&hash)).mov64_imm(Reg::R3, 0).call_helper(12);
    });
}

fn program(kernel: &Kernel, prog_type: ProgType) -> LoadedProgram {
    let insns = Assembler::new().mov64_imm(Reg::R0, 2).exit().finish().unwrap();
    kernel.prog_load(&ProgLoad::new(prog_type, &insns, "GPL"), None).unwrap()
}

/// Links to the first device of a network namespace that has no other ones.
fn links(s: &mut Script<'_>) {
    let kernel = s.kernel;
    let (first, second) = (program(kernel, ProgType::XDP), program(kernel, ProgType::XDP));
    let link = |index: u32| {
        let target = LinkTarget::Ifindex(index);
        kernel.link_create(&LinkCreate::new(first.as_fd(), target, AttachType::XDP))
    };
    let lo = kernel.backend().ifindex("lo".as_ref()).unwrap();
    s.row("LINK_CREATE xdp bad ifindex", link(0x7fff_ff00));
    s.row("LINK_CREATE target -1", link(u32::MAX));
    let linked = link(lo);
    s.row("second xdp link on lo", link(lo));
    let Ok(linked) = linked else { return s.row("LINK_CREATE xdp on lo", linked) };
    s.row("LINK_CREATE xdp on lo", "ok".to_owned());
    let backend = kernel.backend();
    let update = |new: &LoadedProgram, old: Option<&LoadedProgram>| {
        let mut request = LinkUpdate::new(linked.as_fd(), new.as_fd());
        request.old_prog = old.map(AsFd::as_fd);
        if old.is_some() {
            request.flags = AttachFlags::REPLACE;
        }
        backend.link_update(&request)
    };
    s.row("LINK_UPDATE", update(&second, None));
    s.row("LINK_UPDATE other prog type", update(&program(kernel, ProgType::SOCKET_FILTER), None));
    s.row("LINK_UPDATE F_REPLACE wrong old", update(&second, Some(&first)));
    s.row("LINK_DETACH", backend.link_detach(linked.as_fd()));
    s.row("LINK_DETACH again", backend.link_detach(linked.as_fd()));
    s.row("LINK_UPDATE after detach", update(&second, None));
}

//! What a verifier refuses without following what registers hold: how programs are put together.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use skep_asm::{Assembler, Endian, Insn, Reg, Size};
use skep_btf::{Btf, BtfBuilder, IntEncoding, Kind, Linkage};
use skep_sys::abi::{AttachType, MapFlags, MapType, ProgFlags, ProgType};
use skep_sys::request::{AttachTarget, ProgLoad, Records};
use skep_sys::{BtfFd, Kernel};

use super::programs::{i, outcome};
use super::{Script, create};

pub(super) fn all(kernel: &Kernel, lines: &mut Vec<String>) {
    depth(Script::new(kernel, "depth", lines));
    fields(Script::new(kernel, "fields", lines));
    control(Script::new(kernel, "control", lines));
    loads(Script::new(kernel, "ld_imm64", lines));
    callbacks(Script::new(kernel, "callbacks", lines));
    kernel_functions(Script::new(kernel, "kfuncs", lines));
    attributes(Script::new(kernel, "attributes", lines));
}

fn row(s: &mut Script<'_>, label: &str, prog_type: ProgType, insns: &[Insn]) {
    let text = outcome(s.kernel, &ProgLoad::new(prog_type, insns, "GPL"));
    s.row(label, text);
}

fn built(s: &mut Script<'_>, label: &str, prog_type: ProgType, build: impl FnOnce(&mut Assembler)) {
    let mut asm = Assembler::new();
    build(&mut asm);
    row(s, label, prog_type, &asm.finish().unwrap());
}

/// Functions that call each other, one after the other, each with so many bytes of stack.
fn chain(asm: &mut Assembler, frames: &[i16]) {
    for (number, frame) in frames.iter().enumerate() {
        asm.label(format!("f{number}"));
        if *frame != 0 {
            asm.st(Size::DW, Reg::R10, -frame, 0);
        }
        if number + 1 < frames.len() {
            asm.call(format!("f{}", number + 1));
        }
        asm.mov64_imm(Reg::R0, 0).exit();
    }
}

fn depth(mut s: Script<'_>) {
    let xdp = ProgType::XDP;
    let chains: &[(&str, ProgType, &[i16])] = &[
        ("512", xdp, &[512]),
        ("256+256", xdp, &[256, 256]),
        ("256+264", xdp, &[256, 264]),
        ("496+0", xdp, &[496, 0]),
        ("504+0", xdp, &[504, 0]),
        ("eight", xdp, &[64; 8]),
        ("eight of 72", xdp, &[72; 8]),
        ("nine", xdp, &[8; 9]),
        ("raw_tp 512+512", ProgType::RAW_TRACEPOINT, &[512, 512]),
        ("kprobe 256+264", ProgType::KPROBE, &[256, 264]),
        ("tc 256+264", ProgType::SCHED_CLS, &[256, 264]),
        ("sk_skb 512+8", ProgType::SK_SKB, &[512, 8]),
    ];
    for (label, prog_type, frames) in chains {
        built(&mut s, label, *prog_type, |asm| chain(asm, frames));
    }
    built(&mut s, "deepest of two", xdp, |asm| {
        asm.st(Size::DW, Reg::R10, -256, 0).call("shallow").call("deep").mov64_imm(Reg::R0, 0).exit();
        asm.label("shallow").mov64_imm(Reg::R0, 0).exit();
        asm.label("deep").st(Size::DW, Reg::R10, -264, 0).mov64_imm(Reg::R0, 0).exit();
    });
    built(&mut s, "by another register", xdp, |asm| {
        asm.mov64_reg(Reg::R2, Reg::R10).add64_imm(Reg::R2, -400).st(Size::B, Reg::R2, -8, 1).call("f");
        asm.mov64_imm(Reg::R0, 0).exit();
        asm.label("f").st(Size::DW, Reg::R10, -128, 0).mov64_imm(Reg::R0, 0).exit();
    });
    built(&mut s, "recursion", xdp, |asm| {
        asm.mov64_imm(Reg::R0, 0).call("f").exit();
        asm.label("f").call("f").exit();
    });
    let programs = create(s.kernel, MapType::PROG_ARRAY, [4, 4, 1], MapFlags::empty());
    let fd = programs.as_fd().as_raw_fd();
    for (label, frame) in [("tail call below 248", 248), ("tail call below 256", 256)] {
        built(&mut s, label, xdp, |asm| {
            asm.st(Size::DW, Reg::R10, -frame, 0).call("f").mov64_imm(Reg::R0, 0).exit();
            asm.label("f").ld_map_fd(Reg::R2, fd).mov64_imm(Reg::R3, 0).call_helper(12);
            asm.mov64_imm(Reg::R0, 0).exit();
        });
    }
}

fn fields(mut s: Script<'_>) {
    let (mov, exit) = (i(0xb7, 0, 0, 0, 0), i(0x95, 0, 0, 0, 0));
    let cases: &[(&str, Insn)] = &[
        ("add off", i(0x07, 0, 0, 1, 0)),
        ("add src of imm", i(0x07, 0, 1, 0, 0)),
        ("div off 1", i(0x37, 0, 0, 1, 1)),
        ("div off 2", i(0x37, 0, 0, 2, 1)),
        ("mod off 1", i(0x97, 0, 0, 1, 1)),
        ("mod 0", i(0x97, 0, 0, 0, 0)),
        ("sdiv 0", i(0x37, 0, 0, 1, 0)),
        ("div32 0", i(0x34, 0, 0, 0, 0)),
        ("shift -1", i(0x67, 0, 0, 0, -1)),
        ("arsh32 32", i(0xc4, 0, 0, 0, 32)),
        ("mov src of imm", i(0xb7, 0, 1, 0, 0)),
        ("mov imm of reg", i(0xbf, 0, 0, 0, 1)),
        ("movsx 8", i(0xbf, 0, 0, 8, 0)),
        ("movsx 24", i(0xbf, 0, 0, 24, 0)),
        ("movsx32 32", i(0xbc, 0, 0, 32, 0)),
        ("movsx imm", i(0xb7, 0, 0, 8, 0)),
        ("addr_space_cast without arena", i(0xbf, 0, 0, 1, 1)),
        ("addr_space_cast 0 to 0", i(0xbf, 0, 0, 1, 0)),
        ("addr_space_cast 2", i(0xbf, 0, 0, 1, 2)),
        ("neg src", i(0x87, 0, 1, 0, 0)),
        ("neg off", i(0x87, 0, 0, 1, 0)),
        ("neg of reg", i(0x8f, 0, 0, 0, 0)),
        ("end off", i(0xd4, 0, 0, 1, 16)),
        ("end src", i(0xd4, 0, 1, 0, 16)),
        ("bswap 24", i(0xd7, 0, 0, 0, 24)),
        ("bswap of reg", i(0xdf, 0, 0, 0, 16)),
        ("alu e0", i(0xe7, 0, 0, 0, 0)),
        ("alu f0", i(0xf7, 0, 0, 0, 0)),
        ("ja dst", i(0x05, 1, 0, 0, 0)),
        ("ja src", i(0x05, 0, 1, 0, 0)),
        ("ja of reg", i(0x0d, 0, 0, 0, 0)),
        ("gotol off", i(0x06, 0, 0, 1, 0)),
        ("gotol dst", i(0x06, 1, 0, 0, 0)),
        ("gotol of reg", i(0x0e, 0, 0, 0, 0)),
        ("may_goto imm", i(0xe5, 0, 0, 0, 1)),
        ("may_goto dst", i(0xe5, 1, 0, 0, 0)),
        ("jcond32", i(0xe6, 0, 0, 0, 0)),
        ("jcond of reg", i(0xed, 0, 0, 0, 0)),
        ("jmp f0", i(0xf5, 0, 0, 0, 0)),
        ("jmp imm of reg", i(0x1d, 0, 0, 0, 1)),
        ("jmp r11", i(0x15, 11, 0, 0, 0)),
        ("jmp src r11", i(0x1d, 0, 11, 0, 0)),
        ("call dst", i(0x85, 1, 0, 0, 5)),
        ("call src 3", i(0x85, 0, 3, 0, 5)),
        ("call32", i(0x86, 0, 0, 0, 5)),
        ("exit32", i(0x96, 0, 0, 0, 0)),
        ("exit of reg", i(0x9d, 0, 0, 0, 0)),
        ("ldx abs", i(0x21, 0, 1, 0, 0)),
        ("ldx imm mode", i(0x01, 0, 1, 0, 0)),
        ("ldx signed 64", i(0x99, 0, 10, -8, 0)),
        ("ldx signed imm", i(0x91, 0, 10, -8, 1)),
        ("ldx to r10", i(0x79, 10, 10, -8, 0)),
        ("st atomic mode", i(0xc2, 10, 0, -8, 0)),
        ("st r11", i(0x62, 11, 0, 0, 0)),
        ("stx r11", i(0x63, 11, 0, 0, 0)),
        ("stx src r12", i(0x63, 10, 12, -8, 0)),
        ("stx signed mode", i(0x83, 10, 0, -8, 0)),
        ("atomic 16", i(0xcb, 10, 0, -8, 0)),
        ("atomic 8 fetch", i(0xd3, 10, 0, -8, 1)),
        ("atomic nand", i(0xdb, 10, 0, -8, 0x60)),
        ("atomic xchg without fetch", i(0xdb, 10, 0, -8, 0xe0)),
        ("atomic cmpxchg without fetch", i(0xdb, 10, 0, -8, 0xf0)),
        ("atomic r11", i(0xdb, 11, 0, -8, 0)),
        ("load_acquire to r10", i(0xdb, 10, 10, -8, 0x100)),
        ("load_acquire src r11", i(0xdb, 0, 11, -8, 0x100)),
        ("atomic 120", i(0xdb, 10, 0, -8, 0x120)),
        ("ld imm32", i(0x00, 0, 0, 0, 0)),
        ("ld abs 64", i(0x38, 0, 0, 0, 0)),
        ("ld mem mode", i(0x60, 0, 0, 0, 0)),
        ("write r10 by add", i(0x07, 10, 0, 0, 1)),
    ];
    for (label, insn) in cases {
        row(&mut s, label, ProgType::RAW_TRACEPOINT, &[mov, *insn, mov, exit]);
    }
    for (label, insn) in [
        ("ld_abs dst", i(0x20, 1, 0, 0, 0)),
        ("ld_abs off", i(0x20, 0, 0, 1, 0)),
        ("ld_abs src", i(0x20, 0, 1, 0, 0)),
        ("ld_ind off", i(0x40, 0, 0, 1, 0)),
        ("ld_abs", i(0x20, 0, 0, 0, 0)),
        ("ld_abs negative", i(0x30, 0, 0, 0, -0x1000)),
    ] {
        let insns = [i(0xbf, 6, 1, 0, 0), mov, insn, mov, exit];
        row(&mut s, label, ProgType::SOCKET_FILTER, &insns);
        row(&mut s, &format!("{label} in xdp"), ProgType::XDP, &insns);
    }
}

fn control(mut s: Script<'_>) {
    let xdp = ProgType::XDP;
    let (mov, exit, zero) = (i(0xb7, 0, 0, 0, 0), i(0x95, 0, 0, 0, 0), Insn::default());
    let cases: &[(&str, &[Insn])] = &[
        ("jump to the end", &[mov, i(0x15, 0, 0, 1, 0), exit]),
        ("jump before the start", &[mov, i(0x15, 0, 0, -3, 0), exit]),
        ("gotol out", &[mov, i(0x06, 0, 0, 0, 1 << 20), exit]),
        ("may_goto out", &[mov, i(0xe5, 0, 0, 100, 0), exit]),
        ("ends with a branch", &[mov, exit, i(0x15, 0, 0, -1, 0)]),
        ("ends with may_goto", &[mov, i(0xe5, 0, 0, 0, 0)]),
        ("ends with a call", &[mov, i(0x85, 0, 0, 0, 5)]),
        ("ends with ld_imm64", &[mov, i(0x18, 0, 0, 0, 0), zero]),
        ("ends with gotol", &[mov, i(0x05, 0, 0, 1, 0), exit, i(0x06, 0, 0, 0, -2)]),
        ("unreachable function", &[mov, exit, i(0x85, 0, 1, 0, -3), exit]),
        ("unreachable after goto", &[mov, i(0x05, 0, 0, 1, 0), mov, exit]),
        ("call itself", &[i(0x85, 0, 1, 0, -1), exit]),
        ("call into the middle of ld_imm64", &[i(0x85, 0, 1, 0, 2), exit, i(0x18, 0, 0, 0, 0), zero, exit]),
        ("second function falls off", &[i(0x85, 0, 1, 0, 1), exit, mov]),
        ("branch to another function", &[mov, i(0x15, 0, 0, 2, 0), i(0x85, 0, 1, 0, 1), exit, mov, exit]),
    ];
    for (label, insns) in cases {
        row(&mut s, label, xdp, insns);
    }
    let many = |count: usize| {
        let mut insns = Vec::new();
        for number in 0..count {
            insns.push(i(0x85, 0, 1, 0, (count - number) as i32 + 1 + 2 * number as i32));
        }
        insns.extend([mov, exit]);
        insns.extend([mov, exit].repeat(count));
        insns
    };
    row(&mut s, "255 functions", xdp, &many(255));
    row(&mut s, "256 functions", xdp, &many(256));
}

fn loads(mut s: Script<'_>) {
    let (mov, exit, zero) = (i(0xb7, 0, 0, 0, 0), i(0x95, 0, 0, 0, 0), Insn::default());
    let array = create(s.kernel, MapType::ARRAY, [4, 8, 1], MapFlags::empty());
    let hash = create(s.kernel, MapType::HASH, [4, 8, 1], MapFlags::empty());
    let (fd, hash_fd) = (array.as_fd().as_raw_fd(), hash.as_fd().as_raw_fd());
    let cases: &[(&str, Insn, Insn)] = &[
        ("off", i(0x18, 0, 0, 1, 0), zero),
        ("second off", i(0x18, 0, 0, 0, 0), i(0, 0, 0, 1, 0)),
        ("second dst", i(0x18, 0, 0, 0, 0), i(0, 1, 0, 0, 0)),
        ("second opcode", i(0x18, 0, 0, 0, 0), i(0xb7, 0, 0, 0, 0)),
        ("r11", i(0x18, 11, 0, 0, 0), zero),
        ("r10", i(0x18, 10, 0, 0, 0), zero),
        ("map with a second number", i(0x18, 0, 1, 0, fd), i(0, 0, 0, 0, 1)),
        ("map value", i(0x18, 0, 2, 0, fd), i(0, 0, 0, 0, 7)),
        ("map value behind", i(0x18, 0, 2, 0, fd), i(0, 0, 0, 0, 8)),
        ("map value far behind", i(0x18, 0, 2, 0, fd), i(0, 0, 0, 0, 1 << 29)),
        ("map value negative", i(0x18, 0, 2, 0, fd), i(0, 0, 0, 0, -8)),
        ("value of hash", i(0x18, 0, 2, 0, hash_fd), zero),
        ("type 0", i(0x18, 0, 3, 0, 0), zero),
        ("type that is none", i(0x18, 0, 3, 0, 0x7fff_ffff), zero),
        ("type that is no variable", i(0x18, 0, 3, 0, 1), zero),
        ("type of no module", i(0x18, 0, 3, 0, 1), i(0, 0, 0, 0, fd)),
        ("function without records", i(0x18, 0, 4, 0, 3), zero),
        ("index without table", i(0x18, 0, 5, 0, 0), zero),
        ("value index without table", i(0x18, 0, 6, 0, 0), zero),
        ("kind 7", i(0x18, 0, 7, 0, 0), zero),
    ];
    for (label, first, second) in cases {
        row(
            &mut s,
            label,
            ProgType::RAW_TRACEPOINT,
            &[*first, *second, mov, exit, mov, exit][..if first.src_raw() == 4 { 6 } else { 4 }],
        );
    }
    let table = [None, Some(array.as_fd()), Some(hash.as_fd())];
    let mut indexed = |label: &str, insn: Insn, second: Insn, fd_array: &[Option<BorrowedFd<'_>>]| {
        let insns = [insn, second, mov, exit];
        let mut request = ProgLoad::new(ProgType::RAW_TRACEPOINT, &insns, "GPL");
        request.fd_array = fd_array;
        let text = outcome(s.kernel, &request);
        s.row(label, text);
    };
    indexed("index", i(0x18, 1, 5, 0, 1), zero, &table);
    indexed("index and a second number", i(0x18, 1, 5, 0, 1), i(0, 0, 0, 0, 4), &table);
    indexed("value index", i(0x18, 1, 6, 0, 1), i(0, 0, 0, 0, 4), &table);
    indexed("value index of hash", i(0x18, 1, 6, 0, 2), zero, &table);
    let maps: Vec<_> =
        (0..65).map(|_| create(s.kernel, MapType::ARRAY, [4, 8, 1], MapFlags::empty())).collect();
    for count in [64, 65] {
        built(&mut s, &format!("{count} maps"), ProgType::RAW_TRACEPOINT, |asm| {
            for map in &maps[..count] {
                asm.ld_map_fd(Reg::R1, map.as_fd().as_raw_fd());
            }
            asm.mov64_imm(Reg::R0, 0).exit();
        });
    }
}

/// Types of two functions.
fn types(kernel: &Kernel, second: Linkage) -> (BtfFd, [u32; 3]) {
    let mut builder = BtfBuilder::new();
    let int = builder.add_int("int", 4, IntEncoding::SIGNED).unwrap();
    let proto = builder.add_func_proto(int).unwrap();
    let main = builder.add_func("main", Linkage::GLOBAL, proto).unwrap();
    let sub = builder.add_func("sub", second, proto).unwrap();
    let btf = kernel.btf_load(&builder.encode(Endian::NATIVE, false), None).unwrap();
    (btf, [int.0, main.0, sub.0])
}

fn callbacks(mut s: Script<'_>) {
    let build = |frame: i16, inner: i16| {
        let mut asm = Assembler::new();
        asm.st(Size::DW, Reg::R10, -frame, 0)
            .mov64_imm(Reg::R1, 4)
            .ld_func(Reg::R2, "f")
            .mov64_imm(Reg::R3, 0)
            .mov64_imm(Reg::R4, 0)
            .call_helper(181)
            .mov64_imm(Reg::R0, 0)
            .exit();
        asm.label("f").st(Size::DW, Reg::R10, -inner, 0).mov64_imm(Reg::R0, 0).exit();
        asm.finish().unwrap()
    };
    let mut load = |label: &str, linkage, frames: [i16; 2], records: bool| {
        let (btf, [_, main, sub]) = types(s.kernel, linkage);
        let insns = build(frames[0], frames[1]);
        let words = [0, main, insns.len() as u32 - 3, sub];
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        let mut request = ProgLoad::new(ProgType::XDP, &insns, "GPL");
        if records {
            request.btf = Some(btf.as_fd());
            request.func_info = Records { record_size: 8, bytes: &bytes };
        }
        let text = outcome(s.kernel, &request);
        s.row(label, text);
    };
    load("static", Linkage::STATIC, [64, 64], true);
    load("global", Linkage::GLOBAL, [64, 64], true);
    load("no records", Linkage::STATIC, [64, 64], false);
    load("too deep", Linkage::STATIC, [256, 264], true);
}

/// Functions of the kernel that are called, each of them in kernels that are compared.
pub(crate) const KERNEL_FUNCTIONS: [&str; 6] = [
    "bpf_rdonly_cast",
    "bpf_cpumask_create",
    "bpf_sock_addr_set_sun_path",
    "bpf_copy_from_user_str",
    "bpf_xdp_metadata_rx_hash",
    "schedule",
];

fn id_of(btf: &Btf, name: &str) -> i32 {
    let found = btf.types().find(|ty| ty.kind() == Kind::FUNC && ty.name_bytes() == name.as_bytes());
    found.map_or(0, |ty| ty.id().0.cast_signed())
}

fn kernel_functions(mut s: Script<'_>) {
    let (mov, exit) = (i(0xb7, 0, 0, 0, 0), i(0x95, 0, 0, 0, 0));
    let kernel = s.kernel;
    let Ok(btf) = kernel.btf() else { return };
    let array = create(kernel, MapType::ARRAY, [4, 8, 1], MapFlags::empty());
    let table = [None, Some(array.as_fd())];
    let mut load = |label: &str, prog_type, license, off: i16, id: i32, table: &[Option<BorrowedFd<'_>>]| {
        // Behind a branch, since what is called would need its arguments.
        let insns = [i(0x15, 1, 0, 1, 0), i(0x85, 0, 2, off, id), mov, exit];
        let mut request = ProgLoad::new(prog_type, &insns, license);
        request.fd_array = table;
        // The number is another one in each kernel.
        let text = outcome(kernel, &request).replace(&id.to_string(), "ID");
        let reason = text.rsplit_once(" / ").map(|(_, reason)| reason);
        let errno = text.split(':').next().unwrap_or_default();
        s.row(label, reason.map_or(text.clone(), |reason| format!("{errno}: {reason}")));
    };
    let xdp = ProgType::XDP;
    for name in KERNEL_FUNCTIONS.into_iter().filter(|name| *name != "bpf_rdonly_cast") {
        load(&format!("{name} in xdp"), xdp, "GPL", 0, id_of(&btf, name), &[]);
    }
    let cast = id_of(&btf, "bpf_rdonly_cast");
    load("without GPL", xdp, "MIT", 0, cast, &[]);
    load("no function", xdp, "GPL", 0, 1, &[]);
    load("nothing", xdp, "GPL", 0, 0x7fff_0000, &[]);
    load("weak", xdp, "GPL", 0, 0, &[]);
    load("negative module", xdp, "GPL", -1, cast, &[]);
    load("module without table", xdp, "GPL", 1, cast, &[]);
    load("module that is a map", xdp, "GPL", 1, cast, &table);
}

fn attributes(mut s: Script<'_>) {
    let insns = [i(0xb7, 0, 0, 0, 1), i(0x95, 0, 0, 0, 0)];
    let kernel = s.kernel;
    let array = create(kernel, MapType::ARRAY, [4, 8, 1], MapFlags::empty());
    let plain = kernel.prog_load(&ProgLoad::new(ProgType::SOCKET_FILTER, &insns, "GPL"), None).unwrap();
    macro_rules! row {
        ($label:expr, $prog_type:expr, |$r:ident| $change:expr) => {{
            let mut $r = ProgLoad::new($prog_type, &insns, "GPL");
            $change;
            let text = outcome(kernel, &$r);
            s.row($label, text);
        }};
    }
    let flags: &[(&str, ProgFlags)] = &[
        ("strict", ProgFlags::STRICT_ALIGNMENT),
        ("strict and any", ProgFlags::STRICT_ALIGNMENT.union(ProgFlags::ANY_ALIGNMENT)),
        ("rnd_hi32", ProgFlags::TEST_RND_HI32),
        ("frags", ProgFlags::XDP_HAS_FRAGS),
        ("dev bound", ProgFlags::XDP_DEV_BOUND_ONLY),
        ("sleepable", ProgFlags::SLEEPABLE),
    ];
    for (label, flags) in flags {
        row!(&*format!("xdp {label}"), ProgType::XDP, |r| r.flags = *flags);
        row!(&*format!("socket {label}"), ProgType::SOCKET_FILTER, |r| r.flags = *flags);
    }
    row!("ifindex", ProgType::SOCKET_FILTER, |r| r.ifindex = 1);
    row!("no license", ProgType::XDP, |r| r.license = "");
    row!("type id for xdp", ProgType::XDP, |r| {
        r.attach = AttachTarget::KernelType { type_id: 1, module: None };
    });
    row!("a program for xdp", ProgType::XDP, |r| {
        r.attach = AttachTarget::Program { prog: plain.as_fd(), type_id: 0 };
    });
    row!("records without types", ProgType::XDP, |r| {
        r.func_info = Records { record_size: 8, bytes: &[0; 8] };
    });
    row!("types that are a map", ProgType::XDP, |r| {
        r.btf = Some(array.as_fd());
        r.func_info = Records { record_size: 8, bytes: &[0; 8] };
    });
    let attach: &[(&str, ProgType, u32)] = &[
        ("cgroup_sock 0", ProgType::CGROUP_SOCK, 0),
        ("cgroup_sock 1", ProgType::CGROUP_SOCK, 1),
        ("sk_lookup 0", ProgType::SK_LOOKUP, 0),
        ("sk_reuseport 0", ProgType::SK_REUSEPORT, 0),
        ("netfilter 0", ProgType::NETFILTER, 0),
        ("cgroup_device 3", ProgType::CGROUP_DEVICE, 3),
        ("cgroup_sysctl 3", ProgType::CGROUP_SYSCTL, 3),
        ("kprobe 48", ProgType::KPROBE, 48),
        ("kprobe 99", ProgType::KPROBE, 99),
        ("sched_cls 46", ProgType::SCHED_CLS, 46),
        ("sched_cls 99", ProgType::SCHED_CLS, 99),
        ("socket 5", ProgType::SOCKET_FILTER, 5),
        ("syscall 5", ProgType::SYSCALL, 5),
        ("sockopt 21", ProgType::CGROUP_SOCKOPT, 21),
        ("sockopt 22", ProgType::CGROUP_SOCKOPT, 22),
        ("sk_skb 99", ProgType::SK_SKB, 99),
        ("sk_msg 0", ProgType::SK_MSG, 0),
        ("flow_dissector 0", ProgType::FLOW_DISSECTOR, 0),
    ];
    for (label, prog_type, attach_type) in attach {
        row!(*label, *prog_type, |r| r.expected_attach_type = AttachType(*attach_type));
    }
}

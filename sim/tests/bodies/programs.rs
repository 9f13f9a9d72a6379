//! Program loads: what the structural part of the verifier says.

use std::os::fd::{AsFd, AsRawFd};

use skep_asm::{Insn, Reg};
use skep_btf::{BtfBuilder, IntEncoding, Linkage};
use skep_sys::abi::{AttachType, MapFlags, MapType, ProgFlags, ProgType, UpdateFlags};
use skep_sys::request::{LogBuffer, MapCreate, ProgLoad, Records};
use skep_sys::{BtfFd, Kernel};

use super::{Outcome, Script, create};

pub(crate) fn i(opcode: u8, dst: u8, src: u8, off: i16, imm: i32) -> Insn {
    Insn::new(opcode, Reg::new(dst).unwrap(), Reg::new(src).unwrap(), off, imm)
}

/// `r0 = imm`
fn mov(imm: i32) -> Insn {
    i(0xb7, 0, 0, 0, imm)
}

fn call(helper: i32) -> Insn {
    i(0x85, 0, 0, 0, helper)
}

fn exit() -> Insn {
    i(0x95, 0, 0, 0, 0)
}

/// The errno and the last lines of the log: the instruction, if it is about one, and the reason.
pub(crate) fn outcome(kernel: &Kernel, request: &ProgLoad<'_>) -> String {
    let mut log = LogBuffer::new(1, 1 << 16);
    let result = kernel.prog_load(request, Some(&mut log));
    let Err(errno) = result else { return "ok".to_owned() };
    let text = log.text();
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with("processed ")).collect();
    let about_one = lines.iter().any(|line| line.starts_with("0: R1=ctx"));
    let from = lines.len().saturating_sub(if about_one { 2 } else { 1 });
    format!("{}: {}", errno.text(), lines[from..].join(" / "))
}

pub(super) fn all(kernel: &Kernel, lines: &mut Vec<String>) {
    structure(Script::new(kernel, "program", lines));
    attributes(Script::new(kernel, "program", lines));
    values(Script::new(kernel, "program", lines));
    constants(Script::new(kernel, "program", lines));
    records(Script::new(kernel, "program", lines));
    tags(Script::new(kernel, "program", lines));
}

fn structure(mut s: Script<'_>) {
    let zero = Insn::default();
    let cases: &[(&str, &[Insn])] = &[
        ("ok", &[mov(0), exit()]),
        ("no instructions", &[]),
        ("no exit", &[mov(0)]),
        ("unreachable", &[mov(0), exit(), mov(0), exit()]),
        ("jump out of range", &[mov(0), i(5, 0, 0, 100, 0), exit()]),
        ("loop", &[mov(0), i(5, 0, 0, -1, 0), exit()]),
        ("opcode", &[i(0xff, 0, 0, 0, 0), exit()]),
        ("callx", &[i(0x8d, 0, 0, 0, 0), exit()]),
        ("helper", &[call(9999), exit()]),
        ("poison", &[mov(0), call(195_896_080), exit()]),
        ("helper 0", &[call(0), exit()]),
        ("helper of others", &[mov(0), call(26), exit()]),
        ("div 0", &[mov(0), i(0x37, 0, 0, 0, 0), exit()]),
        ("shift", &[mov(0), i(0x67, 0, 0, 0, 64), exit()]),
        ("shift 32", &[mov(0), i(0x64, 0, 0, 0, 32), exit()]),
        ("frame pointer", &[i(0xb7, 10, 0, 0, 0), exit()]),
        ("r11", &[i(0xb7, 11, 0, 0, 0), exit()]),
        ("source r11", &[i(0xbf, 0, 11, 0, 0), exit()]),
        ("load r12", &[i(0x61, 0, 12, 0, 0), exit()]),
        ("mov reserved", &[i(0xb7, 0, 0, 3, 0), exit()]),
        ("alu reserved", &[i(0x0f, 0, 0, 0, 3), exit()]),
        ("end reserved", &[mov(0), i(0xd4, 0, 0, 0, 5), exit()]),
        ("neg reserved", &[mov(0), i(0x87, 0, 0, 0, 1), exit()]),
        ("ja reserved", &[mov(0), i(5, 0, 0, 0, 4), exit()]),
        ("exit reserved", &[mov(0), i(0x95, 0, 0, 0, 4)]),
        ("jmp reserved", &[mov(0), i(0x15, 0, 3, 0, 0), exit()]),
        ("ldx reserved", &[i(0x61, 0, 1, 0, 3), exit()]),
        ("stx reserved", &[i(0x7b, 10, 1, -8, 3), mov(0), exit()]),
        ("st reserved", &[i(0x7a, 10, 1, -8, 3), mov(0), exit()]),
        ("call reserved", &[i(0x85, 0, 0, 3, 5), exit()]),
        ("atomic", &[i(0xdb, 10, 1, -8, 0x77), mov(0), exit()]),
        ("imm64 kind", &[i(0x18, 0, 9, 0, 0), zero, mov(0), exit()]),
        ("imm64 cut", &[i(0x18, 0, 0, 0, 0), i(0x18, 0, 0, 0, 0), mov(0), exit()]),
        ("imm64 middle", &[i(0x15, 1, 0, 1, 0), i(0x18, 1, 0, 0, 0), zero, mov(0), exit()]),
        ("map fd -1", &[i(0x18, 0, 1, 0, -1), zero, mov(0), exit()]),
        ("map fd of no map", &[i(0x18, 0, 1, 0, 0), zero, mov(0), exit()]),
        ("call outside", &[i(0x85, 0, 1, 0, 50), exit()]),
        ("call", &[i(0x85, 0, 1, 0, 1), exit(), mov(0), exit()]),
        ("falls through", &[i(0x85, 0, 1, 0, 1), exit(), mov(0), mov(0)]),
        ("jump across", &[i(0x85, 0, 1, 0, 1), exit(), i(5, 0, 0, -2, 0), exit()]),
        ("ld_abs", &[i(0xbf, 6, 1, 0, 0), i(0x20, 0, 0, 0, 4), exit()]),
        ("func outside", &[i(0x18, 1, 4, 0, 99), zero, mov(0), exit()]),
        ("imm64", &[i(0x18, 0, 0, 0, 5), i(0, 0, 0, 0, 6), exit()]),
    ];
    for (label, insns) in cases {
        let text = outcome(s.kernel, &ProgLoad::new(ProgType::RAW_TRACEPOINT, insns, "GPL"));
        s.row(label, text);
    }
    for (label, helper, license) in
        [("ktime in MIT", 5, "MIT"), ("printk in MIT", 6, "MIT"), ("prandom in GPL", 7, "Dual BSD/GPL")]
    {
        let text =
            outcome(s.kernel, &ProgLoad::new(ProgType::RAW_TRACEPOINT, &[call(helper), exit()], license));
        s.row(label, text);
    }
}

fn attributes(mut s: Script<'_>) {
    let insns = [mov(0), exit()];
    let mut row = |label: &str, prog_type, change: &dyn Fn(&mut ProgLoad<'_>)| {
        let mut request = ProgLoad::new(prog_type, &insns, "GPL");
        change(&mut request);
        let text = outcome(s.kernel, &request);
        s.row(label, text);
    };
    let plain = |_: &mut ProgLoad<'_>| {};
    row("kind 0", ProgType(0), &plain);
    row("kind 99", ProgType(99), &plain);
    row("bad name", ProgType::XDP, &|r| r.name = "bad-name");
    row("flags 1<<30", ProgType::XDP, &|r| r.flags = ProgFlags::from_bits_retain(1 << 30));
    row("sleepable xdp", ProgType::XDP, &|r| r.flags = ProgFlags::SLEEPABLE);
    row("xdp attach type 99", ProgType::XDP, &|r| r.expected_attach_type = AttachType(99));
    row("syscall", ProgType::SYSCALL, &plain);
    row("sleepable syscall", ProgType::SYSCALL, &|r| r.flags = ProgFlags::SLEEPABLE);
    row("cgroup_sock_addr", ProgType::CGROUP_SOCK_ADDR, &plain);
    row("cgroup_sock", ProgType::CGROUP_SOCK, &plain);
    row("cgroup_sock egress", ProgType::CGROUP_SOCK, &|r| {
        r.expected_attach_type = AttachType::CGROUP_INET_EGRESS;
    });
    row("cgroup_skb attach type 99", ProgType::CGROUP_SKB, &|r| r.expected_attach_type = AttachType(99));
    row("cgroup_sockopt", ProgType::CGROUP_SOCKOPT, &plain);
    row("sk_reuseport", ProgType::SK_REUSEPORT, &plain);
    row("sk_lookup", ProgType::SK_LOOKUP, &plain);
    row("tracing", ProgType::TRACING, &|r| r.expected_attach_type = AttachType::TRACE_RAW_TP);
    row("ifindex", ProgType::XDP, &|r| r.ifindex = 9999);
}

fn values(mut s: Script<'_>) {
    let kernel = s.kernel;
    let map = |kind, max| create(kernel, kind, [4, 8, max], MapFlags::empty());
    let (hash, four, one) = (map(MapType::HASH, 4), map(MapType::ARRAY, 4), map(MapType::ARRAY, 1));
    for (label, map, off) in [
        ("value of hash", &hash, 0),
        ("value of array of 4", &four, 0),
        ("value off=8", &one, 8),
        ("value", &one, 4),
    ] {
        let insns = [i(0x18, 1, 2, 0, map.as_fd().as_raw_fd()), i(0, 0, 0, 0, off), mov(0), exit()];
        let text = outcome(kernel, &ProgLoad::new(ProgType::RAW_TRACEPOINT, &insns, "GPL"));
        s.row(label, text);
    }
}

/// Code that is never reached because of a constant, and code that is.
fn constants(mut s: Script<'_>) {
    let kernel = s.kernel;
    let poison = call(195_896_080);
    let skip_if_zero = i(0x15, 1, 0, 1, 0);
    let guarded = |first, branch| vec![first, branch, poison, mov(0), exit()];
    let mut cases = vec![
        ("zero", guarded(i(0xb7, 1, 0, 0, 0), skip_if_zero)),
        ("one", guarded(i(0xb7, 1, 0, 0, 1), skip_if_zero)),
        ("loaded", guarded(i(0x79, 1, 1, 0, 0), skip_if_zero)),
        ("32 bits", guarded(i(0xb4, 1, 0, 0, -1), i(0x16, 1, 0, 1, -1))),
        ("upper half", guarded(i(0xb4, 1, 0, 0, -1), i(0x15, 1, 0, 1, -1))),
        ("signed", guarded(i(0xb7, 1, 0, 0, -5), i(0xc5, 1, 0, 1, 0))),
        ("kept", vec![i(0xb7, 6, 0, 0, 0), call(5), i(0x15, 6, 0, 1, 0), poison, mov(0), exit()]),
    ];
    let mut request = MapCreate::new(MapType::ARRAY, 4, 8, 1);
    request.flags = MapFlags::RDONLY_PROG;
    let frozen = |value: u64, freeze: bool| {
        let map = kernel.map_create(&request).unwrap();
        map.update(&[0; 4], &value.to_ne_bytes(), UpdateFlags::empty()).unwrap();
        if freeze {
            map.freeze().unwrap();
        }
        map
    };
    let maps = [frozen(0, true), frozen(1, true), frozen(0, false)];
    for (map, label) in maps.iter().zip(["frozen 0", "frozen 1", "not frozen"]) {
        cases.push((
            label,
            vec![
                i(0x18, 1, 2, 0, map.as_fd().as_raw_fd()),
                Insn::default(),
                i(0x79, 1, 1, 0, 0),
                skip_if_zero,
                poison,
                mov(0),
                exit(),
            ],
        ));
    }
    for (label, insns) in cases {
        let text = outcome(kernel, &ProgLoad::new(ProgType::RAW_TRACEPOINT, &insns, "GPL"));
        s.row(&format!("constant {label}"), text);
    }
}

fn types(kernel: &Kernel) -> (BtfFd, [u32; 3], [u32; 2]) {
    let mut builder = BtfBuilder::new();
    let int = builder.add_int("int", 4, IntEncoding::SIGNED).unwrap();
    let proto = builder.add_func_proto(int).unwrap();
    let main = builder.add_func("main", Linkage::GLOBAL, proto).unwrap();
    let sub = builder.add_func("sub", Linkage::STATIC, proto).unwrap();
    let file = builder.add_str("/src/a.c").unwrap();
    let line = builder.add_str("  return bad();").unwrap();
    let btf = kernel.btf_load(&builder.encode(skep_asm::Endian::NATIVE, false), None).unwrap();
    (btf, [int.0, main.0, sub.0], [file.0, line.0])
}

/// Function and line records.
fn records(mut s: Script<'_>) {
    let kernel = s.kernel;
    let (btf, [int, main, sub], [file, line]) = types(kernel);
    let insns = [i(0x85, 0, 1, 0, 1), exit(), mov(0), exit()];
    let words = |words: &[u32]| words.iter().flat_map(|word| word.to_ne_bytes()).collect::<Vec<u8>>();
    let mut func = |label: &str, record_size: u32, records: &[u32]| {
        let bytes = words(records);
        let mut request = ProgLoad::new(ProgType::RAW_TRACEPOINT, &insns, "GPL");
        request.btf = Some(btf.as_fd());
        request.func_info = Records { record_size, bytes: &bytes };
        let text = outcome(kernel, &request);
        s.row(&format!("func_info {label}"), text);
    };
    func("ok", 8, &[0, main, 2, sub]);
    func("larger records", 12, &[0, main, 0, 2, sub, 0]);
    func("unknown fields", 12, &[0, main, 7, 2, sub, 0]);
    func("record size 6", 6, &[0, main, 2, sub]);
    func("one", 8, &[0, main]);
    func("three", 8, &[0, main, 2, sub, 3, sub]);
    func("not at 0", 8, &[1, main, 2, sub]);
    func("elsewhere", 8, &[0, main, 3, sub]);
    func("order", 8, &[0, main, 0, sub]);
    func("no function", 8, &[0, int, 2, sub]);
    func("no type", 8, &[0, 99, 2, sub]);

    let functions = words(&[0, main, 2, sub]);
    let mut lines = |label: &str, insns: &[Insn], record_size: u32, records: &[u32]| {
        let bytes = words(records);
        let mut request = ProgLoad::new(ProgType::RAW_TRACEPOINT, insns, "GPL");
        request.btf = Some(btf.as_fd());
        request.func_info = Records { record_size: 8, bytes: &functions };
        request.line_info = Records { record_size, bytes: &bytes };
        let text = outcome(kernel, &request);
        s.row(&format!("line_info {label}"), text);
    };
    let at = |offset, number: u32| [offset, file, line, number << 10 | 1];
    lines("ok", &insns, 16, &[at(0, 1), at(2, 2)].concat());
    lines("order", &insns, 16, &[at(0, 1), at(0, 2)].concat());
    lines("outside", &insns, 16, &[at(0, 1), at(9, 2)].concat());
    lines("one", &insns, 16, &at(0, 1));
    lines("second", &insns, 16, &at(2, 1));
    lines("no such string", &insns, 16, &[0, 1 << 20, line, 1, 2, file, line, 1]);
    let bad = [i(0x85, 0, 1, 0, 1), exit(), call(9999), exit()];
    lines("in the log", &bad, 16, &[at(0, 1), at(2, 7)].concat());

    let mut request = ProgLoad::new(ProgType::RAW_TRACEPOINT, &insns, "GPL");
    request.btf = Some(btf.as_fd());
    request.func_info = Records { record_size: 8, bytes: &functions };
    let info = kernel.prog_load(&request, None).unwrap().info().unwrap();
    s.row("info btf", info.btf_id == btf.info().unwrap().id);
    s.row("info records", format!("{} {}", info.nr_func_info, info.nr_line_info));
    request.func_info = Records::default();
    s.row(
        "info no btf without records",
        kernel.prog_load(&request, None).unwrap().info().unwrap().btf_id.0 == 0,
    );
}

fn tags(mut s: Script<'_>) {
    let kernel = s.kernel;
    let map = create(kernel, MapType::HASH, [4, 8, 4], MapFlags::empty());
    let value = create(kernel, MapType::ARRAY, [4, 8, 1], MapFlags::empty());
    let raw = |map: &skep_sys::MapFd| map.as_fd().as_raw_fd();
    let programs = [
        vec![mov(0), exit()],
        vec![i(0x18, 1, 1, 0, raw(&map)), Insn::default(), mov(1), exit()],
        vec![i(0x18, 1, 2, 0, raw(&value)), i(0, 0, 0, 0, 4), mov(1), exit()],
        vec![i(0x18, 1, 0, 0, 5), i(0, 0, 0, 0, 4), mov(1), exit()],
        vec![i(0x85, 0, 1, 0, 1), exit(), mov(0), exit()],
    ];
    for (number, insns) in programs.iter().enumerate() {
        let mut request = ProgLoad::new(ProgType::SOCKET_FILTER, insns, "GPL");
        request.name = "a_name";
        let info = kernel.prog_load(&request, None).unwrap().info().unwrap();
        s.row(&format!("tag {number}"), info.tag.to_vec());
        s.row(&format!("info {number}"), format!("{} {}", info.name, info.gpl_compatible));
        let maps = if number == 1 { vec![map.info().unwrap().id] } else { Vec::new() };
        s.row(&format!("maps {number}"), number == 2 || info.map_ids == maps);
    }
}

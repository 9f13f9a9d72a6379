use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use skep_asm::{Insn, Reg};
use skep_sys::abi::{AttachType, Errno, MapFlags, MapType, ProgFlags, ProgType, UpdateFlags};
use skep_sys::request::{LogBuffer, MapCreate, ProgLoad};
use skep_sys::{Backend, Kernel};

use crate::{Features, SimKernel};

fn i(opcode: u8, dst: u8, src: u8, off: i16, imm: i32) -> Insn {
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

fn load_as(sim: &SimKernel, request: &ProgLoad<'_>) -> (Result<OwnedFd, Errno>, String) {
    let mut log = LogBuffer::new(1, 4096);
    let result = sim.prog_load(request, Some(&mut log));
    (result, log.text().into_owned())
}

fn load(sim: &SimKernel, prog_type: ProgType, insns: &[Insn]) -> (Result<OwnedFd, Errno>, String) {
    load_as(sim, &ProgLoad::new(prog_type, insns, "GPL"))
}

/// Everything in the log but the header and the statistics.
fn said(log: &str) -> String {
    let lines = log.lines().filter(|l| !l.starts_with("processed ") && *l != "0: R1=ctx() R10=fp0");
    lines.collect::<Vec<_>>().join(" / ")
}

/// Programs that Linux 6.18 refuses, with its errno and what its log says of the instruction and the reason.
#[test]
fn structure() {
    let zero = Insn::default();
    let cases: &[(&[Insn], Errno, &str)] = &[
        (&[], Errno::E2BIG, ""),
        (&[mov(0)], Errno::EINVAL, "last insn is not an exit or jmp"),
        (&[mov(0), exit(), mov(0), exit()], Errno::EINVAL, "unreachable insn 2"),
        (&[mov(0), i(5, 0, 0, 100, 0), exit()], Errno::EINVAL, "jump out of range from insn 1 to 102"),
        (&[mov(0), i(5, 0, 0, -1, 0), exit()], Errno::EINVAL, "unreachable insn 2"),
        (&[i(0xff, 0, 0, 0, 0), exit()], Errno::EINVAL, "unknown opcode ff"),
        (&[i(0x8d, 0, 0, 0, 0), exit()], Errno::EINVAL, "unknown opcode 8d"),
        (&[i(0x0d, 0, 0, 0, 0), exit()], Errno::EINVAL, "unknown opcode 0d"),
        (&[call(9999), exit()], Errno::EINVAL, "0: (85) call unknown#9999 / invalid func unknown#9999"),
        (
            &[mov(0), call(195_896_080), exit()],
            Errno::EINVAL,
            "1: (85) call unknown#195896080 / invalid func unknown#195896080",
        ),
        (
            &[call(0), exit()],
            Errno::EINVAL,
            "0: (85) call bpf_unspec#0 / program of this type cannot use helper bpf_unspec#0",
        ),
        (
            &[mov(0), call(26), exit()],
            Errno::EINVAL,
            "1: (85) call bpf_skb_load_bytes#26 / program of this type cannot use helper bpf_skb_load_bytes#26",
        ),
        // Of two things that are wrong, the first that Linux looks at is told.
        (
            &[mov(0), i(0x15, 11, 1, 0, 0), exit()],
            Errno::EINVAL,
            "1: (15) if r11 == 0x0 goto pc+0 / R11 is invalid",
        ),
        (&[mov(0), i(0x67, 11, 0, 0, 64), exit()], Errno::EINVAL, "1: (67) r11 <<= 64 / R11 is invalid"),
        (&[mov(0), i(0xf5, 0, 0, 100, 0), exit()], Errno::EINVAL, "jump out of range from insn 1 to 102"),
        (
            &[i(0x85, 0, 1, 3, 1), exit(), mov(0), exit()],
            Errno::EINVAL,
            "0: (85) call pc+1 / BPF_CALL uses reserved fields",
        ),
        (&[mov(0), i(0x37, 0, 0, 0, 0), exit()], Errno::EINVAL, "1: (37) r0 /= 0 / div by zero"),
        (&[mov(0), i(0x67, 0, 0, 0, 64), exit()], Errno::EINVAL, "1: (67) r0 <<= 64 / invalid shift 64"),
        (&[i(0xb7, 10, 0, 0, 0), exit()], Errno::EACCES, "0: (b7) r10 = 0 / frame pointer is read only"),
        (&[i(0xb7, 11, 0, 0, 0), exit()], Errno::EINVAL, "0: (b7) r11 = 0 / R11 is invalid"),
        (&[i(0xbf, 0, 11, 0, 0), exit()], Errno::EINVAL, "0: (bf) r0 = r11 / R11 is invalid"),
        (&[i(0x61, 0, 12, 0, 0), exit()], Errno::EINVAL, "0: (61) r0 = *(u32 *)(r12 +0) / R12 is invalid"),
        (&[i(0xb7, 0, 0, 3, 0), exit()], Errno::EINVAL, "0: (b7) r0 = 0 / BPF_MOV uses reserved fields"),
        (&[i(0x0f, 0, 0, 0, 3), exit()], Errno::EINVAL, "0: (0f) r0 += r0 / BPF_ALU uses reserved fields"),
        (
            &[mov(0), i(0xd4, 0, 0, 0, 5), exit()],
            Errno::EINVAL,
            "1: (d4) r0 = le5 r0 / BPF_END uses reserved fields",
        ),
        (
            &[mov(0), i(0x87, 0, 0, 0, 1), exit()],
            Errno::EINVAL,
            "1: (87) r0 = -r0 / BPF_NEG uses reserved fields",
        ),
        (
            &[mov(0), i(5, 0, 0, 0, 4), exit()],
            Errno::EINVAL,
            "1: (05) goto pc+0 / BPF_JA uses reserved fields",
        ),
        (&[mov(0), i(0x95, 0, 0, 0, 4)], Errno::EINVAL, "1: (95) exit / BPF_EXIT uses reserved fields"),
        (
            &[mov(0), i(0x15, 0, 3, 0, 0), exit()],
            Errno::EINVAL,
            "1: (15) if r0 == 0x0 goto pc+0 / BPF_JMP/JMP32 uses reserved fields",
        ),
        (&[i(0x61, 0, 1, 0, 3), exit()], Errno::EINVAL, "BPF_LDX uses reserved fields"),
        (
            &[i(0x7b, 10, 1, -8, 3), mov(0), exit()],
            Errno::EINVAL,
            "0: (7b) *(u64 *)(r10 -8) = r1 / BPF_STX uses reserved fields",
        ),
        (
            &[i(0x7a, 10, 1, -8, 3), mov(0), exit()],
            Errno::EINVAL,
            "0: (7a) *(u64 *)(r10 -8) = 3 / BPF_ST uses reserved fields",
        ),
        (
            &[i(0xdb, 10, 1, -8, 0x77), mov(0), exit()],
            Errno::EINVAL,
            "0: BUG_db / BPF_ATOMIC uses invalid atomic opcode 77",
        ),
        (
            &[i(0xd3, 10, 1, -8, 0), mov(0), exit()],
            Errno::EINVAL,
            "0: (d3) lock *(u8 *)(r10 -8) += r1 / invalid atomic operand size",
        ),
        (
            &[i(0x85, 0, 0, 3, 5), exit()],
            Errno::EINVAL,
            "0: (85) call bpf_ktime_get_ns#5 / BPF_CALL uses reserved fields",
        ),
        (&[i(0x18, 0, 9, 0, 0), zero, mov(0), exit()], Errno::EINVAL, "unrecognized bpf_ld_imm64 insn"),
        (
            &[i(0x18, 0, 0, 0, 0), i(0x18, 0, 0, 0, 0), mov(0), exit()],
            Errno::EINVAL,
            "invalid bpf_ld_imm64 insn",
        ),
        (
            &[i(0x15, 1, 0, 1, 0), i(0x18, 1, 0, 0, 0), zero, mov(0), exit()],
            Errno::EINVAL,
            "jump into the middle of ldimm64 insn 1",
        ),
        (
            &[i(0x18, 0, 1, 0, -1), zero, mov(0), exit()],
            Errno::EBADF,
            "fd -1 is not pointing to valid bpf_map",
        ),
        (&[i(0x85, 0, 1, 0, 50), exit()], Errno::EINVAL, "call to invalid destination"),
        (&[i(0x85, 0, 1, 0, 1), exit(), mov(0), mov(0)], Errno::EINVAL, "last insn is not an exit or jmp"),
        (
            &[i(0x85, 0, 1, 0, 1), exit(), i(5, 0, 0, -2, 0), exit()],
            Errno::EINVAL,
            "jump out of range from insn 2 to 1",
        ),
        (
            &[i(0x20, 0, 0, 0, 4), exit()],
            Errno::EINVAL,
            "0: (20) r0 = *(u32 *)skb[4] / BPF_LD_[ABS|IND] instructions not allowed for this program type",
        ),
    ];
    let sim = SimKernel::new();
    for (insns, errno, message) in cases {
        let (result, log) = load(&sim, ProgType::RAW_TRACEPOINT, insns);
        assert_eq!((result.unwrap_err(), said(&log).as_str()), (*errno, *message));
    }
    assert_eq!(sim.live().programs, 0);
}

#[test]
fn accepted() {
    let sim = SimKernel::new();
    let good: &[&[Insn]] = &[
        &[mov(0), exit()],
        &[i(0x85, 0, 1, 0, 1), exit(), mov(0), exit()],
        &[mov(0), i(0x06, 0, 0, 0, 0), i(0xe5, 0, 0, 0, 0), exit()],
        &[i(0x18, 0, 0, 0, 5), i(0, 0, 0, 0, 6), exit()],
    ];
    for insns in good {
        let (result, log) = load(&sim, ProgType::RAW_TRACEPOINT, insns);
        assert!(result.is_ok(), "{log}");
        assert!(log.starts_with("processed "), "{log}");
    }
}

#[test]
fn licenses() {
    let sim = SimKernel::new();
    let load = |helper, license| {
        let insns = [call(helper), exit()];
        load_as(&sim, &ProgLoad::new(ProgType::RAW_TRACEPOINT, &insns, license))
    };
    assert!(load(6, "GPL").0.is_ok());
    assert!(load(6, "Dual MIT/GPL").0.is_ok());
    assert!(load(5, "MIT").0.is_ok());
    let (result, log) = load(6, "MIT");
    assert_eq!(result.unwrap_err(), Errno::EINVAL);
    assert!(log.contains("cannot call GPL-restricted function from non-GPL compatible program"), "{log}");
}

#[test]
fn map_values() {
    let sim = SimKernel::new();
    let kernel = Kernel::new(sim.clone());
    let create = |kind, max| kernel.map_create(&MapCreate::new(kind, 4, 8, max)).unwrap();
    let (hash, four, one) = (create(MapType::HASH, 4), create(MapType::ARRAY, 4), create(MapType::ARRAY, 1));
    let load_value = |fd: i32, off| {
        let insns = [i(0x18, 1, 2, 0, fd), i(0, 0, 0, 0, off), mov(0), exit()];
        let (result, log) = load(&sim, ProgType::RAW_TRACEPOINT, &insns);
        (result.err(), said(&log))
    };
    let raw = |map: &skep_sys::MapFd| map.as_fd().as_raw_fd();
    assert_eq!(load_value(raw(&one), 4), (None, String::new()));
    let no_value = "no direct value access support for this map type".to_owned();
    assert_eq!(load_value(raw(&hash), 0), (Some(Errno::EINVAL), no_value));
    let several = "invalid access to map value pointer, value_size=8 off=0".to_owned();
    assert_eq!(load_value(raw(&four), 0), (Some(Errno::ENOTSUPP), several));
    let outside = "invalid access to map value pointer, value_size=8 off=8".to_owned();
    assert_eq!(load_value(raw(&one), 8), (Some(Errno::EINVAL), outside));

    let old = SimKernel::builder().without(Features::GLOBAL_DATA).build().unwrap();
    let map = Kernel::new(old.clone()).map_create(&MapCreate::new(MapType::ARRAY, 4, 8, 1)).unwrap();
    let insns = [i(0x18, 1, 2, 0, raw(&map)), i(0, 0, 0, 0, 0), mov(0), exit()];
    let (result, log) = load(&old, ProgType::RAW_TRACEPOINT, &insns);
    assert_eq!((result.unwrap_err(), said(&log).as_str()), (Errno::EINVAL, "unrecognized bpf_ld_imm64 insn"));
}

/// A call that no kernel has, behind a branch.
fn guarded(first: Insn, branch: Insn) -> [Insn; 5] {
    [first, branch, call(195_896_080), mov(0), exit()]
}

#[test]
fn code_behind_constant_branches_is_dead() {
    let sim = SimKernel::new();
    let loads = |insns: &[Insn]| load(&sim, ProgType::RAW_TRACEPOINT, insns).0.is_ok();
    let skip_if_zero = i(0x15, 1, 0, 1, 0);
    assert!(loads(&guarded(i(0xb7, 1, 0, 0, 0), skip_if_zero)));
    assert!(!loads(&guarded(i(0xb7, 1, 0, 0, 1), skip_if_zero)));
    assert!(!loads(&guarded(i(0x61, 1, 1, 0, 0), skip_if_zero)), "not a constant");
    assert!(loads(&guarded(i(0xb4, 1, 0, 0, -1), i(0x16, 1, 0, 1, -1))), "32 bits");
    assert!(!loads(&guarded(i(0xb4, 1, 0, 0, -1), i(0x15, 1, 0, 1, -1))), "upper half is zero");
    assert!(loads(&guarded(i(0xb7, 1, 0, 0, -5), i(0xc5, 1, 0, 1, 0))), "signed");
    assert!(!loads(&guarded(i(0xb7, 1, 0, 0, 5), i(0x05, 0, 0, 1, 0))), "unreachable");

    // Two ways with different constants meet.
    let meet = [
        i(0xbf, 6, 1, 0, 0),
        i(0xb7, 1, 0, 0, 0),
        i(0x15, 6, 0, 1, 0),
        i(0xb7, 1, 0, 0, 1),
        skip_if_zero,
        call(195_896_080),
        mov(0),
        exit(),
    ];
    assert!(!loads(&meet));
    // A call clobbers its arguments.
    assert!(!loads(&[i(0xb7, 1, 0, 0, 0), call(5), skip_if_zero, call(195_896_080), mov(0), exit()]));
    assert!(loads(&[i(0xb7, 6, 0, 0, 0), call(5), i(0x15, 6, 0, 1, 0), call(195_896_080), mov(0), exit()]));
}

#[test]
fn frozen_data_is_constant() {
    let sim = SimKernel::new();
    let kernel = Kernel::new(sim.clone());
    let try_with = |flags, value: u64, freeze: bool| {
        let mut request = MapCreate::new(MapType::ARRAY, 4, 8, 1);
        request.flags = flags;
        let map = kernel.map_create(&request).unwrap();
        map.update(&0u32.to_ne_bytes(), &value.to_ne_bytes(), UpdateFlags::empty()).unwrap();
        if freeze {
            map.freeze().unwrap();
        }
        let insns = [
            i(0x18, 1, 2, 0, map.as_fd().as_raw_fd()),
            i(0, 0, 0, 0, 0),
            i(0x79, 1, 1, 0, 0),
            i(0x15, 1, 0, 1, 0),
            call(195_896_080),
            mov(0),
            exit(),
        ];
        load(&sim, ProgType::RAW_TRACEPOINT, &insns).0.is_ok()
    };
    assert!(try_with(MapFlags::RDONLY_PROG, 0, true));
    assert!(!try_with(MapFlags::RDONLY_PROG, 1, true));
    assert!(!try_with(MapFlags::RDONLY_PROG, 0, false));
    assert!(!try_with(MapFlags::empty(), 0, true));
}

#[test]
fn attributes() {
    let sim = SimKernel::new();
    let insns = [mov(0), exit()];
    let errno = |prog_type, change: &dyn Fn(&mut ProgLoad<'_>)| {
        let mut request = ProgLoad::new(prog_type, &insns, "GPL");
        change(&mut request);
        sim.prog_load(&request, None).err()
    };
    let plain = |_: &mut ProgLoad<'_>| {};
    assert_eq!(errno(ProgType(0), &plain), Some(Errno::EINVAL));
    assert_eq!(errno(ProgType(99), &plain), Some(Errno::EINVAL));
    assert_eq!(errno(ProgType::XDP, &|r| r.name = "bad-name"), Some(Errno::EINVAL));
    assert_eq!(
        errno(ProgType::XDP, &|r| r.flags = ProgFlags::from_bits_retain(1 << 30)),
        Some(Errno::EINVAL)
    );
    assert_eq!(errno(ProgType::XDP, &|r| r.flags = ProgFlags::SLEEPABLE), Some(Errno::EINVAL));
    assert_eq!(errno(ProgType::XDP, &|r| r.expected_attach_type = AttachType(99)), None);
    assert_eq!(errno(ProgType::SYSCALL, &plain), Some(Errno::EINVAL));
    assert_eq!(errno(ProgType::SYSCALL, &|r| r.flags = ProgFlags::SLEEPABLE), None);
    assert_eq!(errno(ProgType::CGROUP_SOCK_ADDR, &plain), Some(Errno::EINVAL));
    assert_eq!(
        errno(ProgType::CGROUP_SKB, &|r| r.expected_attach_type = AttachType(99)),
        Some(Errno::EINVAL)
    );
    assert_eq!(errno(ProgType::CGROUP_SOCKOPT, &plain), Some(Errno::EINVAL));
    assert_eq!(errno(ProgType::SK_REUSEPORT, &plain), None);
    assert_eq!(errno(ProgType::SK_LOOKUP, &plain), Some(Errno::EINVAL));
    assert_eq!(
        errno(ProgType::TRACING, &|r| r.expected_attach_type = AttachType::TRACE_RAW_TP),
        Some(Errno::EINVAL)
    );
    let old = SimKernel::builder().without(Features::NAMES).build().unwrap();
    let mut request = ProgLoad::new(ProgType::XDP, &insns, "GPL");
    request.name = "x";
    assert_eq!(old.prog_load(&request, None).unwrap_err(), Errno::E2BIG);
}

#[test]
fn too_many_instructions() {
    let sim = SimKernel::new();
    let mut insns = vec![mov(0); 1_000_000];
    insns.push(exit());
    let refused = sim.prog_load(&ProgLoad::new(ProgType::XDP, &insns, "GPL"), None);
    assert_eq!(refused.unwrap_err(), Errno::E2BIG);
}

#[test]
fn short_logs() {
    let sim = SimKernel::new();
    let insns = [mov(0), exit()];
    let load = |level, size| {
        let mut log = LogBuffer::new(level, size);
        let result = sim.prog_load(&ProgLoad::new(ProgType::XDP, &insns, "GPL"), Some(&mut log));
        (result.err(), log.text().into_owned(), log.true_size)
    };
    let (errno, whole, size) = load(1, 4096);
    assert_eq!((errno, size as usize), (None, whole.len() + 1));
    assert_eq!(load(1, size as usize), (None, whole.clone(), size));
    assert_eq!(load(1, size as usize - 1), (Some(Errno::ENOSPC), whole[1..].to_owned(), size));
    let head = whole[..whole.len() - 1].to_owned();
    assert_eq!(load(1 | 8, size as usize - 1), (Some(Errno::ENOSPC), head, size));
    assert_eq!(load(1, 1), (Some(Errno::ENOSPC), String::new(), size));
    assert_eq!(load(16, 64).0, Some(Errno::EINVAL));
    assert_eq!(load(1, 0).0, Some(Errno::EINVAL));
}

/// The tags that Linux 6.18 and 6.12 gave this program.
#[test]
fn tags() {
    let insns = [mov(0), exit()];
    let new = super::tag::tag(&insns, true);
    assert_eq!(new, [0x59, 0xf4, 0xa9, 0x31, 0x74, 0x4d, 0xcd, 0xc6]);
    assert_eq!(super::tag::tag(&insns, false), [0xa0, 0x4f, 0x5e, 0xef, 0x06, 0xa7, 0xf5, 0x55]);
    let load = |fd, off| [i(0x18, 1, 2, 0, fd), i(0, 0, 0, 0, off), mov(0), exit()];
    assert_eq!(super::tag::tag(&load(3, 4), true), super::tag::tag(&load(5, 8), true));
    let index = |fd| [i(0x18, 1, 5, 0, fd), i(0, 0, 0, 0, 0), mov(0), exit()];
    assert_ne!(super::tag::tag(&index(3), true), super::tag::tag(&index(4), true));
}

/// What is wrong is told at every level, and the way to it only where instructions are wanted.
#[test]
fn levels_of_the_log() {
    let sim = SimKernel::new();
    let insns = [mov(0), i(0x67, 0, 0, 0, 64), exit()];
    let text = |level| {
        let mut log = LogBuffer::new(level, 4096);
        let request = ProgLoad::new(ProgType::XDP, &insns, "GPL");
        assert_eq!(sim.prog_load(&request, Some(&mut log)).unwrap_err(), Errno::EINVAL);
        log.text().into_owned()
    };
    let end =
        "processed 2 insns (limit 1000000) max_states_per_insn 0 total_states 0 peak_states 0 mark_read 0\n";
    for level in [4, 8] {
        assert_eq!(text(level), format!("invalid shift 64\n{end}"), "level {level}");
    }
    for level in [1, 2, 5] {
        assert_eq!(
            text(level),
            format!("0: R1=ctx() R10=fp0\n1: (67) r0 <<= 64\ninvalid shift 64\n{end}"),
            "level {level}"
        );
    }
}

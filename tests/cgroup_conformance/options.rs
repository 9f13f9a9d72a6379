use skep::asm::{Cond, Reg, Size};
use skep::sys::Feature;
use skep::sys::abi::{AttachType as A, Errno, ProgType};

use super::{Host, Opt, Script, at, negative, sets_retval};

/// Fields of a `struct bpf_sockopt`.
const VALUE: i16 = 8;
const END: i16 = 16;
const LEVEL: i16 = 24;
const NAME: i16 = 28;
const LEN: i16 = 32;
const RETVAL: i16 = 36;

/// Goes on when four bytes of the value can be read, whose address is in `r8` then; lets it pass else.
fn with_value(script: &mut Script<'_>) {
    let asm = script.builder.asm();
    asm.ldx(Size::DW, Reg::R8, Reg::R6, VALUE).ldx(Size::DW, Reg::R9, Reg::R6, END);
    asm.mov64_reg(Reg::R7, Reg::R8).add64_imm(Reg::R7, 4).jmp64_reg(Cond::Gt, Reg::R7, Reg::R9, "pass");
}

/// Ends a program, one way or the other.
fn end<'h>(script: &mut Script<'h>, value: i32) -> super::Attached<'h> {
    let asm = script.builder.asm();
    asm.mov64_imm(Reg::R0, value).exit().label("pass").mov64_imm(Reg::R0, 1).exit();
    script.attach_as_is()
}

pub(super) fn setting(host: &dyn Host) {
    let socket = host.socket(true).unwrap();
    let set = || Script::new(host, ProgType::CGROUP_SOCKOPT, A::CGROUP_SETSOCKOPT);

    // What a program sees: more room than the process gave, with zeros behind the value.
    let mut script = set();
    for field in [LEVEL, NAME, LEN] {
        script.note_field(Size::W, field);
    }
    with_value(&mut script);
    script.builder.asm().ldx(Size::W, Reg::R7, Reg::R8, 0);
    script.note(Reg::R7);
    script.builder.asm().ldx(Size::DW, Reg::R7, Reg::R6, END).sub64_reg(Reg::R7, Reg::R8);
    script.note(Reg::R7);
    let seen = end(&mut script, 1);
    host.set(socket, Opt::Mark, 5).unwrap();
    assert_eq!(seen.notes(), [1, 36, 4, 5, 16]);
    assert_eq!(host.get(socket, Opt::Mark), Ok(5));
    drop(seen);

    // Another value, and another option.
    let mut script = set();
    with_value(&mut script);
    script.builder.asm().mov64_imm(Reg::R7, 9).stx(Size::W, Reg::R8, 0, Reg::R7);
    let other = end(&mut script, 1);
    host.set(socket, Opt::Mark, 5).unwrap();
    assert_eq!(host.get(socket, Opt::Mark), Ok(9));
    drop(other);
    let mut script = set();
    let other = script.set_field(NAME, Opt::Priority.name()).attach(1);
    host.set(socket, Opt::Mark, 4).unwrap();
    assert_eq!((host.get(socket, Opt::Mark), host.get(socket, Opt::Priority)), (Ok(9), Ok(4)));
    drop(other);

    // The length says what becomes of it.
    let rows = [
        (0, Ok(()), 6),
        (-1, Ok(()), 5),
        (4, Ok(()), 6),
        (16, Ok(()), 6),
        (17, Err(Errno::EFAULT), 5),
        (-2, Err(Errno::EFAULT), 5),
        (2, Err(Errno::EINVAL), 5),
    ];
    for (len, result, value) in rows {
        host.set(socket, Opt::Mark, 5).unwrap();
        let mut script = set();
        let program = script.set_field(LEN, len).attach(1);
        assert_eq!(host.set(socket, Opt::Mark, 6), result, "{len}");
        assert_eq!(host.get(socket, Opt::Mark), Ok(value), "{len}");
        drop(program);
    }

    let no = set().attach(0);
    assert_eq!(host.set(socket, Opt::Mark, 1), Err(Errno::EPERM));
    drop(no);
    if sets_retval(host, "setting") {
        let mut script = set();
        let other = script.set_retval(-Errno::ENOSPC.0).attach(0);
        assert_eq!(host.set(socket, Opt::Mark, 1), Err(Errno::ENOSPC));
        drop(other);
    }
    // What the kernel itself does.
    host.set(socket, Opt::ReceiveBuffer, 4000).unwrap();
    assert_eq!(host.get(socket, Opt::ReceiveBuffer), Ok(8000));
    host.set(socket, Opt::ReceiveBuffer, 1).unwrap();
    assert_eq!(host.get(socket, Opt::ReceiveBuffer), Ok(2304));
    host.set(socket, Opt::KeepAlive, 7).unwrap();
    assert_eq!(host.get(socket, Opt::KeepAlive), Ok(1));
}

pub(super) fn getting(host: &dyn Host) {
    let socket = host.socket(true).unwrap();
    host.set(socket, Opt::Mark, 5).unwrap();
    let get = || Script::new(host, ProgType::CGROUP_SOCKOPT, A::CGROUP_GETSOCKOPT);

    let mut script = get();
    for field in [LEVEL, NAME, LEN, RETVAL] {
        script.note_field(Size::W, field);
    }
    with_value(&mut script);
    script.builder.asm().ldx(Size::W, Reg::R7, Reg::R8, 0);
    script.note(Reg::R7);
    script.builder.asm().mov64_imm(Reg::R7, 77).stx(Size::W, Reg::R8, 0, Reg::R7);
    let seen = end(&mut script, 1);
    assert_eq!(host.get(socket, Opt::Mark), Ok(77));
    assert_eq!(seen.notes(), [1, 36, 4, 0, 5]);
    drop(seen);
    assert_eq!(host.get(socket, Opt::Mark), Ok(5));

    for (len, result) in [(5, Err(Errno::EFAULT)), (-1, Err(Errno::EFAULT)), (0, Ok(5))] {
        let mut script = get();
        let program = script.set_field(LEN, len).attach(1);
        assert_eq!(host.get(socket, Opt::Mark), result, "{len}");
        drop(program);
    }
    let no = get().attach(0);
    assert_eq!(host.get(socket, Opt::Mark), Err(Errno::EPERM));
    drop(no);
    // What a program answers in place of the kernel, one after the other.
    let mut script = get();
    let errno = script.set_field(RETVAL, -Errno::ENOSPC.0).attach(1);
    if !sets_retval(host, "getting") {
        // What the kernel answered, or that it went well: nothing else was to be said.
        assert_eq!(host.get(socket, Opt::Mark), Err(Errno::EFAULT));
        return;
    }
    assert_eq!(host.get(socket, Opt::Mark), Err(Errno::ENOSPC));
    let mut script = get();
    script.note_field(Size::W, RETVAL);
    let good = script.set_field(RETVAL, 0).attach(1);
    assert_eq!(host.get(socket, Opt::Mark), Ok(5));
    assert_eq!(good.notes(), [u64::from(negative(Errno::ENOSPC) as u32)]);
    drop((errno, good));
}

/// What programs set and ask for themselves: level, option, value.
const OPTIONS: &[(i32, i32, i32)] = &[
    (1, 2, 5),    // SO_REUSEADDR
    (1, 3, 1),    // SO_TYPE, which cannot be set
    (1, 6, 1),    // SO_BROADCAST, which is not for programs
    (1, 7, 4000), // SO_SNDBUF
    (1, 7, 1),
    (1, 8, 4000),    // SO_RCVBUF
    (1, 9, 3),       // SO_KEEPALIVE
    (1, 12, 2),      // SO_PRIORITY
    (1, 18, 0),      // SO_RCVLOWAT
    (1, 36, 0x1234), // SO_MARK
    (1, 9999, 1),
    (6, 1, 9),    // TCP_NODELAY
    (6, 2, 1000), // TCP_MAXSEG
    (6, 2, 5),
    (6, 4, 100), // TCP_KEEPIDLE
    (6, 4, 0),
    (6, 4, 32768),
    (6, 5, 20),  // TCP_KEEPINTVL
    (6, 6, 128), // TCP_KEEPCNT
    (6, 6, 4),
    (6, 7, 3), // TCP_SYNCNT
    (6, 7, 0),
    (6, 18, 500), // TCP_USER_TIMEOUT
    (6, 18, -1),
    (6, 25, 1000), // TCP_NOTSENT_LOWAT
    (6, 12, 1),    // TCP_QUICKACK, which is not for programs
    (0, 1, 0x10),  // IP_TOS
    (0, 2, 5),     // IP_TTL, which is not for programs
    (41, 67, 1),   // IPV6_TCLASS, of which this socket has none
    (1234, 1, 1),
];

pub(super) fn helpers(host: &dyn Host) {
    let socket = host.socket(true).unwrap();
    // Up to Linux 6.0 programs had options of their own, less than the kernel has. A helper that is as new tells.
    let all = host.kernel().has(Feature::Helper(ProgType::CGROUP_SOCK_ADDR, 208)).is_supported();
    if !all {
        println!("skip: helpers: programs of this kernel set some options only");
    }
    let allowed = [0, negative(Errno::EINVAL)];
    for options in OPTIONS.chunks(8) {
        let mut script = Script::new(host, ProgType::CGROUP_SOCK_ADDR, A::CGROUP_INET4_CONNECT);
        for (level, name, value) in options {
            script.builder.asm().mov64_imm(Reg::R7, *value).stx(Size::W, Reg::R10, -4, Reg::R7);
            for helper in [49, 57] {
                let asm = script.builder.asm();
                asm.mov64_reg(Reg::R1, Reg::R6).mov64_imm(Reg::R2, *level).mov64_imm(Reg::R3, *name);
                asm.mov64_reg(Reg::R4, Reg::R10)
                    .add64_imm(Reg::R4, -4)
                    .mov64_imm(Reg::R5, 4)
                    .call_helper(helper);
                script.note(Reg::R0);
            }
            script.builder.asm().ldx(Size::W, Reg::R7, Reg::R10, -4);
            script.note(Reg::R7);
        }
        let program = script.attach(0);
        assert_eq!(host.connect(socket, at("127.0.0.1:20114")), Err(Errno::EPERM));
        let noted: [u64; 24] = program.notes();
        for (row, noted) in options.iter().zip(noted.chunks(3)) {
            if all || noted[..2] == [0, 0] {
                assert_eq!(noted, expected(*row), "{row:?}");
            } else {
                assert!(noted[..2].iter().all(|answer| allowed.contains(answer)), "{row:?}: {noted:?}");
            }
        }
    }
}

/// What the two helpers answer, and the value afterwards.
fn expected((level, name, value): (i32, i32, i32)) -> [u64; 3] {
    let einval = negative(Errno::EINVAL);
    let good = |value: i32| [0, 0, u64::from(value.cast_unsigned())];
    match (level, name, value) {
        (1, 2 | 9, _) | (6, 1, _) => good(1),
        (1, 7, 1) => good(4608),
        (1, 7 | 8, _) => good(value * 2),
        (1, 18, 0) => good(1),
        // What is refused leaves the one before.
        (6, 2, 5) => [einval, 0, 1000],
        (6, 4, 0 | 32768) => [einval, 0, 100],
        (6, 6, 128) => [einval, 0, 9],
        (6, 7, 0) => [einval, 0, 3],
        (6, 18, -1) => [einval, 0, 500],
        (1, 12 | 36, _) | (6, 2 | 4..=7 | 18 | 25, _) | (0, 1, _) => good(value),
        _ => [einval, einval, 0],
    }
}

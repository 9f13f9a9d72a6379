use std::io::Read;

use skep::sys::abi::{Errno, ProgType, StreamId};

use super::Arg::{Data, Imm, Stack, Text};
use super::{Script, World, errno, has_helper};

const TRACE_PRINTK: i32 = 6;
const SNPRINTF: i32 = 165;
const TRACE_VPRINTK: i32 = 177;

const EINVAL: u64 = errno(Errno::EINVAL);
const ENOSPC: u64 = errno(Errno::ENOSPC);

/// Where the strings are that arguments point to, as numbers beyond any other argument.
const STRINGS: u64 = 0xfeed_0000_0000;

/// Prints with `bpf_snprintf` into a buffer of a size. Arguments from [`STRINGS`] on are places in the shared data.
fn snprintf(world: &World<'_>, rows: &[(&[u8], &[u64])], size: i64) -> Vec<(u64, Vec<u8>)> {
    let mut script = Script::of(world, ProgType::SYSCALL);
    let formats: Vec<&[u8]> = rows.iter().map(|(format, _)| *format).collect();
    let places = script.texts(&formats);
    script.data(0, b"skep\0\0\0\0\x7f\x00\x00\x01\xfe\x80\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\0\0\0\0");
    for ((_, args), (format, at)) in rows.iter().zip(places.iter().zip(0u32..)) {
        for (place, arg) in (0i16..).zip(*args) {
            let to = -96 + place * 8;
            match arg.checked_sub(STRINGS).and_then(|at| u32::try_from(at).ok()) {
                Some(at) => {
                    script.load(skep::asm::Reg::R1, Data(at));
                    script.builder.asm().stx(
                        skep::asm::Size::DW,
                        skep::asm::Reg::R10,
                        to,
                        skep::asm::Reg::R1,
                    );
                }
                None => _ = script.stack(to, *arg),
            }
        }
        let len = args.len() as i64 * 8;
        let at = 512 + at * 128;
        let args = if len == 0 { Imm(0) } else { Stack(-96) };
        script.call(SNPRINTF, &[Data(at), Imm(size), Text(*format), args, Imm(len)]).note();
    }
    let noted = script.exit(0).run();
    let each = noted.into_iter().zip(0u32..);
    each.map(|(answer, at)| (answer, script.shared(512 + at * 128, 128))).collect()
}

pub(super) fn formats(world: &World<'_>) {
    if !has_helper(world, "formats", SNPRINTF, ProgType::SYSCALL) {
        return;
    }
    type Row = (&'static [u8], &'static [u64], &'static str);
    const MINUS: u64 = -5i64 as u64;
    let rows: &[Row] = &[
        (b"plain", &[], "plain"),
        (b"100%%", &[], "100%"),
        (b"%d %i", &[MINUS, 7], "-5 7"),
        (b"%u", &[MINUS], "4294967291"),
        (b"%x %X", &[MINUS, 0xbeef], "fffffffb BEEF"),
        (b"%ld %li", &[MINUS, MINUS], "-5 -5"),
        (b"%lld", &[MINUS], "-5"),
        (b"%lu %llu", &[MINUS, 1], "18446744073709551611 1"),
        (b"%lx %llX", &[0x1234_5678_9abc, 0xabc], "123456789abc ABC"),
        (b"[%5d]", &[42], "[   42]"),
        (b"[%-5d]", &[42], "[42   ]"),
        (b"[%05d]", &[MINUS], "[-0005]"),
        (b"[%-05d]", &[42], "[42   ]"),
        (b"[%+d]", &[42], "[+42]"),
        (b"[% d]", &[42], "[ 42]"),
        (b"[%+5d]", &[42], "[  +42]"),
        (b"[%08x]", &[0xbeef], "[0000beef]"),
        (b"[%+x]", &[0xbeef], "[beef]"),
        (b"[%2d]", &[12345], "[12345]"),
        (b"[%c%c]", &[0x141, 0x62], "[Ab]"),
        (b"[%3c]", &[0x41], "[  A]"),
        (b"[%-3c]", &[0x41], "[A  ]"),
        (b"[%s]", &[STRINGS], "[skep]"),
        (b"[%6s] [%-6s]", &[STRINGS, STRINGS], "[  skep] [skep  ]"),
        (b"[%s]", &[0], "[]"),
        (b"[%s]", &[10], "[]"),
        (b"%pks!", &[STRINGS], "skep!"),
        (b"[%9pks]", &[STRINGS], "[skep]"),
        (b"%px", &[0xffff_8880_1234_5678], "ffff888012345678"),
        (b"[%4px]", &[0x12], "[  12]"),
        (b"%p", &[0], "0000000000000000"),
        (b"[%20p]", &[0], "[                   0]"),
        (b"%pK", &[0], "0000000000000000"),
        (b"%p,%p", &[-1i64 as u64, -4095i64 as u64], "ffffffffffffffff,fffffffffffff001"),
        (b"%ps", &[0x10], "0x10"),
        (b"%pS", &[0x10], "0x10"),
        (b"%pI4", &[STRINGS + 8], "127.0.0.1"),
        (b"%pi4", &[STRINGS + 8], "127.000.000.001"),
        (b"%pI6", &[STRINGS + 12], "fe80:0102:0304:0506:0708:090a:0b0c:0d0e"),
        (b"%pi6", &[STRINGS + 12], "fe800102030405060708090a0b0c0d0e"),
        (b"%pI4", &[0], "0.0.0.0"),
        (b"%pI4abc.", &[STRINGS + 8], "127.0.0.1."),
        (b"%d\n\t%d", &[1, 2], "1\n\t2"),
        (b"%d%s%d", &[1, STRINGS, 2], "1skep2"),
        (
            b"%d %d %d %d %d %d %d %d %d %d %d %d",
            &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12],
            "1 2 3 4 5 6 7 8 9 10 11 12",
        ),
    ];
    for rows in rows.chunks(16) {
        let asked: Vec<(&[u8], &[u64])> = rows.iter().map(|(format, args, _)| (*format, *args)).collect();
        for ((answer, bytes), (format, _, expected)) in snprintf(world, &asked, 128).into_iter().zip(rows) {
            let text = bytes.split(|byte| *byte == 0).next().unwrap();
            let format = String::from_utf8_lossy(format);
            assert_eq!(String::from_utf8_lossy(text), *expected, "{format:?}");
            assert_eq!(answer, expected.len() as u64 + 1, "{format:?}");
        }
    }

    // Less room than text.
    for (size, kept) in [(1, ""), (4, "123"), (7, "123456")] {
        let found = snprintf(world, &[(b"%d", &[123_456])], size);
        let mut expected = kept.as_bytes().to_vec();
        expected.resize(size as usize, 0);
        assert_eq!((found[0].0, &found[0].1[..size as usize]), (7, &expected[..]));
    }
    // Wider than everything.
    assert_eq!(snprintf(world, &[(b"%100000d", &[1])], 8)[0].0, 100_001);
}

/// Prints with `bpf_trace_printk`, which looks at its format when it is called.
fn printk(world: &World<'_>, formats: &[&[u8]]) -> Vec<u64> {
    let mut script = Script::new(world);
    script.data(0, b"skep\0");
    let places = script.texts(formats);
    for (format, at) in formats.iter().zip(places) {
        let len = format.len() as i64 + 1;
        script.call(TRACE_PRINTK, &[Text(at), Imm(len), Imm(1), Data(0), Imm(3)]).note();
    }
    script.exit(0).run()
}

pub(super) fn errors(world: &World<'_>) {
    if !has_helper(world, "format_errors", SNPRINTF, ProgType::SYSCALL) {
        return;
    }
    let formats: &[&[u8]] = &[
        b"%",
        b"%z",
        b"%d %d %d %d",
        b"%o",
        b"%lc",
        b"%ls",
        b"%l",
        b"%lll",
        b"%llld",
        b"%hd",
        b"%#x",
        b"%.3d",
        b"%*d",
        b"%n",
        b"%sx",
        b"%pQ",
        b"%pI5",
        b"%pi",
        b"%pk",
        b"%pd",
        b"\x01",
        b"\x7f",
    ];
    for (answer, format) in printk(world, formats).into_iter().zip(formats) {
        assert_eq!(answer, EINVAL, "{:?}", String::from_utf8_lossy(format));
    }
    let good: &[(&[u8], u64)] =
        &[(b"", 0), (b"a%%b", 3), (b"%d", 1), (b"%c.", 2), (b"\tx\n", 3), (b"%p", 16), (b"%px.", 17)];
    let formats: Vec<&[u8]> = good.iter().map(|(format, _)| *format).collect();
    for (answer, (format, expected)) in printk(world, &formats).into_iter().zip(good) {
        assert_eq!(answer, *expected, "{:?}", String::from_utf8_lossy(format));
    }
}

pub(super) fn space(world: &World<'_>) {
    if !has_helper(world, "format_space", SNPRINTF, ProgType::SYSCALL) {
        return;
    }
    let mut script = Script::of(world, ProgType::SYSCALL);
    let texts = script.texts(&[b"%s", b"%s%s", b"%s%d", b"%s%c", b"%s%pI4"]);
    script.data(0, &[b'a'; 600]);
    script.data(600, &[0]);
    script.data(700, &[b'b'; 507]);
    script.data(1207, &[0]);
    script.load(skep::asm::Reg::R1, Data(0));
    script.builder.asm().stx(skep::asm::Size::DW, skep::asm::Reg::R10, -16, skep::asm::Reg::R1);
    script.load(skep::asm::Reg::R1, Data(700));
    script.builder.asm().stx(skep::asm::Size::DW, skep::asm::Reg::R10, -24, skep::asm::Reg::R1);
    script.stack(-8, 7);
    // Arguments and their strings have 512 bytes together.
    for (text, args, len) in [(0, -16, 8), (1, -24, 16), (2, -16, 16), (3, -16, 16), (4, -16, 16)] {
        script.call(SNPRINTF, &[Data(2000), Imm(1000), Text(texts[text]), Stack(args), Imm(len)]).note();
    }
    // Here 508 are taken; another number fits, two do not.
    script.builder.asm().ldx(skep::asm::Size::DW, skep::asm::Reg::R1, skep::asm::Reg::R10, -24);
    script.builder.asm().stx(skep::asm::Size::DW, skep::asm::Reg::R10, -16, skep::asm::Reg::R1);
    script.call(SNPRINTF, &[Data(2000), Imm(1000), Text(texts[2]), Stack(-16), Imm(16)]).note();
    let noted = script.exit(0).run();
    // The second string got what was left.
    assert_eq!(noted, [512, 507 + 3 + 1, ENOSPC, ENOSPC, ENOSPC, 509]);
}

pub(super) fn printing(world: &World<'_>) {
    if !has_helper(world, "printing", TRACE_VPRINTK, ProgType::SOCKET_FILTER) {
        return;
    }
    let mut script = Script::new(world);
    let texts = script.texts(&[b"%d %d %d %d", b"no arguments", b"%s"]);
    script.stack(-8, 4).stack(-16, 3).stack(-24, 2).stack(-32, 1);
    script.call(TRACE_VPRINTK, &[Text(texts[0]), Imm(12), Stack(-32), Imm(32)]).note();
    script.call(TRACE_VPRINTK, &[Text(texts[0]), Imm(12), Stack(-32), Imm(24)]).note();
    script.call(TRACE_VPRINTK, &[Text(texts[0]), Imm(12), Stack(-32), Imm(31)]).note();
    script.call(TRACE_VPRINTK, &[Text(texts[0]), Imm(11), Stack(-32), Imm(32)]).note();
    script.call(TRACE_VPRINTK, &[Text(texts[1]), Imm(13), Imm(0), Imm(0)]).note();
    script.data(0, &[b'x'; 1100]);
    script.call(TRACE_PRINTK, &[Text(texts[2]), Imm(3), Data(0), Imm(0), Imm(0)]).note();
    let noted = script.exit(0).run();
    assert_eq!(noted, [7, EINVAL, EINVAL, EINVAL, 12, 511]);
}

pub(super) fn streams(world: &World<'_>) {
    // Its name had a suffix for one release.
    let names = ["bpf_stream_vprintk", "bpf_stream_vprintk_impl"];
    let has = |name: &&str| {
        world.kernel.btf().is_ok_and(|btf| btf.find(name.as_bytes(), skep::btf::Kind::FUNC).is_some())
    };
    let Some(name) = names.iter().find(|name| has(name)) else {
        return super::skip("streams", "this kernel's programs print into no streams");
    };
    let mut script = Script::of(world, ProgType::SYSCALL);
    let texts = script.texts(&[b"n %d\n", b"%s", b"again"]);
    script.stack(-8, 42);
    for (stream, text, len) in [(1, 0, 8), (3, 0, 8), (1, 0, 7), (1, 0, 0), (2, 1, 8), (1, 2, 0)] {
        script.kfunc(name, &[Imm(stream), Text(texts[text]), Stack(-8), Imm(len), Imm(0)]);
        script.builder.asm().lsh64_imm(skep::asm::Reg::R0, 32).arsh64_imm(skep::asm::Reg::R0, 32);
        script.note();
    }
    let program = script.exit(0).program();
    program.test_run(&mut Default::default()).unwrap();
    let noted = script.notes();
    // Linux allocates where it may not wait, and some machines never give it anything there.
    if noted[0] == errno(Errno::ENOMEM) {
        return super::skip("streams", "this kernel has no memory for what programs print into streams");
    }
    assert_eq!(noted, [0, errno(Errno::ENOENT), EINVAL, EINVAL, 0, 0]);
    let read = |stream| {
        let mut text = String::new();
        program.stream(stream).read_to_string(&mut text).unwrap();
        text
    };
    assert_eq!(read(StreamId::STDOUT), "n 42\nagain");
    // What was read is gone.
    assert_eq!((read(StreamId::STDOUT), read(StreamId::STDERR)), (String::new(), String::new()));
}

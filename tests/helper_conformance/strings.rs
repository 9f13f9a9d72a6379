use skep::asm::Reg;
use skep::sys::abi::{Errno, ProgType};

use super::Arg::{Data, Imm, Stack, Text};
use super::{Script, World, errno, has_functions, has_helper};

const STRTOL: i32 = 105;
const STRTOUL: i32 = 106;
const STRNCMP: i32 = 182;

const EINVAL: u64 = errno(Errno::EINVAL);
const ERANGE: u64 = errno(Errno::ERANGE);
const ENOENT: u64 = errno(Errno::ENOENT);

pub(super) fn integers(world: &World<'_>) {
    if !has_helper(world, "integers", STRTOL, ProgType::SOCKET_FILTER) {
        return;
    }
    // Text, base, and what the two helpers answer and write.
    type Row = (&'static [u8], i64, [u64; 4]);
    let minus = |number: u64| number.wrapping_neg();
    let rows: &[Row] = &[
        (b"0", 0, [1, 0, 1, 0]),
        (b"123", 0, [3, 123, 3, 123]),
        (b"123abc", 10, [3, 123, 3, 123]),
        (b"0x1f", 0, [4, 31, 4, 31]),
        (b"0X1F", 16, [4, 31, 4, 31]),
        (b"1f", 16, [2, 31, 2, 31]),
        (b"0x", 0, [1, 0, 1, 0]),
        (b"0xg", 16, [EINVAL, 0, EINVAL, 0]),
        (b"017", 0, [3, 15, 3, 15]),
        (b"018", 0, [2, 1, 2, 1]),
        (b"19", 8, [1, 1, 1, 1]),
        (b" \t\n-5", 0, [5, minus(5), EINVAL, 0]),
        (b"-", 0, [EINVAL, 0, EINVAL, 0]),
        (b"   ", 0, [EINVAL, 0, EINVAL, 0]),
        (b"x", 0, [EINVAL, 0, EINVAL, 0]),
        (b"+5", 0, [EINVAL, 0, EINVAL, 0]),
        (b"5", 7, [EINVAL, 0, EINVAL, 0]),
        (b"5", 32, [EINVAL, 0, EINVAL, 0]),
        (b"9223372036854775807", 10, [19, i64::MAX as u64, 19, i64::MAX as u64]),
        (b"9223372036854775808", 10, [ERANGE, 0, 19, 1 << 63]),
        (b"-9223372036854775808", 10, [20, 1 << 63, EINVAL, 0]),
        (b"-9223372036854775809", 10, [ERANGE, 0, EINVAL, 0]),
        (b"18446744073709551615", 10, [ERANGE, 0, 20, u64::MAX]),
        (b"18446744073709551616", 10, [ERANGE, 0, ERANGE, 0]),
        (b"0000000000000000000000000000000000000000000000000000000000000000007", 10, [63, 0, 63, 0]),
    ];
    for rows in rows.chunks(12) {
        let mut script = Script::of(world, ProgType::SYSCALL);
        for (at, (text, base, _)) in (0..).zip(rows) {
            script.data(at * 80, text);
            for helper in [STRTOL, STRTOUL] {
                script.stack(-8, 77);
                script.call(helper, &[Data(at * 80), Imm(text.len() as i64), Imm(*base), Stack(-8)]);
                script.note().note_stack(-8);
            }
        }
        let noted = script.exit(0).run();
        for (found, (text, base, expected)) in noted.chunks(4).zip(rows) {
            assert_eq!(found, expected, "{:?} {base}", String::from_utf8_lossy(text));
        }
    }
}

pub(super) fn comparisons(world: &World<'_>) {
    if !has_helper(world, "comparisons", STRNCMP, ProgType::SOCKET_FILTER) {
        return;
    }
    let mut script = Script::new(world);
    let texts = script.texts(&[b"hello", b"help", b"", b"hello!"]);
    script.data(0, b"hello\0\0\0");
    let rows = [(0, 5, 0), (8, 5, 0), (3, 3, 1), (8, 4, 1), (8, 8, 2), (8, 8, 3), (8, 5, 3)];
    for (_, len, text) in rows {
        script.call(STRNCMP, &[Data(0), Imm(len), Text(texts[text])]);
        script.builder.asm().lsh64_imm(Reg::R0, 32).arsh64_imm(Reg::R0, 32);
        script.note();
    }
    assert_eq!(script.exit(0).run(), [0, 0, 0, -1i64 as u64, 1, -1i64 as u64, 0]);
}

pub(super) fn functions(world: &World<'_>) {
    let names = [
        "bpf_strcmp",
        "bpf_strchr",
        "bpf_strchrnul",
        "bpf_strnchr",
        "bpf_strrchr",
        "bpf_strlen",
        "bpf_strnlen",
        "bpf_strspn",
        "bpf_strcspn",
        "bpf_strstr",
        "bpf_strnstr",
    ];
    if !has_functions(world, "string_functions", &names) {
        return;
    }
    let mut script = Script::of(world, ProgType::SYSCALL);
    let texts = script.texts(&[b"hello world", b"hello", b"wor", b"", b"leh", b"Hello"]);
    let [all, hello, wor, empty, set, upper] = texts[..] else { panic!() };
    let byte = |byte: u8| Imm(byte.into());
    let minus = -1i64 as u64;
    let mut rows: Vec<(&str, Vec<super::Arg<'_>>, u64)> = vec![
        ("bpf_strcmp", vec![Text(hello), Text(hello)], 0),
        ("bpf_strcmp", vec![Text(all), Text(hello)], 1),
        ("bpf_strcmp", vec![Text(hello), Text(all)], minus),
        ("bpf_strchr", vec![Text(all), byte(b'o')], 4),
        ("bpf_strchr", vec![Text(all), byte(b'z')], ENOENT),
        ("bpf_strchr", vec![Text(all), byte(0)], 11),
        ("bpf_strchrnul", vec![Text(all), byte(b'z')], 11),
        ("bpf_strchrnul", vec![Text(all), byte(b'w')], 6),
        ("bpf_strnchr", vec![Text(all), Imm(4), byte(b'o')], ENOENT),
        ("bpf_strnchr", vec![Text(all), Imm(5), byte(b'o')], 4),
        ("bpf_strnchr", vec![Text(hello), Imm(20), byte(b'z')], ENOENT),
        ("bpf_strrchr", vec![Text(all), byte(b'o')], 7),
        ("bpf_strrchr", vec![Text(all), byte(b'z')], ENOENT),
        ("bpf_strrchr", vec![Text(all), byte(0)], 11),
        ("bpf_strlen", vec![Text(all)], 11),
        ("bpf_strlen", vec![Text(empty)], 0),
        ("bpf_strnlen", vec![Text(all), Imm(4)], 4),
        ("bpf_strnlen", vec![Text(all), Imm(40)], 11),
        ("bpf_strspn", vec![Text(all), Text(set)], 4),
        ("bpf_strspn", vec![Text(all), Text(empty)], 0),
        ("bpf_strspn", vec![Text(hello), Text(all)], 5),
        ("bpf_strcspn", vec![Text(all), Text(wor)], 4),
        ("bpf_strcspn", vec![Text(all), Text(empty)], 11),
        ("bpf_strstr", vec![Text(all), Text(wor)], 6),
        ("bpf_strstr", vec![Text(all), Text(empty)], 0),
        ("bpf_strstr", vec![Text(wor), Text(all)], ENOENT),
        ("bpf_strstr", vec![Text(all), Text(set)], ENOENT),
        ("bpf_strnstr", vec![Text(all), Text(wor), Imm(8)], ENOENT),
        ("bpf_strnstr", vec![Text(all), Text(wor), Imm(9)], 6),
        ("bpf_strnstr", vec![Text(all), Text(all), Imm(11)], 0),
    ];
    if has_functions(world, "string_functions", &["bpf_strcasecmp"]) {
        rows.push(("bpf_strcasecmp", vec![Text(hello), Text(upper)], 0));
        rows.push(("bpf_strcasecmp", vec![Text(upper), Text(wor)], minus));
    }
    for (name, args, _) in &rows {
        script.kfunc(name, args);
        script.builder.asm().lsh64_imm(Reg::R0, 32).arsh64_imm(Reg::R0, 32);
        script.note();
    }
    let noted = script.exit(0).run();
    for (found, (name, _, expected)) in noted.iter().zip(&rows) {
        let row = rows.iter().position(|row| std::ptr::eq(&row.0, name)).unwrap();
        assert_eq!(found, expected, "{name}, row {row}");
    }
}

//! What a kernel says of types that are not as they should be: the simulated one refuses the same, with the same errno and the
//! same log.
//!
//! `SKEP_FUZZ_TYPES` says how many (2000), `SKEP_FUZZ_SEED` where to begin (1).

#![cfg(target_os = "linux")]
#![allow(missing_docs, clippy::print_stdout)]

mod mutation;
mod support;

use std::collections::BTreeMap;

use skep::asm::Endian;
use skep::btf::{BtfBuilder, BtfError, IntEncoding, Kind, Linkage, SectionVar};
use skep::sys::abi::Errno;
use skep::sys::request::LogBuffer;
use skep::{Kernel, Spec};

use mutation::{Random, number};

/// BTF with a type of each kind.
fn every_kind() -> Result<Vec<u8>, BtfError> {
    let mut b = BtfBuilder::new();
    let int = b.add_int("int", 4, IntEncoding::SIGNED)?;
    let byte = b.add_int("unsigned char", 1, IntEncoding::NONE)?;
    let pointer = b.add_ptr(int)?;
    let array = b.add_array(int, int, 4)?;
    let constant = b.add_modifier(Kind::CONST, int)?;
    let alias = b.add_typedef("alias", constant)?;
    let double = b.add_float("double", 8)?;
    let color = b.add_enum("color", 4, true)?;
    b.add_enumerator("RED", -1)?;
    b.add_enumerator("GREEN", 2)?;
    let wide = b.add_enum64("wide", 8, false)?;
    b.add_enumerator("HUGE", i64::MAX)?;
    let inner = b.add_struct("inner", 8)?;
    b.add_member("a", int, 0, 0)?;
    b.add_member("b", byte, 32, 0)?;
    let outer = b.add_struct("outer", 64)?;
    b.add_member("number", alias, 0, 0)?;
    b.add_member("pointer", pointer, 64, 0)?;
    b.add_member("list", array, 128, 0)?;
    b.add_member("inner", inner, 256, 0)?;
    b.add_member("real", double, 320, 0)?;
    b.add_member("color", color, 384, 0)?;
    b.add_member("wide", wide, 448, 0)?;
    let flags = b.add_struct("flags", 8)?;
    b.add_member("low", int, 0, 3)?;
    b.add_member("high", int, 3, 5)?;
    b.add_member("color", color, 32, 4)?;
    let either = b.add_union("either", 8)?;
    b.add_member("number", int, 0, 0)?;
    b.add_member("flags", flags, 0, 0)?;
    let later = b.add_fwd("later", false)?;
    let to_later = b.add_ptr(later)?;
    let restricted = b.add_modifier(Kind::RESTRICT, to_later)?;
    let tagged = b.add_type_tag("user", either, false)?;
    let to_tagged = b.add_ptr(tagged)?;
    let volatile = b.add_modifier(Kind::VOLATILE, to_tagged)?;
    let prototype = b.add_func_proto(int)?;
    b.add_param("first", volatile)?;
    b.add_param("second", restricted)?;
    let open = b.add_func_proto(skep::btf::TypeId::VOID)?;
    b.add_param("format", pointer)?;
    b.add_param("", skep::btf::TypeId::VOID)?;
    let function = b.add_func("function", Linkage::GLOBAL, prototype)?;
    b.add_func("printf_like", Linkage::STATIC, open)?;
    let callback = b.add_ptr(prototype)?;
    let number = b.add_var("number", Linkage::GLOBAL, outer)?;
    let other = b.add_var("other", Linkage::STATIC, callback)?;
    b.add_datasec(".data", 80)?;
    b.add_section_var(SectionVar { type_id: number, offset: 0, size: 64 })?;
    b.add_section_var(SectionVar { type_id: other, offset: 64, size: 8 })?;
    b.add_decl_tag("hot", function, Some(1), false)?;
    b.add_decl_tag("cold", outer, None, false)?;
    Ok(b.encode(Endian::NATIVE, false))
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes(bytes[at..at + 4].try_into().unwrap())
}

fn set(bytes: &mut [u8], at: usize, value: u32) {
    bytes[at..at + 4].copy_from_slice(&value.to_ne_bytes());
}

/// Changes something: a word of the header or of a type, a character, or the length.
fn mutate(bytes: &mut Vec<u8>, (types, strings): (usize, usize), random: &mut Random) {
    let at = match random.below(20) {
        0 => 4 * random.below(6),
        1 => {
            let len = random.below(bytes.len());
            bytes.truncate(len);
            return;
        }
        2 => {
            bytes.extend((0..random.below(9)).map(|byte| byte as u8 & 1));
            return;
        }
        3 => {
            let at = strings + random.below(bytes.len().saturating_sub(strings));
            let Some(byte) = bytes.get_mut(at) else { return };
            *byte = random.pick(&[0, b' ', b'9', b'.', b'?', 0x80, 0xe9, b'x']);
            return;
        }
        4 => {
            // A longer header.
            let more = random.below(3) * 4;
            let len = word(bytes, 4);
            set(bytes, 4, len + more as u32);
            bytes.splice(24..24, (0..more).map(|_| 0));
            if random.below(2) == 0 && more > 0 {
                bytes[24] = 1;
            }
            return;
        }
        _ => types + 4 * random.below((strings - types) / 4),
    };
    if at + 4 > bytes.len() {
        return;
    }
    let old = word(bytes, at);
    let value = match random.below(12) {
        0 => 0,
        1 => old ^ (1 << random.below(32)),
        2 => old.wrapping_add(1),
        3 => old.wrapping_sub(1),
        4 => random.below(64) as u32,
        5 => random.pick(&[u32::MAX, 0x10_0000, 0xf_ffff, 0xff_ffff, 0x100_0000, 128, 129, 1 << 31]),
        6 => old << 1,
        7 => (random.below(20) as u32) << 24 | old & 0x80ff_ffff,
        8 => old & 0xff00_0000 | random.below(6) as u32,
        9 => old ^ 1 << 31,
        10 => old.wrapping_add(random.below(4) as u32 * 8),
        _ => random.below(256) as u32,
    };
    set(bytes, at, value);
}

fn load(kernel: &Kernel, bytes: &[u8], level: u32) -> (Result<(), Errno>, String, u32) {
    let mut log = LogBuffer::new(level, 1 << 16);
    let result = kernel.btf_load(bytes, Some(&mut log)).map(drop);
    let text = log.text().into_owned();
    // What is not UTF-8 may have another length.
    let size = if text.contains(char::REPLACEMENT_CHARACTER) { 0 } else { log.true_size };
    (result, text, size)
}

#[test]
fn types_are_judged_alike() {
    let linux = Kernel::linux();
    let seeds: Vec<Vec<u8>> = {
        let objects = ["core_enums", "globals", "kfunc", "map_kinds", "xdp_count", "struct_ops"];
        let of_objects = objects.iter().filter_map(|name| {
            let spec = Spec::open(format!("testdata/{name}.o")).ok()?;
            Some(spec.btf?.bytes().to_vec())
        });
        std::iter::repeat_n(every_kind().unwrap(), 4).chain(of_objects).collect()
    };
    match load(&linux, &seeds[0], 1).0 {
        Err(Errno::EPERM) => {
            return support::denied("types_are_judged_alike", "no right to load BTF");
        }
        other => other.unwrap(),
    }
    // The simulated kernel says what 6.18 does: others know more kinds, or less.
    if linux.version_code().is_ok_and(|version| version >> 8 != 0x0612) {
        return println!("mutated types: compared on 6.18 only");
    }
    let sim = skep::sim::kernel();
    let (count, first) = (number("SKEP_FUZZ_TYPES", 2000), number("SKEP_FUZZ_SEED", 1));
    let mut refused = 0;
    let mut differences: BTreeMap<String, (usize, String)> = BTreeMap::new();
    for seed in first..first + count {
        let mut random = Random::new(seed);
        let mut bytes = seeds[random.below(seeds.len())].clone();
        let sections = (24 + word(&bytes, 8) as usize, 24 + word(&bytes, 16) as usize);
        for _ in 0..1 + random.below(2) {
            if bytes.len() >= 24 {
                mutate(&mut bytes, sections, &mut random);
            }
        }
        let level = if random.below(8) == 0 { random.pick(&[2, 4, 8]) } else { 1 };
        let (expected, found) = (load(&linux, &bytes, level), load(&sim, &bytes, level));
        refused += u64::from(expected.0.is_err());
        if expected != found {
            let last = |text: &str| text.lines().last().unwrap_or("").to_owned();
            let class = format!(
                "{:?} {:?} / {:?} {:?}",
                expected.0,
                last(&expected.1).split_once(']').map_or(last(&expected.1), |(_, rest)| rest.to_owned()),
                found.0,
                last(&found.1).split_once(']').map_or(last(&found.1), |(_, rest)| rest.to_owned()),
            );
            let text = format!(
                "seed {seed} level {level}: {} {}\n{}---\n{}",
                expected.2, found.2, expected.1, found.1
            );
            differences.entry(class).or_insert((0, text)).0 += 1;
        }
    }
    for (class, (times, _)) in &differences {
        println!("{times:5} {class}");
    }
    if std::env::var_os("SKEP_FUZZ_SHOW").is_some() {
        for (class, (_, text)) in &differences {
            println!("== {class}\n{text}");
        }
    }
    println!("{refused} of {count} were refused");
    if let Some((class, (_, text))) = differences.first_key_value() {
        panic!("{} classes differ, as {class}:\n{text}", differences.len());
    }
}

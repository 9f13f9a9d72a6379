//! The BTF of the running kernel.

use std::collections::BTreeMap;

use skep_asm::Endian;
use skep_btf::{Btf, BtfBuilder, Kind, TypeId, essential_name};

use crate::exercise;

const PATH: &str = "/sys/kernel/btf/vmlinux";

/// The kernel's BTF; without it the test is skipped, unless `SKEP_REQUIRE_KERNEL` is 1.
fn vmlinux() -> Option<Btf> {
    match std::fs::read(PATH) {
        Ok(bytes) => Some(Btf::parse(bytes).expect("the kernel's BTF is right")),
        Err(error) if std::env::var_os("SKEP_REQUIRE_KERNEL").is_some_and(|value| value == "1") => {
            panic!("{PATH} is required: {error}")
        }
        Err(error) => {
            eprintln!("skipped: {PATH}: {error}");
            None
        }
    }
}

#[test]
fn vmlinux_is_right_from_end_to_end() {
    let Some(btf) = vmlinux() else { return };
    assert_eq!(btf.check(), Ok(()));
    assert!(btf.len() > 10_000);
    assert!(exercise(btf.types().step_by(23)) > 0);
    let task = btf.find(b"task_struct", Kind::STRUCT).expect("every kernel has it");
    let pid = btf.ty(task).expect("it was found").members().find(|member| member.name_bytes() == b"pid");
    assert_eq!(pid.map(|pid| btf.resolve_size(pid.type_id)), Some(Ok(4)));
}

#[test]
fn vmlinux_is_written_as_it_was_read() {
    let Some(btf) = vmlinux() else { return };
    let written = BtfBuilder::from_btf(&btf).encode(Endian::NATIVE, false);
    let again = Btf::parse(written).expect("what is written is read");
    assert_eq!(
        (again.start_id(), again.end_id(), again.end_str()),
        (btf.start_id(), btf.end_id(), btf.end_str())
    );
    for (one, other) in again.types().zip(btf.types()) {
        assert_eq!((one.name_bytes(), one.record()), (other.name_bytes(), other.record()), "{other:?}");
    }
}

#[test]
fn vmlinux_names_are_found_as_by_looking_at_each() {
    let Some(btf) = vmlinux() else { return };
    let mut all: BTreeMap<&[u8], Vec<TypeId>> = BTreeMap::new();
    for ty in btf.types().filter(|ty| !ty.kind().is_declaration() && !ty.name_bytes().is_empty()) {
        all.entry(essential_name(ty.name_bytes())).or_default().push(ty.id());
    }
    let mut names: Vec<&[u8]> = all.keys().copied().step_by(97).collect();
    names.push(b"no_such_type_in_any_kernel");
    let found = btf.candidates(&names).expect("its names are right");
    for (name, ids) in names.iter().zip(found) {
        assert_eq!(all.get(name).cloned().unwrap_or_default(), ids, "{}", String::from_utf8_lossy(name));
    }
    let funcs: Vec<_> = btf.types().filter(|ty| ty.kind() == Kind::FUNC).step_by(5003).collect();
    for func in funcs {
        let first = btf.find(func.name_bytes(), Kind::FUNC).expect("it is there");
        let ty = btf.ty(first).expect("it was found");
        assert!(first <= func.id() && ty.name_bytes() == func.name_bytes());
    }
}

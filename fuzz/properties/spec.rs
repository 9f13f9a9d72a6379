//! Object files: the same bytes make the same `Spec`, and its parts fit together.

use skep::asm::disassemble;
use skep::spec::{ExternKind, MapRole, MapSpec, ReferenceTarget, SlotValue, Spec};
use skep::sys::abi::MapType;

/// Reads an object twice and follows every index in what it says.
pub fn spec(data: &[u8]) {
    let first = Spec::parse("fuzz.bpf.o", data);
    let second = Spec::parse("fuzz.bpf.o", data);
    match (first, second) {
        (Ok(first), Ok(second)) => {
            assert_eq!(first, second);
            walk(&first);
        }
        (Err(first), Err(second)) => assert_eq!(first.to_string(), second.to_string()),
        (first, _) => panic!("once {first:?}, once not"),
    }
}

/// Follows every index of a spec.
pub(crate) fn walk(spec: &Spec) {
    let at_most_15 = |name: &str| name.chars().count() <= 15;
    assert!(at_most_15(&spec.name));
    for function in &spec.functions {
        let len = function.insns.len();
        assert!(len > 0);
        assert_eq!(disassemble(&function.insns).last().map(|line| line.index + line.slots), Some(len));
        let mut last = 0;
        for reference in &function.references {
            assert!((reference.insn as usize) < len && reference.insn >= last);
            last = reference.insn;
            match reference.target {
                ReferenceTarget::Call(f) | ReferenceTarget::FunctionAddress(f) => {
                    assert!(spec.functions[f.0].subprogram || !spec.functions[f.0].insns.is_empty());
                }
                ReferenceTarget::Map(map) => assert!(!spec.maps[map.0].role.is_data()),
                ReferenceTarget::MapValue { map, .. } => assert!(has_values(&spec.maps[map.0])),
                ReferenceTarget::Extern(index) => assert!(!spec.externs[index.0].name.is_empty()),
                ReferenceTarget::JumpTable(table) => assert!(!spec.jump_tables[table.0].targets.is_empty()),
                other => panic!("a new kind of reference: {other:?}"),
            }
        }
        assert!(function.core_relos.iter().all(|relo| (relo.insn_off as usize) < len));
        for info in [&function.func_info, &function.line_info] {
            assert_eq!(info.is_empty(), info.record_size == 0);
            let whole = info.iter().map(|record| record.len()).sum::<usize>();
            assert_eq!(whole, info.bytes.len());
        }
    }
    for program in &spec.programs {
        assert!(!spec.functions[program.function.0].subprogram);
        assert_eq!(spec.program(&program.name).map(|found| &found.name), Some(&program.name));
    }
    for map in &spec.maps {
        check_map(spec, map);
    }
    for global in &spec.globals {
        let map = &spec.maps[global.map.0];
        assert!(has_values(map));
        let size = if map.role.is_data() { map.value_size as usize } else { map.contents.len() };
        assert!(global.offset as usize + global.size as usize <= size);
    }
    for external in &spec.externs {
        if let ExternKind::Kconfig { offset, size } = external.kind {
            let map = spec.map(".kconfig").expect("the map of configuration values");
            assert!(u64::from(offset) + u64::from(size) <= u64::from(map.value_size));
        }
    }
    assert!(spec.core_relocation_count() <= spec.functions.iter().map(|f| f.core_relos.len()).sum());
}

/// Whether there are variables in a map.
fn has_values(map: &MapSpec) -> bool {
    map.role.is_data() || map.map_type == MapType::ARENA && !map.contents.is_empty()
}

fn check_map(spec: &Spec, map: &MapSpec) {
    assert!(map.contents.len() <= map.value_size as usize || !map.role.is_data());
    if map.role == MapRole::StructOps {
        assert_eq!(map.contents.len(), map.value_size as usize);
        let structure = spec.btf.as_ref().zip(map.value_type).expect("a table has a type");
        let members = structure.0.ty(structure.1).expect("its type is there").members().count();
        assert!(map.slots.iter().all(|slot| (slot.index as usize) < members));
    }
    for slot in &map.slots {
        match slot.value {
            SlotValue::Map(inner) => assert!(inner.0 < spec.maps.len()),
            SlotValue::Program(program) => assert!(program.0 < spec.programs.len()),
        }
    }
    let types = map.key_type.into_iter().chain(map.value_type);
    for id in types {
        let btf = spec.btf.as_ref().expect("types come from BTF");
        assert!(btf.ty(id).is_ok());
    }
}

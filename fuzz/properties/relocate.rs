//! Relocation: whatever the object and the target say, a plan is made or refused, and the same one each time.

use std::sync::OnceLock;

use skep::btf::Btf;
use skep::reloc::{BtfTarget, ModuleTypes, PlaceholderValue, Plan, Target};
use skep::spec::{MapRole, Spec};

/// Most instructions that the programs of a plan may have together, for each byte of the object.
const INSNS_PER_BYTE: usize = 64;

/// Places of a program whose lines are asked for.
const LINES: usize = 16;

/// The targets that inputs choose from.
#[derive(Debug)]
pub struct Targets(Vec<BtfTarget>);

impl Targets {
    /// These BTFs.
    pub fn new(btfs: impl IntoIterator<Item = Btf>) -> Self {
        Targets(btfs.into_iter().map(BtfTarget::new).collect())
    }

    /// The types of the last three kernels of testdata.
    fn known() -> &'static Targets {
        static KNOWN: OnceLock<Targets> = OnceLock::new();
        KNOWN.get_or_init(|| {
            let known: [&'static [u8]; 3] = [
                include_bytes!("../../testdata/btf/6.1.btf"),
                include_bytes!("../../testdata/btf/6.12.btf"),
                include_bytes!("../../testdata/btf/6.18.btf"),
            ];
            Targets::new(known.map(|bytes| Btf::parse(bytes).expect("testdata")))
        })
    }
}

/// Splits an input: four bytes of length, little endian, that many bytes of object, and the target's BTF.
///
/// With nothing behind the object its own types are the target. One byte behind it chooses a kernel of testdata.
fn split(data: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = data.split_first_chunk::<4>()?;
    let len = u32::from_le_bytes(*len) as usize;
    Some(rest.split_at(len.min(rest.len())))
}

/// Reads an object and relocates all of its programs twice.
pub fn relocate(data: &[u8]) {
    let Some((object, target)) = split(data) else { return };
    let Ok(mut spec) = Spec::parse("fuzz.bpf.o", object) else { return };
    let own;
    let target = match target {
        [] => match &spec.btf {
            Some(btf) => {
                own = BtfTarget::new(btf.clone());
                &own
            }
            None => return,
        },
        &[n] => {
            let known = &Targets::known().0;
            &known[usize::from(n) % known.len()]
        }
        bytes => match Btf::parse(bytes.to_vec()) {
            Ok(btf) => {
                own = BtfTarget::new(btf);
                &own
            }
            Err(_) => return,
        },
    };
    for program in &mut spec.programs {
        program.autoload = true;
    }
    check(&spec, target, object.len(), &[]);
    // One that fails hides the others.
    for only in 0..spec.programs.len().min(4) {
        for (index, program) in spec.programs.iter_mut().enumerate() {
            program.autoload = index == only;
        }
        if let Ok(plan) = spec.relocate(target) {
            walk(&spec, &plan, object.len(), &[]);
        }
    }
}

/// Parses and relocates, as a service would, an object whose bytes are wrong somewhere.
pub fn flip(object: &[u8], targets: &Targets) {
    let Ok(mut spec) = Spec::parse("flip.bpf.o", object) else { return };
    super::spec::walk(&spec);
    for program in &mut spec.programs {
        program.autoload = true;
    }
    for target in &targets.0 {
        if let Ok(plan) = spec.relocate(target) {
            walk(&spec, &plan, object.len(), &[]);
        }
    }
}

/// Relocates twice and looks at what comes of it. `len` is the length of the object in bytes.
pub(crate) fn check(spec: &Spec, target: &dyn Target, len: usize, modules: &[ModuleTypes]) {
    match (spec.relocate(target), spec.relocate(target)) {
        (Ok(plan), Ok(again)) => {
            same(&plan, &again);
            walk(spec, &plan, len, modules);
            let mut pruned = plan.clone();
            pruned.prune();
            walk(spec, &pruned, len, modules);
            let survey = spec.survey(target).expect("what can be relocated can be looked at");
            assert!(survey.failed.is_empty() && survey.externs.is_empty());
            same(&plan, &survey.plan);
        }
        (Err(first), Err(second)) => {
            assert_eq!(first.to_string(), second.to_string());
            if let Ok(survey) = spec.survey(target) {
                survey.plan.programs.iter().for_each(|program| drop(survey.plan.poisoned(program)));
            }
        }
        (first, _) => panic!("once {first:?}, once not"),
    }
}

fn same(first: &Plan, second: &Plan) {
    assert_eq!(first.maps, second.maps);
    assert_eq!(first.notes, second.notes);
    for (a, b) in first.programs.iter().zip(&second.programs) {
        assert_eq!(a.insns, b.insns);
        assert_eq!(a.placeholders, b.placeholders);
        assert_eq!((&a.func_info, &a.line_info), (&b.func_info, &b.line_info));
        assert_eq!((&a.missing, &a.attach_target), (&b.missing, &b.attach_target));
        assert!(a.decisions.iter().map(|d| d.insn).eq(b.decisions.iter().map(|d| d.insn)));
    }
}

/// The parts of a plan fit together.
fn walk(spec: &Spec, plan: &Plan, len: usize, modules: &[ModuleTypes]) {
    assert_eq!(plan.maps.len(), spec.maps.len());
    // Programs of struct_ops tables go with their tables.
    let tables = spec.maps.iter().any(|map| map.role == MapRole::StructOps);
    let loaded = spec.programs.iter().filter(|program| program.autoload).count();
    assert!(plan.programs.len() == loaded || tables && plan.programs.len() <= spec.programs.len());
    for map in &plan.maps {
        let Some(table) = &map.struct_ops else { continue };
        assert_eq!(map.spec.contents.len(), map.spec.value_size as usize);
        for place in &table.programs {
            assert!(plan.programs.iter().any(|program| program.program == place.program));
        }
    }
    assert!(plan.maps.iter().all(|map| map.kernel_name.len() <= 15));
    let total: usize = plan.programs.iter().map(|program| program.insns.len()).sum();
    assert!(total <= INSNS_PER_BYTE * len, "{total} instructions of {len} bytes");
    for program in &plan.programs {
        assert!(program.kernel_name.len() <= 15);
        let count = program.insns.len() as u32;
        let mut next = 0;
        for function in &program.functions {
            assert_eq!(function.start, next);
            next += function.len;
        }
        assert_eq!(next, count);
        if let Some(target) = &program.attach_target
            && let Some(name) = &target.module
        {
            assert!(modules.iter().any(|module| module.name == *name));
        }
        for placeholder in &program.placeholders {
            assert!(placeholder.insn < count);
            match &placeholder.value {
                PlaceholderValue::Map(map) | PlaceholderValue::MapValue(map) => {
                    assert!(program.insns[placeholder.insn as usize].is_ld_imm64());
                    assert!(map.0 < plan.maps.len());
                }
                PlaceholderValue::JumpTable(table) => {
                    assert!(program.insns[placeholder.insn as usize].is_ld_imm64());
                    assert!(program.jump_tables[*table].targets.iter().all(|&target| target < count));
                }
                PlaceholderValue::ModuleBtf(name) => {
                    assert!(program.insns[placeholder.insn as usize].is_ld_imm64());
                    assert!(modules.iter().any(|module| module.name == *name));
                }
                PlaceholderValue::ModuleCall(name) => {
                    assert!(program.insns[placeholder.insn as usize].is_kfunc_call());
                    assert!(modules.iter().any(|module| module.name == *name));
                }
                other => panic!("a new placeholder: {other:?}"),
            }
        }
        assert!(program.missing.iter().all(|missing| missing.insn < count));
        for place in plan.poisoned(program).iter().take(LINES) {
            assert!(place.insn < count && !place.to_string().is_empty());
            if let Some(btf) = &plan.btf {
                program.source_line(btf, place.insn);
            }
        }
        for placed in &program.decisions {
            assert!(placed.insn < count);
            assert!(!placed.decision.to_string().is_empty());
        }
    }
}

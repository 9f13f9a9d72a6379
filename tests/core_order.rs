//! In which order CO-RE relocations are decided. It makes a difference where a kernel has several types of one name: those that
//! lack what one relocation finds in another are no candidates for the relocations after it.

use std::path::{Path, PathBuf};

use object::{Object, ObjectSection, ObjectSymbol, SymbolKind};
use skep::Spec;
use skep::btf::{Btf, BtfBuilder, CoreReloKind, ExtInfo, IntEncoding};
use skep::reloc::{BtfTarget, RelocateError};
use skep::spec::FunctionIndex;

fn testdata() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata")
}

/// The order is that of the records in `.BTF.ext`, and not that of the functions.
#[test]
fn records_are_in_the_order_of_the_file() {
    let (mut compared, mut others) = (0, 0);
    for entry in std::fs::read_dir(testdata()).expect("testdata is in the repository") {
        let path = entry.expect("it can be read").path();
        let Some(spec) = path.extension().is_some_and(|ext| ext == "o").then(|| Spec::open(&path).ok())
        else {
            continue;
        };
        let bytes = std::fs::read(&path).expect("it can be read");
        let file = object::File::parse(&*bytes).expect("it is an object");
        let section = |name: &str| Some(file.section_by_name(name)?.data().ok()?.to_vec());
        let (Some(spec), Some(btf), Some(ext)) = (spec, section(".BTF"), section(".BTF.ext")) else {
            continue;
        };
        let (btf, ext) =
            (Btf::parse(btf).expect("it is BTF"), ExtInfo::parse(ext).expect("it is well-formed"));
        let mut expected = Vec::new();
        for block in ext.core_relos().blocks() {
            let section = String::from_utf8_lossy(block.section_name(&btf).expect("it has one")).into_owned();
            let section = file.section_by_name(&section).expect("it is there").index();
            for record in block.records() {
                let covers = |symbol: &object::Symbol<'_, '_>| {
                    let range = symbol.address()..symbol.address() + symbol.size();
                    symbol.kind() == SymbolKind::Text
                        && symbol.section_index() == Some(section)
                        && range.contains(&u64::from(record.info.insn_off))
                };
                // Those that have several names are as many functions.
                for symbol in file.symbols().filter(covers) {
                    let name = symbol.name().expect("it has one");
                    let at = (symbol.address() / 8) as u32;
                    let function = spec.functions.iter().position(|it| it.name == name && it.offset == at);
                    expected.push(FunctionIndex(function.expect("it is there")));
                }
            }
        }
        assert_eq!(spec.core_order, expected, "{}", path.display());
        assert_eq!(spec.core_order.len(), spec.core_relocation_count(), "{}", path.display());
        compared += 1;
        others += usize::from(!expected.is_sorted());
    }
    assert!(compared > 50 && others > 3, "{compared} objects, {others} in another order than functions");
}

/// The size of `pid` (`sizes`) and whether there is `__state` (`existence`), both of the same type, each alone in its function.
fn two_records() -> (Spec, FunctionIndex, FunctionIndex) {
    let mut spec = Spec::open(testdata().join("core_fields.o")).expect("it is an object");
    let find = |spec: &Spec, name: &str| {
        FunctionIndex(spec.functions.iter().position(|it| it.name == name).expect("it is there"))
    };
    let (sizes, existence) = (find(&spec, "sizes"), find(&spec, "existence"));
    for (index, function) in spec.functions.iter_mut().enumerate() {
        let keep = match index {
            index if index == sizes.0 => Some(CoreReloKind::FIELD_BYTE_SIZE),
            index if index == existence.0 => Some(CoreReloKind::FIELD_EXISTS),
            _ => None,
        };
        // `pid` is the first of one, `__state` the second of the other.
        let nth = usize::from(index == existence.0);
        let kept = function.core_relos.get(nth).copied().filter(|record| Some(record.kind) == keep);
        function.core_relos = kept.into_iter().collect();
    }
    assert_eq!(spec.core_relocation_count(), 2);
    let types = [sizes, existence].map(|index| spec.functions[index.0].core_relos[0].type_id);
    assert_eq!(types[0], types[1]);
    (spec, sizes, existence)
}

/// Two `task_struct`: one with `__state` and a `pid` of 4 bytes, one with a `pid` of 8 bytes elsewhere.
fn two_types() -> BtfTarget {
    let mut kernel = BtfBuilder::new();
    let int = kernel.add_int("int", 4, IntEncoding::SIGNED).expect("a good type");
    let unsigned = kernel.add_int("unsigned int", 4, IntEncoding::default()).expect("a good type");
    let long = kernel.add_int("long", 8, IntEncoding::SIGNED).expect("a good type");
    kernel.add_struct("task_struct", 8).expect("a good type");
    kernel.add_member("__state", unsigned, 0, 0).expect("a good member");
    kernel.add_member("pid", int, 32, 0).expect("a good member");
    kernel.add_struct("task_struct", 8).expect("a good type");
    kernel.add_member("pid", long, 0, 0).expect("a good member");
    BtfTarget::new(kernel.finish().expect("good types"))
}

fn values(spec: &Spec) -> Result<Vec<u64>, RelocateError> {
    let plan = spec.relocate(&two_types())?;
    let decisions = plan.programs.iter().flat_map(|program| &program.decisions);
    Ok(decisions.map(|placed| placed.decision.new_value).collect())
}

#[test]
fn what_one_finds_rules_out_candidates_for_the_next() {
    let (mut spec, sizes, existence) = two_records();
    spec.core_order = vec![existence, sizes];
    assert_eq!(values(&spec).expect("one type has `__state`"), [4, 1]);
    spec.core_order = vec![sizes, existence];
    let error = values(&spec).expect_err("two types have `pid`");
    assert!(matches!(&error, RelocateError::Core { function, .. } if function == "sizes"), "{error}");
    // What the order does not have comes last.
    spec.core_order = vec![existence];
    assert_eq!(values(&spec).expect("it is the first"), [4, 1]);
    spec.core_order = vec![FunctionIndex(1000), sizes, sizes];
    values(&spec).expect_err("it is the first");
}

/// What is wrong first is said first.
#[test]
fn the_first_record_that_fails_is_told() {
    let (mut spec, sizes, existence) = two_records();
    spec.functions[existence.0].core_relos = spec.functions[sizes.0].core_relos.clone();
    for order in [[sizes, existence], [existence, sizes]] {
        spec.core_order = order.to_vec();
        let error = values(&spec).expect_err("two types have `pid`");
        let first = &spec.functions[order[0].0].name;
        assert!(matches!(&error, RelocateError::Core { function, .. } if function == first), "{error}");
    }
}

/// A sub-program that nothing calls is taken for a part of every program, but not one that is left out; nor does it matter what
/// is wrong with it.
#[test]
fn records_of_functions_that_are_not_loaded() {
    let (mut spec, sizes, existence) = two_records();
    spec.core_order = vec![existence, sizes];
    let left_out = spec.programs.iter_mut().find(|program| program.function == existence);
    left_out.expect("it is a program").autoload = false;
    values(&spec).expect_err("nothing rules out one of two types");
    spec.functions[existence.0].subprogram = true;
    assert_eq!(values(&spec).expect("the other rules out one type"), [4]);
    spec.functions[existence.0].core_relos[0].kind = CoreReloKind(99);
    values(&spec).expect_err("nothing rules out one of two types");
}

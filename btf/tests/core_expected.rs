//! Every relocation of the test objects, decided for synthetic targets and real kernels as libbpf decides it.

mod core_support;

use core_support::{Subject, load_btf, testdata};
use serde_json::Value;
use skep_btf::CoreReloKind;
use skep_btf::relo::{Applied, CoreErrorKind, Decision, Outcome, PatchError, Resolver, apply};

/// Text without its first word, and without the second when that is an id.
fn skip_words(text: &str, words: usize) -> &str {
    text.splitn(words + 1, ' ').nth(words).unwrap_or("")
}

fn patched(row: &Value, what: &str) -> Option<(i128, i128)> {
    let pair = row["patched"].get(what)?.as_array()?;
    let number = |value: &Value| value.as_u64().map(i128::from).or(value.as_i64().map(i128::from)).unwrap();
    Some((number(&pair[0]), number(&pair[1])))
}

fn check_applied(row: &Value, decision: &Decision, applied: Result<Applied, PatchError>, at: &str) {
    let unsigned = |number: i64| i128::from(number.cast_unsigned());
    match applied {
        Ok(Applied::Poisoned | Applied::PoisonedBySize) => assert_eq!(row["poisoned"], true, "{at}"),
        Ok(Applied::Imm { from, to }) => {
            // libbpf prints the whole new value and the sign-extended old one.
            let (was, is) = patched(row, "imm").unwrap_or_else(|| panic!("{at}"));
            assert_eq!((unsigned(from.into()), i128::from(decision.new_value)), (was, is), "{at}");
            assert_eq!(to, decision.new_value as i32, "{at}");
        }
        Ok(Applied::Imm64 { from, to }) => {
            assert_eq!(patched(row, "imm64"), Some((from.into(), to.into())), "{at}");
        }
        Ok(Applied::Offset { from, to, size }) => {
            assert_eq!(patched(row, "off"), Some((unsigned(from.into()), unsigned(to.into()))), "{at}");
            assert_eq!(patched(row, "mem_sz").map(|(_, to)| to), size.map(i128::from), "{at}");
        }
        Ok(other) => panic!("{at}: {other:?}"),
        Err(PatchError::OutOfRange { .. }) => assert_eq!(row["fails"], "ERANGE", "{at}"),
        Err(error) => panic!("{at}: {error}"),
    }
}

fn check_failed(row: &Value, reason: &CoreErrorKind, at: &str) {
    let because = row["because"].as_str().unwrap_or("");
    let expected = match reason {
        CoreErrorKind::AmbiguousOffset { first_bit, second_bit, .. } => {
            because == format!("field offset ambiguity: {second_bit} != {first_bit}")
        }
        CoreErrorKind::AmbiguousValue { first_value, second_value, .. } => {
            because
                == format!("relocation decision ambiguity: success {second_value} != success {first_value}")
        }
        CoreErrorKind::WideBitField { .. } => row["fails"] == "E2BIG",
        other => panic!("{at}: {other}"),
    };
    assert!(expected, "{at}: {reason} is not {row}");
}

/// All relocations of one program, tried alone, in one resolver.
fn check_program(object: &Subject, target: &str, program: &str, rows: &[&Value]) -> usize {
    let function = object.function(program);
    let mut resolver = Resolver::new(&object.btf, load_btf(target));
    resolver.prepare(object.relos()).unwrap();
    let mut rows = rows.iter();
    let mut checked = 0;
    for code in &object.code {
        let mut insns = code.insns.clone();
        for (index, relo) in code.relos.iter().enumerate() {
            let insn = relo.insn_off as usize / 8;
            let inside = (function.start..function.start + function.len).contains(&insn);
            if code.section != ".text" && !(code.section == function.section && inside) {
                continue;
            }
            let row = rows.next().unwrap_or_else(|| panic!("{program}: libbpf stops before {index}"));
            let at = format!("{target} {program} {} #{index}", code.section);
            let name = row.get("in").and_then(Value::as_str).unwrap_or(program);
            assert_eq!(row["relocation"], index, "{at}");
            if let Some(expected) = row["insn"].as_u64() {
                assert_eq!(expected as usize, insn - object.function(name).start, "{at}");
            }
            checked += 1;
            let decision = match resolver.resolve(index, relo) {
                Ok(decision) => decision,
                Err(error) => {
                    assert_eq!(skip_words(&error.access, 2), row["local"], "{at}");
                    check_failed(row, &error.reason, &at);
                    return checked;
                }
            };
            assert_eq!(decision.kind().to_string(), row["kind"], "{at}");
            assert_eq!(skip_words(&decision.local.to_string(), 2), row["local"], "{at}");
            let targets = row.get("target").and_then(Value::as_array);
            let found = decision.target.as_ref().map(|target| target.access.to_string());
            let found = found.as_deref().map(|text| skip_words(text, 1));
            assert_eq!(found, targets.and_then(|all| all[0].as_str()), "{at}");
            if decision.outcome != Outcome::LocalOnly {
                let matching = decision.candidates - decision.rejected.len();
                assert_eq!(matching, targets.map_or(0, Vec::len), "{at}");
            }
            let applied = apply(&mut insns, insn, &decision);
            let failed = applied.is_err();
            check_applied(row, &decision, applied, &at);
            if failed {
                return checked;
            }
        }
    }
    assert_eq!(rows.next(), None, "{target} {program}");
    checked
}

#[test]
fn as_libbpf_decides() {
    let text = std::fs::read_to_string(testdata("expected_core.json")).unwrap();
    let expected: Value = serde_json::from_str(&text).unwrap();
    let mut checked = 0;
    for case in expected["cases"].as_array().unwrap() {
        let object = Subject::load(case["object"].as_str().unwrap());
        let rows: Vec<&Value> = case["relocations"].as_array().unwrap().iter().collect();
        for rows in rows.chunk_by(|a, b| a["program"] == b["program"]) {
            let program = rows[0]["program"].as_str().unwrap();
            checked += check_program(&object, case["target"].as_str().unwrap(), program, rows);
        }
    }
    assert!(checked > 1500, "only {checked} relocations were compared");
}

/// The running kernel is the one that a fixture was cut from where tests are made; elsewhere it is one more kernel.
#[test]
fn whole_kernel_gives_the_same_as_its_excerpt() {
    let Ok(bytes) = std::fs::read("/sys/kernel/btf/vmlinux") else {
        eprintln!("skipped: no /sys/kernel/btf/vmlinux");
        return;
    };
    let vmlinux = skep_btf::Btf::parse(bytes).unwrap();
    let excerpt = load_btf("btf/6.18.btf");
    let size = |btf: &skep_btf::Btf| {
        btf.find(b"task_struct", skep_btf::Kind::STRUCT).and_then(|id| btf.resolve_size(id).ok())
    };
    let same_kernel = size(&vmlinux) == size(&excerpt);
    for name in ["core_fields.o", "core_types.o", "core_enums.o", "core_flavors.o", "core_direct.o"] {
        let object = Subject::load(name);
        let mut whole = Resolver::new(&object.btf, vmlinux.clone());
        let mut part = Resolver::new(&object.btf, excerpt.clone());
        whole.prepare(object.relos()).unwrap();
        for (index, relo) in object.relos().enumerate() {
            let (Ok(a), Ok(b)) = (whole.resolve(index, relo), part.resolve(index, relo)) else {
                assert!(!same_kernel, "{name} {index}");
                continue;
            };
            if same_kernel && relo.kind != skep_btf::CoreReloKind::TYPE_ID_TARGET {
                assert_eq!(
                    (a.outcome, a.new_value, a.mem_size),
                    (b.outcome, b.new_value, b.mem_size),
                    "{name}: {a}"
                );
            }
        }
    }
}

/// An object of the other byte order asks the same and gets the same answers from a target of either order, but for
/// bit fields, which lie the other way round.
#[test]
fn byte_order_of_object_and_target_are_independent() {
    for target in ["targets/skep__v0", "targets/skep__v1_moved", "targets/skep__v5_enum_swap"] {
        let decide = |object: &str, target: &str| -> Vec<String> {
            let object = Subject::load(object);
            let mut resolver = Resolver::new(&object.btf, load_btf(target));
            resolver.prepare(object.relos()).unwrap();
            let line = |(index, relo)| match resolver.resolve(index, relo) {
                Ok(decision) => decision.to_string(),
                Err(error) => format!("{error}: {}", error.reason),
            };
            object.relos().enumerate().map(line).filter(|line| !line.contains("skep_bits")).collect()
        };
        let (little, big) = (format!("{target}.o"), format!("{target}.eb.o"));
        let expected = decide("core_synthetic.o", &little);
        assert!(expected.len() > 40);
        assert_eq!(expected, decide("core_synthetic.eb.o", &big), "{target}");
        assert_eq!(expected, decide("core_synthetic.eb.o", &little), "{target}");
        assert_eq!(expected, decide("core_synthetic.o", &big), "{target}");
    }
}

/// For the types that it was compiled with, an object is what it is.
#[test]
fn an_object_fits_its_own_types() {
    for order in ["", ".eb"] {
        let object = Subject::load(&format!("core_synthetic{order}.o"));
        let mut resolver = Resolver::new(&object.btf, object.btf.clone());
        let mut same = 0;
        for code in &object.code {
            // Types with floats match nothing, as in libbpf.
            let relos = code.relos.iter().enumerate();
            for (index, relo) in relos.filter(|(_, relo)| relo.kind != CoreReloKind::TYPE_MATCHES) {
                let decision =
                    resolver.resolve(index, relo).unwrap_or_else(|error| panic!("{error}: {}", error.reason));
                assert!(matches!(decision.outcome, Outcome::Resolved | Outcome::LocalOnly), "{decision}");
                assert_eq!(decision.new_value, decision.local_value, "{decision}");
                let mut insns = code.insns.clone();
                let applied = apply(&mut insns, relo.insn_off as usize / 8, &decision);
                assert!(applied.is_ok(), "{decision}: {applied:?}");
                // Of bit fields compilers say something else than what is asked for.
                assert!(!decision.validate || insns == code.insns, "{decision}: {applied:?}");
                same += usize::from(decision.validate);
            }
        }
        assert!(same > 40, "only {same} relocations");
    }
}

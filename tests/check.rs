//! What objects lack on kernels that are not here, and whether a verifier comes to it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use skep::Spec;
use skep::reloc::{BtfTarget, ConfigFeature, Reach, RelocateError, Survey, Target};

fn testdata(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(name)
}

fn kernel(name: &str) -> BtfTarget {
    BtfTarget::open(testdata(&format!("btf/{name}.btf"))).expect("the fixture is BTF")
}

fn open(name: &str) -> Spec {
    let mut spec = Spec::open(testdata(name)).expect("it is an object");
    spec.programs.iter_mut().for_each(|program| program.autoload = true);
    spec
}

fn survey(name: &str, target: &BtfTarget) -> Survey {
    open(name).survey(target).expect("its externs are there")
}

/// Where the verifier comes to something that is missing: the worst place of each program.
fn worst(survey: &Survey) -> BTreeMap<&str, Option<Reach>> {
    let plan = &survey.plan;
    let rank = |reach: &Reach| match reach {
        Reach::Guarded => 0,
        Reach::Unknown => 1,
        _ => 2,
    };
    let of = |program| plan.poisoned(program).into_iter().map(|place| place.reach).max_by_key(rank);
    plan.programs.iter().map(|program| (program.name.as_str(), of(program))).collect()
}

fn table<'t>(rows: &[(&'t str, Option<Reach>)]) -> BTreeMap<&'t str, Option<Reach>> {
    rows.iter().copied().collect()
}

const NONE: Option<Reach> = None;
const GUARDED: Option<Reach> = Some(Reach::Guarded);
const UNKNOWN: Option<Reach> = Some(Reach::Unknown);
const REACHED: Option<Reach> = Some(Reach::Reached);

#[test]
fn guards_of_every_kind_are_seen() {
    let described = kernel("6.12")
        .with_kconfig("# Linux/x86 6.12.107 Kernel Configuration\nCONFIG_HZ=250\n")
        .expect("it is a configuration")
        .with_symbols("ffffffff81000000 T _stext\n");
    let rows = [
        ("by_field", GUARDED),
        ("by_type_of_another", GUARDED),
        ("by_kept_result", GUARDED),
        ("by_version", GUARDED),
        ("by_config", GUARDED),
        ("by_constant", GUARDED),
        ("by_kfunc", GUARDED),
        ("by_symbol", GUARDED),
        ("by_argument", GUARDED),
        ("by_result", GUARDED),
        ("in_guarded_callback", GUARDED),
        ("by_variable", REACHED),
        ("by_chance", REACHED),
        ("the_wrong_way", REACHED),
        ("in_callback_of_loop", REACHED),
        ("two_of_them", REACHED),
    ];
    assert_eq!(worst(&survey("guards.o", &described)), table(&rows));
    // Of its types alone less is known of it.
    let mut bare = table(&rows);
    for depends in ["by_version", "by_config", "by_symbol"] {
        bare.insert(depends, UNKNOWN);
    }
    assert_eq!(worst(&survey("guards.o", &kernel("6.12"))), bare);
}

#[test]
fn a_changed_constant_opens_its_guard() {
    let mut spec = open("guards.o");
    spec.set_global("use_future", &1u8).expect("it is a global variable");
    let survey = spec.survey(&kernel("6.12")).expect("its externs are there");
    assert_eq!(worst(&survey)["by_constant"], REACHED);
}

#[test]
fn both_byte_orders_are_guarded_alike() {
    // Constants of the object and of its configuration included: each has its own order.
    let little = survey("guards.o", &kernel("6.12"));
    let big = survey("guards.eb.o", &kernel("6.12"));
    assert_eq!(worst(&little), worst(&big));
}

#[test]
fn every_place_that_is_missing_is_found_with_its_line() {
    let survey = survey("guards.o", &kernel("6.12"));
    let program = survey.plan.program("two_of_them").expect("it is there");
    let btf = survey.plan.btf.as_ref().expect("the object has types");
    let lines: Vec<(String, String)> = survey
        .plan
        .poisoned(program)
        .iter()
        .map(|place| {
            let line = program.source_line(btf, place.insn).expect("the object has lines");
            (place.to_string(), line.text.trim().to_owned())
        })
        .collect();
    assert_eq!(lines.len(), 2, "{lines:?}");
    for ((what, line), field) in lines.iter().zip(["skep_future", "skep_other_future"]) {
        assert!(what.contains(&format!("has no field `{field}`")), "{what}");
        assert!(line.contains(&format!("task->{field}")), "{line}");
    }
}

#[test]
fn objects_of_the_table() {
    for (object, on, rows) in [
        ("core_enums.o", "5.10", &[("existence", NONE), ("values", NONE), ("guarded", GUARDED)][..]),
        ("core_flavors.o", "5.10", &[("task_state", GUARDED), ("not_yet", GUARDED), ("odd_names", NONE)]),
        ("core_flavors.o", "6.12", &[("task_state", GUARDED), ("not_yet", GUARDED), ("odd_names", NONE)]),
        ("core_direct.o", "6.12", &[("signed_wide", REACHED), ("widened", NONE)]),
        (
            "core_errors.o",
            "6.12",
            &[("through_subprog", REACHED), ("fine", NONE), ("missing_value", REACHED)],
        ),
        ("kfunc_weak_reached.o", "6.12", &[("calls_it", REACHED)]),
    ] {
        let survey = survey(object, &kernel(on));
        let found = worst(&survey);
        for (program, expected) in rows {
            assert_eq!(found.get(program), Some(expected), "{object} {program} on {on}");
        }
    }
}

#[test]
fn one_program_that_fails_does_not_hide_the_others() {
    let survey = survey("fentry.o", &kernel("6.12"));
    let failed: Vec<usize> = survey.failed.iter().map(|failed| failed.program.0).collect();
    assert_eq!((failed, survey.plan.programs.len()), (vec![4, 5], 4));
    assert!(matches!(survey.failed[0].error, RelocateError::AttachTarget { .. }));
}

#[test]
fn all_externs_that_are_missing_are_named_with_their_users() {
    let spec = open("kfunc.o");
    let survey = spec.survey(&kernel("5.10")).expect("the rest can be looked at");
    let names: Vec<&str> =
        survey.externs.iter().map(|failed| spec.externs[failed.index.0].name.as_str()).collect();
    assert_eq!(names, ["bpf_task_acquire", "bpf_task_release", "bpf_task_release___flavour"]);
    let program = survey.plan.program("acquire").expect("it is planned as if they were weak");
    assert!(program.externs.iter().any(|placed| placed.index == survey.externs[0].index));
    assert!(spec.relocate(&kernel("5.10")).is_err(), "it cannot be loaded");
}

#[test]
fn what_is_not_described_is_unknown() {
    let spec = open("kconfig.o");
    let plan = spec.relocate(&kernel("6.12")).expect("what is not known is no failure");
    let names: Vec<&str> = plan.unknown.iter().map(|unknown| unknown.name.as_str()).collect();
    assert!(names.contains(&"CONFIG_HZ") && names.contains(&"LINUX_KERNEL_VERSION"), "{names:?}");
    assert!(plan.unknown.iter().all(|unknown| unknown.error.is_unknown()));

    let described = kernel("6.12")
        .with_kconfig("# Linux/x86 6.12.107 Kernel Configuration\nCONFIG_HZ=250\nCONFIG_BPF_SYSCALL=y\n")
        .expect("it is a configuration")
        .with_feature(ConfigFeature::BpfCookie, true);
    assert_eq!(described.version_code(), Ok(0x06_0c_6b));
    let plan = spec.relocate(&described).expect("all that is strong is set");
    assert!(plan.unknown.is_empty(), "{:?}", plan.unknown);
    let other = described.with_version("5.10.0-32-amd64").expect("it is a version");
    assert_eq!(other.version_code(), Ok(0x05_0a_00));
}

#[test]
fn descriptions_that_are_none_say_what_to_do() {
    let target = kernel("6.12");
    let said = |error: skep::reloc::TargetError| {
        assert!(!error.is_unknown());
        error.to_string()
    };
    assert!(said(target.clone().with_kconfig("hello").expect_err("no line")).contains("another file"));
    assert!(said(target.clone().with_version("six").expect_err("no number")).contains("6.12"));
    assert!(
        said(target.clone().with_kconfig([0x1f, 0x8b, 1, 2]).expect_err("cut off")).contains("configuration")
    );
    assert!(said(BtfTarget::open(testdata("README.md")).expect_err("text")).contains("neither BTF"));
    assert!(said(BtfTarget::open(testdata("no_btf.o")).expect_err("no types")).contains("no .BTF section"));
    assert!(said(BtfTarget::open("/no/such/file").expect_err("nothing")).contains("/no/such/file"));
    assert!(said(target.open_module(testdata("btf/README")).expect_err("nothing")).contains("README"));
}

#[test]
fn types_are_found_in_elf_files_of_both_byte_orders() {
    for object in ["targets/skep_base__v1.o", "targets/skep_base__v1.eb.o"] {
        let path = testdata(object);
        let path = if path.exists() { path } else { testdata("core_fields.o") };
        let target = BtfTarget::open(&path).expect("it has a .BTF section");
        assert!(target.btf().expect("it was read").len() > 1, "{}", path.display());
    }
}

/// A damaged file is an error, whatever the damage.
#[test]
fn damaged_kernels_are_refused() {
    let directory = std::env::temp_dir().join(format!("skep-check-{}", std::process::id()));
    std::fs::create_dir_all(&directory).expect("a temporary directory can be made");
    let path = directory.join("vmlinux");
    let whole = std::fs::read(testdata("core_fields.o")).expect("it is in the repository");
    for at in (0..whole.len()).step_by(31) {
        let mut bytes = whole.clone();
        bytes[at..].iter_mut().take(6).for_each(|byte| *byte ^= 0xff);
        std::fs::write(&path, &bytes).expect("it can be written");
        let _ = BtfTarget::open(&path);
        std::fs::write(&path, &whole[..at]).expect("it can be written");
        let _ = BtfTarget::open(&path);
    }
    std::fs::remove_dir_all(&directory).expect("it can be removed");
}

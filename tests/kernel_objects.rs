//! Each program of each test object on the running kernel, compared with what libbpf made of it there.

#![allow(clippy::print_stdout)] // a skipped test says so

mod support;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;
use skep::btf::CoreReloKind;
use skep::spec::{ExternKind, Pinning, ProgramIndex};
use skep::{Kernel, Loader, Spec};
use support::denied;

/// Programs that libbpf loads and this version does not, with the reason. Each line must still be true.
const NOT_YET: [(&str, &str, &str); 0] = [];

/// Programs that load here and that libbpf does not load, with the reason; an empty name is all of an object.
const MORE: [(&str, &str, &str); 6] = [
    ("map_in_map.o", "", "slots of programs that are not loaded stay empty"),
    ("map_slots.o", "", "slots of programs that are not loaded stay empty"),
    ("sections_all.o", "", "some section names are newer than the libbpf that was asked"),
    ("struct_ops_optional.o", "unused_table_program", "its table is created to try it"),
    ("sections.o", "sleepable_raw", "its section name is newer than the libbpf that was asked"),
    ("sections.o", "sleepable_tracepoint", "its section name is newer than the libbpf that was asked"),
];

/// Objects that open here and that libbpf refuses, with the reason.
const OPENS: [(&str, &str); 9] = [
    ("maps_legacy.o", LEGACY),
    ("maps_legacy_aya.o", LEGACY),
    ("maps_legacy_no_btf.o", LEGACY),
    ("maps_legacy_samples.o", LEGACY),
    ("maps_legacy_samples_no_btf.o", LEGACY),
    ("maps_legacy_sections.o", LEGACY),
    ("maps_order.o", "maps are where their symbols say, not where BTF does, which linking leaves as it was"),
    ("tc_legacy.o", LEGACY),
    ("tc_legacy_no_btf.o", LEGACY),
];
const LEGACY: &str = "map definitions of before BTF";

fn more(object: &str, program: &str) -> bool {
    MORE.iter().any(|(o, p, _)| *o == object && (p.is_empty() || *p == program))
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata")
}

fn json(name: &str) -> Value {
    let text = std::fs::read_to_string(root().join(name)).expect("the expectations are in the repository");
    serde_json::from_str(&text).expect("they are JSON")
}

fn release() -> String {
    Kernel::linux().backend().release().expect("Linux has a release")
}

/// What loading each program of an object alone comes to: its tag, or why not.
fn outcomes(kernel: &Kernel, path: &Path) -> Result<BTreeMap<String, Result<String, String>>, String> {
    let mut spec = Spec::open(path).map_err(|error| error.to_string())?;
    spec.maps.iter_mut().for_each(|map| map.pinning = Pinning::None);
    let mut outcomes = BTreeMap::new();
    for (index, program) in spec.programs.iter().enumerate() {
        let name = program.name.clone();
        let mut only = spec.clone();
        only.load_only(ProgramIndex(index));
        let outcome = match Loader::new(kernel).load(&only) {
            Ok(object) => {
                let info = object.program(&name).expect("it was loaded").info().expect("the kernel knows it");
                Ok(info.tag.iter().map(|byte| format!("{byte:02x}")).collect())
            }
            Err(error) => {
                let mut text = error.to_string();
                let mut cause = std::error::Error::source(&error);
                while let Some(error) = cause {
                    text = format!("{text}: {error}");
                    cause = error.source();
                }
                Err(text)
            }
        };
        outcomes.insert(name, outcome);
    }
    Ok(outcomes)
}

fn known(object: &str, program: &str) -> Option<&'static str> {
    NOT_YET.iter().find(|(o, p, _)| *o == object && *p == program).map(|(_, _, reason)| *reason)
}

/// The first two numbers of a release.
fn series(release: &str) -> Vec<&str> {
    release.split(['.', '-']).take(2).collect()
}

/// Whether instructions of an object name types or addresses of a kernel, which differ from build to build.
fn names_kernel_ids(object: &str) -> bool {
    let spec = Spec::open(root().join(object)).expect("it opened before");
    let of_kernel = |kind: &ExternKind| !matches!(kind, ExternKind::Kconfig { .. });
    let relos = spec.functions.iter().flat_map(|function| &function.core_relos);
    spec.externs.iter().any(|spec| of_kernel(&spec.kind))
        || relos.into_iter().any(|relo| relo.kind == CoreReloKind::TYPE_ID_TARGET)
}

/// On kernels of the series that the expectations were made on, programs load as libbpf loads them, to the same instructions.
#[test]
fn programs_load_as_libbpf_loads_them() {
    let expected = json("expected.json");
    let (made_for, release) = (expected["made_with"]["kernel"].as_str().expect("a release"), release());
    if series(made_for) != series(&release) {
        return println!("skip: programs_load_as_libbpf_loads_them: made for {made_for}");
    }
    let kernel = Kernel::linux();
    if let Err(errno) =
        kernel.map_create(&skep::sys::request::MapCreate::new(skep::sys::abi::MapType::ARRAY, 4, 4, 1))
    {
        return denied(
            "programs_load_as_libbpf_loads_them",
            format!("this process may not create a map: {errno}"),
        );
    }
    let mut wrong = Vec::new();
    let mut same = 0;
    for (object, facts) in expected["objects"].as_object().expect("objects by name") {
        let outcomes = match outcomes(&kernel, &root().join(object)) {
            Ok(outcomes) if facts["opens"] == true => outcomes,
            Ok(_) if OPENS.iter().any(|(name, _)| name == object) => continue,
            Ok(_) => {
                wrong.push(format!("{object} opens, and libbpf refuses it"));
                continue;
            }
            Err(error) => {
                let reason = OPENS.iter().find(|(name, _)| name == object);
                if facts["opens"] == true || reason.is_some() {
                    let reason = reason.map_or("", |(_, reason)| reason);
                    wrong.push(format!("{object} does not open: {error} {reason}"));
                }
                continue;
            }
        };
        for program in facts["programs"].as_array().expect("programs in a list") {
            let name = program["name"].as_str().expect("a program has a name");
            let loads = program["loads"] == true;
            match (outcomes.get(name), loads, known(object, name)) {
                (Some(Ok(_)), true, Some(reason)) if !reason.is_empty() => {
                    wrong.push(format!("{object} {name} loads: {reason} are no reason any more"));
                }
                (Some(Ok(tag)), true, _) if program["tag"] == tag.as_str() => same += 1,
                (Some(Ok(_)), true, _) if made_for != release && names_kernel_ids(object) => {}
                (Some(Ok(tag)), true, _) => {
                    wrong.push(format!("{object} {name}: tag {tag}, {} there", program["tag"]))
                }
                (Some(Err(_)), false, _) => {}
                (Some(Ok(_)), false, _) if more(object, name) => {}
                (Some(Ok(_)), false, _) => {
                    wrong.push(format!("{object} {name} loads, and with libbpf it does not"))
                }
                (Some(Err(_)), true, Some(_)) => {}
                (Some(Err(error)), true, None) => wrong.push(format!("{object} {name}: {error}")),
                (None, ..) => wrong.push(format!("{object} has no program {name}")),
            }
        }
    }
    assert!(wrong.is_empty(), "{} differences:\n{}", wrong.len(), wrong.join("\n"));
    assert!(same >= 130, "only {same} programs compared");
}

/// On other kernels that libbpf was asked on, the same programs load.
#[test]
fn programs_load_on_other_kernels_as_with_libbpf() {
    let expected = json("expected_kernels.json");
    let release = release();
    let kernels = expected.as_object().expect("kernels by version");
    let of_release = |version: &str| {
        release.strip_prefix(version).is_some_and(|rest| rest.starts_with(['.', '-', '+', '~']))
    };
    let Some((version, objects)) = kernels.iter().find(|(version, _)| of_release(version)) else {
        return println!(
            "skip: programs_load_on_other_kernels_as_with_libbpf: nothing is expected of {release}"
        );
    };
    let kernel = Kernel::linux();
    let mut wrong = Vec::new();
    let mut same = 0;
    for (object, facts) in objects.as_object().expect("objects by name") {
        let mut path = root().join(object);
        if !path.exists() {
            path = root().with_file_name("examples").join(object);
        }
        let Ok(outcomes) = outcomes(&kernel, &path) else {
            wrong.push(format!("{object} does not open"));
            continue;
        };
        for (name, outcome) in facts["programs"].as_object().expect("programs by name") {
            let loads = outcome == "ok";
            match outcomes.get(name) {
                Some(Ok(_)) if loads => same += 1,
                Some(Err(_)) if !loads => {}
                Some(Err(_)) if known(object, name).is_some() => {}
                Some(Err(error)) if error.contains("neither /boot/config") => {
                    println!("skip: {object} {name}: this system has no kernel configuration to read");
                }
                Some(Ok(_)) if more(object, name) => {}
                Some(Ok(_)) => wrong.push(format!("{object} {name} loads, and with libbpf: {outcome}")),
                Some(Err(error)) => wrong.push(format!("{object} {name}: {error}")),
                None => wrong.push(format!("{object} has no program {name}")),
            }
        }
    }
    assert!(wrong.is_empty(), "{} differences on {version}:\n{}", wrong.len(), wrong.join("\n"));
    println!("{same} programs load on {version} as with libbpf");
}

//! Configuration externs on a target that is only described.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use skep::asm::Endian;
use skep::btf::Btf;
use skep::reloc::{ConfigFeature, Plan, RelocateError, Target, TargetError};
use skep::spec::{ExternKind, KconfigValue};
use skep::sys::abi::MapType;
use skep::{Error, ErrorKind, Spec};

/// A kernel with this configuration.
#[derive(Debug)]
struct Described<'t>(&'t str);

impl Target for Described<'_> {
    fn btf(&self) -> Result<Btf, TargetError> {
        Err(TargetError::new("types", "configuration needs none"))
    }

    fn kconfig(&self) -> Result<String, TargetError> {
        Ok(self.0.to_owned())
    }

    fn version_code(&self) -> Result<u32, TargetError> {
        Ok(0x0006_0c01)
    }

    fn has(&self, _: ConfigFeature) -> Result<bool, TargetError> {
        Ok(true)
    }
}

const CONFIG: &str = "CONFIG_BPF_SYSCALL=y\nCONFIG_BPF_JIT=m\nCONFIG_HZ=250\nCONFIG_NR_CPUS=8192\n\
    CONFIG_DEFAULT_HOSTNAME=\"(none)\"\n";

fn testdata(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(name)
}

fn spec() -> Spec {
    Spec::open(testdata("kconfig.o")).expect("it is an object")
}

/// The bytes of an extern in the plan.
fn value<'p>(spec: &Spec, plan: &'p Plan, name: &str) -> &'p [u8] {
    let found = spec.externs.iter().find(|found| found.name == name).expect("the object has it");
    let ExternKind::Kconfig { offset, size } = found.kind else { panic!("{name} is no configuration value") };
    &plan.map(".kconfig").expect("it is made").spec.contents[offset as usize..(offset + size) as usize]
}

#[test]
fn values_are_what_the_configuration_says() {
    let spec = spec();
    let plan = spec.relocate(&Described(CONFIG)).expect("everything strong is set");
    assert_eq!(value(&spec, &plan, "LINUX_KERNEL_VERSION"), 0x0006_0c01_u32.to_ne_bytes());
    assert_eq!(value(&spec, &plan, "LINUX_HAS_BPF_COOKIE"), [1]);
    assert_eq!(value(&spec, &plan, "CONFIG_BPF_SYSCALL"), [1]);
    assert_eq!(value(&spec, &plan, "CONFIG_BPF_JIT"), 2u32.to_ne_bytes());
    assert_eq!(value(&spec, &plan, "CONFIG_HZ"), 250i32.to_ne_bytes());
    assert_eq!(value(&spec, &plan, "CONFIG_NR_CPUS"), 8192u64.to_ne_bytes());
    assert_eq!(value(&spec, &plan, "CONFIG_DEFAULT_HOSTNAME"), b"(none)\0\0\0\0\0\0\0\0\0\0");
    for weak in ["CONFIG_SKEP_NOT_A_CHAR", "CONFIG_SKEP_NOT_A_BOOL"] {
        assert_eq!(value(&spec, &plan, weak), [0], "{weak}");
    }
}

#[test]
fn a_strong_value_that_is_not_set_is_an_error() {
    match spec().relocate(&Described("CONFIG_BPF_SYSCALL=y\n")) {
        Err(RelocateError::Extern { name, .. }) => assert_eq!(name, "CONFIG_HZ"),
        other => panic!("{:?}", other.map(|plan| plan.programs.len())),
    }
}

/// A kernel that must not be asked for its configuration.
#[derive(Debug)]
struct Silent;

impl Target for Silent {
    fn btf(&self) -> Result<Btf, TargetError> {
        Err(TargetError::new("types", "configuration needs none"))
    }

    fn kconfig(&self) -> Result<String, TargetError> {
        panic!("everything is set by hand")
    }
}

/// What a text makes of the options of an object: as its own configuration, and as the kernel's. None where it is refused.
fn answers(spec: &Spec, text: &str) -> [Option<BTreeMap<String, Vec<u8>>>; 2] {
    let values = |plan: Plan| {
        let options = spec.externs.iter().filter(|found| found.name.starts_with("CONFIG_"));
        let values = options.map(|found| (found.name.clone(), value(spec, &plan, &found.name).to_vec()));
        values.filter(|(_, bytes)| bytes.iter().any(|&byte| byte != 0)).collect()
    };
    let mut own = spec.clone();
    let own = match own.set_kconfig_text(text) {
        Ok(()) => Some(own.relocate(&Described("")).expect("what could be set can be written")),
        Err(_) => None,
    };
    [own.map(values), spec.relocate(&Described(text)).ok().map(values)]
}

/// `testdata/kconfig/table.json` has libbpf's answers.
#[test]
fn texts_mean_what_they_mean_to_libbpf() {
    let spec = Spec::open(testdata("kconfig_types.o")).expect("it is an object");
    let big = Spec::open(testdata("kconfig_types.eb.o")).expect("it is an object");
    let table =
        std::fs::read_to_string(testdata("kconfig/table.json")).expect("the table is in the repository");
    let table: BTreeMap<String, Option<BTreeMap<String, String>>> =
        serde_json::from_str(&table).expect("it is JSON");
    assert!(table.len() > 1000);
    let mut wrong = Vec::new();
    for (text, expected) in &table {
        let hex = |bytes: Vec<u8>| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        for (nth, found) in answers(&spec, text).into_iter().enumerate() {
            let found =
                found.map(|values| values.into_iter().map(|(name, bytes)| (name, hex(bytes))).collect());
            if found != *expected {
                wrong.push(format!("{text:?} ({nth}): libbpf {expected:?}, skep {found:?}"));
            }
        }
        // The other byte order says the same, the other way round.
        let swapped = |(name, mut bytes): (String, Vec<u8>)| {
            if name != "CONFIG_TEXT" {
                bytes.reverse();
            }
            (name, hex(bytes))
        };
        let found =
            answers(&big, text).map(|values| values.map(|values| values.into_iter().map(swapped).collect()));
        if found.iter().any(|found| found != expected) {
            wrong.push(format!("{text:?} (big endian): libbpf {expected:?}, skep {found:?}"));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), table.len(), wrong.join("\n"));
}

#[test]
fn values_of_the_loader_take_any_type_that_holds_numbers() {
    for (name, endian) in [("kconfig_types.o", Endian::Little), ("kconfig_types.eb.o", Endian::Big)] {
        let spec = Spec::open(testdata(name)).expect("it is an object");
        let plan = spec.relocate(&Described("")).expect("all options are weak");
        let number = |name| {
            let mut bytes = value(&spec, &plan, name).to_vec();
            if endian.is_little() {
                bytes.reverse();
            }
            bytes.iter().fold(0, |number, &byte| number << 8 | u64::from(byte))
        };
        assert_eq!(number("LINUX_KERNEL_VERSION"), 0x0006_0c01);
        assert_eq!(number("LINUX_HAS_BPF_COOKIE"), 1);
        assert_eq!(number("LINUX_HAS_SYSCALL_WRAPPER"), 1);
        assert_eq!(number("LINUX_SKEP_UNKNOWN"), 0);
    }
}

#[test]
fn what_is_set_by_hand_comes_before_what_the_kernel_says() {
    let mut spec = spec();
    spec.set_kconfig_text("CONFIG_HZ=100\nCONFIG_HZ=300\nCONFIG_NOT_THERE=y\n").expect("good lines");
    spec.set_kconfig("CONFIG_BPF_JIT", KconfigValue::Yes).expect("it is a tristate");
    spec.set_kconfig("LINUX_KERNEL_VERSION", 0x0005_0a00).expect("it is a number");
    spec.set_kconfig("LINUX_HAS_BPF_COOKIE", false).expect("it is a bool");
    let plan = spec.relocate(&Described(CONFIG)).expect("everything strong is set");
    assert_eq!(value(&spec, &plan, "CONFIG_HZ"), 100i32.to_ne_bytes());
    assert_eq!(value(&spec, &plan, "CONFIG_BPF_JIT"), 1u32.to_ne_bytes());
    assert_eq!(value(&spec, &plan, "LINUX_KERNEL_VERSION"), 0x0005_0a00_u32.to_ne_bytes());
    assert_eq!(value(&spec, &plan, "LINUX_HAS_BPF_COOKIE"), [0]);
    assert_eq!(value(&spec, &plan, "CONFIG_NR_CPUS"), 8192u64.to_ne_bytes(), "this is the kernel's");
    assert!(spec.to_string().contains(" = 100\n"), "{spec}");

    // What is set later counts, and what is wrong changes nothing.
    spec.set_kconfig_text("CONFIG_HZ=24\n").expect("a good line");
    for wrong in [
        "CONFIG_HZ=25\nCONFIG_BPF_SYSCALL=7\n",
        "CONFIG_HZ=25\nCONFIG_HZ\n",
        "CONFIG_HZ=25\nCONFIG_NR_CPUS=\"\n",
    ] {
        let error = spec.set_kconfig_text(wrong).expect_err("a wrong line");
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    }
    let plan = spec.relocate(&Described(CONFIG)).expect("everything strong is set");
    assert_eq!(value(&spec, &plan, "CONFIG_HZ"), 24i32.to_ne_bytes());

    let error = spec.set_kconfig("CONFIG_HZ", u64::MAX >> 1).expect_err("it has four bytes");
    assert!(error.to_string().contains("does not fit 4 bytes"), "{error}");
    let error = spec.set_kconfig("CONFIG_NO", true).expect_err("there is none");
    assert!(matches!(&error, Error::NoSuch { there, .. } if there.len() == 10), "{error}");
}

#[test]
fn a_kernel_is_not_asked_for_what_is_set_by_hand() {
    let mut spec = spec();
    let names: Vec<String> = spec.externs.iter().map(|found| found.name.clone()).collect();
    for name in names {
        let value = match name.as_str() {
            "CONFIG_HZ" | "CONFIG_NR_CPUS" | "LINUX_KERNEL_VERSION" | "LINUX_SKEP_UNKNOWN" => {
                KconfigValue::Number(7)
            }
            "CONFIG_DEFAULT_HOSTNAME" => "host".into(),
            _ => KconfigValue::Yes,
        };
        spec.set_kconfig(&name, value).expect("it fits");
    }
    let plan = spec.relocate(&Silent).expect("nothing is missing");
    assert_eq!(value(&spec, &plan, "CONFIG_SKEP_NOT_A_CHAR"), b"y");
    assert_eq!(value(&spec, &plan, "CONFIG_DEFAULT_HOSTNAME"), b"host\0\0\0\0\0\0\0\0\0\0\0\0");
}

/// A hand-edited value is checked again when it is used.
#[test]
fn an_edited_value_is_checked() {
    let mut spec = spec();
    for found in &mut spec.externs {
        found.value = Some(KconfigValue::Text("text".into()));
    }
    assert!(matches!(spec.relocate(&Described(CONFIG)), Err(RelocateError::Extern { .. })));
}

/// An edited map of the values is the kernel's to refuse.
#[test]
fn an_edited_map_does_no_harm() {
    let mut spec = spec();
    spec.map_mut(".kconfig").expect("it is there").map_type = MapType::HASH;
    assert!(spec.relocate(&Described(CONFIG)).is_ok());
    spec.map_mut(".kconfig").expect("it is there").value_size = 1;
    assert!(matches!(spec.relocate(&Described(CONFIG)), Err(RelocateError::Extern { .. })));
}

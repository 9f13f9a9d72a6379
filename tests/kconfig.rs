//! Configuration externs on a target that is only described.

use std::path::Path;

use skep::Spec;
use skep::btf::Btf;
use skep::reloc::{ConfigFeature, Plan, RelocateError, Target, TargetError};
use skep::spec::ExternKind;
use skep::sys::abi::MapType;

/// A kernel with this configuration.
#[derive(Debug)]
struct Described(&'static str);

impl Target for Described {
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

fn spec() -> Spec {
    Spec::open(Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/kconfig.o")).expect("it is an object")
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

/// An edited map of the values is the kernel's to refuse.
#[test]
fn an_edited_map_does_no_harm() {
    let mut spec = spec();
    spec.map_mut(".kconfig").expect("it is there").map_type = MapType::HASH;
    assert!(spec.relocate(&Described(CONFIG)).is_ok());
    spec.map_mut(".kconfig").expect("it is there").value_size = 1;
    assert!(matches!(spec.relocate(&Described(CONFIG)), Err(RelocateError::Extern { .. })));
}

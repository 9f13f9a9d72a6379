//! Relocation for kernels whose types are anything: fixed objects, types of the kernel and of modules from the input.

use std::sync::OnceLock;

use skep::btf::Btf;
use skep::reloc::{ConfigFeature, ModuleTypes, Target, TargetError};
use skep::spec::Spec;

use super::relocate::check;

/// The objects that inputs choose from: each way in which an object asks a kernel for its types, in both byte orders.
pub const OBJECTS: &[(&str, &[u8])] = &[
    ("core_synthetic", include_bytes!("../../testdata/core_synthetic.o")),
    ("core_fields", include_bytes!("../../testdata/core_fields.o")),
    ("core_types", include_bytes!("../../testdata/core_types.o")),
    ("core_enums", include_bytes!("../../testdata/core_enums.o")),
    ("core_flavors", include_bytes!("../../testdata/core_flavors.o")),
    ("core_direct", include_bytes!("../../testdata/core_direct.o")),
    ("struct_ops", include_bytes!("../../testdata/struct_ops.o")),
    ("struct_ops_optional", include_bytes!("../../testdata/struct_ops_optional.o")),
    ("kfunc", include_bytes!("../../testdata/kfunc.o")),
    ("ksyms", include_bytes!("../../testdata/ksyms.o")),
    ("tp_btf_exec", include_bytes!("../../testdata/tp_btf_exec.o")),
    ("fentry", include_bytes!("../../testdata/fentry.o")),
    ("lsm", include_bytes!("../../testdata/lsm.o")),
    ("iter_task", include_bytes!("../../testdata/iter_task.o")),
    ("exceptions", include_bytes!("../../testdata/exceptions.o")),
    ("core_synthetic.eb", include_bytes!("../../testdata/core_synthetic.eb.o")),
    ("core_fields.eb", include_bytes!("../../testdata/core_fields.eb.o")),
    ("struct_ops.eb", include_bytes!("../../testdata/struct_ops.eb.o")),
    ("kfunc.eb", include_bytes!("../../testdata/kfunc.eb.o")),
];

/// Which program is relocated, counted from 1; 0 for all of them.
const PROGRAM: u8 = 0x0f;
/// Whether externs may be missing, so that the first that is does not hide what comes after it.
const WEAK: u8 = 0x10;
/// Whether there are two modules of the same types.
const TWO: u8 = 0x20;
/// Bytes before the types of the kernel.
const HEADER: usize = 6;

/// Makes an input: an index of [`OBJECTS`], flags, the types of the kernel, and those of a module unless empty.
pub fn target_input(object: u8, flags: u8, kernel: &[u8], module: &[u8]) -> Vec<u8> {
    let len = u32::try_from(kernel.len()).expect("a small BTF");
    [&[object, flags][..], &len.to_le_bytes(), kernel, module].concat()
}

/// A kernel of which nothing is known but its types. Symbols have addresses by their length.
#[derive(Debug)]
struct Kernel {
    btf: Btf,
    modules: Vec<ModuleTypes>,
}

impl Target for Kernel {
    fn btf(&self) -> Result<Btf, TargetError> {
        Ok(self.btf.clone())
    }

    fn modules(&self) -> Result<&[ModuleTypes], TargetError> {
        Ok(&self.modules)
    }

    fn symbols(&self, names: &[&str]) -> Result<Vec<Option<u64>>, TargetError> {
        Ok(names.iter().map(|name| Some(name.len() as u64)).collect())
    }

    fn has(&self, _: ConfigFeature) -> Result<bool, TargetError> {
        Ok(true)
    }
}

fn specs() -> &'static [Spec] {
    static SPECS: OnceLock<Vec<Spec>> = OnceLock::new();
    SPECS.get_or_init(|| {
        let parse = |(name, bytes): &(&str, &[u8])| Spec::parse(name, bytes).expect("testdata");
        OBJECTS.iter().map(parse).collect()
    })
}

/// Relocates an object of testdata for the kernel in the input, twice. An empty input only reads the objects.
pub fn relocate_target(data: &[u8]) {
    let specs = specs();
    let Some((header, rest)) = data.split_first_chunk::<HEADER>() else { return };
    let &[object, flags, a, b, c, d] = header;
    let len = u32::from_le_bytes([a, b, c, d]) as usize;
    let (kernel, module) = rest.split_at(len.min(rest.len()));
    let Ok(btf) = Btf::parse(kernel.to_vec()) else { return };
    let mut modules = Vec::new();
    if let Ok(types) = Btf::parse_split(module.to_vec(), &btf) {
        modules.push(ModuleTypes { name: "one".to_owned(), btf: types });
        if flags & TWO != 0 {
            let types = Btf::parse_split(module.to_vec(), &btf).expect("parsed before");
            modules.push(ModuleTypes { name: "two".to_owned(), btf: types });
        }
    }
    let at = usize::from(object) % specs.len();
    let mut spec = specs[at].clone();
    for external in &mut spec.externs {
        external.weak |= flags & WEAK != 0;
    }
    let only = usize::from(flags & PROGRAM);
    for (index, program) in spec.programs.iter_mut().enumerate() {
        program.autoload = only == 0 || index + 1 == only;
    }
    let target = Kernel { btf, modules };
    check(&spec, &target, OBJECTS[at].1.len(), &target.modules);
}

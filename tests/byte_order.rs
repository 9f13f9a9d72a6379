//! Objects of either byte order, relocated for kernels of either byte order, on a machine of one.

use std::path::{Path, PathBuf};

use object::{Object, ObjectSection};
use skep::Spec;
use skep::asm::{Endian, decode, encode};
use skep::btf::{Btf, BtfBuilder, CoreReloKind};
use skep::reloc::{ConfigFeature, Plan, Target, TargetError};
use skep::spec::FunctionSpec;

fn testdata() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata")
}

fn file_name(path: &Path) -> String {
    path.file_name().expect("a file in a directory has a name").to_string_lossy().into_owned()
}

/// All objects of testdata that there are in both byte orders: the little one and the big one.
fn pairs() -> Vec<[PathBuf; 2]> {
    let entries = std::fs::read_dir(testdata()).expect("testdata is in the repository");
    let paths = entries.map(|entry| entry.expect("testdata can be read").path());
    let mut big: Vec<_> = paths.filter(|path| file_name(path).ends_with(".eb.o")).collect();
    big.sort();
    assert!(big.len() > 50, "only {} objects", big.len());
    big.into_iter().map(|big| [big.with_file_name(file_name(&big).replace(".eb.o", ".o")), big]).collect()
}

/// A kernel with the types of one of testdata in a byte order, and made-up answers to all else.
#[derive(Debug)]
struct Described(Btf);

impl Target for Described {
    fn btf(&self) -> Result<Btf, TargetError> {
        Ok(self.0.clone())
    }

    fn kconfig(&self) -> Result<String, TargetError> {
        Ok("CONFIG_BPF_SYSCALL=y\nCONFIG_HZ=250\n".to_owned())
    }

    fn version_code(&self) -> Result<u32, TargetError> {
        Ok(0x0006_0c01)
    }

    fn symbols(&self, names: &[&str]) -> Result<Vec<Option<u64>>, TargetError> {
        Ok(names.iter().map(|name| Some(0xffff_ffff_8100_0000 + name.len() as u64)).collect())
    }

    fn has(&self, _: ConfigFeature) -> Result<bool, TargetError> {
        Ok(true)
    }
}

fn kernel(name: &str, endian: Endian) -> Described {
    let bytes = std::fs::read(testdata().join(format!("btf/{name}.btf"))).expect("the fixture is there");
    let btf = Btf::parse(bytes).expect("the fixture is BTF");
    let btf =
        Btf::parse(BtfBuilder::from_btf(&btf).encode(endian, false)).expect("what skep writes, it reads");
    assert_eq!(btf.endian(), endian);
    Described(btf)
}

/// Decisions as text, by function and place, and how long each function became.
fn decisions(plan: &Plan) -> Vec<(String, Vec<String>)> {
    let of_program = |program: &skep::reloc::ProgramPlan| {
        let decisions = program.decisions.iter().map(|placed| placed.decision.to_string()).collect();
        (program.name.clone(), decisions)
    };
    plan.programs.iter().map(of_program).collect()
}

/// Numbers that bit fields give to programs depend on the byte order of the object.
fn is_of_bits(spec: &Spec) -> bool {
    let kinds = spec.functions.iter().flat_map(|function| &function.core_relos).map(|relo| relo.kind);
    kinds.into_iter().any(|kind| kind == CoreReloKind::FIELD_LSHIFT_U64)
}

#[test]
fn big_objects_are_relocated_for_big_kernels_as_little_for_little() {
    let (mut compared, mut relocations) = (0, 0);
    for version in ["5.10", "6.12"] {
        let kernels = [Endian::Little, Endian::Big].map(|endian| kernel(version, endian));
        for [little, big] in pairs() {
            let name = format!("{} for {version}", file_name(&big));
            let (Ok(little), Ok(big)) = (Spec::open(&little), Spec::open(&big)) else { continue };
            // The byte order of the kernel's types says nothing of the kernel.
            let plans = [&little, &big].map(|spec| [0, 1].map(|nth| spec.relocate(&kernels[nth])));
            for [one, other] in &plans {
                match (one, other) {
                    (Ok(one), Ok(other)) => assert_eq!(one.to_string(), other.to_string(), "{name}"),
                    (Err(one), Err(other)) => assert_eq!(one.to_string(), other.to_string(), "{name}"),
                    (one, other) => panic!("{name}: {:?} and {:?}", one.as_ref().err(), other.as_ref().err()),
                }
            }
            let [[Ok(little_plan), _], [_, Ok(big_plan)]] = &plans else {
                let errors = plans.iter().map(|plan| plan[0].as_ref().err().map(ToString::to_string));
                let errors: Vec<_> = errors.collect();
                assert_eq!(errors[0], errors[1], "{name}");
                continue;
            };
            let (decided, expected) = (decisions(big_plan), decisions(little_plan));
            relocations += decided.iter().map(|(_, decisions)| decisions.len()).sum::<usize>();
            if is_of_bits(&little) {
                let counts =
                    |all: &[(String, Vec<String>)]| all.iter().map(|(_, all)| all.len()).collect::<Vec<_>>();
                assert_eq!(counts(&decided), counts(&expected), "{name}");
                let differing = |(big, little): &(&String, &String)| big != little && !bits(big);
                let all =
                    decided.iter().flat_map(|(_, all)| all).zip(expected.iter().flat_map(|(_, all)| all));
                assert_eq!(all.filter(differing).collect::<Vec<_>>(), [], "{name}");
            } else {
                assert_eq!(decided, expected, "{name}");
            }
            for (big, little) in big_plan.programs.iter().zip(&little_plan.programs) {
                assert_eq!(big.missing, little.missing, "{name}");
                assert_eq!(big.attach_target, little.attach_target, "{name}");
                let values = |plan: &skep::reloc::ProgramPlan| {
                    plan.placeholders.iter().map(|placeholder| placeholder.value.clone()).collect::<Vec<_>>()
                };
                assert_eq!(values(big), values(little), "{name}");
            }
            compared += 1;
        }
    }
    assert!(compared > 90, "{compared} pairs");
    assert!(relocations > 300, "{relocations} relocations");
}

/// Whether a decision is about where a bit field lies.
fn bits(decision: &str) -> bool {
    ["<lshift_u64>", "<byte_off>", "<byte_sz>"].iter().any(|kind| decision.starts_with(kind))
}

#[test]
fn plans_are_encoded_in_the_byte_order_of_the_object() {
    let mut programs = 0;
    let kernel = kernel("6.12", Endian::Big);
    for path in pairs().into_iter().flatten() {
        let Ok(spec) = Spec::open(&path) else { continue };
        let Ok(plan) = spec.relocate(&kernel) else { continue };
        for program in &plan.programs {
            let bytes = encode(&program.insns, spec.endian);
            assert_eq!(bytes.len(), program.insns.len() * 8);
            assert_eq!(decode(&bytes, spec.endian).as_ref(), Ok(&program.insns), "{}", path.display());
            programs += 1;
        }
    }
    assert!(programs > 300, "{programs}");
}

/// What nothing was done to comes out as it went in.
#[test]
fn functions_without_relocations_are_encoded_as_in_the_file() {
    let (mut untouched, mut functions) = (0, 0);
    let kernel = kernel("6.12", Endian::Little);
    for path in pairs().into_iter().flatten() {
        let bytes = std::fs::read(&path).expect("testdata can be read");
        let Ok(mut spec) = Spec::parse("object", &bytes) else { continue };
        let file = object::File::parse(&*bytes).expect("it is an object");
        // Several sections may have one name.
        let places = |function: &FunctionSpec| -> Vec<&[u8]> {
            let start = function.offset as usize * 8;
            let named = file.sections().filter(|section| {
                let name = section.name().expect("it has a name");
                name.strip_prefix('?').unwrap_or(name) == function.section
            });
            let data = named.map(|section| section.data().expect("it has bytes"));
            data.filter_map(|data| data.get(start..start + function.insns.len() * 8)).collect()
        };
        for function in &spec.functions {
            let here = encode(&function.insns, spec.endian);
            let referring = |insn| {
                // The second half of a load belongs to the first.
                function
                    .references
                    .iter()
                    .any(|reference| reference.insn == insn || reference.insn + 1 == insn)
            };
            let same = |there: &&[u8]| {
                let pairs = here.chunks(8).zip(there.chunks(8)).zip(0..);
                pairs.into_iter().all(|((here, there), insn)| here == there || referring(insn))
            };
            assert!(places(function).iter().any(same), "{}: {}", path.display(), function.name);
            functions += 1;
        }
        for program in &mut spec.programs {
            let function = &spec.functions[program.function.0];
            program.autoload &= function.references.is_empty() && function.core_relos.is_empty();
        }
        let Ok(plan) = spec.relocate(&kernel) else { continue };
        for program in &plan.programs {
            let function = &spec.functions[spec.programs[program.program.0].function.0];
            if !function.references.is_empty() || !function.core_relos.is_empty() {
                continue;
            }
            let here = encode(&program.insns, spec.endian);
            assert!(places(function).contains(&&*here), "{}: {}", path.display(), program.name);
            untouched += 1;
        }
    }
    assert!(functions > 300 && untouched > 100, "{untouched} of {functions}");
}

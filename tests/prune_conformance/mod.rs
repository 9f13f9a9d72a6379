//! What holds of leaving out what makes no difference to programs, on every kernel.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use skep::load::NoteKind;
use skep::spec::{ExternKind, ExternSpec, Pinning, ProgramIndex};
use skep::sys::abi::ProgType;
use skep::sys::request::TestRun;
use skep::{Kernel, Loader, Object, Spec};

pub(crate) fn testdata() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata")
}

/// The objects of the machine's byte order.
pub(crate) fn objects() -> Vec<(String, Spec)> {
    let entries = std::fs::read_dir(testdata()).expect("testdata is in the repository");
    let mut objects: Vec<_> = entries
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            let name = path.file_name()?.to_string_lossy().into_owned();
            let mut spec = name.ends_with(".o").then(|| Spec::open(&path).ok())??;
            spec.maps.iter_mut().for_each(|map| map.pinning = Pinning::None);
            (spec.endian == skep::asm::Endian::NATIVE).then_some((name, spec))
        })
        .collect();
    objects.sort_by(|(a, _), (b, _)| a.cmp(b));
    assert!(objects.len() > 50);
    objects
}

/// What an object does when its programs run: what they return, and the variables afterwards.
fn observe(object: &Object) -> BTreeMap<String, Vec<u8>> {
    let mut seen = BTreeMap::new();
    for program in object.programs() {
        let runs =
            matches!(program.prog_type(), ProgType::SCHED_CLS | ProgType::SOCKET_FILTER | ProgType::XDP);
        if runs {
            let mut run = TestRun::default();
            run.data_in = &[7; 64];
            let result = program.test_run(&mut run).map(|result| result.retval);
            seen.insert(
                program.name().to_owned(),
                format!("{:?}", result.map_err(|e| e.errno())).into_bytes(),
            );
        }
    }
    for (name, map) in object.maps().filter(|(name, _)| name.starts_with(".bss") || name.starts_with(".data"))
    {
        if let Ok(Some(value)) = map.lookup(&0u32.to_ne_bytes()) {
            seen.insert(name.to_owned(), value);
        }
    }
    seen
}

/// Whether programs ask for the time or a random number.
fn depends_on_chance(spec: &Spec) -> bool {
    const KTIME_GET_NS: i32 = 5;
    const GET_PRANDOM_U32: i32 = 7;
    let insns = spec.functions.iter().flat_map(|function| &function.insns);
    insns.into_iter().any(|insn| insn.is_helper_call() && matches!(insn.imm, KTIME_GET_NS | GET_PRANDOM_U32))
}

/// Programs load with everything and with what they need, and do the same. Answers how many loaded.
pub(crate) fn programs_do_the_same(kernel: &Kernel, run: bool) -> usize {
    let mut loaded = 0;
    // What the verifier refuses in the end, such as endless loops, it may look at for long.
    for (name, spec) in objects().into_iter().filter(|(name, _)| !name.starts_with("bad_")) {
        for index in 0..spec.programs.len() {
            let mut only = spec.clone();
            only.load_only(ProgramIndex(index));
            // Reading all symbols of an emulated kernel takes seconds; the simulated one has few.
            let symbols = |found: &ExternSpec| found.kind == ExternKind::Variable { typed: false };
            if run && index > 1 && spec.externs.iter().any(symbols) {
                continue;
            }
            // Of programs that stay as they are, one of each object is enough: emulated kernels take their time.
            let shorter =
                only.relocate(&Loader::new(kernel).target()).is_ok_and(|mut plan| plan.prune().insns > 0);
            if index > 0 && !shorter {
                continue;
            }
            // One after the other: an arena may be at one address only.
            let run = run && !depends_on_chance(&spec);
            let all = Loader::new(kernel).load(&only).map(|object| run.then(|| observe(&object)));
            let used = Loader::new(kernel).prune(true).load(&only);
            let what = format!("{name} {}", spec.programs[index].name);
            match (all, used) {
                (Ok(all), Ok(used)) => {
                    loaded += 1;
                    let mut notes = used.report().of(NoteKind::Skipped);
                    assert!(notes.any(|note| note.text.starts_with("left out")), "{what}");
                    assert_eq!(all, run.then(|| observe(&used)), "{what}");
                }
                (Ok(_), Err(error)) => panic!("{what}: {error}: {:?}", std::error::Error::source(&error)),
                // Some kernels refuse code that nothing comes to.
                (Err(_), _) => {}
            }
        }
    }
    loaded
}

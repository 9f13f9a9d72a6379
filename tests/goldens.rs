//! What object files say, and what becomes of them on two kernels, as text that is compared with committed files.
//!
//! `UPDATE_GOLDEN=1 cargo test --test goldens` writes them anew. The extension names the view: `.spec` what the file
//! says, `.KERNEL.plan` what is asked of that kernel, `.err` and `.KERNEL.err` why nothing is.

use std::collections::BTreeSet;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

use skep::Spec;
use skep::btf::Btf;
use skep::reloc::BtfTarget;

/// Kernels that plans are made for.
const KERNELS: [&str; 2] = ["5.10", "6.12"];

fn testdata() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata")
}

fn file_name(path: &Path) -> String {
    path.file_name().expect("a file in a directory has a name").to_string_lossy().into_owned()
}

/// The objects of a byte order, by name.
fn objects(big: bool) -> Vec<PathBuf> {
    let entries = fs::read_dir(testdata()).expect("testdata is in the repository");
    let mut objects: Vec<PathBuf> = entries
        .map(|entry| entry.expect("testdata can be read").path())
        .filter(|path| file_name(path).ends_with(".o") && file_name(path).ends_with(".eb.o") == big)
        .collect();
    objects.sort();
    assert!(objects.len() > 50, "only {} objects", objects.len());
    objects
}

fn chain(error: &dyn Error) -> String {
    let mut text = format!("{error}\n");
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!("{error}\n"));
        cause = error.source();
    }
    text
}

/// Compares with committed files and remembers which were looked at.
struct Goldens {
    directory: PathBuf,
    update: bool,
    seen: BTreeSet<String>,
    wrong: Vec<String>,
}

impl Goldens {
    fn new() -> Self {
        let update = std::env::var_os("UPDATE_GOLDEN").is_some();
        Goldens { directory: testdata().join("views"), update, seen: BTreeSet::new(), wrong: Vec::new() }
    }

    fn check(&mut self, name: String, text: &str) {
        assert!(!text.contains(env!("CARGO_MANIFEST_DIR")), "{name} says where the tree lies");
        let path = self.directory.join(&name);
        if self.update {
            fs::create_dir_all(&self.directory).expect("the directory can be made");
            fs::write(&path, text).expect("the golden can be written");
        } else if fs::read_to_string(&path).ok().as_deref() != Some(text) {
            let there = fs::read_to_string(&path).unwrap_or_default();
            let line = there.lines().zip(text.lines()).position(|(a, b)| a != b);
            let line = line.unwrap_or_else(|| there.lines().count().min(text.lines().count()));
            self.wrong.push(format!(
                "{name}:{}: {:?} is now {:?}",
                line + 1,
                there.lines().nth(line).unwrap_or("(end)"),
                text.lines().nth(line).unwrap_or("(end)")
            ));
        }
        self.seen.insert(name);
    }

    fn finish(self) {
        for entry in fs::read_dir(&self.directory).expect("goldens are in the repository") {
            let path = entry.expect("goldens can be read").path();
            let name = file_name(&path);
            if !self.seen.contains(&name) {
                assert!(self.update, "{name} belongs to no test");
                fs::remove_file(&path).expect("a stale golden can be removed");
            }
        }
        assert!(self.wrong.is_empty(), "{} goldens differ:\n{}", self.wrong.len(), self.wrong.join("\n"));
    }
}

#[test]
fn specs_and_plans() {
    let mut goldens = Goldens::new();
    let kernels = KERNELS.map(|kernel| {
        let bytes =
            fs::read(testdata().join(format!("btf/{kernel}.btf"))).expect("the fixture is in the repository");
        (kernel, BtfTarget::new(Btf::parse(bytes).expect("the fixture is BTF")))
    });
    for path in objects(false) {
        let name = file_name(&path);
        let spec = match Spec::open(&path) {
            Ok(spec) => spec,
            Err(error) => {
                // Where the tree lies is no part of what is said.
                let text = chain(&error).replace(&path.display().to_string(), &format!("testdata/{name}"));
                goldens.check(format!("{name}.err"), &text);
                continue;
            }
        };
        goldens.check(format!("{name}.spec"), &spec.to_string());
        for (kernel, target) in &kernels {
            match spec.relocate(target) {
                Ok(plan) => goldens.check(format!("{name}.{kernel}.plan"), &plan.to_string()),
                Err(error) => goldens.check(format!("{name}.{kernel}.err"), &chain(&error)),
            }
        }
    }
    goldens.finish();
}

#[test]
fn the_same_bytes_are_the_same_spec() {
    for path in objects(false) {
        let Ok(spec) = Spec::open(&path) else { continue };
        let again = Spec::open(&path).expect("it was opened once");
        assert_eq!(spec, again, "{}", path.display());
        assert_eq!(spec.clone(), spec, "{}", path.display());
    }
}

#[test]
fn both_byte_orders_say_the_same() {
    let mut compared = 0;
    for big_path in objects(true) {
        let little_path = big_path.with_file_name(file_name(&big_path).replace(".eb.o", ".o"));
        let (big, little) = match (Spec::open(&big_path), Spec::open(&little_path)) {
            (Ok(big), Ok(little)) => (big, little),
            (Err(big), Err(little)) => {
                assert_eq!(chain(&big).replace(".eb.o", ".o"), chain(&little));
                continue;
            }
            (big, little) => panic!("{}: {:?} and {:?}", big_path.display(), big.err(), little.err()),
        };
        assert!(!big.endian.is_little() && little.endian.is_little());
        assert_eq!(big.license, little.license);
        assert_eq!(big.version, little.version);
        assert_eq!(big.programs, little.programs);
        assert_eq!(big.globals, little.globals);
        assert_eq!(big.externs, little.externs);
        for (big, little) in big.maps.iter().zip(&little.maps) {
            let mut big = big.clone();
            // Numbers in it are of the other order.
            big.contents.clone_from(&little.contents);
            assert_eq!(&big, little);
        }
        for (big, little) in big.functions.iter().zip(&little.functions) {
            // Bit fields and the widths of accesses to them differ between byte orders, and so may the code.
            assert_eq!(big.name, little.name);
            if big.insns.len() == little.insns.len() {
                assert_eq!(big.references, little.references, "{}", big.name);
                assert_eq!(big.func_info, little.func_info, "{}", big.name);
            }
        }
        compared += 1;
    }
    assert!(compared > 40, "{compared}");
}

//! Fills the corpora of the fuzz targets with what testdata has: whole objects, and the parts that each target reads.

use std::path::{Path, PathBuf};
use std::{fs, io};

use object::{Object, ObjectSection, SectionKind};

/// Objects that are seeds of their own for relocation, where all targets of an object are tried.
const TARGETS: u8 = 3;

fn main() -> io::Result<()> {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR"));
    let testdata = fuzz.join("../testdata");
    let mut seeds = Seeds { corpus: fuzz.join("corpus"), count: 0 };
    for (name, path) in files(&testdata, "o")? {
        seeds.object(&name, &fs::read(path)?)?;
    }
    let mut synthetic = Vec::new();
    for (name, path) in files(&testdata.join("targets"), "o")? {
        let bytes = fs::read(path)?;
        if let Some(btf) = section(&bytes, ".BTF") {
            seeds.put("btf", &name, &btf)?;
            synthetic.push((name, btf));
        }
    }
    for order in ["", ".eb"] {
        let object = fs::read(testdata.join(format!("core_synthetic{order}.o")))?;
        for (name, btf) in synthetic.iter().filter(|(name, _)| name.ends_with(".eb") != order.is_empty()) {
            seeds.put("relocate", &format!("core_synthetic-{name}"), &input(&object, btf))?;
        }
    }
    println!("{} seeds in {}", seeds.count, seeds.corpus.display());
    Ok(())
}

struct Seeds {
    corpus: PathBuf,
    count: usize,
}

impl Seeds {
    fn object(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.put("spec", name, bytes)?;
        self.put("relocate", name, &input(bytes, &[]))?;
        for n in 0..TARGETS {
            self.put("relocate", &format!("{name}-{n}"), &input(bytes, &[n]))?;
        }
        for (section_name, target) in [(".BTF", "btf"), (".BTF.ext", "ext_info")] {
            if let Some(data) = section(bytes, section_name) {
                self.put(target, name, &data)?;
            }
        }
        let Ok(file) = object::File::parse(bytes) else { return Ok(()) };
        for section in file.sections().filter(|section| section.kind() == SectionKind::Text) {
            let data = section.data().unwrap_or_default();
            if !data.is_empty() {
                self.put("insn_decode", &format!("{name}-{}", section.index().0), data)?;
            }
        }
        Ok(())
    }

    fn put(&mut self, target: &str, name: &str, bytes: &[u8]) -> io::Result<()> {
        let folder = self.corpus.join(target);
        fs::create_dir_all(&folder)?;
        self.count += 1;
        fs::write(folder.join(format!("seed-{name}")), bytes)
    }
}

/// An input of the relocation target.
fn input(object: &[u8], target: &[u8]) -> Vec<u8> {
    let len = u32::try_from(object.len()).expect("a small object");
    [&len.to_le_bytes(), object, target].concat()
}

fn section(bytes: &[u8], name: &str) -> Option<Vec<u8>> {
    let file = object::File::parse(bytes).ok()?;
    Some(file.section_by_name(name)?.data().ok()?.to_vec())
}

/// The files of a folder with an extension, in order, with their names up to it.
fn files(folder: &Path, extension: &str) -> io::Result<Vec<(String, PathBuf)>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|found| found == extension)
            && let Some(name) = path.file_stem()
        {
            files.push((name.to_string_lossy().into_owned(), path));
        }
    }
    files.sort();
    Ok(files)
}

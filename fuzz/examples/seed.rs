//! Fills the corpora of the fuzz targets with what testdata has: whole objects, and the parts that each target reads.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::{fs, io};

use object::{Object, ObjectSection, SectionKind};
use skep::asm::Endian;
use skep::btf::{Btf, BtfBuilder, Kind, TypeId, essential_name};
use skep::spec::Spec;
use skep_fuzz::properties::{OBJECTS, target_input};

/// Objects that are seeds of their own for relocation, where all targets of an object are tried.
const TARGETS: u8 = 3;

/// Configurations, with values of every form.
const CONFIGS: [&str; 4] = [
    "# CONFIG_BOOL is not set\nCONFIG_QUALIFIED=y\nCONFIG_CHAR=m\nCONFIG_TRISTATE=m\nCONFIG_TEXT=\"hello\"\nCONFIG_LETTER=\"\"\n",
    "CONFIG_U8=255\nCONFIG_S16=-32768\nCONFIG_U16=0xffff\nCONFIG_S32=-1\nCONFIG_U32=037777777777\nCONFIG_OTHER=y\n",
    "CONFIG_S64=-9223372036854775808\nCONFIG_U64=18446744073709551615\nCONFIG_U64=1\r\nCONFIG_BOOL=n\n",
    "CONFIG_S32=+7\nCONFIG_U32= 7\nCONFIG_CHAR=-128\nCONFIG_TEXT=\"too long a text\"\n",
];
/// Names, then a table of symbols.
const SYMBOLS: [&str; 3] = [
    "_stext jiffies counter\nffffffff81000000 T _stext\nffffffff82000000 d counter.llvm.123\nffffffff82000008 D jiffies\t[mod]\n",
    "a b\n0000000000000000 A a\n0000000000000000 t b\n",
    "a b\n10 t a\n10 t a\n20 t b\n21 t b\nnonsense\n\n",
];

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
    let kernel = Btf::parse(fs::read(testdata.join("btf/6.12.btf"))?).map_err(io::Error::other)?;
    for (nth, (name, object)) in (0..).zip(OBJECTS) {
        seeds.kernels(nth, name, object, &kernel, &synthetic)?;
    }
    for (target, texts) in [("kconfig", &CONFIGS[..]), ("kallsyms", &SYMBOLS)] {
        for (nth, text) in texts.iter().enumerate() {
            seeds.put(target, &nth.to_string(), text.as_bytes())?;
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
                let name = format!("{name}-{}", section.index().0);
                self.put("insn_decode", &name, data)?;
                // As an XDP program with a packet of 64 bytes.
                self.put("interp", &name, &[&[2, 64], [0; 64].as_slice(), data].concat())?;
            }
        }
        Ok(())
    }

    /// Inputs of relocation for any kernel: the types of a real one that the object asks for, in the kernel or in a
    /// module; the object's own; and those that play a kernel's in testdata.
    fn kernels(
        &mut self,
        nth: u8,
        name: &str,
        object: &[u8],
        kernel: &Btf,
        synthetic: &[(String, Vec<u8>)],
    ) -> io::Result<()> {
        let spec = Spec::parse(name, object).map_err(io::Error::other)?;
        let own = spec.btf.as_ref().expect("an object with types");
        let names = asked_for(&spec, own);
        let whole = cut(kernel, &names, BtfBuilder::new());
        let base = cut(kernel, &BTreeSet::from([b"int".to_vec()]), BtfBuilder::new());
        let base_btf = base.finish().expect("what skep writes, it reads");
        let split = cut(kernel, &names, BtfBuilder::split(&base_btf));
        let encode = |builder: &BtfBuilder| builder.encode(spec.endian, false);
        for (what, flags, kernel, module) in [
            ("whole", 0, encode(&whole), Vec::new()),
            ("weak", 0x10, encode(&whole), Vec::new()),
            ("first", 0x11, encode(&whole), Vec::new()),
            ("second", 0x12, encode(&whole), Vec::new()),
            ("module", 0x10, encode(&base), encode(&split)),
            ("modules", 0x30, encode(&base), encode(&split)),
            ("own", 0x10, own.bytes().to_vec(), Vec::new()),
            ("swapped", 0x10, whole.encode(other(spec.endian), false), Vec::new()),
        ] {
            self.put(
                "relocate_target",
                &format!("{name}-{what}"),
                &target_input(nth, flags, &kernel, &module),
            )?;
        }
        for (target, btf) in synthetic.iter().filter(|_| name.starts_with("core_synthetic")) {
            let little = target.ends_with(".eb");
            if little != spec.endian.is_little() {
                self.put("relocate_target", &format!("{name}-{target}"), &target_input(nth, 0, btf, &[]))?;
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

fn other(endian: Endian) -> Endian {
    if endian.is_little() { Endian::Big } else { Endian::Little }
}

/// Names of kernel types that an object may ask for.
fn asked_for(spec: &Spec, own: &Btf) -> BTreeSet<Vec<u8>> {
    let mut names = BTreeSet::new();
    for ty in own.types().filter(|ty| !ty.name_bytes().is_empty()) {
        let name = essential_name(ty.name_bytes());
        names.insert(name.to_vec());
        names.insert([b"bpf_struct_ops_", name].concat());
    }
    for target in spec.programs.iter().filter_map(|program| program.attach_to.as_deref()) {
        for prefix in ["", "btf_trace_", "bpf_lsm_", "bpf_iter_"] {
            names.insert(format!("{prefix}{target}").into_bytes());
        }
    }
    names
}

/// The types of these names with what they are made of. What is only pointed to is `void`, unless it is named too.
fn cut(kernel: &Btf, names: &BTreeSet<Vec<u8>>, mut builder: BtfBuilder) -> BtfBuilder {
    let is_named = |id: TypeId| kernel.ty(id).is_ok_and(|ty| names.contains(ty.name_bytes()));
    let mut wanted: Vec<TypeId> = kernel.types().map(|ty| ty.id()).filter(|&id| is_named(id)).collect();
    let mut taken = BTreeSet::from([TypeId(0)]);
    while let Some(id) = wanted.pop() {
        let Ok(ty) = kernel.ty(id) else { continue };
        if taken.insert(id) && ty.kind() != Kind::PTR {
            wanted.extend(ty.referenced_types());
        }
    }
    taken.remove(&TypeId(0));
    let start = builder.next_id().0;
    let ids: BTreeMap<TypeId, TypeId> = taken.iter().copied().zip((start..).map(TypeId)).collect();
    for &id in &taken {
        let ty = kernel.ty(id).expect("it was there");
        let to = |id: TypeId| Ok(ids.get(&id).copied().unwrap_or(TypeId(0)));
        builder.add_copy(&ty, to).expect("a copy of a good type");
    }
    builder
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

//! BTF that compilers made: as it is, and damaged.

use std::path::PathBuf;

use object::{Object, ObjectSection};
use skep_asm::Endian;
use skep_btf::{Btf, BtfBuilder, BtfEdit, CoreReloKind, ExtInfo, KernelBtfFeatures, Linkage, sanitize};

use crate::{BOTH, exercise};

struct Sample {
    name: String,
    btf: Vec<u8>,
    ext: Option<Vec<u8>>,
}

/// `.BTF` and `.BTF.ext` of every test object that has them.
fn samples() -> Vec<Sample> {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../testdata");
    let mut paths: Vec<PathBuf> = std::fs::read_dir(dir)
        .expect("the test objects are committed")
        .map(|entry| entry.expect("the folder can be read").path())
        .filter(|path| path.extension().is_some_and(|ext| ext == "o"))
        .collect();
    paths.sort();
    let read = |path: PathBuf| {
        let data = std::fs::read(&path).expect("a file of the folder can be read");
        let file = object::File::parse(&*data).ok()?;
        let section = |name| Some(file.section_by_name(name)?.data().ok()?.to_vec());
        let name = path.file_name()?.to_string_lossy().into_owned();
        Some(Sample { name, btf: section(".BTF")?, ext: section(".BTF.ext") })
    };
    let samples: Vec<_> = paths.into_iter().filter_map(read).collect();
    assert!(samples.len() > 20, "only {} test objects have BTF", samples.len());
    samples
}

/// Reads all of a `.BTF.ext`; returns how many records there are.
fn exercise_ext(ext: &ExtInfo, btf: &Btf) -> usize {
    let mut seen = 0;
    for block in ext.func_info().blocks() {
        seen += usize::from(block.section_name(btf).is_ok());
        seen += block.records().filter(|record| btf.ty(record.info.type_id).is_ok()).count();
    }
    for block in ext.line_info().blocks() {
        seen += block.records().filter(|record| btf.str_at(record.info.line_off).is_ok()).count();
    }
    for block in ext.core_relos().blocks() {
        seen += block.records().filter(|record| record.info.kind <= CoreReloKind::TYPE_MATCHES).count();
    }
    seen
}

#[test]
fn objects_read_and_write_back() {
    let mut foreign = 0;
    for Sample { name, btf, ext } in samples() {
        let bytes = btf;
        let btf = Btf::parse(bytes.clone()).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(btf.check(), Ok(()), "{name}");
        foreign += usize::from(!btf.endian().is_native());
        assert!(exercise(btf.types()) > 0);
        assert_eq!(BtfBuilder::from_btf(&btf).encode(btf.endian(), false), bytes, "{name}");
        if let Some(ext) = ext {
            let ext = ExtInfo::parse(ext).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(ext.endian(), btf.endian(), "{name}");
            let records = ext.func_info().record_count() + ext.line_info().record_count();
            let blocks = ext.func_info().blocks().count();
            assert_eq!(
                exercise_ext(&ext, &btf),
                records + ext.core_relos().record_count() + blocks,
                "{name}"
            );
        }
        let plain =
            sanitize(&btf, &KernelBtfFeatures::NONE).unwrap_or_else(|error| panic!("{name}: {error}"));
        if let Some(plain) = plain {
            assert_eq!(Btf::parse(plain).and_then(|btf| btf.check()), Ok(()), "{name}");
        }
    }
    assert!(foreign > 10, "only {foreign} test objects have the other byte order");
}

#[test]
fn both_byte_orders_say_the_same() {
    let samples = samples();
    let mut pairs = 0;
    for sample in &samples {
        let twin = sample.name.replace(".o", ".eb.o");
        let Some(twin) = samples.iter().find(|other| other.name == twin) else { continue };
        let (little, big) = (Btf::parse(sample.btf.clone()), Btf::parse(twin.btf.clone()));
        let (Ok(little), Ok(big)) = (little, big) else { panic!("{} does not parse", sample.name) };
        assert_eq!((little.endian(), big.endian()), (Endian::Little, Endian::Big));
        // Converted, one is the other: strings may be laid out differently, names are not.
        let of = |btf: &Btf| {
            let ty = |ty: skep_btf::Type<'_>| (format!("{ty:?}"), ty.vlen(), ty.size_or_type());
            btf.types().map(ty).collect::<Vec<_>>()
        };
        if little.len() == big.len() {
            assert_eq!(of(&little), of(&big), "{}", sample.name);
            pairs += 1;
        }
        for endian in BOTH {
            let converted = BtfBuilder::from_btf(&little).encode(endian, true);
            assert_eq!(Btf::parse(converted).map(|btf| of(&btf)), Ok(of(&little)));
        }
    }
    assert!(pairs > 5, "only {pairs} pairs of test objects are alike");
}

/// Numbers that are always the same ones.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit.max(1) as u64) as usize
    }

    fn damage(&mut self, bytes: &mut Vec<u8>) {
        for _ in 0..=self.below(4) {
            let at = self.below(bytes.len());
            match self.below(8) {
                0 => bytes[at] = 0xff,
                1 => bytes[at] = 0,
                2 => bytes.truncate(at.max(1)),
                3 => {
                    // Words are where ids, offsets and counts are.
                    let at = at & !3;
                    let value = [0, 1, 2, 0x7f, 0xff, 0xffff, 0x00ff_ffff, u32::MAX][self.below(8)];
                    for (slot, byte) in bytes[at..].iter_mut().zip(value.to_le_bytes()) {
                        *slot = byte;
                    }
                }
                _ => bytes[at] ^= 1 << self.below(8),
            }
        }
    }
}

#[test]
fn damage_is_an_error_or_harmless() {
    let mut random = Random(0x5eed_5eed_5eed_5eed);
    let (mut parsed, mut refused) = (0, 0);
    for Sample { name: _, btf, ext } in samples() {
        let whole = Btf::parse(btf.clone()).expect("it was not damaged yet");
        for _ in 0..16 {
            let mut bytes = btf.clone();
            random.damage(&mut bytes);
            let Ok(damaged) = Btf::parse(bytes) else {
                refused += 1;
                continue;
            };
            parsed += 1;
            exercise(damaged.types());
            let _ = damaged.check();
            let names: Vec<_> = whole.types().map(|ty| ty.name_bytes()).take(20).collect();
            let _ = damaged.candidates(&names);
            for features in [KernelBtfFeatures::NONE, KernelBtfFeatures::ALL] {
                if let Ok(Some(bytes)) = sanitize(&damaged, &features) {
                    exercise(Btf::parse(bytes).expect("what is written parses").types());
                }
            }
            let mut edit = BtfEdit::new(&damaged);
            for ty in damaged.types() {
                let _ = edit.set_linkage(ty.id(), Linkage::STATIC);
                let _ = edit.set_datasec(ty.id(), 1, &ty.vars().collect::<Vec<_>>());
            }
            edit.finish().expect("changes in place keep it whole");
        }
        for _ in 0..40 {
            let Some(mut bytes) = ext.clone() else { break };
            random.damage(&mut bytes);
            if let Ok(ext) = ExtInfo::parse(bytes) {
                exercise_ext(&ext, &whole);
            }
        }
    }
    assert!(parsed > 300 && refused > 100, "{parsed} parsed, {refused} refused: the damage is too dull");
}

//! Objects that are small for what they ask for: long names used often, many of everything against many of everything.
//! They are read in little time, and what comes out is not much larger than what went in.

#[path = "legacy.rs"]
mod legacy;

use std::time::{Duration, Instant};

use skep::asm::{Assembler, Endian, Insn, Reg, encode};
use skep::btf::{BtfBuilder, IntEncoding, Linkage, SectionVar};
use skep::reloc::BtfTarget;
use skep::spec::{MapSpec, Spec};

/// What reading and relocating one of them may take, on a busy machine without optimisation.
const TIME: Duration = Duration::from_secs(60);
/// Bytes of output for each byte of an object.
const FACTOR: usize = 64;

const EXIT: [u8; 8] = [0x95, 0, 0, 0, 0, 0, 0, 0];
const FUNC: u8 = 1 << 4 | 2;
const OBJECT: u8 = 1 << 4 | 1;

/// A small writer of ELF: sections in order from number 1, then symbols from number 1.
#[derive(Default)]
struct Object {
    sections: Vec<Section>,
    symbols: Vec<u8>,
    /// Section names, symbol names.
    names: Vec<u8>,
}

struct Section {
    name: u32,
    kind: u32,
    flags: u64,
    data: Vec<u8>,
    info: u32,
}

impl Object {
    fn new() -> Object {
        Object { names: vec![0], symbols: vec![0; 24], ..Object::default() }
    }

    fn name(&mut self, text: &str) -> u32 {
        let at = self.names.len() as u32;
        self.names.extend(text.bytes().chain([0]));
        at
    }

    fn section(&mut self, name: &str, flags: u64, data: Vec<u8>) -> u16 {
        let name = self.name(name);
        self.section_at(name, flags, data)
    }

    fn section_at(&mut self, name: u32, flags: u64, data: Vec<u8>) -> u16 {
        self.sections.push(Section { name, kind: 1, flags, data, info: 0 });
        self.sections.len() as u16
    }

    fn symbol(&mut self, name: u32, info: u8, section: u16, value: u64, size: u64) -> u64 {
        self.symbols.extend(name.to_le_bytes());
        self.symbols.extend([info, 0]);
        self.symbols.extend(section.to_le_bytes());
        self.symbols.extend(value.to_le_bytes());
        self.symbols.extend(size.to_le_bytes());
        self.symbols.len() as u64 / 24 - 1
    }

    /// Relocations of a section: where, and of which symbol.
    fn relocations(&mut self, section: u16, entries: &[(u64, u64)]) {
        let data = entries.iter().flat_map(|(at, symbol)| [*at, symbol << 32 | 1]);
        let data = data.flat_map(u64::to_le_bytes).collect();
        self.sections.push(Section { name: 0, kind: 9, flags: 0, data, info: u32::from(section) });
    }

    /// The file. `place` may change the size and offset of each section.
    fn finish(mut self, place: impl FnOnce(&mut [(u64, u64)])) -> Vec<u8> {
        let symtab = self.sections.len() as u32 + 1;
        let symbols = std::mem::take(&mut self.symbols);
        self.sections.push(Section { name: 0, kind: 2, flags: 0, data: symbols, info: 1 });
        let names = std::mem::take(&mut self.names);
        self.sections.push(Section { name: 0, kind: 3, flags: 0, data: names, info: 0 });
        let strtab = symtab + 1;

        let mut bytes = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        bytes.extend([1, 0, 247, 0, 1, 0, 0, 0]);
        bytes.resize(40, 0);
        let data_len: usize =
            self.sections.iter().map(|section| section.data.len().next_multiple_of(8)).sum();
        bytes.extend((64 + data_len as u64).to_le_bytes());
        bytes.extend([0, 0, 0, 0, 64, 0, 0, 0, 0, 0, 64, 0]);
        bytes.extend((self.sections.len() as u16 + 1).to_le_bytes());
        bytes.extend((strtab as u16).to_le_bytes());
        assert_eq!(bytes.len(), 64);
        let mut places = Vec::new();
        for section in &self.sections {
            places.push((section.data.len() as u64, bytes.len() as u64));
            bytes.extend(&section.data);
            bytes.resize(bytes.len().next_multiple_of(8), 0);
        }
        place(&mut places);
        bytes.extend([0; 64]);
        for (section, (size, offset)) in self.sections.iter().zip(places) {
            let (link, entry) = match section.kind {
                2 => (strtab, 24u64),
                9 => (symtab, 16),
                _ => (0, 0),
            };
            bytes.extend(section.name.to_le_bytes());
            bytes.extend(section.kind.to_le_bytes());
            bytes.extend(section.flags.to_le_bytes());
            bytes.extend(0u64.to_le_bytes());
            bytes.extend(offset.to_le_bytes());
            bytes.extend(size.to_le_bytes());
            bytes.extend(link.to_le_bytes());
            bytes.extend(section.info.to_le_bytes());
            bytes.extend(8u64.to_le_bytes());
            bytes.extend(entry.to_le_bytes());
        }
        bytes
    }
}

const CODE: u64 = 6;
const DATA: u64 = 3;

/// Reads and relocates; what comes out is in proportion.
fn read(what: &str, object: Object) -> Result<Spec, String> {
    read_as(what, object, |_| ())
}

fn read_as(what: &str, object: Object, place: impl FnOnce(&mut [(u64, u64)])) -> Result<Spec, String> {
    let bytes = object.finish(place);
    let start = Instant::now();
    let spec = Spec::parse("hostile.o", &bytes).map_err(|error| error.to_string());
    let parsed = start.elapsed();
    if let Ok(spec) = &spec {
        let size = size(spec);
        assert!(size <= FACTOR * bytes.len(), "{what}: {size} bytes of {}", bytes.len());
        if let Some(btf) = &spec.btf {
            match spec.relocate(&BtfTarget::new(btf.clone())) {
                Ok(plan) => {
                    let size: usize =
                        plan.programs.iter().map(|program| program.insns.len() * Insn::SIZE).sum();
                    assert!(
                        size <= FACTOR * bytes.len(),
                        "{what}: {size} bytes of {} in a plan",
                        bytes.len()
                    );
                }
                Err(error) => println!("{what}: {}", error.to_string().chars().take(200).collect::<String>()),
            }
        }
    }
    let took = start.elapsed();
    println!("{what}: {} bytes, parsed in {parsed:?}, all in {took:?}", bytes.len());
    assert!(took < TIME, "{what}: {took:?}");
    spec
}

/// Roughly what a spec holds, in bytes.
fn size(spec: &Spec) -> usize {
    let map = |map: &MapSpec| map.name.len() + map.contents.len() + map.slots.len() * 16;
    let functions = spec.functions.iter().map(|function| {
        function.name.len() + function.section.len() + (function.insns.len() + function.references.len()) * 8
    });
    let programs = spec.programs.iter().map(|program| program.name.len() + program.section.len());
    let globals = spec.globals.iter().map(|global| global.name.len());
    functions.chain(programs).chain(globals).chain(spec.maps.iter().map(map)).sum::<usize>()
        + spec.notes.iter().map(String::len).sum::<usize>()
        + spec.externs.iter().map(|external| external.name.len()).sum::<usize>()
}

fn long() -> String {
    "n".repeat(400_000)
}

#[test]
fn a_long_name_of_many_functions() {
    let mut object = Object::new();
    let name = object.name(&long());
    let code = object.section_at(name, CODE, EXIT.repeat(20_000));
    for nth in 0..20_000 {
        object.symbol(name, FUNC, code, nth * 8, 8);
    }
    let error = read("functions", object).unwrap_err();
    assert!(error.contains("name"), "{error}");
}

#[test]
fn a_long_name_of_many_sections() {
    let mut object = Object::new();
    let name = object.name(&long());
    for _ in 0..8_000 {
        object.section_at(name, DATA, vec![1]);
    }
    let error = read("sections", object).unwrap_err();
    assert!(error.contains("name"), "{error}");
}

#[test]
fn a_long_sub_program_of_many_programs() {
    let mut object = Object::new();
    let text = object.section(".text", CODE, EXIT.repeat(60_000));
    let call = encode(&[Insn::new(0x85, Reg::R0, Reg::R1, 0, -1)], Endian::Little);
    let programs = object.section("xdp", CODE, [&call[..], &EXIT].concat().repeat(5_000));
    let shared = object.name("shared");
    let target = object.symbol(shared, FUNC, text, 0, 60_000 * 8);
    let mut relocations = Vec::new();
    for nth in 0..5_000 {
        let name = object.name(&format!("p{nth}"));
        object.symbol(name, FUNC, programs, nth * 16, 16);
        relocations.push((nth * 16, target));
    }
    object.relocations(programs, &relocations);
    object.section(".BTF", 0, BtfBuilder::new().encode(Endian::Little, false));
    let spec = read("programs", object).unwrap();
    assert_eq!(spec.programs.len(), 5_000);
}

/// Many declared maps, with a relocation to each and many other symbols.
#[test]
fn many_maps() {
    const COUNT: u64 = 8_000;
    let mut btf = BtfBuilder::new();
    let int = btf.add_int("int", 4, IntEncoding::SIGNED).unwrap();
    let array = btf.add_array(int, int, 2).unwrap();
    let number = btf.add_ptr(array).unwrap();
    let definition = btf.add_struct("", 8).unwrap();
    btf.add_member("type", number, 0, 0).unwrap();
    let vars: Vec<_> =
        (0..COUNT).map(|nth| btf.add_var(format!("m{nth}"), Linkage::GLOBAL, definition).unwrap()).collect();
    btf.add_datasec(".maps", 8 * COUNT as u32).unwrap();
    for (nth, &type_id) in (0..).zip(&vars) {
        btf.add_section_var(SectionVar { type_id, offset: nth * 8, size: 8 }).unwrap();
    }
    let mut object = Object::new();
    let load = Assembler::new().ld_imm64(Reg::R1, 0).finish().unwrap();
    let load = encode(&load, Endian::Little);
    let code = object.section("xdp", CODE, load.repeat(COUNT as usize));
    let maps = object.section(".maps", DATA, vec![0; 8 * COUNT as usize]);
    let name = object.name("program");
    object.symbol(name, FUNC, code, 0, COUNT * 16);
    let mut relocations = Vec::new();
    for nth in 0..COUNT {
        let other = object.name("m");
        object.symbol(other, OBJECT, maps, nth * 8, 8);
        let name = object.name(&format!("m{}", COUNT - 1 - nth));
        relocations.push((nth * 16, object.symbol(name, OBJECT, maps, nth * 8, 8)));
    }
    object.relocations(code, &relocations);
    object.section(".BTF", 0, btf.encode(Endian::Little, false));
    let spec = read("maps", object).unwrap();
    assert_eq!(spec.maps.len(), COUNT as usize);
    assert_eq!(spec.functions[0].references.len(), COUNT as usize);
}

/// One variable with a long name, declared many times over.
#[test]
fn a_long_name_in_types() {
    const COUNT: u32 = 60_000;
    let mut btf = BtfBuilder::new();
    let int = btf.add_int("int", 4, IntEncoding::SIGNED).unwrap();
    let type_id = btf.add_var(long(), Linkage::EXTERN, int).unwrap();
    btf.add_datasec(".ksyms", 4 * COUNT).unwrap();
    for _ in 0..COUNT {
        btf.add_section_var(SectionVar { type_id, offset: 0, size: 4 }).unwrap();
    }
    let mut object = Object::new();
    let code = object.section("xdp", CODE, EXIT.to_vec());
    let program = object.name("program");
    object.symbol(program, FUNC, code, 0, 8);
    let some_extern = object.name("some_extern");
    object.symbol(some_extern, 1 << 4, 0, 0, 0);
    object.section(".BTF", 0, btf.encode(Endian::Little, false));
    let error = read("types", object).unwrap_err();
    assert!(error.contains(".BTF"), "{error}");
}

/// Sections that all have the same bytes.
#[test]
fn sections_that_share_their_bytes() {
    let mut object = Object::new();
    let name = object.name(".data.x");
    object.section_at(name, DATA, vec![1; 500_000]);
    for _ in 0..8_000 {
        object.section_at(name, DATA, Vec::new());
    }
    let error = read_as("shared", object, |sections| {
        let first = sections[0].1;
        sections.iter_mut().take(8_000).for_each(|section| *section = (500_000, first));
    })
    .unwrap_err();
    assert!(error.contains("share"), "{error}");
}

#[test]
fn many_data_sections_and_variables() {
    const COUNT: u64 = 8_000;
    let mut object = Object::new();
    let section = object.name(".data.x");
    let variable = object.name("v");
    for _ in 0..COUNT {
        let data = object.section_at(section, DATA, vec![1; 8]);
        object.symbol(variable, OBJECT, data, 0, 8);
    }
    let spec = read("data", object).unwrap();
    assert_eq!((spec.maps.len(), spec.globals.len()), (COUNT as usize, COUNT as usize));
}

#[test]
fn many_programs() {
    const COUNT: u64 = 150_000;
    let mut object = Object::new();
    let code = object.section("xdp", CODE, EXIT.repeat(COUNT as usize));
    let name = object.name("p");
    for nth in 0..COUNT {
        object.symbol(name, FUNC, code, nth * 8, 8);
    }
    object.section(".BTF", 0, BtfBuilder::new().encode(Endian::Little, false));
    let spec = read("many programs", object).unwrap();
    assert_eq!(spec.programs.len(), COUNT as usize);
}

/// A section of zeroes has no bytes in the file, and says of itself how many it has.
#[test]
fn a_section_of_zeroes_that_is_larger_than_memory() {
    let bss = |size: u64, at: u64| {
        let mut object = Object::new();
        let section = object.section(".bss", DATA, Vec::new());
        object.sections[0].kind = 8;
        let name = object.name("far");
        object.symbol(name, OBJECT, section, at, 4);
        read_as("zeroes", object, |places| places[0].0 = size)
    };
    let error = bss(1 << 46, 0).unwrap_err();
    assert!(error.contains("do not fit a map's value"), "{error}");
    let mut spec = bss(0xffff_fff0, 0xf000_0000).expect("a map's value could have them");
    let resident = || {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or("0 kB");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number of KiB")
    };
    let before = resident();
    spec.set_global("far", &7u32).expect("it has four bytes");
    assert_eq!(spec.global::<u32>("far").expect("it has four bytes"), 7);
    assert!(resident() < before + (512 << 10), "{before} KiB became {}", resident());
}

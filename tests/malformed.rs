//! Objects with one thing wrong in them that libbpf refuses, or takes for something that it is not.

use std::fs;
use std::path::{Path, PathBuf};

use object::read::elf::{FileHeader, SectionHeader};
use object::{Endianness, elf};
use skep::btf::{Kind, Linkage, TypeId};
use skep::reloc::BtfTarget;
use skep::spec::{MapRole, SpecError};
use skep::sys::abi::MapFlags;
use skep::{Loader, Spec};

fn testdata(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(name)
}

/// A little-endian object of `testdata`, to be changed.
struct Object {
    name: &'static str,
    bytes: Vec<u8>,
}

impl Object {
    fn new(name: &'static str) -> Object {
        Object { name, bytes: fs::read(testdata(&format!("{name}.o"))).expect("testdata") }
    }

    /// Where the header of a section is, and where the section.
    fn section(&self, name: &str) -> (usize, usize, usize) {
        let data = &*self.bytes;
        let header = elf::FileHeader64::<Endianness>::parse(data).expect("an ELF header");
        let e = Endianness::Little;
        let table = header.sections(e, data).expect("sections");
        let (index, section) = table.section_by_name(e, name.as_bytes()).expect("the section");
        let start = header.e_shoff(e) as usize + index.0 * 64;
        (start, section.sh_offset(e) as usize, section.sh_size(e) as usize)
    }

    fn set(&mut self, at: usize, bytes: &[u8]) {
        self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
    }

    /// Gives a section other contents, at the end of the file.
    fn replace(&mut self, name: &str, contents: &[u8]) {
        let (header, ..) = self.section(name);
        let place = [self.bytes.len() as u64, contents.len() as u64].map(u64::to_le_bytes);
        self.set(header + 24, &place.concat());
        self.bytes.extend_from_slice(contents);
    }

    fn parse(&self) -> Result<Spec, SpecError> {
        Spec::parse(self.name, &self.bytes)
    }

    fn error(&self) -> String {
        self.parse().expect_err("an object that is refused").to_string()
    }
}

#[test]
fn a_relocation_of_a_section_without_instructions_is_refused() {
    let mut object = Object::new("tracepoint");
    let (header, ..) = object.section("tracepoint/sched/sched_process_exec");
    object.set(header + 32, &0u64.to_le_bytes());
    let error = object.error();
    assert!(
        error.contains("instruction") && error.contains("tracepoint/sched/sched_process_exec"),
        "{error}"
    );
}

#[test]
fn a_relocation_needs_its_symbol_also_where_no_function_is() {
    let mut object = Object::new("tracepoint");
    let (_, start, size) = object.section(".symtab");
    let functions: Vec<usize> =
        (start..start + size).step_by(24).filter(|at| object.bytes[at + 4] & 0xf == 2).collect();
    for at in functions {
        object.set(at + 4, &[1 << 4]);
    }
    let (_, start, _) = object.section(".reltracepoint/sched/sched_process_exec");
    object.set(start + 12, &0xffffu32.to_le_bytes());
    let error = object.error();
    assert!(error.contains("symbol 65535 of") && error.contains("does not exist"), "{error}");
}

/// How many programs of an object fit the kernel, and why the others do not.
fn survey(spec: &Spec) -> (usize, Vec<String>) {
    let kernel = BtfTarget::open(testdata("btf/6.18.btf")).expect("the fixture is BTF");
    let survey = spec.survey(&kernel).expect("it needs nothing that is missing");
    let failed = survey.failed.iter().map(|failed| failed.error.to_string()).collect();
    (survey.plan.programs.len(), failed)
}

/// A reference that leads nowhere belongs to the programs that reach it: the others load, as with libbpf.
#[test]
fn what_leads_nowhere_fails_the_programs_that_reach_it() {
    let cases: [(&str, i32, u8, u8, &str); 4] = [
        ("counts bytes", 0x110 - 1, 0x10, 0, "covers instruction 306: the call counts in bytes"),
        ("before .text", -200, 0x10, 0, "no function of .text covers instruction -"),
        ("an offset", -1, 0x10, 3, "a call with an offset"),
        ("a destination", -1, 0x13, 0, "a call with an offset or a destination"),
    ];
    for (what, imm, registers, off, reason) in cases {
        let mut object = Object::new("subprogs");
        let (_, start, _) = object.section("tc");
        object.set(start + 0x68 + 1, &[registers, off]);
        object.set(start + 0x68 + 4, &imm.to_le_bytes());
        let spec = object.parse().expect(what);
        let (fit, failed) = survey(&spec);
        assert!(fit > 0 && !failed.is_empty(), "{what}: {failed:?}");
        assert!(failed.iter().all(|error| error.contains(reason)), "{what}: {failed:?}");
        assert!(spec.to_string().contains(reason), "{what}");
    }
}

#[test]
fn a_load_that_is_marked_as_an_address_of_a_function_is_one() {
    let mut object = Object::new("xdp_count");
    let (_, relocations, _) = object.section(".relxdp");
    let at = u64::from_le_bytes(object.bytes[relocations..relocations + 8].try_into().expect("eight bytes"));
    let (_, start, _) = object.section("xdp");
    let registers = start + at as usize + 1;
    object.set(registers, &[object.bytes[registers] | 4 << 4]);
    let (_, failed) = survey(&object.parse().expect("opens"));
    assert!(failed.len() == 1 && failed[0].contains("marked as the address of a function"), "{failed:?}");
    object.set(relocations, &(at + 8).to_le_bytes());
    let error = object.error();
    assert!(error.contains("neither a call nor a 64-bit load"), "{error}");
}

#[test]
fn an_empty_second_text_is_not_where_functions_are() {
    let mut object = Object::new("subprogs");
    let whole = object.parse().expect("opens");
    // Some section that nothing needs becomes an empty one of that name.
    let (text, ..) = object.section(".text");
    let (addrsig, ..) = object.section(".llvm_addrsig");
    let header: [u8; 64] = object.bytes[text..text + 64].try_into().expect("a header");
    object.set(addrsig, &header);
    object.set(addrsig + 32, &0u64.to_le_bytes());
    assert_eq!(object.parse().expect("opens").functions, whole.functions);
}

#[test]
fn a_slot_names_a_map_and_not_its_section() {
    let mut object = Object::new("map_in_map");
    let (_, relocations, _) = object.section(".rel.maps");
    // The first symbol stands for a section already: that of the maps from now on.
    let (_, symbols, _) = object.section(".symtab");
    object.set(symbols + 24 + 6, &[5]);
    object.set(relocations + 12, &1u32.to_le_bytes());
    let error = object.error();
    assert!(error.contains("names the section"), "{error}");
}

#[test]
fn relocations_of_maps_apply_to_maps() {
    let mut object = Object::new("map_in_map");
    let (header, ..) = object.section(".rel.maps");
    object.set(header + 44, &0u32.to_le_bytes());
    let error = object.error();
    assert!(error.contains("`.rel.maps`") && error.contains("applies to"), "{error}");
}

#[test]
fn one_instruction_has_one_relocation() {
    let mut object = Object::new("maps_btf");
    let (_, start, _) = object.section(".relsocket");
    let first: [u8; 8] = object.bytes[start..start + 8].try_into().expect("eight bytes");
    object.set(start + 16, &first);
    let error = object.error();
    assert!(error.contains("two relocations"), "{error}");
}

#[test]
fn a_map_is_referred_to_without_an_offset() {
    let mut object = Object::new("maps_btf");
    let (_, relocations, _) = object.section(".relsocket");
    let at = u64::from_le_bytes(object.bytes[relocations..relocations + 8].try_into().expect("eight bytes"));
    let (_, code, _) = object.section("socket");
    // The upper half of the 64-bit load.
    object.set(code + at as usize + 12, &1u32.to_le_bytes());
    let error = object.error();
    assert!(error.contains("a map has no place at an offset"), "{error}");
}

/// Where a linker has said in BTF where maps are, a symbol beside them stands for none.
#[test]
fn a_symbol_beside_the_maps_is_none() {
    let mut object = Object::new("linked");
    let (_, symbols, len) = object.section(".symtab");
    let headers = u64::from_le_bytes(object.bytes[40..48].try_into().expect("e_shoff")) as usize;
    let maps = (object.section(".maps").0 - headers) / 64;
    // A variable (STT_OBJECT) of that section.
    let symbol = (symbols..symbols + len)
        .step_by(24)
        .find(|at| object.bytes[at + 4] & 0xf == 1 && usize::from(object.bytes[at + 6]) == maps);
    object.set(symbol.expect("the map's symbol") + 8, &8u64.to_le_bytes());
    let error = object.error();
    assert!(error.contains("no map is declared at byte 8"), "{error}");
}

#[test]
fn an_instruction_is_not_relocated_in_two_ways() {
    let mut object = Object::new("core_types");
    let (_, relocations, _) = object.section(".relsocket");
    let bytes = object.bytes.clone();
    let spec = object.parse().expect("testdata");
    let core = spec.functions.iter().flat_map(|function| {
        let start = u64::from(function.offset);
        function.core_relos.iter().map(move |relo| start + u64::from(relo.insn_off))
    });
    // Only 64-bit loads can be taken for either.
    let (_, code, _) = object.section("socket");
    let load = core.into_iter().find(|at| bytes[code + *at as usize * 8] == 0x18).expect("a type's id");
    object.set(relocations, &(load * 8).to_le_bytes());
    let error = object.error();
    assert!(error.contains("both a relocation and a CO-RE record"), "{error}");
}

/// Where the CO-RE records are lost, the code has the offsets of another kernel: libbpf loads it all the same.
#[test]
fn damaged_types_do_not_switch_core_relocation_off() {
    for (section, at) in [(".BTF", 0), (".BTF.ext", 2)] {
        let mut object = Object::new("core_direct");
        let (_, start, _) = object.section(section);
        object.set(start + at, &[0xff]);
        let error = object.error();
        assert!(error.contains(section), "{error}");
    }
}

#[test]
fn damaged_types_that_nothing_needs_are_left_out() {
    let mut object = Object::new("license_version");
    let (_, start, _) = object.section(".BTF");
    object.set(start, &[0]);
    let spec = object.parse().expect("an object without types");
    assert_eq!(spec.btf, None);
    assert!(spec.notes.iter().any(|note| note.contains(".BTF")), "{:?}", spec.notes);
}

/// As libbpf makes it: mappable, and with the type that its variables are found by.
#[test]
fn the_map_of_configuration_values_has_a_type() {
    let spec = Object::new("kconfig").parse().expect("testdata");
    let map = spec.map(".kconfig").expect("configuration values");
    assert_eq!(map.role, MapRole::Kconfig);
    assert_eq!(map.flags, MapFlags::RDONLY_PROG | MapFlags::MMAPABLE);
    let ty = spec.btf.as_ref().zip(map.value_type).map(|(btf, id)| btf.ty(id).expect("a type"));
    assert_eq!(
        ty.map(|ty| (ty.name().into_owned(), ty.size())),
        Some((".kconfig".to_owned(), map.value_size))
    );
}

/// Line records do not need function records: the kernel takes them alone, and its complaints name lines then.
#[test]
fn line_records_go_without_function_records() {
    let mut object = Object::new("license_version");
    let (_, start, _) = object.section(".BTF.ext");
    // func_info_len
    object.set(start + 12, &0u32.to_le_bytes());
    let spec = object.parse().expect("an object with line records only");
    let (sim, calls) = skep::sys::wrap::CallLog::around(skep::sim::kernel().backend_arc());
    let kernel = skep::Kernel::new(sim);
    Loader::new(&kernel).load(&spec).expect("the simulated kernel takes it");
    let loads = calls.take();
    let load = loads.iter().find(|call| call.command == "prog_load").expect("a load");
    assert!(load.arguments.contains(" btf "), "{load}");
}

/// Blocks of one kind of record: the name of each one's section, its records.
type Blocks = Vec<(u32, Vec<Vec<u8>>)>;

/// An object whose records of one kind (0: functions, 1: lines, 2: CO-RE) are changed.
fn with_records(name: &'static str, kind: usize, change: impl FnOnce(&mut Blocks)) -> Spec {
    let mut object = Object::new(name);
    let (_, start, size) = object.section(".BTF.ext");
    let old = &object.bytes[start..start + size];
    let word = |at: usize| u32::from_le_bytes(old[at..at + 4].try_into().expect("four bytes"));
    let at = (word(4) + word(8 + 8 * kind)) as usize;
    let (end, record_size) = (at + word(12 + 8 * kind) as usize, word(at) as usize);
    let (mut blocks, mut next) = (Blocks::new(), at + 4);
    while next < end {
        let (section, len) = (word(next), word(next + 4) as usize * record_size);
        let records = old[next + 8..next + 8 + len].chunks_exact(record_size);
        blocks.push((section, records.map(<[u8]>::to_vec).collect()));
        next += 8 + len;
    }
    change(&mut blocks);
    // What is new comes last.
    let mut part = word(at).to_le_bytes().to_vec();
    for (section, records) in blocks {
        part.extend([section, records.len() as u32].map(u32::to_le_bytes).concat());
        part.extend(records.concat());
    }
    let mut ext = old.to_vec();
    let place = [(size as u32) - word(4), part.len() as u32].map(u32::to_le_bytes).concat();
    ext[8 + 8 * kind..16 + 8 * kind].copy_from_slice(&place);
    ext.extend(part);
    object.replace(".BTF.ext", &ext);
    object.parse().expect(name)
}

/// Function and line records that are there more than once: libbpf takes the first block of a section, and of it those up to
/// the first that lies behind the function. A kernel takes none that are out of order.
#[test]
fn records_of_functions_and_lines_count_once() {
    type Change = fn(&mut Blocks);
    let changes: [(&str, Change); 6] = [
        ("blocks twice", |all| all.extend(all.clone())),
        ("the first of each again", |all| {
            all.extend(all.clone().into_iter().map(|(section, records)| (section, records[..1].to_vec())));
        }),
        ("others of the same instructions", |all| {
            let other = |record: Vec<u8>| [&record[..4], &1u32.to_le_bytes(), &record[8..]].concat();
            let others = all.clone().into_iter();
            all.extend(others.map(|(section, records)| (section, records.into_iter().map(other).collect())));
        }),
        ("each block's records twice", |all| {
            all.iter_mut().for_each(|(_, records)| records.extend(records.clone()));
        }),
        ("each record twice", |all| {
            for (_, records) in all {
                *records = records.iter().flat_map(|record| [record.clone(), record.clone()]).collect();
            }
        }),
        ("backwards", |all| all.iter_mut().for_each(|(_, records)| records.reverse())),
    ];
    let whole = Object::new("callbacks").parse().expect("opens");
    assert!(whole.notes.iter().all(|note| !note.contains(".BTF.ext")), "{:?}", whole.notes);
    for (what, change) in changes {
        for (kind, noun) in [(0, "function records"), (1, "line records")] {
            let spec = with_records("callbacks", kind, change);
            assert_eq!(spec.functions, whole.functions, "{what}: {noun}");
            let note = spec.notes.iter().any(|note| note.contains(noun) && note.contains("left out"));
            assert_eq!(note, what != "backwards", "{what}: {:?}", spec.notes);
        }
    }
}

/// Where the first block of a section says nothing of a function, a later one does.
#[test]
fn what_only_a_later_block_describes_is_described() {
    let whole = Object::new("callbacks").parse().expect("opens");
    for kind in [0, 1] {
        let spec = with_records("callbacks", kind, |all| {
            let (section, records) =
                all.iter_mut().max_by_key(|(_, records)| records.len()).expect("a block");
            let (section, rest) = (*section, records.split_off(1));
            all.push((section, rest));
        });
        let differ = spec.functions.iter().zip(&whole.functions).filter(|(one, other)| one != other).count();
        // Of the lines of the first function only the first is left.
        assert_eq!(differ, kind, "records of kind {kind}");
    }
}

#[test]
fn an_instruction_is_relocated_for_one_field() {
    let twice = |name| with_records(name, 2, |all| all.extend(all.clone()));
    let (fit, failed) = survey(&twice("core_fields"));
    assert_eq!(fit, survey(&Object::new("core_fields").parse().expect("opens")).0 - failed.len());
    assert!(!failed.is_empty());
    for error in failed {
        assert!(error.contains("another CO-RE record has changed it before"), "{error}");
    }
    // Those that leave an instruction as it was, or that find nothing, may be there twice.
    let kernel = BtfTarget::open(testdata("btf/6.18.btf")).expect("the fixture is BTF");
    let plan = |spec: Spec| spec.survey(&kernel).expect("it needs nothing that is missing").plan;
    let once = plan(Object::new("core_types").parse().expect("opens"));
    for program in plan(twice("core_types")).programs {
        let same = once.programs.iter().find(|other| other.name == program.name).expect("the same program");
        assert_eq!(program.insns, same.insns, "{}", program.name);
    }
}

/// What some options make that no loader takes is named with the option.
#[test]
fn options_that_make_no_object_are_named() {
    let mut object = Object::new("subprogs");
    let (header, ..) = object.section(".text");
    let (_, start, size) = object.section(".strtab");
    let names = [&object.bytes[start..start + size], b".text.x\0"].concat();
    object.replace(".strtab", &names);
    object.set(header, &(size as u32).to_le_bytes());
    let error = object.error();
    assert!(error.contains("`.text.x`") && error.contains("without -ffunction-sections"), "{error}");

    const SHN_COMMON: u16 = 0xfff2;
    let mut object = Object::new("subprogs");
    let (_, symbols, size) = object.section(".symtab");
    let variable = (symbols..symbols + size).step_by(24).find(|at| object.bytes[at + 4] & 0xf == 1);
    object.set(variable.expect("a variable") + 6, &SHN_COMMON.to_le_bytes());
    let (header, ..) = object.section(".bss");
    object.set(header + 32, &0u64.to_le_bytes());
    let error = object.error();
    assert!(error.contains("`.bss`") && error.contains("-fno-common"), "{error}");
}

/// A variable that is neither static nor extern is that of a symbol, and static where the symbol is hidden.
#[test]
fn a_hidden_variable_is_static_whatever_its_linkage() {
    const VAR: u32 = 14 << 24;
    const STV_HIDDEN: u8 = 2;
    let mut object = Object::new("globals");
    let word = |object: &Object, at: usize| {
        u32::from_le_bytes(object.bytes[at..at + 4].try_into().expect("four bytes"))
    };
    let (_, start, size) = object.section(".BTF");
    let strings = start + (word(&object, start + 4) + word(&object, start + 16)) as usize;
    let global = |at: &usize| word(&object, at + 4) == VAR && word(&object, at + 12) == 1;
    let var = (start + 24..start + size).step_by(4).find(global).expect("a global variable");
    let name_at = strings + word(&object, var) as usize;
    let name = object.bytes[name_at..].split(|byte| *byte == 0).next().expect("a name").to_vec();
    let (_, names, _) = object.section(".strtab");
    let (_, symbols, size) = object.section(".symtab");
    let named = |at: &usize| {
        object.bytes[names + word(&object, *at) as usize..].starts_with(&[&*name, b"\0"].concat())
    };
    let symbol = (symbols..symbols + size).step_by(24).find(named).expect("its symbol");
    object.set(symbol + 5, &[STV_HIDDEN]);
    object.set(var + 12, &[9]);
    let spec = object.parse().expect("opens");
    let types = spec.btf.as_ref().expect("it has types").types();
    let var =
        types.into_iter().find(|ty| ty.kind() == Kind::VAR && ty.name_bytes() == name).expect("the variable");
    assert_eq!(var.linkage(), Some(Linkage::STATIC));
}

/// libbpf's static linker left what a file declares and the next one defines at offset 0, up to its version 1.1 at least.
#[test]
fn what_a_linker_leaves_at_zero_is_where_its_symbol_is() {
    const DATASEC: u32 = 15;
    for name in ["linked", "maps_order"] {
        let mut object = Object::new(name);
        let whole = object.parse().expect(name);
        let (_, start, size) = object.section(".BTF");
        let bytes = object.bytes.clone();
        let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
        let strings = start + (word(start + 4) + word(start + 16)) as usize;
        let mut moved = 0;
        for at in (start + 24..start + size - 12).step_by(4) {
            let (kind, vars) = (word(at + 4) >> 24, word(at + 4) & 0xffff);
            if kind != DATASEC || bytes.get(strings + word(at) as usize) != Some(&b'.') {
                continue;
            }
            for entry in (0..vars as usize).map(|nth| at + 12 + 12 * nth) {
                let var = whole.btf.as_ref().and_then(|btf| btf.ty(TypeId(word(entry))).ok());
                if var.is_some_and(|var| var.linkage() == Some(Linkage::GLOBAL)) && word(entry + 4) != 0 {
                    object.set(entry + 4, &[0; 4]);
                    moved += 1;
                }
            }
        }
        assert!(moved > 0, "{name}: nothing of it was moved");
        let spec = object.parse().expect(name);
        assert_eq!(spec.maps, whole.maps, "{name}");
        assert_eq!(spec.globals, whole.globals, "{name}");
        assert_eq!(spec.functions, whole.functions, "{name}");
        let types = |spec: &Spec| spec.btf.as_ref().map(|btf| btf.bytes().to_vec());
        assert_eq!(types(&spec), types(&whole), "{name}");
    }
}

use skep::asm::{Reg, Size};
use skep::map::Map;
use skep::program::ProgramBuilder;
use skep::sys::Kernel;
use skep::sys::abi::{MapType, ProgType};
use skep::sys::request::MapCreate;

use super::building::types;
use super::{returning, skip};

pub(super) fn with_source(kernel: &Kernel) {
    let (btf, func, lines) = types();
    let mut builder = ProgramBuilder::new(ProgType::SOCKET_FILTER, "GPL");
    builder.name("source").types(btf).func_info([func]).line_info(lines);
    builder.asm().mov64_imm(Reg::R1, 1).mov64_imm(Reg::R0, 0).exit();
    let dump = builder.load(kernel).unwrap().xlated().unwrap();
    assert_eq!(
        dump.to_string(),
        "entry:\n\
         ; int number = 1; [file:made/by.hand line_num:4 line_col:2]\n   0: (b7) r1 = 1\n\
         ; return *(int *)number; [file:made/by.hand line_num:5 line_col:2]\n   1: (b7) r0 = 0\n   2: (95) exit\n"
    );
    assert_eq!((dump.functions.len(), dump.functions[0].start, dump.functions[0].len), (1, 0, 3));
    let sources: Vec<_> = dump.entries().map(|entry| entry.source.map(|source| source.line)).collect();
    assert_eq!(sources, [Some(4), Some(5), None]);

    // Without records there are instructions only.
    let plain = returning(kernel, "plain", 3).xlated().unwrap();
    assert_eq!(plain.to_string(), "   0: (b7) r0 = 3\n   1: (95) exit\n");
    assert!(plain.functions.is_empty() && plain.lines.is_empty());
}

pub(super) fn with_names(kernel: &Kernel) {
    const KTIME_GET_NS: i32 = 5;
    let mut request = MapCreate::new(MapType::ARRAY, 4, 16, 1);
    request.name = "totals";
    let totals = Map::create(kernel, &request).unwrap();
    let mut builder = ProgramBuilder::new(ProgType::SCHED_CLS, "GPL");
    builder.name("names").load_map_value(Reg::R6, &totals, 8);
    builder.load_map(Reg::R1, &totals);
    builder
        .asm()
        .call_helper(KTIME_GET_NS)
        .stx(Size::DW, Reg::R6, 0, Reg::R0)
        .call("sub")
        .exit()
        .label("sub")
        .mov64_imm(Reg::R0, 0)
        .exit();
    let dump = builder.load(kernel).unwrap().xlated().unwrap();
    let id = totals.id().unwrap();
    assert_eq!(dump.maps().get(&id).map(String::as_str), Some("totals"));
    let texts: Vec<String> = dump.entries().map(|entry| entry.text).collect();
    assert_eq!(texts[0], format!("(18) r6 = map[id:{id}][0]+8"));
    assert_eq!(texts[1], format!("(18) r1 = map[id:{id}]"));
    assert!(texts[2].starts_with("(85) call bpf_ktime_get_ns#"), "{}", texts[2]);
    assert!(texts[4].starts_with("(85) call pc+1"), "{}", texts[4]);
    assert!(format!("{dump:#}").contains(&format!("r1 = map[id:{id} totals]\n")), "{dump:#}");
    let indexes: Vec<u32> = dump.entries().map(|entry| entry.index).collect();
    assert_eq!(indexes, [0, 2, 4, 5, 6, 7, 8, 9]);
}

pub(super) fn machine_code(kernel: &Kernel) {
    let (btf, func, lines) = types();
    let mut builder = ProgramBuilder::new(ProgType::SOCKET_FILTER, "GPL");
    builder.name("compiled").types(btf).func_info([func]).line_info(lines);
    builder.asm().mov64_imm(Reg::R1, 1).mov64_imm(Reg::R0, 0).exit();
    let program = builder.load(kernel).unwrap();
    let (jited, info) = (program.jited().unwrap(), program.info().unwrap());
    let len: usize = jited.functions.iter().map(|function| function.code.len()).sum();
    assert_eq!(len, info.jited_len as usize);
    if jited.functions.is_empty() {
        assert_eq!(jited.to_string(), "");
        return skip("machine code", "this kernel interprets");
    }
    let [function] = jited.functions.as_slice() else { panic!("{jited:?}") };
    assert_eq!(function.name, "entry");
    let text = jited.to_string();
    if let Some(address) = function.address {
        assert!(text.starts_with(&format!("entry: # {address:#x}\n")), "{text}");
        assert_eq!(function.lines.len(), 2);
        let dump = program.loaded().dump().unwrap();
        for (line, at) in function.lines.iter().zip(&dump.jited_line_info) {
            assert_eq!(address + line.offset as u64, *at);
        }
        assert!(
            text.contains("; return *(int *)number; [file:made/by.hand line_num:5 line_col:2]\n"),
            "{text}"
        );
    } else {
        skip("addresses of machine code", "this kernel hides them");
    }
    let rows = text.lines().filter_map(|line| line.strip_prefix(' ')?.split_once(": "));
    let bytes = rows.flat_map(|(_, bytes)| bytes.split(' '));
    assert_eq!(bytes.count(), len, "{text}");
}

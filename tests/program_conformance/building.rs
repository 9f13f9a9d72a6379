use skep::asm::{Cond, Reg, Size};
use skep::btf::{Btf, BtfBuilder, FuncInfo, IntEncoding, Kind, LineInfo, Linkage};
use skep::program::ProgramBuilder;
use skep::sys::Kernel;
use skep::sys::abi::{AttachType, Errno, MapType, ProgType};
use skep::{Error, ErrorKind};

use super::{chain, map, returning, skip};

const MAP_LOOKUP_ELEM: i32 = 1;

pub(super) fn with_maps(kernel: &Kernel) {
    let hash = map(kernel, MapType::HASH, 4, 8, 4);
    let array = map(kernel, MapType::ARRAY, 4, 16, 1);
    let mut builder = ProgramBuilder::new(ProgType::SOCKET_FILTER, "GPL");
    builder.name("with maps, and a long name");
    builder.asm().st(Size::W, Reg::R10, -4, 7).mov64_reg(Reg::R2, Reg::R10).add64_imm(Reg::R2, -4);
    builder.load_map(Reg::R1, &hash);
    builder.asm().call_helper(MAP_LOOKUP_ELEM).jmp64_imm(Cond::Eq, Reg::R0, 0, "none");
    builder.load_map_value(Reg::R1, &array, 8);
    builder.asm().ldx(Size::DW, Reg::R0, Reg::R1, 0).label("none").exit();
    let program = builder.load(kernel).unwrap();

    let info = program.info().unwrap();
    let mut ids = info.map_ids.clone();
    ids.sort();
    let mut expected = [hash.id().unwrap(), array.id().unwrap()];
    expected.sort();
    assert_eq!(ids, expected);
    assert_eq!((info.prog_type, program.prog_type()), (ProgType::SOCKET_FILTER, ProgType::SOCKET_FILTER));
    assert_eq!((program.name(), info.name.as_str()), ("with maps, and a long name", "with_maps__and_"));
    assert_eq!((program.section(), program.log()), ("", ""));
    assert_eq!(program.instruction_count(), 11);
    assert!(program.kernel().same(kernel));

    // The program keeps them alive, and the builder can be used again.
    let second = builder.log_level(1).load(kernel).unwrap();
    assert_eq!(second.info().unwrap().tag, info.tag);
    assert!(second.log().contains("processed "), "{}", second.log());
    let hash_id = expected[0];
    drop((hash, array, builder, second));
    assert_eq!(kernel.map_by_id(hash_id, Default::default()).map(drop), Ok(()));
}

/// Types of a function `entry`, and a source line for it.
pub(super) fn types() -> (Btf, FuncInfo, [LineInfo; 2]) {
    let mut btf = BtfBuilder::new();
    let int = btf.add_int("int", 4, IntEncoding::SIGNED).unwrap();
    let proto = btf.add_func_proto(int).unwrap();
    let type_id = btf.add_func("entry", Linkage::STATIC, proto).unwrap();
    let file_off = btf.add_str("made/by.hand").unwrap();
    let lines = ["int number = 1;", "return *(int *)number;"];
    let mut line = 3;
    let lines = lines.map(|text| {
        line += 1;
        LineInfo { insn_off: line - 4, file_off, line_off: btf.add_str(text).unwrap(), line, col: 2 }
    });
    (btf.finish().unwrap(), FuncInfo { insn_off: 0, type_id }, lines)
}

pub(super) fn with_records(kernel: &Kernel) {
    let (btf, func, lines) = types();
    let mut builder = ProgramBuilder::new(ProgType::SOCKET_FILTER, "GPL");
    builder.name("records").types(btf).func_info([func]).line_info(lines);
    builder.asm().mov64_imm(Reg::R1, 1).mov64_imm(Reg::R0, 0).exit();
    let info = builder.load(kernel).unwrap().info().unwrap();
    assert_eq!((info.nr_func_info, info.nr_line_info), (1, 2));
    assert_ne!(info.btf_id.0, 0);
}

pub(super) fn verifier_errors(kernel: &Kernel) {
    let (btf, func, lines) = types();
    let mut builder = ProgramBuilder::new(ProgType::SOCKET_FILTER, "GPL");
    builder.name("bad").types(btf).func_info([func]).line_info(lines);
    builder.asm().mov64_imm(Reg::R1, 1).call_helper(9999).exit();
    let error = builder.load(kernel).unwrap_err();
    assert_eq!((error.kind(), error.errno()), (ErrorKind::Verifier, Some(Errno::EINVAL)));
    let text = chain(&error);
    for part in [
        "load program `bad`: program `bad` (socket_filter): the kernel did not take it",
        "invalid func unknown#9999",
        "at instruction 1, entry: call 0x270f",
        "made/by.hand:5:2: return *(int *)number;",
    ] {
        assert!(text.contains(part), "no {part:?} in {text}");
    }
    let log = error.verifier_log().unwrap();
    assert!(log.contains("call unknown#9999") && log.contains("processed "), "{log}");
}

pub(super) fn what_does_not_fit_together(kernel: &Kernel) {
    let mut builder = ProgramBuilder::new(ProgType::SOCKET_FILTER, "GPL");
    builder.name("nowhere").asm().ja("nowhere").exit();
    let error = builder.load(kernel).unwrap_err();
    assert_eq!((error.kind(), error.errno(), error.verifier_log()), (ErrorKind::InvalidInput, None, None));
    assert!(chain(&error).contains("nowhere"), "{}", chain(&error));

    let other = skep::sim::kernel();
    let foreign = map(&other, MapType::ARRAY, 4, 4, 1);
    let mut builder = ProgramBuilder::new(ProgType::SOCKET_FILTER, "GPL");
    builder.name("foreign").load_map(Reg::R1, &foreign).asm().mov64_imm(Reg::R0, 0).exit();
    let error = builder.load(kernel).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(chain(&error).contains("belongs to another kernel"), "{}", chain(&error));

    let empty = ProgramBuilder::new(ProgType::SOCKET_FILTER, "GPL").load(kernel).unwrap_err();
    assert_eq!(empty.errno(), Some(Errno::E2BIG));
}

pub(super) fn what_the_kernel_lacks(kernel: &Kernel) {
    let lacking = |builder: &mut ProgramBuilder| {
        builder.name("lacking").asm().mov64_imm(Reg::R0, 0).exit();
        builder.load(kernel).unwrap_err()
    };
    let has_types = kernel.btf().is_ok();
    let mut builder = ProgramBuilder::new(ProgType::SCHED_CLS, "GPL");
    let error = lacking(builder.call_kfunc("skep_no_such_function"));
    let part = if has_types {
        "FUNC `skep_no_such_function`: neither this kernel nor"
    } else {
        "types of the kernel"
    };
    assert!(chain(&error).contains(part), "{}", chain(&error));
    let mut builder = ProgramBuilder::new(ProgType::SCHED_CLS, "GPL");
    let error = lacking(builder.load_ksym(Reg::R1, "skep_no_such_variable"));
    assert!(chain(&error).contains("VAR `skep_no_such_variable`"), "{}", chain(&error));
    let mut builder = ProgramBuilder::new(ProgType::TRACING, "GPL");
    builder.expected_attach_type(AttachType::TRACE_RAW_TP);
    let error = lacking(builder.attach_to("skep_no_such_tracepoint"));
    assert!(chain(&error).contains("`skep_no_such_tracepoint`, which it attaches to: "), "{}", chain(&error));
    assert!(!has_types || error.kind() == ErrorKind::Unsupported);
}

pub(super) fn for_a_tracepoint(kernel: &Kernel) {
    let mut builder = ProgramBuilder::new(ProgType::RAW_TRACEPOINT, "GPL");
    builder.name("raw").attach_to("sched_process_exec").asm().mov64_imm(Reg::R0, 0).exit();
    let program = builder.load(kernel).unwrap();
    drop(program.attach().unwrap());

    // The same as a program with types. Not every kernel has them.
    let mut builder = ProgramBuilder::new(ProgType::TRACING, "GPL");
    builder.name("typed").expected_attach_type(AttachType::TRACE_RAW_TP).attach_to("sched_process_exec");
    builder.asm().mov64_imm(Reg::R0, 0).exit();
    match builder.load(kernel) {
        Ok(program) => {
            assert_eq!(program.attach_type(), AttachType::TRACE_RAW_TP);
            drop(program.attach().unwrap());
            let info = program.info().unwrap();
            let told = kernel.btf().is_ok_and(|btf| {
                let info = btf.find(b"bpf_prog_info", Kind::STRUCT).and_then(|id| btf.ty(id).ok());
                info.is_some_and(|info| info.members().any(|member| member.name_bytes() == b"attach_btf_id"))
            });
            if info.attach_btf_id == 0 {
                assert!(!told, "it names what it attaches to");
                skip("what a program attaches to", "this kernel does not tell (Linux 5.17)");
            } else {
                assert_ne!(info.attach_btf_obj_id.0, 0);
            }
            // Who opens it can attach it, too.
            let opened = skep::Program::by_id(kernel, info.id).unwrap();
            assert_eq!(opened.attach_type(), AttachType(0));
            drop(opened.attach().unwrap());
        }
        Err(error) if kernel.btf().is_err() => skip("BTF tracepoints", chain(&error)),
        Err(error) => panic!("{}", chain(&error)),
    }

    let error = returning(kernel, "plain", 0).attach().unwrap_err();
    assert!(matches!(error, Error::NotAttachable { .. }));
    assert_eq!(
        error.to_string(),
        "program `plain` cannot attach by itself: nothing names what it is to attach to"
    );
}

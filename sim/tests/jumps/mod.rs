//! Indirect jumps: what a kernel checks of them and of their tables, and where they lead.

use std::os::fd::{AsFd, AsRawFd};

use skep_asm::{Assembler, Cond, Insn, Reg, Size, opcode};
use skep_sys::abi::{Errno, MapFlags, MapType, ProgType, UpdateFlags};
use skep_sys::request::{LogBuffer, MapCreate, ProgLoad, TestRun};
use skep_sys::{Feature, Kernel, LoadedProgram, MapFd};

/// A map of instructions with these indexes.
fn table(kernel: &Kernel, places: &[u32], frozen: bool) -> MapFd {
    let request = MapCreate::new(MapType::INSN_ARRAY, 4, 16, places.len() as u32);
    let map = kernel.map_create(&request).unwrap();
    for (index, place) in (0u32..).zip(places) {
        let mut value = [0; 16];
        value[..4].copy_from_slice(&place.to_ne_bytes());
        map.update(&index.to_ne_bytes(), &value, UpdateFlags::empty()).unwrap();
    }
    if frozen {
        map.freeze().unwrap();
    }
    map
}

/// The program, or the errno and the last line of the log.
fn load(kernel: &Kernel, insns: &[Insn]) -> Result<LoadedProgram, (Errno, String)> {
    let mut log = LogBuffer::new(1, 1 << 16);
    kernel.prog_load(&ProgLoad::new(ProgType::RAW_TRACEPOINT, insns, "GPL"), Some(&mut log)).map_err(
        |errno| {
            let text = log.text();
            let last = text.lines().rfind(|line| !line.starts_with("processed "));
            (errno, last.unwrap_or_default().to_owned())
        },
    )
}

/// Jumps by the first argument to what the table says, which it takes from `off` on. Two places: 8 answers 1, 10 answers 2.
fn jump(map: &MapFd, off: i32) -> Vec<Insn> {
    let mut asm = Assembler::new();
    asm.ldx(Size::DW, Reg::R1, Reg::R1, 0)
        .and64_imm(Reg::R1, 1)
        .lsh64_imm(Reg::R1, 3)
        .ld_map_value(Reg::R2, map.as_fd().as_raw_fd(), off)
        .add64_reg(Reg::R2, Reg::R1)
        .ldx(Size::DW, Reg::R2, Reg::R2, 0)
        .gotox(Reg::R2)
        .mov64_imm(Reg::R0, 1)
        .exit()
        .mov64_imm(Reg::R0, 2)
        .exit();
    asm.finish().unwrap()
}

fn run(program: &LoadedProgram, argument: u64) -> u32 {
    let context = argument.to_ne_bytes();
    let mut run = TestRun::default();
    run.ctx_in = &context;
    program.test_run(&mut run).unwrap().retval
}

fn place(map: &MapFd, index: u32) -> [u32; 3] {
    let mut value = [0; 16];
    map.lookup(&index.to_ne_bytes(), &mut value, Default::default()).unwrap();
    let word = |at: usize| u32::from_ne_bytes(value[at..at + 4].try_into().unwrap());
    [word(0), word(4), word(8)]
}

/// Everything; the reason when the kernel has no indirect jumps.
pub(crate) fn check(kernel: &Kernel) -> Result<(), String> {
    if kernel.has(Feature::MapType(MapType::INSN_ARRAY)).is_unsupported() {
        let refused = load(kernel, &[Insn::new(opcode::GOTOX, Reg::R1, Reg::R0, 0, 0)]).unwrap_err();
        assert_eq!(refused.0, Errno::EINVAL);
        return Err("this kernel has no indirect jumps (Linux 6.19)".to_owned());
    }
    executed(kernel);
    tables(kernel);
    structure(kernel);
    Ok(())
}

fn executed(kernel: &Kernel) {
    let map = table(kernel, &[8, 10], true);
    assert_eq!(place(&map, 1), [10, 0, 0]);
    assert_eq!(map.info().unwrap().flags, MapFlags::RDONLY_PROG);
    let program = load(kernel, &jump(&map, 0)).unwrap();
    assert_eq!([run(&program, 0), run(&program, 1), run(&program, 6)], [1, 2, 1]);
    assert_eq!(place(&map, 1)[..2], [10, 10], "nothing was moved");

    // Entries that are the same, and one that is nobody's.
    let map = table(kernel, &[8, 10, 8, 8], true);
    let program = load(kernel, &jump(&map, 8)).unwrap();
    assert_eq!([run(&program, 0), run(&program, 1)], [2, 1]);

    // In a function that is called, with a jump back.
    let map = table(kernel, &[6, 11, 13], true);
    let mut asm = Assembler::new();
    let fd = map.as_fd().as_raw_fd();
    asm.ldx(Size::DW, Reg::R1, Reg::R1, 0) // 0
        .call("function") // 1
        .exit() // 2
        .label("function")
        .mov64_imm(Reg::R0, 5) // 3
        .jmp64_imm(Cond::Gt, Reg::R1, 2, "out") // 4
        .ja("choose") // 5
        .add64_imm(Reg::R0, 10) // 6
        .mov64_imm(Reg::R1, 1) // 7
        .ja("choose") // 8
        .label("out")
        .mov64_imm(Reg::R0, 9) // 9
        .exit() // 10
        .add64_imm(Reg::R0, 100) // 11
        .mov64_imm(Reg::R1, 2) // 12
        .add64_imm(Reg::R0, 1000) // 13
        .exit() // 14
        .label("choose")
        .lsh64_imm(Reg::R1, 3) // 15
        .ld_map_value(Reg::R2, fd, 0) // 16
        .add64_reg(Reg::R2, Reg::R1) // 18
        .ldx(Size::DW, Reg::R2, Reg::R2, 0) // 19
        .gotox(Reg::R2); // 20
    match load(kernel, &asm.finish().unwrap()) {
        Ok(program) => {
            assert_eq!([0, 1, 2, 3].map(|argument| run(&program, argument)), [1115, 1105, 1005, 9])
        }
        refused => panic!("{refused:?}"),
    }
}

fn tables(kernel: &Kernel) {
    const INIT: &str = "Failed to properly initialize insn array";
    let refused = |places: &[u32], frozen, off| {
        load(kernel, &jump(&table(kernel, places, frozen), off)).map(drop).unwrap_err()
    };
    let init = |errno| (errno, INIT.to_owned());
    assert_eq!(refused(&[8, 10], false, 0), init(Errno::EINVAL), "not frozen");
    assert_eq!(refused(&[8, 12], true, 0), init(Errno::EINVAL), "behind the program");
    assert_eq!(refused(&[8, 4], true, 0), init(Errno::EINVAL), "into an instruction");
    for off in [4, 16] {
        let text = format!("invalid access to map value pointer, value_size=16 off={off}");
        assert_eq!(refused(&[8, 10], true, off), (Errno::EACCES, text));
    }
    let map = table(kernel, &[8, 10], true);
    let program = load(kernel, &jump(&map, 0)).unwrap();
    assert_eq!(load(kernel, &jump(&map, 0)).map(drop), Err(init(Errno::EBUSY)));
    drop(program);
    assert_eq!(load(kernel, &jump(&map, 0)).map(drop), Err(init(Errno::EBUSY)), "it is for one program ever");
    // A program that was refused does not keep it.
    let map = table(kernel, &[8, 10], true);
    let mut insns = jump(&map, 0);
    insns[9] = Insn::new(0xff, Reg::R0, Reg::R0, 0, 0);
    assert!(load(kernel, &insns).is_err());
    assert!(load(kernel, &jump(&map, 0)).is_ok());
}

fn structure(kernel: &Kernel) {
    let gotox = |off, imm, src| Insn::new(opcode::GOTOX, Reg::R2, src, off, imm);
    let changed = |insn: Insn| {
        let map = table(kernel, &[8, 10], true);
        let mut insns = jump(&map, 0);
        insns[7] = insn;
        load(kernel, &insns).map(drop).unwrap_err()
    };
    let reserved = (Errno::EINVAL, "BPF_JA|BPF_X uses reserved fields".to_owned());
    assert_eq!(changed(gotox(1, 0, Reg::R0)), reserved);
    assert_eq!(changed(gotox(0, 1, Reg::R0)), reserved);
    assert_eq!(changed(gotox(0, 0, Reg::R1)), reserved);
    let mov = Insn::new(0xb7, Reg::R0, Reg::R0, 0, 0);
    let exit = Insn::new(opcode::EXIT, Reg::R0, Reg::R0, 0, 0);
    let none = (Errno::EINVAL, "no jump tables found for subprog starting at 0".to_owned());
    assert_eq!(load(kernel, &[mov, gotox(0, 0, Reg::R0), mov, exit]).map(drop), Err(none.clone()));
    assert_eq!(load(kernel, &[mov, gotox(0, 0, Reg::R0)]).map(drop), Err(none));
    // A table with a place in another function, and one that has all of them there.
    let outside = |places: &[u32]| {
        let map = table(kernel, places, true);
        let mut insns = jump(&map, 0);
        insns[8] = Insn::new(opcode::CALL, Reg::R0, Reg::R1, 0, 3);
        insns.extend([mov, exit]);
        load(kernel, &insns).map(drop).unwrap_err()
    };
    let text = "jump table for insn 7 points outside of the subprog [0,12]";
    assert_eq!(outside(&[8, 12]), (Errno::EINVAL, text.to_owned()));
    let text = "no jump tables found for subprog starting at 0";
    assert_eq!(outside(&[12, 13]), (Errno::EINVAL, text.to_owned()));
}

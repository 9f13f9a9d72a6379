//! What a program does in an arena, and what user space sees of it.

pub(crate) mod pages;

use std::os::fd::{AsFd, AsRawFd};

use skep_asm::{Assembler, AtomicOp, Cond, Reg, Size};
use skep_btf::Kind;
use skep_sys::Kernel;
use skep_sys::abi::{MapFlags, MapType, ProgFlags, ProgType};
use skep_sys::request::{LogBuffer, MapCreate, ProgLoad, TestRun};

pub(crate) const ALLOC: &str = "bpf_arena_alloc_pages";
const PAGES: u32 = 4;

/// Whether the kernel has arenas; with them, checks what programs do there.
pub(crate) fn check(kernel: &Kernel) -> Result<(), String> {
    let mut request = MapCreate::new(MapType::ARENA, 0, 0, PAGES);
    request.flags = MapFlags::MMAPABLE;
    let map = kernel.map_create(&request).map_err(|errno| format!("arenas: {errno}"))?;
    let btf = kernel.btf().map_err(|error| error.to_string())?;
    let alloc = btf.types().find(|ty| ty.kind() == Kind::FUNC && ty.name() == ALLOC);
    let alloc = alloc.ok_or("no function for pages of arenas")?.id().0.cast_signed();
    let fd = map.as_fd().as_raw_fd();
    let load = |asm: &Assembler| {
        let insns = asm.finish().unwrap();
        let mut request = ProgLoad::new(ProgType::SYSCALL, &insns, "GPL");
        request.flags = ProgFlags::SLEEPABLE;
        let mut log = LogBuffer::new(1, 1 << 16);
        kernel.prog_load(&request, Some(&mut log)).map_err(|errno| format!("{errno}: {}", log.text()))
    };
    let mut early = Assembler::new();
    early.ld_map_fd(Reg::R1, fd).mov64_imm(Reg::R0, 0).exit();
    let text = load(&early).unwrap_err();
    assert!(text.contains("arena's user address must be set via map_extra or mmap()"), "{text}");

    let memory = map.mmap(0, PAGES as usize * 4096, true).unwrap();
    let mut asm = Assembler::new();
    // Two pages, at the start of the arena, in which a pointer to the second one is kept.
    asm.mov64_reg(Reg::R9, Reg::R1)
        .ld_map_fd(Reg::R1, fd)
        .mov64_imm(Reg::R2, 0)
        .mov64_imm(Reg::R3, 2)
        .mov64_imm(Reg::R4, -1)
        .mov64_imm(Reg::R5, 0)
        .call_kfunc(alloc, 0)
        .jmp64_imm(Cond::Eq, Reg::R0, 0, "none")
        .mov64_reg(Reg::R6, Reg::R0)
        .addr_space_cast(Reg::R7, Reg::R6, 0, 1)
        .st(Size::DW, Reg::R7, 8, 70)
        .mov64_imm(Reg::R1, 7)
        .atomic(AtomicOp::Add, Size::DW, Reg::R7, 8, Reg::R1)
        .mov64_reg(Reg::R8, Reg::R7)
        .add64_imm(Reg::R8, 4096)
        .st(Size::W, Reg::R8, 4, 9)
        .addr_space_cast(Reg::R8, Reg::R8, 1, 0)
        .stx(Size::DW, Reg::R7, 0, Reg::R8)
        .ldx(Size::DW, Reg::R1, Reg::R7, 0)
        .addr_space_cast(Reg::R1, Reg::R1, 0, 1)
        .ldx(Size::W, Reg::R0, Reg::R1, 4)
        .stx(Size::DW, Reg::R9, 0, Reg::R6)
        .exit()
        .label("none")
        .mov64_imm(Reg::R0, -1)
        .exit();
    let program = load(&asm).unwrap();
    let mut ctx = [0; 8];
    let mut run = TestRun::default();
    run.ctx = &mut ctx;
    assert_eq!(program.test_run(&mut run).unwrap().retval, 9);
    let start = memory.address() as u64;
    assert_eq!(u64::from_ne_bytes(ctx), start, "what a program is given is where user space has it");
    let word = |at: usize| memory.load_u64(at).unwrap();
    assert_eq!((word(0), word(8)), (start + 4096, 77));
    assert_eq!(word(4096) >> if cfg!(target_endian = "little") { 32 } else { 0 }, 9);
    // Two more, and then there are none.
    let mut again = TestRun::default();
    again.ctx = &mut ctx;
    assert_eq!(program.test_run(&mut again).unwrap().retval, 9);
    assert_eq!(u64::from_ne_bytes(ctx), start + 8192);
    let mut last = TestRun::default();
    let mut ctx = [0; 8];
    last.ctx = &mut ctx;
    assert_eq!(program.test_run(&mut last).unwrap().retval, u32::MAX);
    Ok(())
}

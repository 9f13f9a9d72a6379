//! Pages of arenas: who has them, and what happens where there is none.

use std::os::fd::{AsFd, AsRawFd};

use skep_asm::{Assembler, AtomicOp, Reg, Size};
use skep_btf::Kind;
use skep_sys::abi::{Errno, MapFlags, MapType, ProgFlags, ProgType};
use skep_sys::request::{LogBuffer, MapCreate, ProgLoad, TestRun};
use skep_sys::{Kernel, MapFd, SharedMemory};

pub(crate) const ALLOC: &str = "bpf_arena_alloc_pages";
pub(crate) const FREE: &str = "bpf_arena_free_pages";
pub(crate) const RESERVE: &str = "bpf_arena_reserve_pages";
const PAGE: i32 = 4096;

struct Arena<'k> {
    kernel: &'k Kernel,
    map: MapFd,
}

/// An address in an arena, by its place from the start on.
type At = i64;

impl<'k> Arena<'k> {
    /// An arena that is mapped.
    fn new(kernel: &'k Kernel, pages: u32) -> (Arena<'k>, SharedMemory) {
        let mut request = MapCreate::new(MapType::ARENA, 0, 0, pages);
        request.flags = MapFlags::MMAPABLE;
        let map = kernel.map_create(&request).unwrap();
        let memory = map.mmap(0, pages as usize * PAGE as usize, true).unwrap();
        (Arena { kernel, map }, memory)
    }

    fn function(&self, name: &str) -> Option<i32> {
        let btf = self.kernel.btf().ok()?;
        let found = btf.types().find(|ty| ty.kind() == Kind::FUNC && ty.name() == name);
        found.map(|ty| ty.id().0.cast_signed())
    }

    /// Runs a program that is given its context in `R9` and the start of the arena in `R8`. Answers what it left in the context.
    fn run(&self, start: u64, steps: impl FnOnce(&Self, &mut Assembler)) -> [u64; 8] {
        let mut asm = Assembler::new();
        asm.mov64_reg(Reg::R9, Reg::R1);
        // The program names the arena, whatever it does.
        asm.ld_map_fd(Reg::R1, self.map.as_fd().as_raw_fd());
        asm.ld_imm64(Reg::R8, start);
        steps(self, &mut asm);
        asm.mov64_imm(Reg::R0, 0).exit();
        let insns = asm.finish().unwrap();
        let mut request = ProgLoad::new(ProgType::SYSCALL, &insns, "GPL");
        request.flags = ProgFlags::SLEEPABLE;
        let mut log = LogBuffer::new(1, 1 << 16);
        let program = match self.kernel.prog_load(&request, Some(&mut log)) {
            Ok(program) => program,
            Err(errno) => panic!("{errno}: {}", log.text()),
        };
        let mut context = [0; 64];
        let mut run = TestRun::default();
        run.ctx = &mut context;
        program.test_run(&mut run).unwrap();
        let mut words = [0; 8];
        for (word, bytes) in words.iter_mut().zip(context.as_chunks().0) {
            *word = u64::from_ne_bytes(*bytes);
        }
        words
    }

    /// Calls a function with the map, an address and a number of pages, and keeps the answer in a word of the context.
    fn call(&self, asm: &mut Assembler, name: &str, at: Option<At>, count: i32, flags: i32, keep: i16) {
        asm.ld_map_fd(Reg::R1, self.map.as_fd().as_raw_fd());
        match at {
            Some(at) => asm
                .mov64_reg(Reg::R2, Reg::R8)
                .ld_imm64(Reg::R3, at.cast_unsigned())
                .add64_reg(Reg::R2, Reg::R3),
            None => asm.mov64_imm(Reg::R2, 0),
        };
        asm.mov64_imm(Reg::R3, count).mov64_imm(Reg::R4, -1).mov64_imm(Reg::R5, flags);
        asm.call_kfunc(self.function(name).expect("there are arenas"), 0);
        if name != FREE {
            asm.stx(Size::DW, Reg::R9, keep * 8, Reg::R0);
        }
    }

    fn allocate(&self, asm: &mut Assembler, at: Option<At>, count: i32, keep: i16) {
        self.call(asm, ALLOC, at, count, 0, keep);
    }
}

/// `R7` is to access what lies at a place of the arena.
fn access(asm: &mut Assembler, at: At) {
    asm.mov64_reg(Reg::R7, Reg::R8)
        .ld_imm64(Reg::R3, at.cast_unsigned())
        .add64_reg(Reg::R7, Reg::R3)
        .addr_space_cast(Reg::R7, Reg::R7, 0, 1);
}

fn load(asm: &mut Assembler, at: At, keep: i16) {
    access(asm, at);
    asm.mov64_imm(Reg::R1, 77).ldx(Size::DW, Reg::R1, Reg::R7, 0).stx(Size::DW, Reg::R9, keep * 8, Reg::R1);
}

fn store(asm: &mut Assembler, at: At, value: i32) {
    access(asm, at);
    asm.st(Size::DW, Reg::R7, 0, value);
}

/// Everything; the reason when the kernel has no arenas.
pub(crate) fn check(kernel: &Kernel) -> Result<(), String> {
    let mut request = MapCreate::new(MapType::ARENA, 0, 0, 1);
    request.flags = MapFlags::MMAPABLE;
    kernel.map_create(&request).map_err(|errno| format!("arenas: {errno}"))?;
    freed(kernel);
    outside(kernel);
    refused(kernel);
    fits(kernel);
    touched(kernel);
    large(kernel);
    reserved(kernel);
    Ok(())
}

fn freed(kernel: &Kernel) {
    let (arena, memory) = Arena::new(kernel, 4);
    let start = memory.address() as u64;
    let page = i64::from(PAGE);
    let found = arena.run(start, |arena, asm| {
        arena.allocate(asm, None, 2, 0);
        store(asm, page, 5);
        load(asm, page, 1);
        arena.call(asm, FREE, Some(page), 1, 0, 0);
        load(asm, page, 2);
        store(asm, page, 6);
        load(asm, page, 3);
        arena.allocate(asm, Some(page), 1, 4);
        load(asm, page, 5);
        store(asm, page, 8);
        load(asm, page, 6);
    });
    assert_eq!(found, [start, 5, 0, 0, start + 4096, 0, 8, 0]);
    assert_eq!(memory.load_u64(4096), Ok(8));
    // An access that is half in a page that is gone.
    let found = arena.run(start, |arena, asm| {
        store(asm, page - 8, -1);
        load(asm, page - 4, 0);
        arena.call(asm, FREE, Some(page), 3, 0, 0);
        load(asm, page - 4, 1);
        load(asm, page - 8, 2);
        // All of the rest, and nothing at all.
        arena.call(asm, FREE, Some(0), 1000, 0, 0);
        arena.call(asm, FREE, Some(0), 0, 0, 0);
        arena.allocate(asm, None, 4, 3);
        load(asm, page - 8, 4);
    });
    let half = if cfg!(target_endian = "little") { 0x8_ffff_ffff } else { 0xffff_ffff_0000_0000 };
    assert_eq!(found[..5], [half, 0, u64::MAX, start, 0]);
}

fn outside(kernel: &Kernel) {
    let (arena, memory) = Arena::new(kernel, 2);
    let start = memory.address() as u64;
    let found = arena.run(start, |arena, asm| {
        arena.allocate(asm, None, 2, 0);
        for (keep, at) in [(1, -4096), (2, 8192), (3, 1 << 20)] {
            store(asm, at, 3);
            load(asm, at, keep);
        }
        // Behind a pointer that was cast.
        access(asm, 0);
        asm.mov64_imm(Reg::R1, 9).ldx(Size::W, Reg::R1, Reg::R7, -4).stx(Size::DW, Reg::R9, 32, Reg::R1);
        asm.add64_imm(Reg::R7, -4096).mov64_imm(Reg::R1, 9).ldx(Size::B, Reg::R1, Reg::R7, 1);
        asm.stx(Size::DW, Reg::R9, 40, Reg::R1).add64_imm(Reg::R7, 4096).st(Size::B, Reg::R7, 16, 4);
        // What reads and writes at once does neither, also to its register.
        access(asm, 8192);
        asm.mov64_imm(Reg::R1, 11).atomic(AtomicOp::FetchAdd, Size::DW, Reg::R7, 0, Reg::R1);
        asm.stx(Size::DW, Reg::R9, 48, Reg::R1);
        asm.mov64_imm(Reg::R0, 12).mov64_imm(Reg::R1, 13);
        asm.atomic(AtomicOp::CmpXchg, Size::DW, Reg::R7, 0, Reg::R1).stx(Size::DW, Reg::R9, 56, Reg::R0);
    });
    assert_eq!(found[..6], [start, 0, 0, 0, 0, 0]);
    // Linux 7.2 clears the register.
    assert!([[11, 12], [0, 0]].contains(&[found[6], found[7]]), "{found:?}");
    let mut byte = [0];
    memory.read(16, &mut byte).unwrap();
    assert_eq!(byte, [4]);
}

fn refused(kernel: &Kernel) {
    let (arena, memory) = Arena::new(kernel, 3);
    let start = memory.address() as u64;
    let found = arena.run(start, |arena, asm| {
        arena.allocate(asm, None, 0, 0);
        arena.allocate(asm, None, 4, 1);
        arena.call(asm, ALLOC, None, 1, 1, 2);
        arena.allocate(asm, Some(100), 1, 3);
        arena.allocate(asm, Some(8192), 2, 4);
        arena.allocate(asm, Some(12288), 1, 5);
        arena.allocate(asm, Some(4096), 2, 6);
        arena.allocate(asm, None, 2, 7);
    });
    assert_eq!(found, [0, 0, 0, 0, 0, 0, start + 4096, 0]);
}

/// The smallest hole that suffices is taken.
fn fits(kernel: &Kernel) {
    let (arena, memory) = Arena::new(kernel, 12);
    let start = memory.address() as u64;
    let found = arena.run(start, |arena, asm| {
        arena.allocate(asm, None, 12, 0);
        arena.call(asm, FREE, Some(4096), 4, 0, 0);
        arena.call(asm, FREE, Some(7 * 4096), 2, 0, 0);
        arena.call(asm, FREE, Some(11 * 4096), 1, 0, 0);
        for keep in 1..4 {
            arena.allocate(asm, None, if keep == 2 { 2 } else { 1 }, keep);
        }
        // Two that touch are one.
        arena.call(asm, FREE, Some(4096), 1, 0, 0);
        arena.allocate(asm, None, 4, 4);
    });
    let page = |number: u64| start + number * 4096;
    if found[1] == page(1) {
        // Linux 6.12 takes the first one.
        return;
    }
    assert_eq!(found[..5], [page(0), page(11), page(7), page(1), page(1)]);
}

/// Pages come by user space's access, too.
fn touched(kernel: &Kernel) {
    let (arena, memory) = Arena::new(kernel, 4);
    let start = memory.address() as u64;
    assert_eq!(memory.load_u64(4096), Ok(0));
    memory.write(2 * 4096, &9_u64.to_ne_bytes()).unwrap();
    let found = arena.run(start, |arena, asm| {
        store(asm, 4096, 6);
        load(asm, 4096, 0);
        load(asm, 8192, 1);
        store(asm, 0, 7);
        load(asm, 0, 2);
        arena.allocate(asm, Some(4096), 1, 3);
        arena.allocate(asm, None, 2, 4);
        arena.call(asm, FREE, Some(8192), 1, 0, 0);
        arena.allocate(asm, None, 2, 5);
    });
    assert_eq!(found, [6, 9, 0, 0, 0, start + 8192, 0, 0]);
    assert_eq!(memory.load_u64(8192), Ok(0));
}

/// As large as the addresses that the kernel keeps for it.
fn large(kernel: &Kernel) {
    let mut request = MapCreate::new(MapType::ARENA, 0, 0, 1 << 20);
    request.flags = MapFlags::MMAPABLE;
    request.map_extra = 1 << 44;
    let arena = Arena { kernel, map: kernel.map_create(&request).unwrap() };
    let last = (1 << 32) - 4096;
    let found = arena.run(1 << 44, |arena, asm| {
        arena.allocate(asm, None, 1, 0);
        arena.allocate(asm, Some(last), 1, 1);
        arena.allocate(asm, Some(1 << 32), 1, 2);
        store(asm, 0, 1);
        store(asm, last, 2);
        load(asm, 0, 3);
        load(asm, last, 4);
        arena.call(asm, FREE, Some(last), 1, 0, 0);
        load(asm, last, 5);
        // Half of it has never been there.
        arena.call(asm, FREE, Some(1 << 31), 1 << 19, 0, 0);
        load(asm, 3 << 30, 6);
    });
    assert_eq!(found, [1 << 44, (1 << 44) + last.cast_unsigned(), 0, 1, 2, 0, 0, 0]);
}

fn reserved(kernel: &Kernel) {
    let (arena, memory) = Arena::new(kernel, 4);
    if arena.function(RESERVE).is_none() {
        return; // Linux 6.18
    }
    let start = memory.address() as u64;
    let reserve = |asm: &mut Assembler, at, count, keep| arena.call(asm, RESERVE, Some(at), count, 0, keep);
    let errno = |errno: Errno| u64::from(errno.0.wrapping_neg().cast_unsigned());
    let found = arena.run(start, |arena, asm| {
        reserve(asm, 4096, 2, 0);
        reserve(asm, 8192, 1, 1);
        reserve(asm, 12288, 2, 2);
        reserve(asm, 12288, 0, 3);
        arena.allocate(asm, Some(4096), 1, 4);
        arena.allocate(asm, None, 2, 5);
        store(asm, 4096, 5);
        load(asm, 4096, 6);
        arena.call(asm, FREE, Some(4096), 1, 0, 0);
        arena.allocate(asm, None, 2, 7);
    });
    let found = found.map(|word| if word >> 63 == 1 { u64::from(word as u32) } else { word });
    assert_eq!(found, [0, errno(Errno::EBUSY), errno(Errno::EINVAL), 0, 0, 0, 0, start]);
    // Users get what is reserved.
    assert_eq!(memory.load_u64(8192), Ok(0));
    let found = arena.run(start, |_, asm| {
        store(asm, 8192, 5);
        load(asm, 8192, 0);
        reserve(asm, 100, 1, 1);
    });
    assert_eq!(found[..2], [5, 0]);
}

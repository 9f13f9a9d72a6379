//! What a verifier would refuse ends a program with a fault that says what is wrong.

#![allow(missing_docs)]

use skep_asm::{Assembler, Cond, Reg, Size};
use skep_btf::{BtfBuilder, IntEncoding};
use skep_sim::SimKernel;
use skep_sys::abi::{Errno, MapType, ProgFlags, ProgType};
use skep_sys::request::{MapBtf, MapCreate, ProgLoad, TestRun};
use skep_sys::{Kernel, MapFd};
use std::os::fd::{AsFd, AsRawFd};

struct Rig {
    sim: SimKernel,
    kernel: Kernel,
}

impl Rig {
    fn new() -> Rig {
        let sim = SimKernel::new();
        Rig { kernel: Kernel::new(sim.clone()), sim }
    }

    fn map(&self, kind: MapType, key: u32, value: u32, entries: u32) -> MapFd {
        let mut request = MapCreate::new(kind, key, value, entries);
        request.name = "things";
        self.kernel.map_create(&request).unwrap()
    }

    /// A map of values with a spin lock at 4.
    fn locked(&self) -> MapFd {
        let mut btf = BtfBuilder::new();
        let int = btf.add_int("int", 4, IntEncoding(0)).unwrap();
        let lock = btf.add_struct("bpf_spin_lock", 4).unwrap();
        btf.add_member("val", int, 0, 0).unwrap();
        let value = btf.add_struct("value", 8).unwrap();
        btf.add_member("number", int, 0, 0).unwrap();
        btf.add_member("lock", lock, 32, 0).unwrap();
        let loaded = self.kernel.btf_load(btf.finish().unwrap().bytes(), None).unwrap();
        let mut request = MapCreate::new(MapType::ARRAY, 4, 8, 1);
        request.name = "things";
        request.btf = Some(MapBtf { btf: loaded.as_fd(), key_type: int.0, value_type: value.0 });
        self.kernel.map_create(&request).unwrap()
    }

    /// Runs a program and answers what it returned.
    fn run(&self, asm: &Assembler) -> Result<u32, String> {
        let insns = asm.finish().unwrap();
        let mut request = ProgLoad::new(ProgType::SYSCALL, &insns, "GPL");
        request.flags = ProgFlags::SLEEPABLE;
        let program = self.kernel.prog_load(&request, None).unwrap();
        match program.test_run(&mut TestRun::default()) {
            Ok(result) => Ok(result.retval),
            Err((errno, _)) => {
                assert_eq!(errno, Errno::EFAULT);
                Err(self.sim.last_fault().unwrap().kind.to_string())
            }
        }
    }

    fn fault(&self, asm: &Assembler) -> String {
        self.run(asm).expect_err("it is stopped")
    }
}

/// A program that has a key of zeros and a value at the end of its stack, and a map in `r1`.
fn with_map(map: &MapFd) -> Assembler {
    let mut asm = Assembler::new();
    asm.st(Size::DW, Reg::R10, -8, 0).st(Size::DW, Reg::R10, -16, 0);
    asm.mov64_reg(Reg::R2, Reg::R10).add64_imm(Reg::R2, -8);
    asm.mov64_reg(Reg::R3, Reg::R10).add64_imm(Reg::R3, -16).mov64_imm(Reg::R4, 0);
    asm.ld_map_fd(Reg::R1, map.as_fd().as_raw_fd());
    asm
}

#[test]
fn arguments_that_no_kernel_takes() {
    let rig = Rig::new();
    let hash = rig.map(MapType::HASH, 4, 8, 4);
    let ring = rig.map(MapType::RINGBUF, 0, 0, 4096);

    let mut asm = Assembler::new();
    asm.mov64_imm(Reg::R1, 0).call_helper(1).exit();
    assert_eq!(rig.fault(&asm), "0x0 is not a map");

    let mut asm = with_map(&ring);
    asm.call_helper(1).exit();
    assert_eq!(rig.fault(&asm), "map `things` is of kind ringbuf, which bpf_map_lookup_elem does not take");
    let mut asm = with_map(&hash);
    asm.call_helper(87).exit();
    assert_eq!(rig.fault(&asm), "map `things` is of kind hash, which bpf_map_push_elem does not take");

    // A key behind the end of the stack, no key at all, a value that is too short.
    let mut asm = with_map(&hash);
    asm.mov64_reg(Reg::R2, Reg::R10).add64_imm(Reg::R2, -2).call_helper(1).exit();
    assert!(rig.fault(&asm).ends_with("offset -2 of a stack frame of 512 bytes"), "{}", rig.fault(&asm));
    let mut asm = with_map(&hash);
    asm.mov64_imm(Reg::R2, 0).call_helper(2).exit();
    assert!(rig.fault(&asm).ends_with("it is a null pointer"));
    let mut asm = with_map(&hash);
    asm.mov64_reg(Reg::R3, Reg::R10).add64_imm(Reg::R3, -4).call_helper(2).exit();
    assert!(rig.fault(&asm).starts_with("invalid read of 8 bytes at"));

    // A length of four gigabytes, and a callback that is none.
    let mut asm = with_map(&ring);
    asm.mov32_imm(Reg::R3, -1).call_helper(130).exit();
    assert!(rig.fault(&asm).starts_with("invalid read of 4294967295 bytes"));
    let mut asm = Assembler::new();
    asm.mov64_imm(Reg::R1, 4).mov64_imm(Reg::R2, 77).mov64_imm(Reg::R4, 0).call_helper(181).exit();
    assert_eq!(rig.fault(&asm), "0x4d is not a function");
}

#[test]
fn records_are_given_back() {
    let rig = Rig::new();
    let ring = rig.map(MapType::RINGBUF, 0, 0, 4096);
    let reserve = || {
        let mut asm = with_map(&ring);
        asm.mov64_imm(Reg::R2, 8).mov64_imm(Reg::R3, 0).call_helper(131).mov64_reg(Reg::R6, Reg::R0);
        asm
    };
    let mut asm = reserve();
    asm.mov64_imm(Reg::R0, 0).exit();
    let text = "the program returned and did not give back a record of a ring buffer; \
                call bpf_ringbuf_submit or bpf_ringbuf_discard";
    assert_eq!(rig.fault(&asm), text);
    // What was forgotten is discarded, and holds nothing up.
    rig.sim.ring_output(&ring, &[5; 8], skep_sys::abi::RingFlags::empty()).unwrap();

    let mut asm = reserve();
    asm.mov64_reg(Reg::R1, Reg::R6).add64_imm(Reg::R1, 4).mov64_imm(Reg::R2, 0).call_helper(132).exit();
    assert!(rig.fault(&asm).ends_with("is not the start of a record of a ring buffer"));
    let mut asm = reserve();
    asm.mov64_reg(Reg::R1, Reg::R6).mov64_imm(Reg::R2, 0).call_helper(132);
    asm.mov64_reg(Reg::R1, Reg::R6).mov64_imm(Reg::R2, 0).call_helper(132).exit();
    assert_eq!(rig.fault(&asm), "the record of the ring buffer was submitted or discarded");
    let mut asm = reserve();
    asm.mov64_reg(Reg::R1, Reg::R6).mov64_imm(Reg::R2, 0).call_helper(133);
    asm.st(Size::DW, Reg::R6, 0, 1).exit();
    assert!(rig.fault(&asm).ends_with("the record of the ring buffer was submitted or discarded"));
    let mut asm = Assembler::new();
    asm.mov64_reg(Reg::R1, Reg::R10).mov64_imm(Reg::R2, 0).call_helper(132).exit();
    assert!(rig.fault(&asm).ends_with("is not the start of a record of a ring buffer"));
}

#[test]
fn locks_are_given_back() {
    let rig = Rig::new();
    let map = rig.locked();
    let value = |at: i32| {
        let mut asm = with_map(&map);
        asm.call_helper(1).jmp64_imm(Cond::Ne, Reg::R0, 0, "there").exit().label("there");
        asm.mov64_reg(Reg::R6, Reg::R0).mov64_reg(Reg::R1, Reg::R0).add64_imm(Reg::R1, at);
        asm
    };
    let mut asm = value(4);
    asm.call_helper(93).mov64_imm(Reg::R0, 0).exit();
    assert_eq!(rig.fault(&asm), "the program returned while it holds a lock");
    let mut asm = value(4);
    asm.call_helper(93).mov64_reg(Reg::R1, Reg::R6).add64_imm(Reg::R1, 4).call_helper(93).exit();
    assert_eq!(rig.fault(&asm), "deadlock: the program takes a bpf_spin_lock that it holds already");
    let mut asm = value(4);
    asm.call_helper(93).call_helper(5).exit();
    assert_eq!(
        rig.fault(&asm),
        "bpf_ktime_get_ns#5 is called while a bpf_spin_lock is held, which no kernel allows"
    );
    let mut asm = value(4);
    asm.call_helper(94).exit();
    assert_eq!(rig.fault(&asm), "the lock is not held by this program");
    let mut asm = value(0);
    asm.call_helper(93).exit();
    assert_eq!(
        rig.fault(&asm),
        "offset 0 of a value of map `things` is not its bpf_spin_lock, which is at 4"
    );
    // After all of these it is free.
    let mut asm = value(4);
    asm.call_helper(93).mov64_reg(Reg::R1, Reg::R6).add64_imm(Reg::R1, 4).call_helper(94);
    asm.mov64_imm(Reg::R0, 7).exit();
    assert_eq!(rig.run(&asm), Ok(7));
}

#[test]
fn sections_are_left() {
    let mut btf = BtfBuilder::new();
    let int = btf.add_int("int", 4, IntEncoding::SIGNED).unwrap();
    let proto = btf.add_func_proto(int).unwrap();
    let mut add = |name| btf.add_func(name, skep_btf::Linkage::STATIC, proto).unwrap();
    let (lock, unlock) = (add("bpf_rcu_read_lock"), add("bpf_rcu_read_unlock"));
    let begin = add("bpf_iter_num_new");
    let sim = SimKernel::builder().btf(btf.finish().unwrap().bytes().to_vec()).build().unwrap();
    let rig = Rig { kernel: Kernel::new(sim.clone()), sim };
    let call = |asm: &mut Assembler, function: skep_btf::TypeId| {
        asm.call_kfunc(function.0.cast_signed(), 0);
    };
    let mut asm = Assembler::new();
    call(&mut asm, lock);
    asm.mov64_imm(Reg::R0, 0).exit();
    assert_eq!(rig.fault(&asm), "the program returned after bpf_rcu_read_lock without bpf_rcu_read_unlock");
    let mut asm = Assembler::new();
    call(&mut asm, unlock);
    asm.mov64_imm(Reg::R0, 0).exit();
    assert_eq!(rig.fault(&asm), "bpf_rcu_read_unlock without bpf_rcu_read_lock before it");
    let mut asm = Assembler::new();
    call(&mut asm, lock);
    call(&mut asm, unlock);
    asm.mov64_imm(Reg::R0, 3).exit();
    assert_eq!(rig.run(&asm), Ok(3));
    let mut asm = Assembler::new();
    asm.mov64_reg(Reg::R1, Reg::R10).add64_imm(Reg::R1, -8).mov64_imm(Reg::R2, 0).mov64_imm(Reg::R3, 4);
    call(&mut asm, begin);
    asm.mov64_imm(Reg::R0, 0).exit();
    assert_eq!(
        rig.fault(&asm),
        "the program returned and did not give back an iterator over numbers; call bpf_iter_num_destroy"
    );
}

#[test]
fn timers_end() {
    let mut btf = BtfBuilder::new();
    let int = btf.add_int("int", 4, IntEncoding(0)).unwrap();
    let wide = btf.add_int("long", 8, IntEncoding(0)).unwrap();
    let timer = btf.add_struct("bpf_timer", 16).unwrap();
    btf.add_member("opaque", wide, 0, 0).unwrap();
    let value = btf.add_struct("value", 24).unwrap();
    btf.add_member("number", wide, 0, 0).unwrap();
    btf.add_member("timer", timer, 64, 0).unwrap();
    let rig = Rig::new();
    let loaded = rig.kernel.btf_load(btf.finish().unwrap().bytes(), None).unwrap();
    let mut request = MapCreate::new(MapType::HASH, 4, 24, 1);
    request.btf = Some(MapBtf { btf: loaded.as_fd(), key_type: int.0, value_type: value.0 });
    let map = rig.kernel.map_create(&request).unwrap();
    map.update(&[0; 4], &[0; 24], Default::default()).unwrap();
    // A timer that starts itself again and again at once, and counts.
    let mut asm = with_map(&map);
    asm.call_helper(1).mov64_reg(Reg::R6, Reg::R0).add64_imm(Reg::R6, 8).mov64_reg(Reg::R1, Reg::R6);
    asm.ld_map_fd(Reg::R2, map.as_fd().as_raw_fd()).mov64_imm(Reg::R3, 1).call_helper(169);
    asm.mov64_reg(Reg::R1, Reg::R6).ld_func(Reg::R2, "tick").call_helper(170);
    asm.mov64_reg(Reg::R1, Reg::R6).mov64_imm(Reg::R2, 0).mov64_imm(Reg::R3, 0).call_helper(171).exit();
    asm.label("tick").ldx(Size::DW, Reg::R1, Reg::R3, 0).add64_imm(Reg::R1, 1).stx(
        Size::DW,
        Reg::R3,
        0,
        Reg::R1,
    );
    asm.mov64_reg(Reg::R1, Reg::R3).add64_imm(Reg::R1, 8).mov64_imm(Reg::R2, 0).mov64_imm(Reg::R3, 0);
    asm.call_helper(171).mov64_imm(Reg::R0, 0).exit();
    // Callbacks need types for their functions.
    let mut types = BtfBuilder::new();
    let int = types.add_int("int", 4, IntEncoding::SIGNED).unwrap();
    let proto = types.add_func_proto(int).unwrap();
    let mut records = Vec::new();
    let insns = asm.finish().unwrap();
    let start = insns.iter().position(skep_asm::Insn::is_exit).unwrap() as u32 + 1;
    for (name, at) in [("entry", 0), ("tick", start)] {
        let id = types.add_func(name, skep_btf::Linkage::STATIC, proto).unwrap();
        records.extend(at.to_ne_bytes());
        records.extend(id.0.to_ne_bytes());
    }
    let types = rig.kernel.btf_load(types.finish().unwrap().bytes(), None).unwrap();
    let mut request = ProgLoad::new(ProgType::SYSCALL, &insns, "GPL");
    request.flags = ProgFlags::SLEEPABLE;
    request.btf = Some(types.as_fd());
    request.func_info = skep_sys::request::Records { record_size: 8, bytes: &records };
    let program = rig.kernel.prog_load(&request, None).unwrap();
    program.test_run(&mut TestRun::default()).unwrap();
    rig.sim.advance(std::time::Duration::from_nanos(1));
    let mut value = [0; 24];
    map.lookup(&[0; 4], &mut value, Default::default()).unwrap();
    assert_eq!(value[..8], (1u64 << 16).to_ne_bytes());
    // It is gone with its element.
    map.delete(&[0; 4]).unwrap();
    rig.sim.advance(std::time::Duration::from_secs(1));
    assert_eq!(rig.sim.faults(), []);
}

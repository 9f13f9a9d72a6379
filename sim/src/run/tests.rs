use std::os::fd::AsFd;

use skep_asm::{Assembler, Reg};
use skep_btf::{BtfBuilder, IntEncoding, Linkage};
use skep_sys::abi::{AttachType, Errno, ProgType};
use skep_sys::request::{AttachTarget, ProgLoad, TestRun};
use skep_sys::{Backend, Kernel};

use crate::SimKernel;

/// A test run of a tracing program calls functions, and what is attached to them runs.
#[test]
fn tracing_programs_run_with_the_functions_for_tests() {
    let mut types = BtfBuilder::new();
    let int = types.add_int("int", 4, IntEncoding::SIGNED).unwrap();
    let proto = types.add_func_proto(int).unwrap();
    types.add_param("a", int).unwrap();
    types.add_param("b", int).unwrap();
    let function = types.add_func("bpf_modify_return_test", Linkage::STATIC, proto).unwrap();
    let sim = SimKernel::builder().btf(types.finish().unwrap().bytes().clone()).build().unwrap();
    let kernel = Kernel::new(sim.clone());
    let insns = Assembler::new().mov64_imm(Reg::R0, 7).exit().finish().unwrap();
    let load = |attach_type| {
        let mut request = ProgLoad::new(ProgType::TRACING, &insns, "GPL");
        request.expected_attach_type = attach_type;
        request.attach = AttachTarget::KernelType { type_id: function.0, module: None };
        kernel.prog_load(&request, None).unwrap()
    };
    let run = |prog: &skep_sys::LoadedProgram| {
        let result = sim.prog_test_run(prog.as_fd(), &mut TestRun::default());
        result.map(|result| result.retval).map_err(|(errno, _)| errno)
    };
    let modify = load(AttachType::MODIFY_RETURN);
    assert_eq!(run(&modify), Ok(2 << 16 | 33), "nothing is attached");
    let _link = kernel.raw_tracepoint_open(&modify, None, 0).unwrap();
    assert_eq!(run(&modify), Ok(1 << 16 | (7 + 29)), "one function is kept from running");
    assert_eq!(run(&load(AttachType::TRACE_FENTRY)), Ok(0));
    let mut flags = TestRun::default();
    flags.cpu = 1;
    assert_eq!(sim.prog_test_run(modify.as_fd(), &mut flags).unwrap_err().0, Errno::EINVAL);
}

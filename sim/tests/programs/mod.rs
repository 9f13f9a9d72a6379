//! Small programs of tests, loaded.

use skep_asm::Assembler;
use skep_sys::abi::{AttachType, ProgType};
use skep_sys::request::ProgLoad;
use skep_sys::{Kernel, LoadedProgram};

/// A program of what is written, and an `exit`.
pub(crate) fn load_as(
    kernel: &Kernel,
    kind: ProgType,
    attach: AttachType,
    name: &str,
    write: impl FnOnce(&mut Assembler),
) -> LoadedProgram {
    let mut asm = Assembler::new();
    write(&mut asm);
    let insns = asm.exit().finish().unwrap();
    let mut request = ProgLoad::new(kind, &insns, "GPL");
    (request.name, request.expected_attach_type) = (name, attach);
    kernel.prog_load(&request, None).unwrap()
}

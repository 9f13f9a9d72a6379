//! What programs do that were built or opened, on any kernel: bodies that the test binaries run on theirs.

mod building;
mod dumps;
mod handles;
mod jumps;
mod queries;

use skep::asm::Reg;
use skep::map::Map;
use skep::program::{Program, ProgramBuilder};
use skep::sys::Kernel;
use skep::sys::abi::{MapType, ProgType};
use skep::sys::request::MapCreate;

use crate::support::{chain, skip};

/// A body: what it does on a kernel with a bpffs at `/sys/fs/bpf`.
pub(crate) type Body = fn(&Kernel);

crate::support::bodies! { ($) program_conformance;
    built_with_maps: building::with_maps,
    built_with_records: building::with_records,
    verifier_errors: building::verifier_errors,
    what_does_not_fit_together: building::what_does_not_fit_together,
    what_the_kernel_lacks: building::what_the_kernel_lacks,
    built_for_a_tracepoint: building::for_a_tracepoint,
    handles: handles::handles,
    pins: handles::pins,
    opening_errors: handles::opening_errors,
    bound_maps: handles::bound_maps,
    information: handles::information,
    statistics: handles::statistics,
    streams: handles::streams,
    dumps_with_source: dumps::with_source,
    dumps_with_names: dumps::with_names,
    machine_code: dumps::machine_code,
    queries_of_programs: queries::programs,
    queries_of_the_rest: queries::the_rest,
    queries_of_pins: queries::pins,
    queries_while_objects_go: queries::while_objects_go,
    indirect_jumps: jumps::indirect_jumps,
}

fn map(kernel: &Kernel, map_type: MapType, key: u32, value: u32, entries: u32) -> Map {
    Map::create(kernel, &MapCreate::new(map_type, key, value, entries)).unwrap()
}

/// A program that returns a number.
fn returning(kernel: &Kernel, name: &str, number: i32) -> Program {
    let mut builder = ProgramBuilder::new(ProgType::SOCKET_FILTER, "GPL");
    builder.name(name).asm().mov64_imm(Reg::R0, number).exit();
    builder.load(kernel).unwrap()
}

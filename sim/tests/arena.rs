//! Arenas of the simulated kernel.

#![allow(missing_docs)]

mod arenas;

use skep_asm::Endian;
use skep_btf::{BtfBuilder, Linkage, TypeId};
use skep_sim::SimKernel;
use skep_sys::Kernel;

#[test]
fn programs_and_user_space_share_an_arena() {
    let mut builder = BtfBuilder::new();
    let proto = builder.add_func_proto(TypeId(0)).unwrap();
    builder.add_func(arenas::ALLOC, Linkage::STATIC, proto).unwrap();
    let sim = SimKernel::builder().btf(builder.encode(Endian::NATIVE, false)).build().unwrap();
    arenas::check(&Kernel::new(sim)).unwrap();
}

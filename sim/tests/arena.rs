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
    for name in [arenas::ALLOC, arenas::pages::FREE, arenas::pages::RESERVE] {
        builder.add_func(name, Linkage::STATIC, proto).unwrap();
    }
    let sim = SimKernel::builder().btf(builder.encode(Endian::NATIVE, false)).build().unwrap();
    arenas::check(&Kernel::new(sim.clone())).unwrap();
    arenas::pages::check(&Kernel::new(sim)).unwrap();
}

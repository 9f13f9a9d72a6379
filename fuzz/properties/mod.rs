//! What must hold for any bytes. The fuzz targets and the regression tests of the root package run the same.

mod btf;
mod ext_info;
mod insn_decode;
mod interp;
mod kallsyms;
mod kconfig;
mod relocate;
mod relocate_target;
mod spec;

pub use btf::btf;
pub use ext_info::ext_info;
pub use insn_decode::insn_decode;
pub use interp::interp;
pub use kallsyms::kallsyms;
pub use kconfig::kconfig;
pub use relocate::{Targets, flip, relocate};
pub use relocate_target::{OBJECTS, relocate_target, target_input};
pub use spec::spec;

//! What must hold for any bytes. The fuzz targets and the regression tests of the root package run the same.

mod btf;
mod ext_info;
mod insn_decode;
mod relocate;
mod spec;

pub use btf::btf;
pub use ext_info::ext_info;
pub use insn_decode::insn_decode;
pub use relocate::{Targets, flip, relocate};
pub use spec::spec;

//! skep loads eBPF objects.
//!
//! The way of the data: bytes become a [`spec::Spec`], plain data that says what the file says.

pub mod reloc;
pub mod spec;

pub use skep_asm as asm;
pub use skep_btf as btf;
pub use skep_link as link;
pub use skep_sim as sim;
pub use skep_sys as sys;

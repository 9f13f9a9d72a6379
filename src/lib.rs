//! skep loads eBPF objects.

mod error;
pub mod load;
pub mod map;
pub mod program;
pub mod reloc;
pub mod spec;

pub use skep_asm as asm;
pub use skep_btf as btf;
pub use skep_link as link;
pub use skep_sim as sim;
pub use skep_sys as sys;

pub use error::{Error, ErrorKind};
pub use load::{LoadReport, Loader, Object};
pub use program::Program;
pub use skep_sys::Kernel;
pub use spec::Spec;

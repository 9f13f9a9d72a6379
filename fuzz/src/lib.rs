//! What the fuzz targets share: the properties, and a limit on memory.

#[path = "../properties/mod.rs"]
pub mod properties;

pub mod heap;
pub mod mutate;
pub mod mutate_btf;

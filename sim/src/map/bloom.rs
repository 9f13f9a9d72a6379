//! Bloom filters (`BPF_MAP_TYPE_BLOOM_FILTER`).

use std::collections::HashSet;

use skep_sys::abi::Errno;

use super::elements::{Elements, Resolve};

/// A set of values that can only grow. A real filter may claim to hold a value that it does not; this one never does.
#[derive(Clone, Debug, Default)]
pub(super) struct Bloom(HashSet<Box<[u8]>>);

impl Elements for Bloom {
    fn lookup(&mut self, _: &[u8], value: &mut [u8]) -> Result<(), Errno> {
        if self.0.contains(&*value) { Ok(()) } else { Err(Errno::ENOENT) }
    }

    fn update(&mut self, _: &[u8], value: &[u8], flags: u64, _: Resolve<'_>) -> Result<(), Errno> {
        if flags != 0 {
            return Err(Errno::EINVAL);
        }
        self.0.insert(value.into());
        Ok(())
    }

    fn delete(&mut self, _: &[u8]) -> Result<(), Errno> {
        Err(Errno::EOPNOTSUPP)
    }

    fn next_key(&self, _: Option<&[u8]>, _: &mut [u8]) -> Result<(), Errno> {
        Err(Errno::EOPNOTSUPP)
    }

    fn count(&self) -> usize {
        self.0.len()
    }

    fn boxed(&self) -> Box<dyn Elements> {
        Box::new(self.clone())
    }
}

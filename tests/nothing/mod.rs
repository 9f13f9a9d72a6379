//! A kernel that does nothing, to see what is above it.

use std::fs::File;
use std::os::fd::OwnedFd;

use skep::Kernel;
use skep::sys::abi::Errno;
use skep::sys::request::{BatchRead, BatchWrite, MapCreate};
use skep::sys::{Backend, MapRef};

/// Grants everything that can be asked of the elements of a map, and touches nothing.
#[derive(Debug)]
pub(crate) struct Nothing;

/// A kernel that does nothing.
pub(crate) fn kernel() -> Kernel {
    Kernel::new(Nothing)
}

impl Backend for Nothing {
    fn name(&self) -> &str {
        "nothing"
    }

    fn map_create(&self, _: &MapCreate<'_>) -> Result<OwnedFd, Errno> {
        File::open("/dev/null").map(Into::into).map_err(|_| Errno::EIO)
    }

    fn map_lookup(&self, _: MapRef<'_>, _: &[u8], _: &mut [u8], _: u64) -> Result<(), Errno> {
        Ok(())
    }

    fn map_update(&self, _: MapRef<'_>, _: &[u8], _: &[u8], _: u64) -> Result<(), Errno> {
        Ok(())
    }

    fn map_delete(&self, _: MapRef<'_>, _: &[u8]) -> Result<(), Errno> {
        Ok(())
    }

    fn map_next_key(&self, _: MapRef<'_>, _: Option<&[u8]>, _: &mut [u8]) -> Result<(), Errno> {
        Ok(())
    }

    fn map_lookup_and_delete(&self, _: MapRef<'_>, _: &[u8], _: &mut [u8], _: u64) -> Result<(), Errno> {
        Ok(())
    }

    fn map_lookup_batch(&self, _: MapRef<'_>, batch: &mut BatchRead<'_>) -> Result<u32, (Errno, u32)> {
        // Buckets go up, or it would not be a walk.
        let at = batch.cursor.position().and_then(|at| at.try_into().ok()).map_or(0, u32::from_ne_bytes);
        batch.cursor.set_position(&at.wrapping_add(1).to_ne_bytes());
        Ok(batch.count)
    }

    fn map_update_batch(&self, _: MapRef<'_>, batch: &BatchWrite<'_>) -> Result<u32, (Errno, u32)> {
        Ok(batch.count)
    }

    fn map_delete_batch(&self, _: MapRef<'_>, batch: &BatchWrite<'_>) -> Result<u32, (Errno, u32)> {
        Ok(batch.count)
    }

    fn possible_cpus(&self) -> Result<u32, Errno> {
        Ok(8)
    }
}

use skep_sys::request::MapUsage;

use super::error::{MapError, MapOperation};
use super::handle::Map;

impl Map {
    /// Whether user space can no longer write to the map ([`freeze`](Map::freeze)), by `/proc`.
    ///
    /// # Errors
    /// [`MapError::Failed`], [`MapError::Unsupported`] on kernels that do not say (before Linux 5.2).
    pub fn is_frozen(&self) -> Result<bool, MapError> {
        let why = "the kernel does not say whether it is frozen, which Linux does since 5.2";
        self.usage()?.frozen.ok_or_else(|| self.unsupported(MapOperation::Info, why))
    }

    /// Memory that the map takes in the kernel, in bytes, by `/proc`: what it takes now since Linux 6.4, what it can take
    /// before.
    ///
    /// # Errors
    /// [`MapError::Failed`], [`MapError::Unsupported`] on kernels that do not say (before Linux 4.10).
    pub fn memory_usage(&self) -> Result<u64, MapError> {
        let why = "the kernel does not say how much memory it takes, which Linux does since 4.10";
        self.usage()?.memory.ok_or_else(|| self.unsupported(MapOperation::Info, why))
    }

    /// What `/proc` says of the map, in one go.
    ///
    /// # Errors
    /// [`MapError::Failed`].
    pub fn usage(&self) -> Result<MapUsage, MapError> {
        self.as_map_fd().usage().map_err(|error| self.failed(MapOperation::Info, error))
    }
}

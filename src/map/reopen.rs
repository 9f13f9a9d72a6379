use std::os::fd::{AsFd, OwnedFd};

use skep_sys::abi::{Errno, OpenFlags};

use super::error::{MapError, MapOperation};
use super::handle::Map;

/// Handles of the same map.
impl Map {
    /// Opens the map again, to read only (`BPF_MAP_GET_FD_BY_ID` with `BPF_F_RDONLY`, Linux 4.15): what would change it is
    /// refused by the kernel with [`Errno::EPERM`], whoever gets the handle. Views take it as any other.
    ///
    /// A process without `CAP_SYS_ADMIN` cannot open by id: it pins the map and opens the pin with
    /// [`OpenFlags::RDONLY`].
    ///
    /// ```
    /// use skep::map::{HashMap, Map, MapErrorKind};
    /// use skep::sys::abi::{MapType, UpdateFlags};
    /// use skep::sys::request::MapCreate;
    ///
    /// let map = Map::create(&skep::sim::kernel(), &MapCreate::new(MapType::HASH, 4, 8, 16))?;
    /// map.typed::<HashMap<u32, u64>>()?.insert(&1, &2, UpdateFlags::empty())?;
    /// let reading: HashMap<u32, u64> = map.read_only()?.typed()?;
    /// assert_eq!(reading.get(&1)?, Some(2));
    /// let error = reading.insert(&1, &3, UpdateFlags::empty()).unwrap_err();
    /// assert_eq!(error.kind(), MapErrorKind::Denied);
    /// # Ok::<(), skep::map::MapError>(())
    /// ```
    ///
    /// # Errors
    /// [`MapError::Failed`] or [`MapError::Unavailable`].
    pub fn read_only(&self) -> Result<Map, MapError> {
        self.reopen(OpenFlags::RDONLY)
    }

    /// As [`read_only`](Map::read_only), to write only (`BPF_F_WRONLY`): what would read it is refused.
    ///
    /// # Errors
    /// As [`read_only`](Map::read_only).
    pub fn write_only(&self) -> Result<Map, MapError> {
        self.reopen(OpenFlags::WRONLY)
    }

    fn reopen(&self, flags: OpenFlags) -> Result<Map, MapError> {
        let id = self.id()?;
        match self.kernel().map_by_id(id, flags) {
            Ok(fd) => Ok(Map::new(self.name(), fd)),
            Err(errno) => Err(MapError::unavailable(self.label(), MapOperation::Open, errno)),
        }
    }

    /// A descriptor of its own for the map (`dup`), to pass to another process; [`Map::from_fd`] makes it a map again.
    ///
    /// # Errors
    /// [`MapError::Unavailable`] when the process has no descriptor left.
    pub fn to_owned_fd(&self) -> Result<OwnedFd, MapError> {
        self.as_fd().try_clone_to_owned().map_err(|error| {
            let errno = error.raw_os_error().map_or(Errno::EIO, Errno);
            MapError::unavailable(self.label(), MapOperation::Open, errno)
        })
    }
}

//! Elements of maps whose keys or values are descriptors of the process.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use crate::abi::UpdateFlags;
use crate::map_fd::{MapError, MapFd};
use crate::program_fd::LoadedProgram;

impl MapFd {
    /// Puts what a descriptor stands for into a map of sockets, cgroups or perf events.
    ///
    /// Maps and programs go through [`update_map`](MapFd::update_map) and [`update_program`](MapFd::update_program),
    /// which know whose kernel's they are.
    ///
    /// # Errors
    /// A wrong length of the key; what the kernel answers: [`Errno::EBADF`](crate::abi::Errno::EBADF) or
    /// [`Errno::ENOTSOCK`](crate::abi::Errno::ENOTSOCK) for a descriptor of another kind.
    pub fn update_fd(&self, key: &[u8], value: BorrowedFd<'_>, flags: UpdateFlags) -> Result<(), MapError> {
        let (got, want) = (key.len(), self.key_len());
        if got != want {
            return Err(MapError::KeyLength { got, want });
        }
        let result = self.kernel().backend().map_update_fd(self.as_map_ref(), key, value, flags.bits());
        result.map_err(|errno| MapError::Kernel { operation: "update", errno })
    }

    /// Writes a value of a map that packets are redirected through: a number, and the program that runs there where
    /// the map's values have room for one (8 bytes).
    ///
    /// # Errors
    /// As [`update`](MapFd::update): [`MapError::ValueLength`] for a program and a map without room for it; and
    /// [`MapError::OtherKernel`].
    pub fn update_target(
        &self,
        key: &[u8],
        target: u32,
        prog: Option<&LoadedProgram>,
        flags: UpdateFlags,
    ) -> Result<(), MapError> {
        let fd = match prog {
            Some(prog) if !self.kernel().same(prog.kernel()) => return Err(MapError::OtherKernel),
            // -1 stands for none.
            prog => prog.map_or(-1, |prog| prog.as_fd().as_raw_fd()),
        };
        let (target, fd) = (target.to_ne_bytes(), fd.to_ne_bytes());
        if prog.is_none() && self.value_len() == target.len() {
            return self.update(key, &target, flags);
        }
        self.update(key, [target, fd].as_flattened(), flags)
    }

    /// Reads the value that belongs to what a descriptor stands for: a socket, a process, a file, a cgroup
    /// (`BPF_MAP_LOOKUP_ELEM` of local storage).
    ///
    /// # Errors
    /// As [`lookup`](MapFd::lookup), and [`Errno::EBADF`](crate::abi::Errno::EBADF) or
    /// [`Errno::ENOTSOCK`](crate::abi::Errno::ENOTSOCK) for a descriptor of another kind.
    pub fn lookup_by_fd(
        &self,
        key: BorrowedFd<'_>,
        value: &mut [u8],
        flags: UpdateFlags,
    ) -> Result<(), MapError> {
        self.lookup(&number(key), value, flags)
    }

    /// Writes the value that belongs to what a descriptor stands for (`BPF_MAP_UPDATE_ELEM` of local storage).
    ///
    /// # Errors
    /// As [`update`](MapFd::update), and those of [`lookup_by_fd`](MapFd::lookup_by_fd).
    pub fn update_by_fd(
        &self,
        key: BorrowedFd<'_>,
        value: &[u8],
        flags: UpdateFlags,
    ) -> Result<(), MapError> {
        self.update(&number(key), value, flags)
    }

    /// Removes the value that belongs to what a descriptor stands for (`BPF_MAP_DELETE_ELEM` of local storage).
    ///
    /// # Errors
    /// As [`delete`](MapFd::delete), and those of [`lookup_by_fd`](MapFd::lookup_by_fd).
    pub fn delete_by_fd(&self, key: BorrowedFd<'_>) -> Result<(), MapError> {
        self.delete(&number(key))
    }
}

/// A descriptor as the kernel takes it in a key.
fn number(fd: BorrowedFd<'_>) -> [u8; 4] {
    fd.as_raw_fd().to_ne_bytes()
}

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use bytes::Bytes;

use crate::abi::Errno;
use crate::kernel::Kernel;
use crate::map_fd::dup;
use crate::request::BtfInfo;

/// BTF in a kernel: a program's, a module's, or the kernel's own.
///
/// Made by [`Kernel`]; dropping it closes the descriptor.
#[derive(Debug)]
pub struct BtfFd {
    fd: OwnedFd,
    kernel: Kernel,
}

impl BtfFd {
    pub(crate) fn new(fd: OwnedFd, kernel: Kernel) -> BtfFd {
        BtfFd { fd, kernel }
    }

    /// The kernel that the BTF lives in.
    pub fn kernel(&self) -> &Kernel {
        &self.kernel
    }

    /// What the kernel says of the object (`BPF_OBJ_GET_INFO_BY_FD`).
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn info(&self) -> Result<BtfInfo, Errno> {
        self.kernel.backend().btf_info(self.as_fd())
    }

    /// The bytes of the object. A module's are split BTF over the kernel's.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn bytes(&self) -> Result<Bytes, Errno> {
        self.kernel.backend().btf_bytes(self.as_fd())
    }

    /// A second handle of the same object.
    ///
    /// # Errors
    /// When the process has no descriptor left.
    pub fn try_clone(&self) -> Result<BtfFd, Errno> {
        Ok(BtfFd { fd: dup(&self.fd)?, kernel: self.kernel.clone() })
    }
}

impl AsFd for BtfFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl From<BtfFd> for OwnedFd {
    fn from(btf: BtfFd) -> OwnedFd {
        btf.fd
    }
}

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use crate::abi::{AttachFlags, Errno};
use crate::kernel::Kernel;
use crate::map_fd::{MapFd, dup};
use crate::program_fd::LoadedProgram;
use crate::request::{LinkInfo, LinkUpdate, Pin};

/// A link: an attachment that lives as long as a descriptor or a pin of it does.
///
/// Made by [`Kernel`]; dropping the last handle detaches, unless the link is pinned.
#[derive(Debug)]
#[must_use = "dropping a link detaches it"]
pub struct LinkFd {
    fd: OwnedFd,
    kernel: Kernel,
}

impl LinkFd {
    pub(crate) fn new(fd: OwnedFd, kernel: Kernel) -> LinkFd {
        LinkFd { fd, kernel }
    }

    /// The kernel that the link lives in.
    pub fn kernel(&self) -> &Kernel {
        &self.kernel
    }

    /// What the kernel says of the link (`BPF_OBJ_GET_INFO_BY_FD`, Linux 5.8).
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn info(&self) -> Result<LinkInfo, Errno> {
        self.kernel.backend().link_info(self.as_fd())
    }

    /// Puts `new` in the place of the program that the link runs, of `old` only when it is given
    /// (`BPF_LINK_UPDATE`, Linux 5.7).
    ///
    /// # Errors
    /// What the kernel answers: [`Errno::EPERM`] when the link does not run `old`; [`Errno::EXDEV`] when a program
    /// is another kernel's.
    pub fn update(&self, new: &LoadedProgram, old: Option<&LoadedProgram>) -> Result<(), Errno> {
        self.kernel.check_same(new.kernel())?;
        let mut request = LinkUpdate::new(self.as_fd(), new.as_fd());
        if let Some(old) = old {
            self.kernel.check_same(old.kernel())?;
            request.old_prog = Some(old.as_fd());
            request.flags |= AttachFlags::REPLACE;
        }
        self.kernel.backend().link_update(&request)
    }

    /// Puts the table of another `struct_ops` map in the place of the one that the link registered
    /// (`BPF_LINK_UPDATE`, Linux 6.4).
    ///
    /// # Errors
    /// What the kernel answers, [`Errno::EOPNOTSUPP`] when the structure cannot be replaced; [`Errno::EXDEV`] when the
    /// map is another kernel's.
    pub fn update_map(&self, new: &MapFd) -> Result<(), Errno> {
        self.kernel.check_same(new.kernel())?;
        self.kernel.backend().link_update(&LinkUpdate::new(self.as_fd(), new.as_fd()))
    }

    /// Detaches now; the link stays, attached to nothing (`BPF_LINK_DETACH`, Linux 5.9).
    ///
    /// # Errors
    /// What the kernel answers, [`Errno::EOPNOTSUPP`] when this kind cannot be detached.
    pub fn detach(&self) -> Result<(), Errno> {
        self.kernel.backend().link_detach(self.as_fd())
    }

    /// Pins the link at a path on a bpffs (`BPF_OBJ_PIN`, Linux 5.7), so that it outlives its handles.
    ///
    /// # Errors
    /// What the kernel answers, [`Errno::EEXIST`] when the path is taken.
    pub fn pin(&self, path: impl AsRef<Path>) -> Result<(), Errno> {
        self.kernel.backend().pin(Pin { fd: self.as_fd(), path: path.as_ref() })
    }

    /// A second handle of the same link.
    ///
    /// # Errors
    /// When the process has no descriptor left.
    pub fn try_clone(&self) -> Result<LinkFd, Errno> {
        Ok(LinkFd { fd: dup(&self.fd)?, kernel: self.kernel.clone() })
    }
}

impl AsFd for LinkFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl From<LinkFd> for OwnedFd {
    fn from(link: LinkFd) -> OwnedFd {
        link.fd
    }
}

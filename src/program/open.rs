//! Programs that are in a kernel already.

use std::os::fd::OwnedFd;
use std::path::Path;

use skep_asm::Insn;
use skep_sys::abi::{AttachType, Errno, ProgId, ProgType};
use skep_sys::request::ProgInfo;
use skep_sys::{Kernel, LoadedProgram};

use super::{Origin, Program};
use crate::error::Error;
use crate::spec::AutoAttach;

impl Program {
    /// Opens a program by its id (`BPF_PROG_GET_FD_BY_ID`, Linux 4.13).
    ///
    /// # Errors
    ///
    /// [`Error::Open`]: there is no such program ([`Errno::ENOENT`]), or the process may not open programs by id
    /// ([`Errno::EPERM`]), for which it needs `CAP_SYS_ADMIN`.
    pub fn by_id(kernel: &Kernel, id: ProgId) -> Result<Program, Error> {
        kernel.prog_by_id(id).and_then(ask).map_err(|errno| {
            let hint = match errno {
                Errno::ENOENT => " (there is none)",
                Errno::EPERM => {
                    " (that needs CAP_SYS_ADMIN: run as root, or pass a descriptor or a pin instead)"
                }
                _ => "",
            };
            Error::Open { what: "program", from: format!("with id {id}"), hint, source: errno }
        })
    }

    /// Opens a pinned program (`BPF_OBJ_GET`, Linux 4.4).
    ///
    /// # Errors
    ///
    /// [`Error::Open`]: nothing is pinned there ([`Errno::ENOENT`]), or something else ([`Errno::EINVAL`]).
    pub fn open_pinned(kernel: &Kernel, path: impl AsRef<Path>) -> Result<Program, Error> {
        let path = path.as_ref();
        kernel.prog_open_pinned(path).and_then(ask).map_err(|errno| {
            let hint = match errno {
                Errno::ENOENT => " (nothing is pinned there)",
                Errno::EINVAL => " (something else is pinned there)",
                Errno::EPERM | Errno::EACCES => " (it is not on a bpffs, or the process lacks the right)",
                _ => "",
            };
            Error::Open {
                what: "program",
                from: format!("pinned at {}", path.display()),
                hint,
                source: errno,
            }
        })
    }

    /// Takes a descriptor that came from elsewhere, such as another process (Linux 4.13).
    ///
    /// # Errors
    ///
    /// [`Error::Open`]: it is no program ([`Errno::EINVAL`]).
    pub fn from_fd(kernel: &Kernel, fd: OwnedFd) -> Result<Program, Error> {
        kernel.prog_from_fd(fd).and_then(ask).map_err(|errno| {
            let hint = if errno == Errno::EINVAL { " (it is something else)" } else { "" };
            Error::Open { what: "program", from: "from a descriptor".to_owned(), hint, source: errno }
        })
    }

    /// The same handle with the attach type that its opener knows it to have: kernels do not tell.
    pub fn with_attach_type(self, attach_type: AttachType) -> Program {
        Program { attach_type, loaded: self.loaded.with_attach_type(attach_type), ..self }
    }
}

fn ask(loaded: LoadedProgram) -> Result<Program, Errno> {
    let info = loaded.info()?;
    Ok(opened(loaded, &info))
}

/// A program that was opened, of which the kernel says this.
pub(crate) fn opened(loaded: LoadedProgram, info: &ProgInfo) -> Program {
    let auto_attach = match info.prog_type {
        // What these attach to they named when they were loaded.
        ProgType::TRACING | ProgType::EXT => AutoAttach::Trace,
        ProgType::LSM => AutoAttach::Lsm,
        _ => AutoAttach::None,
    };
    Program {
        name: info.name.clone(),
        origin: Origin { auto_attach, ..Origin::default() },
        attach_type: loaded.attach_type().unwrap_or_default(),
        instructions: info.xlated_len as usize / Insn::SIZE,
        loaded,
        log: String::new(),
    }
}

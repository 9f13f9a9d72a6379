use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::OnceLock;

use crate::abi::{AttachType, Errno, ProgType, StreamId};
use crate::kernel::Kernel;
use crate::map_fd::{MapFd, dup};
use crate::request::{Pin, ProgDump, ProgInfo, ProgKey, TestRun, TestRunResult};

/// A program in a kernel: its descriptor, kind and name.
///
/// Made by [`Kernel`]; dropping it closes the descriptor, and the program goes when nothing else holds it.
#[derive(Debug)]
pub struct LoadedProgram {
    fd: OwnedFd,
    kernel: Kernel,
    prog_type: ProgType,
    attach_type: Option<AttachType>,
    name: String,
    /// What the backend knows it by.
    key: OnceLock<ProgKey>,
}

impl LoadedProgram {
    pub(crate) fn new(
        fd: OwnedFd,
        kernel: Kernel,
        prog_type: ProgType,
        attach_type: Option<AttachType>,
        name: String,
    ) -> LoadedProgram {
        LoadedProgram { fd, kernel, prog_type, attach_type, name, key: OnceLock::new() }
    }

    /// The kernel that the program lives in.
    pub fn kernel(&self) -> &Kernel {
        &self.kernel
    }

    /// Kind.
    pub fn prog_type(&self) -> ProgType {
        self.prog_type
    }

    /// The expected attach type that it was loaded with; none for an opened program, since kernels do not tell.
    pub fn attach_type(&self) -> Option<AttachType> {
        self.attach_type
    }

    /// The same program with the attach type that its opener knows it to have.
    pub fn with_attach_type(mut self, attach_type: AttachType) -> LoadedProgram {
        self.attach_type = Some(attach_type);
        self
    }

    /// Name as it was given to the kernel, or as the kernel reports it; at most 15 bytes, and empty for none.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What the kernel says of the program (`BPF_OBJ_GET_INFO_BY_FD`).
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn info(&self) -> Result<ProgInfo, Errno> {
        self.kernel.backend().prog_info(self.as_fd())
    }

    /// Runs the program on made-up input (`BPF_PROG_TEST_RUN`).
    ///
    /// # Errors
    /// What the kernel answers, with the result as far as it goes: on [`Errno::ENOSPC`] the outputs are cut and the
    /// result has their full lengths.
    pub fn test_run(&self, run: &mut TestRun<'_>) -> Result<TestRunResult, (Errno, TestRunResult)> {
        run.key = self.key.get().cloned();
        let answer = self.kernel.backend().prog_test_run(self.as_fd(), run);
        if let Some(key) = run.key.take() {
            self.key.get_or_init(|| key);
        }
        answer
    }

    /// The code of the program and what belongs to it (`BPF_OBJ_GET_INFO_BY_FD`).
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn dump(&self) -> Result<ProgDump, Errno> {
        self.kernel.backend().prog_dump(self.as_fd())
    }

    /// Takes what the program wrote into one of its streams, as far as `into` goes; 0 when there is nothing
    /// (`BPF_PROG_STREAM_READ_BY_FD`, Linux 6.17).
    ///
    /// # Errors
    /// What the kernel answers, [`Errno::ENOENT`] when there is no such stream.
    pub fn stream_read(&self, stream: StreamId, into: &mut [u8]) -> Result<usize, Errno> {
        self.kernel.backend().prog_stream_read(self.as_fd(), stream, into)
    }

    /// Bytes of the kernel's memory that the program takes (`memlock` in `/proc/self/fdinfo`).
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn memlock(&self) -> Result<u64, Errno> {
        self.kernel.backend().memlock(self.as_fd())
    }

    /// Makes the program keep `map` alive (`BPF_PROG_BIND_MAP`, Linux 5.10).
    ///
    /// # Errors
    /// What the kernel answers, [`Errno::EXDEV`] when the map is another kernel's.
    pub fn bind_map(&self, map: &MapFd) -> Result<(), Errno> {
        self.kernel.check_same(map.kernel())?;
        self.kernel.backend().prog_bind_map(self.as_fd(), map.as_fd())
    }

    /// Pins the program at a path on a bpffs (`BPF_OBJ_PIN`).
    ///
    /// # Errors
    /// What the kernel answers, [`Errno::EEXIST`] when the path is taken.
    pub fn pin(&self, path: impl AsRef<Path>) -> Result<(), Errno> {
        self.kernel.backend().pin(Pin { fd: self.as_fd(), path: path.as_ref() })
    }

    /// A second handle of the same program.
    ///
    /// # Errors
    /// When the process has no descriptor left.
    pub fn try_clone(&self) -> Result<LoadedProgram, Errno> {
        Ok(LoadedProgram {
            fd: dup(&self.fd)?,
            kernel: self.kernel.clone(),
            prog_type: self.prog_type,
            attach_type: self.attach_type,
            name: self.name.clone(),
            key: self.key.clone(),
        })
    }
}

impl AsRef<LoadedProgram> for LoadedProgram {
    fn as_ref(&self) -> &LoadedProgram {
        self
    }
}

impl AsFd for LoadedProgram {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl From<LoadedProgram> for OwnedFd {
    fn from(prog: LoadedProgram) -> OwnedFd {
        prog.fd
    }
}

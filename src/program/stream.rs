//! What programs write.

use std::io;

use skep_sys::abi::{Errno, StreamId};

use super::Program;
use crate::error::called;

/// Reads what a program wrote into one of its output streams.
///
/// A program writes into `stdout` and `stderr` by a kernel function (`bpf_stream_vprintk`), and the kernel itself writes
/// into the latter what went wrong in a program, such as a deadlock or a fault in an arena. What was read is gone from
/// the stream; what is not read is dropped once there are 100 KB of it. Of a text that the kernel has no memory for only the
/// program learns, to which the function answers `-ENOMEM`: it is not in the stream.
///
/// Reading never waits: 0 bytes mean that there is nothing at the moment, so
/// [`read_to_string`](io::Read::read_to_string) gives what there is, and can be called again later.
#[derive(Debug)]
pub struct StreamReader<'p> {
    program: &'p Program,
    stream: StreamId,
}

impl Program {
    /// Reads one of its output streams ([`StreamId::STDOUT`], [`StreamId::STDERR`]; Linux 6.17).
    ///
    /// ```
    /// use std::io::Read;
    ///
    /// use skep::sys::abi::StreamId;
    /// # use skep::{asm::Reg, program::ProgramBuilder, sys::abi::ProgType};
    /// # let mut builder = ProgramBuilder::new(ProgType::XDP, "GPL");
    /// # builder.asm().mov64_imm(Reg::R0, 2).exit();
    /// # let program = builder.load(&skep::sim::kernel())?;
    ///
    /// let mut said = String::new();
    /// program.stream(StreamId::STDERR).read_to_string(&mut said)?;
    /// assert_eq!(said, "");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn stream(&self, stream: StreamId) -> StreamReader<'_> {
        StreamReader { program: self, stream }
    }
}

impl io::Read for StreamReader<'_> {
    /// # Errors
    ///
    /// [`Unsupported`](io::ErrorKind::Unsupported) on kernels that have no streams,
    /// [`NotFound`](io::ErrorKind::NotFound) when there is no such stream, else what the kernel answered.
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if into.is_empty() {
            return Ok(0);
        }
        let Program { name, loaded, .. } = self.program;
        loaded.stream_read(self.stream, into).map_err(|errno| {
            let (kind, why) = match errno {
                Errno::EINVAL | Errno::ENOSYS => (io::ErrorKind::Unsupported, " (that needs Linux 6.17)"),
                Errno::ENOENT => (io::ErrorKind::NotFound, " (there is no such stream)"),
                Errno::EPERM => (io::ErrorKind::PermissionDenied, ""),
                Errno::ENOMEM => (io::ErrorKind::OutOfMemory, ""),
                _ => (io::ErrorKind::Other, ""),
            };
            io::Error::new(kind, format!("read {} of program {}{why}: {errno}", self.stream, called(name)))
        })
    }
}

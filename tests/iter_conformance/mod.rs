//! What iterators do, on any kernel.

use std::io::Read;
use std::os::fd::AsFd;

use skep::sys::abi::{AttachType, Errno};
use skep::sys::request::{LinkCreate, LinkTarget};
use skep::{Kernel, Loader, Spec};

/// A row that `iter_task.c` writes: thread, process and name.
type Row = (u32, u32, String);

/// Goes through all tasks twice. Answers the rows, or why the kernel has no iterators.
pub(crate) fn tasks(kernel: &Kernel) -> Result<Vec<Row>, Box<dyn std::error::Error>> {
    let mut spec = Spec::parse("iter_task", include_bytes!("../../testdata/iter_task.o"))?;
    spec.programs.retain(|program| program.name == "list_tasks");
    let object = Loader::new(kernel).load(&spec)?;
    let program = object.program("list_tasks")?;
    let request = LinkCreate::new(program.as_fd(), LinkTarget::Loaded, AttachType::TRACE_ITER);
    let link = kernel.link_create(&request)?;
    let mut rows = Vec::new();
    // Small pieces and large ones are the same bytes, and each run begins anew.
    for piece in [5, 1 << 16] {
        let mut iter = link.iterate()?;
        let (mut bytes, mut buffer) = (Vec::new(), vec![0; piece]);
        loop {
            match iter.read(&mut buffer)? {
                0 => break,
                read => bytes.extend_from_slice(&buffer[..read]),
            }
        }
        assert_eq!(bytes.len() % 24, 0, "whole rows");
        rows = bytes.chunks(24).map(row).collect();
    }
    // What is no iterator has no runs.
    assert_eq!(kernel.backend().iter_create(program.as_fd()).err(), Some(Errno::EINVAL));
    Ok(rows)
}

fn row(bytes: &[u8]) -> Row {
    let word = |at: usize| u32::from_ne_bytes(bytes[at..at + 4].try_into().unwrap());
    let name = bytes[8..].split(|&byte| byte == 0).next().unwrap_or_default();
    (word(0), word(4), String::from_utf8_lossy(name).into_owned())
}

/// Ends the sockets of a port with an iterator over TCP or UDP. Answers how many there were and what the last one answered.
pub(crate) fn end_sockets(
    kernel: &Kernel,
    program: &str,
    port: u16,
) -> Result<(u32, i32), Box<dyn std::error::Error>> {
    let spec = Spec::parse("sock_destroy", include_bytes!("../../testdata/run/sock_destroy.o"))?;
    let object = Loader::new(kernel).load(&spec)?;
    object.set_global("port", &port)?;
    let program = object.program(program)?;
    let request = LinkCreate::new(program.as_fd(), LinkTarget::Loaded, AttachType::TRACE_ITER);
    kernel.link_create(&request)?.iterate()?.read_to_end(&mut Vec::new())?;
    Ok((object.global("ended")?, object.global("answered")?))
}

//! Helpers that print: to where people read, to the buffers of iterators, to the program's own memory.

use std::sync::{Arc, Mutex, PoisonError};

use skep_sys::abi::Errno;

use super::format::{Sink, print};
use super::{EFFECT, HelperFn, memory, negative, refuse};
use crate::image::TASK_SIZE;
use crate::vm::{Handle, Trap, Vm};
use crate::world::TraceLine;

pub(super) const HELPERS: &[(i32, HelperFn)] =
    &[(6, trace_printk), (126, seq_printf), (127, seq_write), (165, snprintf), (177, trace_vprintk)];

pub(super) const KFUNCS: &[(&str, HelperFn)] =
    &[("bpf_stream_vprintk", stream_vprintk), ("bpf_stream_vprintk_impl", stream_vprintk)];

/// Most arguments (`MAX_BPRINTF_VARARGS`).
const ARGS_MAX: usize = 12;
/// Bytes of a line, with its NUL (`MAX_BPRINTF_BUF`).
const LINE_MAX: usize = 1024;
/// Longest format that is looked at.
const FORMAT_MAX: usize = 1 << 16;

/// The buffer of an iterator (`struct seq_file`). Programs hand its address to `bpf_seq_printf`.
#[derive(Debug)]
pub(crate) struct SeqFile {
    size: usize,
    bytes: Mutex<SeqBytes>,
}

#[derive(Debug, Default)]
struct SeqBytes {
    bytes: Vec<u8>,
    overflowed: bool,
}

impl SeqFile {
    /// An empty one for so many bytes.
    pub(crate) fn new(size: usize) -> SeqFile {
        SeqFile { size, bytes: Mutex::default() }
    }

    /// How many bytes it has room for.
    pub(super) fn size(&self) -> usize {
        self.size
    }

    /// Takes what was written, and whether there was not room for everything.
    pub(crate) fn take(&self) -> (Vec<u8>, bool) {
        let taken = std::mem::take(&mut *self.bytes.lock().unwrap_or_else(PoisonError::into_inner));
        (taken.bytes, taken.overflowed)
    }

    /// Adds bytes; `EOVERFLOW` when there is no room for them.
    pub(super) fn write(&self, bytes: &[u8], len: usize) -> Result<(), Errno> {
        let mut there = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        // One byte is never used.
        if there.overflowed || there.bytes.len().saturating_add(len) >= self.size {
            there.overflowed = true;
            return Err(Errno::EOVERFLOW);
        }
        there.bytes.extend_from_slice(bytes);
        Ok(())
    }
}

impl Vm {
    /// The buffer with an address, as [`Handle::Other`] holds it.
    pub(super) fn seq_file(&self, address: u64) -> Result<Arc<SeqFile>, Trap> {
        let found = match self.memory.handle(address) {
            Some(Handle::Other(_, any)) => Arc::clone(any).downcast::<SeqFile>().ok(),
            _ => None,
        };
        found
            .ok_or_else(|| refuse(format!("{address:#x} is not the buffer of an iterator (struct seq_file)")))
    }

    /// The string at an address, up to its NUL and `max` bytes; none when it cannot be read. `user` says that the address is
    /// one of the process.
    pub(super) fn text_at(&mut self, address: u64, max: usize, user: bool) -> Option<Vec<u8>> {
        if user || address < TASK_SIZE {
            let mut text = vec![0; max + 1]; // of at most a few hundred bytes
            let len = super::probe::user_text(self, address, &mut text).ok()?;
            text.truncate(len.saturating_sub(1)); // its NUL
            return Some(text);
        }
        self.memory.string(address, max).ok()
    }
}

/// `bpf_trace_printk(format, size, ...)`: the length of the text.
fn trace_printk(vm: &mut Vm, [format, size, args @ ..]: [u64; 5]) -> Result<u64, Trap> {
    trace(vm, format, size, &args)
}

/// `bpf_trace_vprintk(format, size, args, args_len)`.
fn trace_vprintk(vm: &mut Vm, [format, size, args, len, _]: [u64; 5]) -> Result<u64, Trap> {
    with_args(vm, args, len, |vm, args| trace(vm, format, size, args))
}

fn trace(vm: &mut Vm, format: u64, size: u64, args: &[u64]) -> Result<u64, Trap> {
    with_format(vm, format, size, |vm, format| {
        let mut sink = Sink::new(LINE_MAX - 1);
        if let Err(errno) = print(vm, format, args, &mut sink) {
            return Ok(negative(errno));
        }
        let text = sink.bytes.split(|byte| *byte == 0).next().unwrap_or_default();
        vm.spend(EFFECT);
        let line = TraceLine::new(vm, String::from_utf8_lossy(text).into_owned());
        vm.kernel.0.world().trace.add(line);
        Ok(sink.len as u64)
    })
}

/// Does something with a format of so many bytes, which has to have a NUL.
fn with_format(
    vm: &mut Vm,
    address: u64,
    size: u64,
    with: impl FnOnce(&mut Vm, &[u8]) -> Result<u64, Trap>,
) -> Result<u64, Trap> {
    memory::with_bytes(vm, address, u64::from(size as u32) as usize, |vm, format| {
        match format.iter().position(|byte| *byte == 0) {
            Some(end) => with(vm, format.get(..end).unwrap_or_default()),
            None => Ok(negative(Errno::EINVAL)),
        }
    })
}

/// Does something with arguments that lie in memory.
fn with_args(
    vm: &mut Vm,
    address: u64,
    len: u64,
    with: impl FnOnce(&mut Vm, &[u64]) -> Result<u64, Trap>,
) -> Result<u64, Trap> {
    let len = u64::from(len as u32) as usize;
    let args = match arguments(vm, address, len)? {
        Ok(args) => args,
        Err(errno) => return Ok(negative(errno)),
    };
    with(vm, args.get(..len / 8).unwrap_or_default())
}

fn arguments(vm: &mut Vm, address: u64, len: usize) -> Result<Result<[u64; ARGS_MAX], Errno>, Trap> {
    if !len.is_multiple_of(8) || len > ARGS_MAX * 8 || len > 0 && address == 0 {
        return Ok(Err(Errno::EINVAL));
    }
    let mut bytes = [0; ARGS_MAX * 8];
    vm.memory.read(address, bytes.get_mut(..len).unwrap_or_default())?;
    let (words, _) = bytes.as_chunks::<8>();
    let mut args = [0; ARGS_MAX];
    args.iter_mut().zip(words).for_each(|(arg, word)| *arg = u64::from_ne_bytes(*word));
    Ok(Ok(args))
}

/// `bpf_seq_printf(seq, format, size, args, args_len)`.
fn seq_printf(vm: &mut Vm, [seq, format, size, args, len]: [u64; 5]) -> Result<u64, Trap> {
    let seq = vm.seq_file(seq)?;
    with_args(vm, args, len, |vm, args| {
        with_format(vm, format, size, |vm, format| {
            let mut sink = Sink::new(seq.size);
            let written = print(vm, format, args, &mut sink).and_then(|()| seq.write(&sink.bytes, sink.len));
            Ok(super::answer(written))
        })
    })
}

/// `bpf_seq_write(seq, data, len)`.
fn seq_write(vm: &mut Vm, [seq, data, len, ..]: [u64; 5]) -> Result<u64, Trap> {
    let seq = vm.seq_file(seq)?;
    let len = u64::from(len as u32) as usize;
    memory::with_bytes(vm, data, len, |_, bytes| Ok(super::answer(seq.write(bytes, len))))
}

/// `bpf_snprintf(to, size, format, args, args_len)`: the length that all of it has, with its NUL.
fn snprintf(vm: &mut Vm, [to, size, format, args, len]: [u64; 5]) -> Result<u64, Trap> {
    let size = u64::from(size as u32) as usize;
    vm.memory.check(to, size, true)?;
    let format = vm.memory.string(format, FORMAT_MAX)?;
    with_args(vm, args, len, |vm, args| {
        let mut sink = Sink::new(size.saturating_sub(1));
        if let Err(errno) = print(vm, &format, args, &mut sink) {
            return Ok(negative(errno));
        }
        if size > 0 {
            sink.bytes.push(0);
            vm.memory.write(to, &sink.bytes)?;
        }
        Ok(sink.len as u64 + 1)
    })
}

/// `bpf_stream_vprintk(stream, format, args, args_len, program)`.
fn stream_vprintk(vm: &mut Vm, [stream, format, args, len, _]: [u64; 5]) -> Result<u64, Trap> {
    let format = vm.memory.string(format, FORMAT_MAX)?;
    let id = vm.prog().id;
    with_args(vm, args, len, |vm, args| {
        let stream = stream as u32;
        if !matches!(stream, 1 | 2) {
            return Ok(negative(Errno::ENOENT));
        }
        let mut sink = Sink::new(LINE_MAX - 1);
        let printed = print(vm, &format, args, &mut sink);
        let added = printed.and_then(|()| vm.kernel.0.world().streams.add(id, stream, &sink.bytes));
        Ok(super::answer(added))
    })
}

//! The context that a program is started with.

use std::any::Any;
use std::fmt::Debug;

use super::memory::Memory;

/// A context whose fields are computed, as the kernel rewrites accesses to `struct __sk_buff` and its like. Contexts that
/// are plain bytes (arguments of a tracepoint, registers) are a region of their own instead.
pub(crate) trait Context: Any + Debug + Send {
    /// The field of `len` bytes at an offset. `None` when there is no such field.
    fn load(&mut self, memory: &mut Memory, offset: u32, len: u32) -> Option<u64>;

    /// Writes the field of `len` bytes at an offset. `None` when there is no such field, or it may not be written.
    fn store(&mut self, memory: &mut Memory, offset: u32, len: u32, value: u64) -> Option<()> {
        let _ = (memory, offset, len, value);
        None
    }

    /// Bytes of the packet, for the packet loads of classic BPF. `None` when they are not all there.
    fn packet(&mut self, memory: &mut Memory, offset: i64, to: &mut [u8]) -> Option<()> {
        let _ = (memory, offset, to);
        None
    }

    fn as_any(&mut self) -> &mut dyn Any;
}

/// A structure of the kernel whose bytes are made when somebody looks, from the context and the rest of the memory.
pub(crate) trait View: Debug + Send + Sync {
    /// What it is, for the text of a fault.
    fn what(&self) -> &'static str;

    /// How many bytes it has.
    fn size(&self) -> usize;

    /// Its bytes as they are now.
    fn bytes(&self, memory: &mut Memory) -> Option<Vec<u8>>;

    /// Some of them. `None` when they are not all there.
    fn read(&self, memory: &mut Memory, at: usize, to: &mut [u8]) -> Option<()> {
        let bytes = self.bytes(memory)?;
        to.copy_from_slice(bytes.get(at..at.checked_add(to.len())?)?);
        Some(())
    }
}

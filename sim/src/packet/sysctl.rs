//! `struct bpf_sysctl`: a setting of the kernel that a process reads or writes.

use std::any::Any;

use crate::vm::{Context, Memory};
use crate::words::{narrow_any, widen_any};

/// A setting as programs see it.
#[derive(Clone, Debug)]
pub(crate) struct Sysctl {
    /// Its path below `/proc/sys`.
    pub(crate) name: String,
    /// What it holds.
    pub(crate) current: Vec<u8>,
    /// What a process writes, and whether a program has put something else in its place.
    pub(crate) new: Option<Vec<u8>>,
    pub(crate) is_changed: bool,
    /// Where in the file.
    pub(crate) position: u32,
}

impl Context for Sysctl {
    fn load(&mut self, _: &mut Memory, offset: u32, len: u32) -> Option<u64> {
        if len > 4 || !offset.is_multiple_of(len) {
            return None;
        }
        let (write, position) = (u32::from(self.new.is_some()), self.position);
        let bytes = [write.to_ne_bytes(), position.to_ne_bytes()].concat();
        bytes.get(offset as usize..(offset + len) as usize).map(widen_any)
    }

    fn store(&mut self, _: &mut Memory, offset: u32, len: u32, value: u64) -> Option<()> {
        if (offset, len) != (4, 4) {
            return None;
        }
        let mut bytes = [0; 4];
        narrow_any(value, &mut bytes);
        self.position = u32::from_ne_bytes(bytes);
        Some(())
    }

    fn as_any(&mut self) -> &mut dyn Any {
        self
    }
}

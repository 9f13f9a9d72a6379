//! `struct bpf_sockopt`: an option of a socket that a process sets or asks for.

use std::any::Any;

use crate::vm::{Context, Memory};

/// Offsets of the structure.
mod at {
    pub(super) const SK: u32 = 0;
    pub(super) const OPTVAL: u32 = 8;
    pub(super) const OPTVAL_END: u32 = 16;
    pub(super) const LEVEL: u32 = 24;
    pub(super) const OPTNAME: u32 = 28;
    pub(super) const OPTLEN: u32 = 32;
    pub(super) const RETVAL: u32 = 36;
}

/// An option as programs see it.
#[derive(Clone, Debug)]
pub(crate) struct Sockopt {
    pub(crate) cookie: u64,
    pub(crate) is_set: bool,
    /// Addresses of the socket and of the value.
    pub(crate) socket: u64,
    pub(crate) value: u64,
    pub(crate) end: u64,
    pub(crate) level: i32,
    pub(crate) name: i32,
    pub(crate) len: i32,
    /// What the call answers, which `bpf_set_retval` sets, too.
    pub(crate) retval: i32,
}

impl Context for Sockopt {
    fn load(&mut self, _: &mut Memory, offset: u32, len: u32) -> Option<u64> {
        let word = |word: i32| u64::from(word.cast_unsigned());
        match (offset, len) {
            (at::SK, 8) => Some(self.socket),
            (at::OPTVAL, 8) => Some(self.value),
            (at::OPTVAL_END, 8) => Some(self.end),
            (at::LEVEL, 4) => Some(word(self.level)),
            (at::OPTNAME, 4) => Some(word(self.name)),
            (at::OPTLEN, 4) => Some(word(self.len)),
            (at::RETVAL, 4) if !self.is_set => Some(word(self.retval)),
            _ => None,
        }
    }

    fn store(&mut self, _: &mut Memory, offset: u32, len: u32, value: u64) -> Option<()> {
        let field = match (offset, len) {
            (at::LEVEL, 4) if self.is_set => &mut self.level,
            (at::OPTNAME, 4) if self.is_set => &mut self.name,
            (at::OPTLEN, 4) => &mut self.len,
            (at::RETVAL, 4) if !self.is_set => &mut self.retval,
            _ => return None,
        };
        *field = value as i32;
        Some(())
    }

    fn as_any(&mut self) -> &mut dyn Any {
        self
    }
}

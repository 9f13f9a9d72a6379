//! What can lie at a range of addresses.

use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use super::arena::ArenaMemory;
use super::context::View;
use crate::map::Map;
use crate::prog::Prog;

/// What lies at a range of addresses.
#[derive(Debug)]
pub(crate) enum Region {
    /// Bytes of this run: a stack frame, a packet, a context that is plain bytes.
    Own(Own),
    /// Bytes that others see, too: a map's value, a ring's record.
    Shared(Shared),
    /// An arena, as far as its low halves of addresses go.
    Arena(Arc<ArenaMemory>),
    /// The context, whose fields are computed.
    Context,
    /// Something that has an address and no bytes.
    Handle(Handle),
    /// A structure of the kernel that is made up when it is looked at.
    View(Arc<dyn View>),
    /// What lay here is not there any more, and why.
    Gone(&'static str),
}

/// Bytes of one run.
#[derive(Debug)]
pub(crate) struct Own {
    pub(crate) what: What,
    pub(crate) bytes: Vec<u8>,
    /// What may be accessed of them: `start..end`.
    pub(crate) start: usize,
    pub(crate) end: usize,
    pub(crate) writable: bool,
}

/// Bytes in words that a map and its users share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) what: What,
    pub(crate) words: Arc<[AtomicU64]>,
    /// First byte in the words.
    pub(crate) start: usize,
    pub(crate) len: usize,
    pub(crate) writable: bool,
}

/// Something with an address that programs hand to helpers.
#[derive(Clone, Debug)]
pub(crate) enum Handle {
    Map(Arc<Map>),
    /// The code of a program; the place inside counts slots, times eight.
    Code(Arc<Prog>),
    /// A map of instructions, whose elements are read as addresses of the code that begins there.
    Table {
        map: Arc<Map>,
        code: u64,
    },
    /// What only helpers know: a socket, a task, a file.
    Other(&'static str, Arc<dyn Any + Send + Sync>),
}

/// What a region is, for the text of a fault.
#[derive(Clone, Debug)]
pub(crate) enum What {
    /// The stack of a frame.
    Stack,
    Context,
    Packet,
    Value(Arc<Map>),
    Record(Arc<Map>),
    Other(&'static str),
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            What::Stack => f.write_str("the stack"),
            What::Context => f.write_str("the context"),
            What::Packet => f.write_str("the packet"),
            What::Value(map) => write!(f, "a value of map `{}`", map.name),
            What::Record(map) => write!(f, "a record of ring buffer `{}`", map.name),
            What::Other(what) => f.write_str(what),
        }
    }
}

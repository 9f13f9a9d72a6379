//! What a run knows of the event that it belongs to.

use std::sync::Arc;

use super::outcome::TraceEffect;

/// What helpers tell of the event. A run that no event started has the default.
#[derive(Clone, Debug, Default)]
pub(crate) struct Site {
    /// `bpf_get_attach_cookie`.
    pub(crate) cookie: u64,
    /// `bpf_get_func_ip`.
    pub(crate) func_ip: u64,
    /// The process that it runs in, when it is not the current one.
    pub(crate) task: Option<u32>,
    /// Arguments behind the context of a tracing program.
    pub(crate) arguments: Option<Arguments>,
    /// Addresses of functions that called each other, from the innermost on.
    pub(crate) kernel_stack: Arc<[u64]>,
    pub(crate) user_stack: Arc<[u64]>,
    pub(crate) branches: Arc<[Branch]>,
    pub(crate) session: Option<Session>,
    /// Counter, time enabled and time running of a perf event.
    pub(crate) counter: Option<[u64; 3]>,
    /// What `bpf_override_return` said.
    pub(crate) overridden: Option<u64>,
    pub(crate) effects: Vec<TraceEffect>,
}

/// How many arguments the context of a tracing program holds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arguments {
    pub(crate) count: usize,
    /// Whether the value that the function returned is behind them.
    pub(crate) returned: bool,
}

/// A program that runs at the start and at the end of a function.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Session {
    pub(crate) at_return: bool,
    /// The word that both share.
    pub(crate) cookie: u64,
    pub(crate) address: Option<u64>,
}

/// A branch that was taken (`struct perf_branch_entry`).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Branch {
    pub(crate) from: u64,
    pub(crate) to: u64,
}

impl Branch {
    pub(crate) const SIZE: usize = 24;

    pub(crate) fn bytes(self) -> [u8; Branch::SIZE] {
        let mut bytes = [0; Branch::SIZE];
        let (from, rest) = bytes.split_at_mut(8);
        from.copy_from_slice(&self.from.to_ne_bytes());
        if let Some(to) = rest.get_mut(..8) {
            to.copy_from_slice(&self.to.to_ne_bytes());
        }
        bytes
    }
}

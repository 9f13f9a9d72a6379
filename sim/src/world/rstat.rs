//! Which control groups have counted something.

use std::collections::BTreeSet;

/// What is to be added up.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rstat {
    /// By CPU, the ids of groups.
    pub(crate) updated: BTreeSet<(u32, u64)>,
    /// Whether it is being added up.
    pub(crate) flushing: bool,
}

//! The programs that were stopped.

use std::collections::VecDeque;

use crate::vm::Fault;

const FAULTS_MAX: usize = 64;

/// The last faults, oldest first.
#[derive(Clone, Debug, Default)]
pub(crate) struct Faults(VecDeque<Fault>);

impl Faults {
    pub(crate) fn add(&mut self, fault: Fault) {
        if self.0.len() >= FAULTS_MAX {
            self.0.pop_front();
        }
        self.0.push_back(fault);
    }

    pub(crate) fn all(&self) -> Vec<Fault> {
        self.0.iter().cloned().collect()
    }

    pub(super) fn last(&self) -> Option<Fault> {
        self.0.back().cloned()
    }
}

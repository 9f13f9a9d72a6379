use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Command;
use super::brief::Names;
use super::delegate::{Around, Described};
use crate::abi::Errno;
use crate::backend::Backend;

/// A backend that fails chosen calls of another, and counts all of them.
///
/// A failed call does not reach the backend behind. Every method that can answer an error counts as a call, under its
/// name (`map_create`, `prog_load`, …), which [`Command`] has as constants.
#[derive(Debug)]
pub struct FaultInjection {
    inner: Arc<dyn Backend>,
    faults: Faults,
}

/// Says which calls of a [`FaultInjection`] fail. Clones are the same handle.
#[derive(Clone, Debug, Default)]
pub struct Faults(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    calls: u64,
    calls_of: BTreeMap<&'static str, u64>,
    rules: Vec<Rule>,
    /// Calls that still go through before all fail, and with what.
    dead: Option<(u64, Errno)>,
    /// Calls before one that something is run at.
    hook: Option<(u64, Hook)>,
    fired: u64,
}

/// What is run before a call.
struct Hook(Box<dyn FnOnce() + Send>);

impl std::fmt::Debug for Hook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hook")
    }
}

#[derive(Debug)]
struct Rule {
    /// Any command for none.
    command: Option<String>,
    /// Calls that still go through; `None` for a rule that fails all of them.
    before: Option<u64>,
    errno: Errno,
}

impl FaultInjection {
    /// Wraps a backend; nothing fails until the handle says so.
    pub fn around(inner: Arc<dyn Backend>) -> (FaultInjection, Faults) {
        let faults = Faults::default();
        (FaultInjection { inner, faults: faults.clone() }, faults)
    }
}

impl Faults {
    /// Lets the `n`-th call from now on fail, whatever the command, counting from 1; once.
    pub fn fail_call(&self, n: u64, errno: Errno) {
        self.arm(None, Some(n), errno);
    }

    /// Lets the `n`-th call of one command from now on fail, counting from 1; once.
    pub fn fail_command(&self, command: impl AsRef<str>, n: u64, errno: Errno) {
        self.arm(Some(command.as_ref()), Some(n), errno);
    }

    /// Lets every call of one command fail from now on.
    pub fn fail_every(&self, command: impl AsRef<str>, errno: Errno) {
        self.arm(Some(command.as_ref()), None, errno);
    }

    fn arm(&self, command: Option<&str>, n: Option<u64>, errno: Errno) {
        let before = n.map(|n| n.saturating_sub(1));
        self.state().rules.push(Rule { command: command.map(str::to_owned), before, errno });
    }

    /// Lets the `n`-th call from now on and every later one fail, counting from 1: to the kernel behind, whoever calls
    /// is dead from then on, but for the descriptors that it still closes.
    pub fn fail_from(&self, n: u64, errno: Errno) {
        self.state().dead = Some((n.saturating_sub(1), errno));
    }

    /// Runs `run` before the `n`-th call from now on, counting from 1: to change something in between, or to end the
    /// process there. No call may come from `run`.
    pub fn before_call(&self, n: u64, run: impl FnOnce() + Send + 'static) {
        self.state().hook = Some((n.saturating_sub(1), Hook(Box::new(run))));
    }

    /// Lets nothing fail any more. The counts stay.
    pub fn disarm(&self) {
        let mut state = self.state();
        state.rules.clear();
        (state.dead, state.hook) = (None, None);
    }

    /// Number of calls so far, failed ones included.
    pub fn calls(&self) -> u64 {
        self.state().calls
    }

    /// Number of calls of one command so far, failed ones included.
    pub fn calls_of(&self, command: impl AsRef<str>) -> u64 {
        self.state().calls_of.get(command.as_ref()).copied().unwrap_or(0)
    }

    /// Number of calls that were made to fail.
    pub fn fired(&self) -> u64 {
        self.state().fired
    }

    /// Starts counting at 0 again. What is armed stays armed.
    pub fn reset_counts(&self) {
        let mut state = self.state();
        (state.calls, state.fired) = (0, 0);
        state.calls_of.clear();
    }

    /// Counts a call and says whether it fails, for backends that let calls fail themselves.
    #[doc(hidden)]
    pub fn before(&self, command: &'static str) -> Option<Errno> {
        // It cannot fail, so it is no place for a fault.
        if command == Command::PERMISSIONS.name() { None } else { self.state().call(command) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Counts a call, and says whether it fails.
    fn call(&mut self, command: &'static str) -> Option<Errno> {
        self.calls += 1;
        *self.calls_of.entry(command).or_default() += 1;
        if let Some((left, _)) = &mut self.hook {
            if *left > 0 {
                *left -= 1;
            } else if let Some((_, Hook(run))) = self.hook.take() {
                run();
            }
        }
        let mut errno = None;
        if let Some((left, dead)) = &mut self.dead {
            if *left > 0 {
                *left -= 1;
            } else {
                errno = Some(*dead);
            }
        }
        self.rules.retain_mut(|rule| {
            if rule.command.as_deref().is_some_and(|wanted| wanted != command) {
                return true;
            }
            match &mut rule.before {
                Some(left) if *left > 0 => {
                    *left -= 1;
                    true
                }
                // The rule that was armed first decides; a later one that is due now is used up with it.
                Some(_) => {
                    errno.get_or_insert(rule.errno);
                    false
                }
                None => {
                    errno.get_or_insert(rule.errno);
                    true
                }
            }
        });
        self.fired += u64::from(errno.is_some());
        errno
    }
}

impl Around for FaultInjection {
    type Inner = dyn Backend;

    fn inner(&self) -> &(dyn Backend + 'static) {
        &*self.inner
    }

    fn describes(&self) -> Option<Names> {
        None
    }

    fn before(&self, command: &'static str) -> Option<Errno> {
        self.faults.before(command)
    }

    fn after(&self, _: Described, _: Option<Errno>) {}
}

super::delegate::wrapper!(FaultInjection);

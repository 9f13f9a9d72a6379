//! Looking at programs while they run: what lines they come to, each instruction, and stopping them.

mod coverage;
mod debug;
mod inspect;
mod misplaced;
mod trace;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

pub use coverage::{BranchCoverage, Coverage, LineCoverage, ProgramCoverage};
pub use debug::{Debugger, Session, Stop};
pub use inspect::{FrameView, Halted};
pub use trace::TraceStep;

use crate::kernel::SimKernel;
use crate::prog::Prog;
use crate::vm::{Fault, Trap, Vm, Watcher};
use coverage::{Counter, Covered};
use debug::{DebugWatcher, Shared};
use trace::{Sink, Tracer};

/// Who looks at the programs of a kernel.
#[derive(Debug, Default)]
pub(crate) struct Watching {
    /// Whether anyone does, so that a run need not ask.
    active: AtomicBool,
    state: Mutex<Watchers>,
}

#[derive(Debug, Default)]
struct Watchers {
    coverage: Option<Arc<Mutex<Covered>>>,
    trace: Option<Sink>,
    debuggers: Vec<Weak<Shared>>,
}

impl Watching {
    fn state(&self) -> MutexGuard<'_, Watchers> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<T>(&self, change: impl FnOnce(&mut Watchers) -> T) -> T {
        let mut state = self.state();
        let answer = change(&mut state);
        let Watchers { coverage, trace, debuggers } = &*state;
        let active = coverage.is_some() || trace.is_some() || !debuggers.is_empty();
        self.active.store(active, Ordering::Relaxed);
        answer
    }

    /// Who looks at a run that begins on this thread.
    pub(crate) fn watcher(&self) -> Option<Box<dyn Watcher>> {
        if !self.active.load(Ordering::Relaxed) {
            return None;
        }
        let state = self.state();
        let all = All {
            coverage: state.coverage.clone().map(Counter::new),
            trace: state.trace.clone().map(Tracer::new),
            debuggers: state
                .debuggers
                .iter()
                .filter_map(Weak::upgrade)
                .filter_map(DebugWatcher::of)
                .collect(),
        };
        let idle = all.coverage.is_none() && all.trace.is_none() && all.debuggers.is_empty();
        (!idle).then(|| Box::new(all) as Box<dyn Watcher>)
    }

    /// A program was loaded, whose lines count as not come to from now on.
    pub(crate) fn loaded(&self, prog: &Prog) {
        if self.active.load(Ordering::Relaxed)
            && let Some(covered) = self.state().coverage.clone()
        {
            covered.lock().unwrap_or_else(PoisonError::into_inner).program(prog);
        }
    }
}

/// All that look at one run.
#[derive(Debug)]
struct All {
    coverage: Option<Counter>,
    trace: Option<Tracer>,
    debuggers: Vec<DebugWatcher>,
}

impl Watcher for All {
    fn step(&mut self, vm: &mut Vm) -> Result<(), Trap> {
        if let Some(coverage) = &mut self.coverage {
            coverage.step(vm);
        }
        if let Some(trace) = &mut self.trace {
            trace.step(vm);
        }
        self.debuggers.iter_mut().for_each(|debugger| debugger.step(vm));
        Ok(())
    }

    fn end(&mut self, vm: &mut Vm, fault: Option<&Fault>) {
        if let Some(coverage) = &mut self.coverage {
            coverage.end();
        }
        if let Some(trace) = &mut self.trace {
            trace.end(vm);
        }
        if let Some(fault) = fault {
            self.debuggers.iter_mut().for_each(|debugger| debugger.fault(vm, fault));
        }
    }
}

impl SimKernel {
    /// Counts from now on how often programs come to each of their lines and which way they go there: those that are loaded
    /// now, and all that will be. [`Builder::coverage`](crate::Builder::coverage) does so from the start.
    pub fn record_coverage(&self) {
        let covered = self.0.watching().change(|watchers| watchers.coverage.get_or_insert_default().clone());
        let progs: Vec<_> = self.0.state().progs.iter().collect();
        let mut covered = covered.lock().unwrap_or_else(PoisonError::into_inner);
        progs.iter().for_each(|prog| covered.program(prog));
    }

    /// What programs came to since [`record_coverage`](SimKernel::record_coverage); nothing without that. Programs of the same
    /// name and instructions count together, also when they were loaded one after the other.
    pub fn coverage(&self) -> Coverage {
        let covered = self.0.watching().state().coverage.clone();
        covered.map_or_else(Coverage::default, |covered| {
            covered.lock().unwrap_or_else(PoisonError::into_inner).report()
        })
    }

    /// Calls `each` with every instruction that programs execute from now on, after it was executed.
    ///
    /// ```
    /// use std::sync::{Arc, Mutex};
    ///
    /// let sim = skep_sim::SimKernel::new();
    /// let text = Arc::new(Mutex::new(String::new()));
    /// let to = text.clone();
    /// sim.watch_instructions(move |step| *to.lock().unwrap() += &format!("{step}\n"));
    /// ```
    pub fn watch_instructions(&self, each: impl FnMut(&TraceStep) + Send + 'static) {
        self.0.watching().change(|watchers| watchers.trace = Some(Sink::new(each)));
    }

    /// Ends what [`watch_instructions`](SimKernel::watch_instructions) began.
    pub fn unwatch_instructions(&self) {
        self.0.watching().change(|watchers| watchers.trace = None);
    }
}

//! Timers and work queues of programs, which the virtual clock drives.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use crate::kernel::SimKernel;
use crate::map::{Map, Value};
use crate::prog::Prog;
use crate::vm::{Vm, What};

/// Most callbacks that are run in one call, so that a timer that starts itself at once ends.
const CALLS_MAX: u32 = 1 << 16;

/// Timers beyond twice as many as there were that are not looked through.
const SWEPT: usize = 64;

/// Timers and work queues by their marks, which stand in the values that they are in.
#[derive(Clone, Debug, Default)]
pub(crate) struct Timers {
    last_mark: u64,
    last_start: u64,
    /// At how many they are looked through for those that are gone.
    swept_at: usize,
    all: BTreeMap<u64, Timer>,
}

/// A timer or work queue in a value of a map.
#[derive(Clone, Debug)]
pub(crate) struct Timer {
    map: Weak<Map>,
    key: Arc<[u8]>,
    /// Where it is in the value.
    offset: usize,
    /// The clock is that of the wall.
    pub(crate) is_wall_clock: bool,
    pub(crate) callback: Option<Callback>,
    /// When it is due, and the number of its start: what is due at the same time goes in the order of starts.
    due: Option<(u64, u64)>,
    cpu: u32,
}

/// A function of a program.
#[derive(Clone, Debug)]
pub(crate) struct Callback {
    pub(crate) prog: Arc<Prog>,
    pub(crate) slot: usize,
}

impl Timer {
    pub(crate) fn new(map: &Arc<Map>, key: Arc<[u8]>, offset: usize) -> Timer {
        Timer {
            map: Arc::downgrade(map),
            key,
            offset,
            is_wall_clock: false,
            callback: None,
            due: None,
            cpu: 0,
        }
    }

    /// The value that it is in, if that still has it: maps clear the mark when a value is removed or written over.
    fn value(&self, map: &Map, mark: u64) -> Option<Value> {
        let value = map.value(&self.key, self.cpu).ok()??;
        let mut bytes = [0; 8];
        value.read(self.offset, &mut bytes).ok()?;
        (u64::from_ne_bytes(bytes) == mark).then_some(value)
    }

    fn is_there(&self, mark: u64) -> bool {
        self.map.upgrade().is_some_and(|map| self.value(&map, mark).is_some())
    }
}

impl Timers {
    /// Adds one. Answers its mark.
    pub(crate) fn add(&mut self, timer: Timer) -> u64 {
        if self.all.len() >= self.swept_at {
            self.all.retain(|mark, timer| timer.is_there(*mark));
            self.swept_at = self.all.len() * 2 + SWEPT;
        }
        self.last_mark += 1; // a u64 counter does not overflow
        self.all.insert(self.last_mark, timer);
        self.last_mark
    }

    /// Takes out all that are in values of a map.
    pub(crate) fn forget(&mut self, map: &Arc<Map>) -> Vec<Timer> {
        let theirs = |timer: &Timer| std::ptr::eq(timer.map.as_ptr(), Arc::as_ptr(map));
        self.all.extract_if(.., |_, timer| theirs(timer)).map(|(_, timer)| timer).collect()
    }

    pub(crate) fn get(&mut self, mark: u64) -> Option<&mut Timer> {
        self.all.get_mut(&mark)
    }

    /// Starts one at a time of the kernel's clock.
    pub(crate) fn start(&mut self, mark: u64, due: u64, cpu: u32) {
        self.last_start += 1; // a u64 counter does not overflow
        if let Some(timer) = self.all.get_mut(&mark) {
            timer.due = Some((due, self.last_start));
            timer.cpu = cpu;
        }
    }

    /// Stops one. Answers whether it had been started.
    pub(crate) fn stop(&mut self, mark: u64) -> bool {
        self.all.get_mut(&mark).and_then(|timer| timer.due.take()).is_some()
    }

    /// Takes the next one that is due until a time; those are dropped that are not in a value any more.
    fn take_due(&mut self, until: u64) -> Option<(u64, u64, Timer)> {
        loop {
            let due = self.all.iter().filter_map(|(mark, timer)| Some((timer.due?, *mark)));
            let ((at, _), mark) = due.min()?;
            if at > until {
                return None;
            }
            let timer = self.all.get_mut(&mark)?;
            if !timer.is_there(mark) {
                self.all.remove(&mark);
                continue;
            }
            timer.due = None;
            return Some((at, mark, timer.clone()));
        }
    }
}

impl SimKernel {
    /// Runs what is due until a time of the clock, in order, each at its own time.
    pub(super) fn run_timers(&self, until: u64) {
        // Those of a map that nobody has any more went with its last descriptor.
        drop(self.0.swept());
        for _ in 0..CALLS_MAX {
            let (mark, timer) = {
                let mut world = self.0.world();
                let Some((at, mark, timer)) = world.timers.take_due(until) else { return };
                world.clock = world.clock.max(at);
                (mark, timer)
            };
            self.run_timer(&timer, mark);
        }
    }

    fn run_timer(&self, timer: &Timer, mark: u64) {
        let (Some(map), Some(callback)) = (timer.map.upgrade(), &timer.callback) else { return };
        let Some(element) = timer.value(&map, mark) else { return };
        let mut vm = Vm::new(self, &callback.prog, timer.cpu);
        vm.held.set_calling(mark);
        let addresses = || {
            let function = vm.code_address(&callback.prog, callback.slot)?;
            let map_at = vm.map_handle(&map)?;
            let key = vm.own(What::Other("the key of a timer's element"), timer.key.to_vec(), false)?;
            let value = vm.value_address(&map, &element)?;
            Ok::<_, crate::vm::Trap>((function, [map_at, key, value, 0, 0]))
        };
        let mut addresses = addresses;
        // A run that has just begun has room for them.
        let Ok((function, args)) = addresses() else { return };
        if let Err(fault) = vm.run_function(function, args) {
            self.0.world().faults.add(*fault);
        }
    }
}

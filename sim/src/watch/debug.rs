//! A debugger that a test scripts.

use std::fmt;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};

use skep_asm::Reg;

use super::inspect::{Entry, FrameView, Halted};
use crate::kernel::SimKernel;
use crate::name::is_called;
use crate::vm::{Fault, SourceLine, Vm};

/// Stops programs of a simulated kernel where it is told to, so that a test can look at what they hold.
///
/// Breakpoints are set first; then [`run`](Debugger::run) is given what makes programs run, and a script that goes from stop to
/// stop. Only programs that run on behalf of that call stop.
///
/// ```
/// use skep_asm::{Assembler, Reg};
/// use skep_sim::{Debugger, SimKernel, Stop};
/// use skep_sys::abi::ProgType;
/// use skep_sys::request::{ProgLoad, TestRun};
/// use skep_sys::Kernel;
/// use std::os::fd::AsFd;
///
/// let sim = SimKernel::new();
/// let kernel = Kernel::new(sim.clone());
/// let insns = Assembler::new().mov64_imm(Reg::R0, 7).add64_imm(Reg::R0, 1).exit().finish()?;
/// let program = kernel.prog_load(&ProgLoad::new(ProgType::RAW_TRACEPOINT, &insns, "GPL"), None)?;
///
/// let mut debugger = Debugger::new(&sim);
/// debugger.break_at_instruction("", 1); // the program has no name
/// let (result, seen) = debugger.run(
///     || kernel.backend().prog_test_run(program.as_fd(), &mut TestRun::default()).map(|run| run.retval),
///     |session| {
///         assert_eq!(session.resume(), Stop::Breakpoint(0));
///         let before = session.register(Reg::R0);
///         assert_eq!(session.step_instruction(), Stop::Step);
///         (before, session.register(Reg::R0))
///     },
/// );
/// assert_eq!(seen, (Some(7), Some(8)));
/// assert_eq!(result.map_err(|(errno, _)| errno), Ok(8));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Debugger {
    sim: SimKernel,
    breakpoints: Vec<Breakpoint>,
}

type Condition = Box<dyn Fn(&[u64; 11]) -> bool + Send>;

/// Where programs stop, and on what condition.
struct Breakpoint {
    place: Place,
    condition: Option<Condition>,
}

impl fmt::Debug for Breakpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.place)
    }
}

#[derive(Debug)]
pub(super) enum Place {
    /// The end of a file's path, and a line.
    Line(String, u32),
    /// The start of a function.
    Function(String),
    /// A program's name and a slot.
    Instruction(String, usize),
}

/// Why a program does not go on.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stop {
    /// It came to a breakpoint: the number is the one that setting it answered.
    Breakpoint(usize),
    /// It did the step that was asked for.
    Step,
    /// It did what it must not. It can be looked at, and ends when it goes on.
    Fault(Box<Fault>),
    /// What was run has come to its end. There is nothing more to look at.
    Done,
}

/// How far a program goes before it stops again.
#[derive(Clone, Debug)]
enum Mode {
    /// To a breakpoint.
    Run,
    Instruction,
    /// To another line, also in a function that is called.
    Line {
        from: Option<Line>,
    },
    /// To another line of this function or of a caller.
    Over {
        from: Option<Line>,
        depth: usize,
    },
    /// To the caller.
    Out {
        depth: usize,
    },
    /// To the end: nobody looks any more.
    Free,
}

/// A line, by what tells it from others.
type Line = (String, u32);

fn line_of(source: Option<SourceLine>) -> Option<Line> {
    source.map(|source| (source.file, source.line))
}

type Look = Box<dyn FnOnce(&mut Halted<'_>) + Send>;

/// What the script sends to the thread on which programs run.
enum Order {
    Go(Mode),
    Look(Look),
}

/// What both sides of a session share: the programs' side of the channels.
pub(super) struct Shared {
    thread: Mutex<Option<ThreadId>>,
    state: Mutex<State>,
}

struct State {
    breakpoints: Vec<Breakpoint>,
    orders: Receiver<Order>,
    stops: Sender<Stop>,
    mode: Mode,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Shared")
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Does what the script asks for, until that is to go on.
    fn obey(&mut self, mut halted: Option<Halted<'_>>) {
        self.mode = loop {
            match self.orders.recv() {
                Ok(Order::Go(mode)) => break mode,
                Ok(Order::Look(look)) => {
                    if let Some(halted) = &mut halted {
                        look(halted);
                    }
                }
                // The script is over.
                Err(_) => break Mode::Free,
            }
        };
    }
}

impl Debugger {
    /// A debugger without breakpoints.
    pub fn new(sim: &SimKernel) -> Debugger {
        Debugger { sim: sim.clone(), breakpoints: Vec::new() }
    }

    pub(super) fn sim(&self) -> &SimKernel {
        &self.sim
    }

    /// Where the breakpoints are, in their order.
    pub(super) fn places(&self) -> impl Iterator<Item = &Place> {
        self.breakpoints.iter().map(|breakpoint| &breakpoint.place)
    }

    fn add(&mut self, place: Place) -> usize {
        self.breakpoints.push(Breakpoint { place, condition: None });
        self.breakpoints.len() - 1 // one was pushed
    }

    /// Stops where a line begins, by the end of the path of its file: `filter.c`. Answers the number of the breakpoint.
    /// [`misplaced`](Debugger::misplaced) tells of lines that no program has.
    pub fn break_at(&mut self, file: impl Into<String>, line: u32) -> usize {
        self.add(Place::Line(file.into(), line))
    }

    /// Stops at the first instruction of a function, by its name in C.
    pub fn break_at_function(&mut self, name: impl Into<String>) -> usize {
        self.add(Place::Function(name.into()))
    }

    /// Stops before an instruction of a program, by the program's name and the slot.
    pub fn break_at_instruction(&mut self, program: impl Into<String>, index: usize) -> usize {
        self.add(Place::Instruction(program.into(), index))
    }

    /// Lets a breakpoint stop only when this says so of the registers `r0` to `r10`. A number that no breakpoint has
    /// is one of another debugger: nothing happens.
    pub fn condition(&mut self, breakpoint: usize, condition: impl Fn(&[u64; 11]) -> bool + Send + 'static) {
        if let Some(breakpoint) = self.breakpoints.get_mut(breakpoint) {
            breakpoint.condition = Some(Box::new(condition));
        }
    }

    /// Runs `work` on another thread, and beside it the script. `work` begins when the script first goes on. Once the script is
    /// over nothing stops any more. Answers what both answer; a panic of either goes on here.
    pub fn run<T: Send, R>(
        self,
        work: impl FnOnce() -> T + Send,
        script: impl FnOnce(&mut Session) -> R,
    ) -> (T, R) {
        let (orders_in, orders) = channel();
        let (stops, stops_out) = channel();
        let state = State { breakpoints: self.breakpoints, orders, stops: stops.clone(), mode: Mode::Run };
        let shared = Arc::new(Shared { thread: Mutex::new(None), state: Mutex::new(state) });
        let debuggers = self.sim.0.watching();
        debuggers.change(|watchers| {
            watchers.debuggers.retain(|other| other.strong_count() > 0);
            watchers.debuggers.push(Arc::downgrade(&shared));
        });
        let (answer, result) = thread::scope(|scope| {
            let theirs = shared.clone();
            let worker = scope.spawn(move || {
                *theirs.thread.lock().unwrap_or_else(PoisonError::into_inner) = Some(thread::current().id());
                theirs.state().obey(None);
                let answer = work();
                // The script may be over.
                let _ = stops.send(Stop::Done);
                answer
            });
            let mut session = Session { orders: Some(orders_in), stops: stops_out, at: None };
            let result = script(&mut session);
            drop(session);
            (worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)), result)
        });
        drop(shared);
        debuggers.change(|watchers| watchers.debuggers.retain(|other| other.strong_count() > 0));
        (answer, result)
    }
}

/// The script's side of a [`Debugger`]: goes from stop to stop, and looks at the program that is stopped.
///
/// What looks at a program answers none while none is stopped.
#[derive(Debug)]
pub struct Session {
    orders: Option<Sender<Order>>,
    stops: Receiver<Stop>,
    /// Where the program is stopped: line and depth.
    at: Option<(Option<Line>, usize)>,
}

impl Session {
    /// Goes on to the next breakpoint.
    pub fn resume(&mut self) -> Stop {
        self.go(Mode::Run)
    }

    /// Goes on by one instruction.
    pub fn step_instruction(&mut self) -> Stop {
        self.go(Mode::Instruction)
    }

    /// Goes on to another line, also to the first one of a function that is called.
    pub fn step(&mut self) -> Stop {
        let from = self.at.clone().and_then(|(line, _)| line);
        self.go(Mode::Line { from })
    }

    /// Goes on to another line of this function, over those that are called, or of a caller when it returns.
    pub fn step_over(&mut self) -> Stop {
        let (from, depth) = self.at.clone().unwrap_or_default();
        self.go(Mode::Over { from, depth })
    }

    /// Goes on until the function has returned to its caller.
    pub fn finish(&mut self) -> Stop {
        let depth = self.at.as_ref().map_or(0, |(_, depth)| *depth);
        self.go(Mode::Out { depth })
    }

    fn go(&mut self, mode: Mode) -> Stop {
        self.at = None;
        let sent = self.orders.as_ref().is_some_and(|orders| orders.send(Order::Go(mode)).is_ok());
        let stop = if sent { self.stops.recv().unwrap_or(Stop::Done) } else { Stop::Done };
        if stop == Stop::Done {
            self.orders = None;
        } else {
            self.at = self.ask(|halted| (line_of(halted.source()), halted.depth()));
        }
        stop
    }

    fn ask<T: Send + 'static>(&self, look: impl FnOnce(&mut Halted<'_>) -> T + Send + 'static) -> Option<T> {
        let (send, answer) = channel();
        let look: Look = Box::new(move |halted| {
            // Who asked waits for it.
            let _ = send.send(look(halted));
        });
        self.orders.as_ref()?.send(Order::Look(look)).ok()?;
        answer.recv().ok()
    }

    /// Looks at the program that is stopped with everything that there is to ask.
    pub fn look<T: Send + 'static>(
        &self,
        look: impl FnOnce(&mut Halted<'_>) -> T + Send + 'static,
    ) -> Option<T> {
        self.at.as_ref()?;
        self.ask(look)
    }

    /// What a register holds.
    pub fn register(&self, reg: Reg) -> Option<u64> {
        self.look(move |halted| halted.registers().get(usize::from(reg.number())).copied())?
    }

    /// The line of C that is next.
    pub fn source(&self) -> Option<SourceLine> {
        self.look(|halted| halted.source())?
    }

    /// The functions that called each other, innermost first.
    pub fn frames(&self) -> Option<Vec<FrameView>> {
        self.look(|halted| halted.frames())
    }

    /// The value of a global variable as C writes it.
    pub fn global(&self, name: &str) -> Option<String> {
        let name = name.to_owned();
        self.look(move |halted| halted.global(&name))?
    }

    /// The elements of a map as C writes them, by the map's name as the kernel knows it.
    pub fn map(&self, name: &str) -> Option<Vec<(String, String)>> {
        let name = name.to_owned();
        self.look(move |halted| halted.map(&name))?
    }

    /// Bytes of the packet.
    pub fn packet(&self) -> Option<Vec<u8>> {
        self.look(|halted| halted.packet())
    }

    /// Everything about the program that is stopped, as text: where, registers, frames, stack.
    pub fn dump(&self) -> Option<String> {
        self.look(|halted| halted.to_string())
    }
}

/// The debugger's part in one run.
#[derive(Debug)]
pub(super) struct DebugWatcher {
    shared: Arc<Shared>,
    entries: Vec<Entry>,
    last: Option<(Option<Line>, usize, usize)>,
}

impl DebugWatcher {
    /// For a run on this thread, if that is the one whose programs stop.
    pub(super) fn of(shared: Arc<Shared>) -> Option<DebugWatcher> {
        let thread = *shared.thread.lock().unwrap_or_else(PoisonError::into_inner);
        (thread == Some(thread::current().id())).then(|| DebugWatcher {
            shared,
            entries: Vec::new(),
            last: None,
        })
    }

    pub(super) fn step(&mut self, vm: &mut Vm) {
        let depth = vm.depth();
        let before = self.last.as_ref().map(|(_, depth, _)| *depth);
        if before.is_none_or(|before| before < depth) || vm.prog().function_start(vm.pc()) == vm.pc() {
            self.entries.resize_with(depth, Entry::default);
            self.entries.push(Entry::of(vm));
        }
        self.entries.truncate(depth.saturating_add(1));

        let shared = self.shared.clone();
        let mut state = shared.state();
        if matches!(state.mode, Mode::Free) {
            return;
        }
        let line = line_of(vm.prog().source_line(vm.pc()));
        // A line begins where another one was before, or where control goes back to it.
        let begins = self
            .last
            .as_ref()
            .is_none_or(|(last, at_depth, pc)| *last != line || *at_depth != depth || vm.pc() <= *pc);
        self.last = Some((line.clone(), depth, vm.pc()));
        let breakpoint =
            state.breakpoints.iter().position(|breakpoint| breakpoint.is_at(vm, line.as_ref(), begins));
        let other = |from: &Option<Line>| line.is_some() && begins && line != *from;
        let stop = match (&state.mode, breakpoint) {
            (_, Some(breakpoint)) => Stop::Breakpoint(breakpoint),
            (Mode::Instruction, _) => Stop::Step,
            (Mode::Line { from }, _) if other(from) => Stop::Step,
            (Mode::Over { from, depth: own }, _) if depth <= *own && other(from) => Stop::Step,
            (Mode::Out { depth: own }, _) if depth < *own => Stop::Step,
            _ => return,
        };
        self.halt(&mut state, vm, stop);
    }

    pub(super) fn fault(&mut self, vm: &mut Vm, fault: &Fault) {
        let shared = self.shared.clone();
        let mut state = shared.state();
        if !matches!(state.mode, Mode::Free) {
            self.halt(&mut state, vm, Stop::Fault(Box::new(fault.clone())));
        }
    }

    fn halt(&self, state: &mut State, vm: &mut Vm, stop: Stop) {
        if state.stops.send(stop).is_ok() {
            state.obey(Some(Halted::new(vm, &self.entries)));
        } else {
            state.mode = Mode::Free;
        }
    }
}

impl Breakpoint {
    fn is_at(&self, vm: &Vm, line: Option<&Line>, begins: bool) -> bool {
        let here = match &self.place {
            Place::Line(file, number) => {
                begins
                    && line.is_some_and(|(path, line)| line == number && SourceLine::path_ends_in(path, file))
            }
            Place::Function(name) => {
                vm.prog().function_start(vm.pc()) == vm.pc()
                    && vm.prog().function_name(vm.pc()).is_some_and(|function| function == *name)
            }
            Place::Instruction(program, slot) => vm.pc() == *slot && is_called(vm.prog().name(), program),
        };
        let mut registers = [0; 11];
        registers.copy_from_slice(vm.registers());
        here && self.condition.as_ref().is_none_or(|holds| holds(&registers))
    }
}

//! Options of sockets that processes set and ask for.

use skep_sys::abi::{AttachType, Errno};

use super::group::{self, Subject};
use super::packet::Verdict;
use super::scene::Scene;
use super::socket_life::no_socket;
use super::{Event, EventError};
use crate::kernel::SimKernel;
use crate::net::{Effect, SocketId};
use crate::packet::Sockopt;
use crate::vm::{Region, Trap, Vm, What};

/// Most bytes of a value that programs see.
const PAGE: usize = 4096;
/// Fewest bytes that programs have for a value that is set.
const ROOM: usize = 16;

/// A process sets an option of a socket or asks for one (`setsockopt`, `getsockopt`): the programs of the socket's control group see level,
/// name and value, may put others in their place, may answer in the kernel's place, and may refuse.
///
/// ```
/// use skep_sim::{OptionCall, SimKernel, Socket};
///
/// let sim = SimKernel::new();
/// let socket = sim.add_socket(Socket::tcp("10.0.0.1:80".parse()?));
/// let (sol_socket, so_mark) = (1, 36);
/// let set = sim.fire(OptionCall::set(socket, sol_socket, so_mark, 7_u32.to_ne_bytes()))?;
/// assert_eq!(set.result, Ok(()));
/// let get = sim.fire(OptionCall::get(socket, sol_socket, so_mark))?;
/// assert_eq!(get.value, 7_u32.to_ne_bytes());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct OptionCall {
    socket: SocketId,
    level: i32,
    name: i32,
    new: Option<Vec<u8>>,
    room: usize,
    answer: Option<Result<Vec<u8>, Errno>>,
    scene: Scene,
}

/// What became of an option.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[must_use = "it tells whether the call was refused"]
pub struct OptionOutcome {
    /// What the process is told: [`Errno::EPERM`] when a program refused, unless it said something else (`bpf_set_retval`);
    /// [`Errno::EFAULT`] when it left a length for which there is no room; else what the kernel says.
    pub result: Result<(), Errno>,
    /// The level and the name as programs left them.
    pub option: (i32, i32),
    /// The value that was set, or that the process gets.
    pub value: Vec<u8>,
    /// Whether a program had the kernel not set the option (a length of -1).
    pub bypassed: bool,
    /// The programs that saw it, in order.
    pub verdicts: Vec<Verdict>,
    /// What they did to the network, in order.
    pub effects: Vec<Effect>,
}

super::scene::scene!(OptionCall);

impl OptionCall {
    fn new(socket: SocketId, level: i32, name: i32, new: Option<Vec<u8>>) -> OptionCall {
        OptionCall { socket, level, name, new, room: ROOM, answer: None, scene: Scene::default() }
    }

    /// `setsockopt`.
    pub fn set(socket: SocketId, level: i32, name: i32, value: impl Into<Vec<u8>>) -> OptionCall {
        OptionCall::new(socket, level, name, Some(value.into()))
    }

    /// `getsockopt`.
    pub fn get(socket: SocketId, level: i32, name: i32) -> OptionCall {
        OptionCall::new(socket, level, name, None)
    }

    /// How many bytes the process has room for: 16 by default.
    pub fn room(mut self, room: usize) -> OptionCall {
        self.room = room;
        self
    }

    /// What the kernel itself answers, in place of what the simulated socket has: for options that it does not know.
    pub fn answers(mut self, answer: Result<Vec<u8>, Errno>) -> OptionCall {
        self.answer = Some(answer);
        self
    }
}

impl Event for OptionCall {
    type Outcome = OptionOutcome;

    fn happen(self, kernel: &SimKernel) -> Result<OptionOutcome, EventError> {
        self.scene.check(kernel)?;
        let start = kernel.0.world().net.noted();
        let group = kernel.socket(self.socket).ok_or_else(|| no_socket(self.socket))?.cgroup;
        group::check_group(kernel, &group)?;
        let mut outcome = match self.new.clone() {
            Some(value) => self.set_it(kernel, &group, value)?,
            None => self.get_it(kernel, &group)?,
        };
        outcome.effects = kernel.0.world().net.effects_since(start);
        Ok(outcome)
    }
}

impl OptionCall {
    fn seen(&self, is_set: bool, value: &[u8], room: usize, len: usize) -> Seen {
        let mut bytes = value.get(..value.len().min(room)).unwrap_or_default().to_vec();
        bytes.resize(room, 0);
        let context = Sockopt {
            cookie: self.socket.0,
            is_set,
            socket: 0,
            value: 0,
            end: 0,
            level: self.level,
            name: self.name,
            len: i32::try_from(len).unwrap_or(i32::MAX),
            retval: 0,
        };
        Seen { context, bytes }
    }

    /// `__cgroup_bpf_run_filter_setsockopt`, and what the kernel does then.
    fn set_it(&self, kernel: &SimKernel, group: &str, value: Vec<u8>) -> Result<OptionOutcome, EventError> {
        let mut outcome = OptionOutcome {
            result: Ok(()),
            option: (self.level, self.name),
            value,
            bypassed: false,
            verdicts: Vec::new(),
            effects: Vec::new(),
        };
        let chain = kernel.0.cgroup_chain(group, AttachType::CGROUP_SETSOCKOPT);
        if !chain.is_empty() {
            let len = outcome.value.len();
            let room = len.clamp(ROOM, PAGE);
            let mut seen = self.seen(true, &outcome.value, room, len);
            let said = group::run(kernel, &self.scene, &chain, &mut seen, 0)?;
            outcome.result = said.result();
            outcome.verdicts = said.verdicts;
            let Seen { context, bytes } = seen;
            if outcome.result.is_err() {
                return Ok(outcome);
            }
            match usize::try_from(context.len) {
                _ if context.len == -1 => {
                    outcome.bypassed = true;
                    return Ok(outcome);
                }
                Ok(now) if now <= room => {
                    outcome.option = (context.level, context.name);
                    // A length of 0 leaves the value as the process gave it.
                    if now != 0 {
                        outcome.value = bytes.get(..now).unwrap_or_default().to_vec();
                    }
                }
                // What is longer than programs see is let through as it is.
                Ok(_) if len > PAGE => {}
                _ => {
                    outcome.result = Err(Errno::EFAULT);
                    return Ok(outcome);
                }
            }
        }
        let (level, name) = outcome.option;
        outcome.result = match &self.answer {
            Some(answer) => answer.clone().map(drop),
            None => {
                let mut world = kernel.0.world();
                let socket = world.net.socket_mut(self.socket.0).ok_or_else(|| no_socket(self.socket))?;
                socket.set_option(level, name, &outcome.value)
            }
        };
        Ok(outcome)
    }

    /// What the kernel says, and `__cgroup_bpf_run_filter_getsockopt`.
    fn get_it(&self, kernel: &SimKernel, group: &str) -> Result<OptionOutcome, EventError> {
        let answer = match &self.answer {
            Some(answer) => answer.clone(),
            None => {
                let socket = kernel.socket(self.socket).ok_or_else(|| no_socket(self.socket))?;
                socket.option(self.level, self.name)
            }
        };
        let retval = answer.as_ref().map_or_else(|errno| -errno.0, |_| 0);
        let mut value = answer.clone().unwrap_or_default();
        value.truncate(self.room);
        let mut outcome = OptionOutcome {
            result: answer.map(drop),
            option: (self.level, self.name),
            value,
            bypassed: false,
            verdicts: Vec::new(),
            effects: Vec::new(),
        };
        let chain = kernel.0.cgroup_chain(group, AttachType::CGROUP_GETSOCKOPT);
        if chain.is_empty() {
            return Ok(outcome);
        }
        let room = self.room.min(PAGE);
        let len = if retval == 0 { outcome.value.len() } else { self.room };
        let mut seen = self.seen(false, &outcome.value, room, len);
        seen.context.retval = retval;
        let said = group::run(kernel, &self.scene, &chain, &mut seen, retval)?;
        outcome.result = said.result();
        outcome.verdicts = said.verdicts;
        if outcome.result.is_err() {
            return Ok(outcome);
        }
        let Seen { context, bytes } = seen;
        match usize::try_from(context.len) {
            Ok(0) => {}
            Ok(now) if now <= room => outcome.value = bytes.get(..now).unwrap_or_default().to_vec(),
            Ok(_) if len > PAGE => {}
            _ => outcome.result = Err(Errno::EFAULT),
        }
        Ok(outcome)
    }
}

/// An option in the memory of runs.
struct Seen {
    context: Sockopt,
    bytes: Vec<u8>,
}

impl Subject for Seen {
    fn begin(&mut self, vm: &mut Vm) -> Result<u64, Trap> {
        let mut context = self.context.clone();
        context.socket = vm.socket_address(context.cookie)?;
        context.value = vm.own(What::Other("the value of an option"), self.bytes.clone(), true)?;
        context.end = context.value + self.bytes.len() as u64; // at most a page
        context.retval = vm.packet.retval;
        vm.memory.add_context(Box::new(context))
    }

    fn end(&mut self, vm: &mut Vm) {
        let Some(after) = vm.memory.context::<Sockopt>().cloned() else { return };
        if let Some(Region::Own(own)) = vm.memory.region(after.value) {
            self.bytes.clone_from(&own.bytes);
        }
        vm.packet.retval = after.retval;
        self.context = after;
    }
}

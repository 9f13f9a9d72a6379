//! The interpreter.
//!
//! [`Vm`] is one run of a program: its registers, its stack, the memory that it can reach, and the kernel that it runs
//! in. [`code`] has programs decoded, [`exec`] the loop, [`memory`] the checks of every access, [`region`] what there is to
//! access. What helpers do is in [`crate::helper`]; they are given the run, so that they can call back into the program.

mod arena;
mod code;
mod context;
mod exec;
mod fault;
mod map_fields;
mod memory;
mod region;
#[cfg(test)]
mod tests;
mod why;

use std::fmt;
use std::sync::Arc;

use skep_asm::kernel_text;
use skep_sys::abi::MapType;

use crate::event::Site;
use crate::helper::{CustomFunction, Held, HelperCall};
use crate::kernel::SimKernel;
use crate::map::{Map, Value};
use crate::packet::PacketState;
use crate::prog::{HelperNames, Prog};

pub(crate) use code::{Callee, Code, References, Symbol};
pub(crate) use context::{Context, View};
pub(crate) use fault::Trap;
pub use fault::{Fault, FaultKind, SourceLine};
pub(crate) use map_fields::MapFields;
pub(crate) use memory::{Memory, offset};
pub(crate) use region::{Handle, Own, Region, Shared, What};

/// Bytes of a frame's stack (`MAX_BPF_STACK`).
const STACK_SIZE: usize = 512;

/// Something that looks at a run before each of its instructions.
pub(crate) trait Watcher: fmt::Debug + Send {
    /// The instruction at [`Vm::pc`] is next. A trap ends the program.
    fn step(&mut self, vm: &mut Vm) -> Result<(), Trap>;

    /// The run is over, perhaps by a fault.
    fn end(&mut self, vm: &mut Vm, fault: Option<&Fault>) {
        let _ = (vm, fault);
    }
}

/// A function that was called and has not returned.
#[derive(Debug)]
struct Frame {
    return_pc: usize,
    /// `r6` to `r9` of the caller.
    saved: [u64; 4],
    /// How deep the caller was in its program.
    depth: usize,
    /// The caller's program, when the callee went on with another one.
    prog: Option<Arc<Prog>>,
}

/// A run of a program.
#[derive(Debug)]
pub(crate) struct Vm {
    pub(crate) kernel: SimKernel,
    pub(crate) memory: Memory,
    /// The CPU that it runs on.
    pub(crate) cpu: u32,
    /// What the run has to do with the network.
    pub(crate) packet: PacketState,
    /// The program that runs now.
    prog: Arc<Prog>,
    /// `r0` to `r10`; the rest is so that every index of four bits is inside.
    regs: [u64; 16],
    pc: usize,
    frames: Vec<Frame>,
    /// The stacks of frames, by depth.
    stacks: Vec<u64>,
    /// Addresses of the maps and the code of programs that were asked for.
    map_addresses: Vec<(Arc<Map>, u64)>,
    /// The same of what maps of instructions hold.
    table_addresses: Vec<(Arc<Map>, u64)>,
    code_addresses: Vec<(Arc<Prog>, u64)>,
    budget: u64,
    /// Instructions that may still be executed.
    left: u64,
    /// Work of helpers that their one instruction does not tell of.
    work: u64,
    loops: u32,
    tail_calls: u32,
    /// How many functions of the program that runs now called each other, and how many callbacks of helpers run.
    depth: usize,
    callbacks: usize,
    watcher: Option<Box<dyn Watcher>>,
    /// What helpers keep of the run.
    pub(crate) held: Held,
    /// The event that the run belongs to.
    pub(crate) site: Site,
}

impl Vm {
    /// A run of `prog` that has not begun.
    pub(crate) fn new(kernel: &SimKernel, prog: &Arc<Prog>, cpu: u32) -> Vm {
        let budget = kernel.0.config().budget;
        let mut memory = Memory::new(kernel);
        memory.set_probes(prog.has_typed_pointers());
        Vm {
            kernel: kernel.clone(),
            memory,
            cpu,
            packet: PacketState::default(),
            prog: prog.clone(),
            regs: [0; 16],
            pc: 0,
            frames: Vec::new(),
            stacks: Vec::new(),
            map_addresses: Vec::new(),
            table_addresses: Vec::new(),
            code_addresses: Vec::new(),
            budget,
            left: budget,
            work: 0,
            loops: exec::LOOPS_MAX,
            tail_calls: 0,
            depth: 0,
            callbacks: 0,
            watcher: None,
            held: Held::default(),
            site: Site::default(),
        }
    }

    /// Makes the context of a run that has not begun.
    pub(crate) fn begin(
        &mut self,
        context: impl FnOnce(&mut Vm) -> Result<u64, Trap>,
    ) -> Result<u64, Box<Fault>> {
        context(self).map_err(|trap| Box::new(self.fault(trap)))
    }

    /// Runs it from its start with a context, and answers what it returns. It can be run again: its memory stays.
    pub(crate) fn run(&mut self, prog: &Arc<Prog>, context: u64) -> Result<u64, Box<Fault>> {
        self.prog = prog.clone();
        self.regs = [0; 16];
        self.frames.clear();
        self.pc = 0;
        self.left = self.budget;
        self.work = 0;
        self.memory.take_work(); // that of making the context
        self.loops = exec::LOOPS_MAX;
        self.tail_calls = 0;
        self.depth = 0;
        self.callbacks = 0;
        self.watched(|vm| vm.start(context))
    }

    /// Counts work of a helper as so many instructions, so that a run that asks for much of it comes to its end, too. What is
    /// copied by way of the run's memory is counted there.
    pub(crate) fn spend(&mut self, instructions: u64) {
        self.work = self.work.saturating_add(instructions);
        if self.work > self.budget {
            self.left = 0;
        }
    }

    /// What is left to do when a program has ended.
    fn end(&mut self, answer: Result<u64, Trap>) -> Result<u64, Box<Fault>> {
        let answer = match self.held.take_thrown() {
            Some(cookie) => self.catch(cookie),
            None => answer,
        };
        let answer = answer.and_then(|answer| self.check_held().map(|()| answer));
        answer.map_err(|trap| {
            let fault = Box::new(self.fault(trap));
            self.drop_held();
            fault
        })
    }

    /// Ends a program that threw an exception: in its callback for that, or with what was thrown.
    fn catch(&mut self, cookie: u64) -> Result<u64, Trap> {
        let Some(callback) = self.prog.exception_callback() else { return Ok(cookie) };
        self.frames.clear();
        self.depth = 0;
        self.callbacks = 0;
        self.regs = [0; 16];
        self.regs[1] = cookie; // 16 registers
        self.regs[10] = self.stack(0)?; // 16 registers
        self.pc = callback;
        self.execute()
    }

    /// Runs something that those see who look at programs.
    fn watched(&mut self, run: impl FnOnce(&mut Vm) -> Result<u64, Trap>) -> Result<u64, Box<Fault>> {
        if let Some(watcher) = self.kernel.0.watching().watcher() {
            self.watcher = Some(watcher);
        }
        let answer = run(self);
        let answer = self.end(answer);
        if let Some(mut watcher) = self.watcher.take() {
            watcher.end(self, answer.as_ref().err().map(|fault| &**fault));
        }
        answer
    }

    /// Where the functions are that called each other, innermost first: the next instruction, then the calls.
    pub(crate) fn call_sites(&self) -> Vec<(Arc<Prog>, usize)> {
        let mut prog = &self.prog;
        let mut sites = vec![(prog.clone(), self.pc)];
        for frame in self.frames.iter().rev() {
            prog = frame.prog.as_ref().unwrap_or(prog);
            sites.push((prog.clone(), frame.return_pc.saturating_sub(1)));
        }
        sites
    }

    fn start(&mut self, context: u64) -> Result<u64, Trap> {
        self.regs[1] = context; // 16 registers
        self.regs[10] = self.stack(0)?; // 16 registers
        self.execute()
    }

    /// Calls one of a program's functions as if it were a program, as a timer does with its callback.
    pub(crate) fn run_function(&mut self, function: u64, args: [u64; 5]) -> Result<u64, Box<Fault>> {
        self.regs[10] = self.stack(0).map_err(|trap| Box::new(self.fault(trap)))?; // 16 registers
        self.watched(|vm| vm.call(function, args))
    }

    fn watch(&mut self) -> Result<(), Trap> {
        let Some(mut watcher) = self.watcher.take() else { return Ok(()) };
        let answer = watcher.step(self);
        self.watcher.get_or_insert(watcher);
        answer
    }

    /// The program that runs now: another one than at the start after a tail call.
    pub(crate) fn prog(&self) -> &Arc<Prog> {
        &self.prog
    }

    /// The slot of the next instruction.
    pub(crate) fn pc(&self) -> usize {
        self.pc
    }

    /// `r0` to `r10`.
    pub(crate) fn registers(&self) -> &[u64] {
        &self.regs[..11] // of 16
    }

    /// How many functions have been called and not returned.
    pub(crate) fn depth(&self) -> usize {
        self.frames.len()
    }

    /// How many instructions were executed.
    pub(crate) fn executed(&self) -> u64 {
        self.budget - self.left // what is left is never more
    }

    /// Adds memory of the run. Answers its address.
    pub(crate) fn own(&mut self, what: What, bytes: Vec<u8>, writable: bool) -> Result<u64, Trap> {
        self.memory.add_own(what, bytes, writable)
    }

    /// The address of a map's value.
    pub(crate) fn value_address(&mut self, map: &Arc<Map>, value: &Value) -> Result<u64, Trap> {
        let writable = !map.is_read_only_for_programs();
        let shared = Shared {
            what: What::Value(map.clone()),
            words: value.words().clone(),
            start: value.start(),
            len: value.len(),
            writable,
        };
        self.memory.add_shared(shared)
    }

    /// The address that stands for a map.
    pub(crate) fn map_handle(&mut self, map: &Arc<Map>) -> Result<u64, Trap> {
        if let Some((_, address)) = self.map_addresses.iter().find(|(known, _)| Arc::ptr_eq(known, map)) {
            return Ok(*address);
        }
        let address = self.memory.add(Region::Handle(Handle::Map(map.clone())))?;
        self.map_addresses.push((map.clone(), address));
        Ok(address)
    }

    fn map_address(&mut self, prog: &Prog, place: usize) -> Result<u64, Trap> {
        let map = prog.code.maps.get(place).ok_or(FaultKind::Jump)?;
        self.map_handle(map)
    }

    fn map_value_address(&mut self, prog: &Arc<Prog>, place: usize, at: u32) -> Result<u64, Trap> {
        let map = prog.code.maps.get(place).ok_or(FaultKind::Jump)?;
        if map.is_arena() {
            return Ok(self.arena_of(map)?.user.wrapping_add(at.into()));
        }
        if map.shape.kind == MapType::INSN_ARRAY {
            return Ok(self.jump_table(prog, map)? + u64::from(at));
        }
        let value = map.value(&0u32.to_ne_bytes(), self.cpu).ok().flatten();
        let value = value.ok_or(FaultKind::NotA { what: "map with a value to point at", address: 0 })?;
        Ok(self.value_address(map, &value)? + u64::from(at))
    }

    /// The address of a function of a program, by its first slot.
    pub(crate) fn code_address(&mut self, prog: &Arc<Prog>, slot: usize) -> Result<u64, Trap> {
        let start = match self.code_addresses.iter().find(|(known, _)| Arc::ptr_eq(known, prog)) {
            Some((_, address)) => *address,
            None => {
                let address = self.memory.add(Region::Handle(Handle::Code(prog.clone())))?;
                self.code_addresses.push((prog.clone(), address));
                address
            }
        };
        Ok(start + slot as u64 * 8) // programs have at most a million slots
    }

    fn symbol_address(&mut self, prog: &Prog, place: usize) -> Result<u64, Trap> {
        let symbol = prog.code.symbols.get(place).ok_or(FaultKind::Jump)?;
        if symbol.is_function {
            return Ok(self.kernel.0.function_address(&symbol.name));
        }
        let address = self.kernel.0.variable_address(&symbol.name);
        let unknown = || FaultKind::Helper {
            message: format!(
                "the simulated kernel has no symbol `{}`; give it one with its address",
                symbol.name
            ),
        };
        Ok(address.ok_or_else(unknown)?)
    }

    /// The slot that the indirect jump in a slot goes to.
    fn jump_target(&self, prog: &Arc<Prog>, slot: usize, address: u64) -> Result<usize, Trap> {
        let target = match self.memory.handle(address) {
            Some(Handle::Code(code)) if Arc::ptr_eq(code, prog) => offset(address),
            _ => return Err(FaultKind::Jump.into()),
        };
        if target.is_multiple_of(8) && prog.code.may_jump(slot, target / 8) {
            return Ok(target / 8);
        }
        Err(FaultKind::Jump.into())
    }

    /// The address of a map of instructions as programs see it: what is loaded from there are addresses of their code.
    fn jump_table(&mut self, prog: &Arc<Prog>, map: &Arc<Map>) -> Result<u64, Trap> {
        if let Some((_, address)) = self.table_addresses.iter().find(|(known, _)| Arc::ptr_eq(known, map)) {
            return Ok(*address);
        }
        let code = self.code_address(prog, 0)?;
        let address = self.memory.add(Region::Handle(Handle::Table { map: map.clone(), code }))?;
        self.table_addresses.push((map.clone(), address));
        Ok(address)
    }

    /// The program that a tail call goes on with.
    fn tail_callee(&mut self, map: u64, index: u64) -> Result<Option<Arc<Prog>>, Trap> {
        Ok(self.memory.map(map)?.program(index as u32))
    }

    fn packet_load(&mut self, at: i64, len: usize) -> Option<u64> {
        let mut bytes = [0; 4];
        let to = bytes.get_mut(..len)?;
        self.memory.packet(at, to)?;
        Some(to.iter().fold(0, |value, byte| value << 8 | u64::from(*byte)))
    }

    fn call_custom(&mut self, function: &CustomFunction, args: [u64; 5]) -> Result<u64, Trap> {
        function
            .call(&mut HelperCall::new(self, args))
            .map_err(|message| FaultKind::Helper { message }.into())
    }

    /// The frame pointer of the frame at a depth.
    fn stack(&mut self, depth: usize) -> Result<u64, Trap> {
        while self.stacks.len() <= depth {
            let config = self.kernel.0.config();
            // Frames stay aligned to 8 bytes wherever they are.
            let start = usize::from(config.address_shift) * 8;
            let (bytes, end) = (vec![config.stack_fill; start + STACK_SIZE], start + STACK_SIZE);
            let stack = Own { what: What::Stack, bytes, start, end, writable: true };
            self.stacks.push(self.memory.add(Region::Own(stack))? + end as u64);
        }
        self.stacks.get(depth).copied().ok_or_else(|| FaultKind::CallDepth.into())
    }

    fn push_frame(&mut self, return_pc: usize) -> Result<(), Trap> {
        // A program that a tail call went on with counts from its own start.
        if self.depth + 1 >= exec::FRAMES_MAX {
            return Err(FaultKind::CallDepth.into());
        }
        let saved = [self.regs[6], self.regs[7], self.regs[8], self.regs[9]]; // of 16
        self.frames.push(Frame { return_pc, saved, depth: self.depth, prog: None });
        self.depth += 1; // below the limit
        self.regs[10] = self.stack(self.frames.len())?; // of 16
        Ok(())
    }

    fn pop_frame(&mut self) -> Option<Frame> {
        let frame = self.frames.pop()?;
        self.depth = frame.depth;
        let [r6, r7, r8, r9] = frame.saved;
        (self.regs[6], self.regs[7], self.regs[8], self.regs[9]) = (r6, r7, r8, r9); // of 16
        self.regs[10] = self.stacks.get(self.frames.len()).copied().unwrap_or_default(); // of 16
        Some(frame)
    }

    /// The instruction in a slot as the kernel's log writes it.
    pub(crate) fn text(&self, slot: usize) -> String {
        let insns = self.prog.insns();
        insns.get(slot).map_or_else(String::new, |insn| kernel_text(insn, insns.get(slot + 1), &HelperNames))
    }

    /// A fault of a run that could not begin.
    pub(crate) fn fault_of(&self, trap: Trap) -> Box<Fault> {
        Box::new(self.fault(trap))
    }

    /// Everything about a fault where the run is now.
    fn fault(&self, trap: Trap) -> Fault {
        let mut registers = [0; 11];
        registers.copy_from_slice(self.registers());
        Fault {
            kind: trap.into_kind(),
            program: self.prog.name().to_owned(),
            index: self.pc,
            instruction: self.text(self.pc),
            source: self.prog.source_line(self.pc),
            registers,
            depth: self.frames.len(),
        }
    }
}

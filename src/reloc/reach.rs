//! Which instructions of a program a verifier comes to.
//!
//! A verifier follows every way through a program, but a branch that it can decide it follows on one side only. This
//! follows constants in the same way, with less detail: one state for each place, in which everything that was known on
//! all ways to it is known. So it comes to every instruction that a verifier comes to, and perhaps to more.
//!
//! Where a branch depends on what is not known of the target, both sides are followed, and what only one of them comes
//! to is left open.

mod back;
mod state;
mod value;
mod ways;

use std::collections::{BTreeSet, HashMap};

use skep_asm::{AtomicOp, Cond, Imm64, Op, Operand, Reg, Size, Width};

use self::back::Backwards;
use self::state::State;
use self::value::{Value, arithmetic, decide, sign_extend};
use self::ways::global_functions;
pub(super) use self::ways::{Way, ways};
use super::plan::{MapPlan, PlaceholderValue, Plan, ProgramPlan};
use crate::spec::{ExternKind, MapIndex, MapRole, Pinning};

/// Whether the verifier comes to an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reach {
    /// No: a value that is known before the program runs leads around it.
    Guarded,
    /// It depends on what is not known of the target ([`Plan::unknown`]), or the program is too large to find out.
    Unknown,
    /// Yes, as far as constants tell.
    Reached,
}

impl Reach {
    /// Whether it is [`Reach::Reached`].
    pub fn is_reached(self) -> bool {
        self == Reach::Reached
    }

    /// Whether it is [`Reach::Guarded`].
    pub fn is_guarded(self) -> bool {
        self == Reach::Guarded
    }
}

/// Places at which ways may meet, of the largest program that is looked at.
const MAX_PLACES: usize = 200_000;
/// How often an instruction is looked at on average, at most. Three times is usual.
const MAX_ROUNDS: usize = 64;

/// Whether the verifier comes to each of these instructions.
pub(super) fn analyse(plan: &Plan, program: &ProgramPlan, places: &[u32]) -> Vec<Reach> {
    let mut flow = Flow::new(plan, program, places);
    if !flow.run() {
        return vec![Reach::Unknown; places.len()];
    }
    let any_open = flow.marks.iter().any(|mark| mark.open);
    let mut back = any_open.then(|| Backwards::new(&flow));
    places
        .iter()
        .map(|&place| {
            if !flow.mark(place as usize).reached {
                return Reach::Guarded;
            }
            match back.as_mut().is_none_or(|back| back.always_reaches(place as usize)) {
                true => Reach::Reached,
                false => Reach::Unknown,
            }
        })
        .collect()
}

/// What was found of an instruction.
#[derive(Clone, Copy, Default)]
struct Mark {
    reached: bool,
    /// Ways meet here: its state is kept.
    head: bool,
    /// The branch depends on what is not known of the target.
    open: bool,
    /// The ways on from here: to the next instruction, and to the one it jumps to.
    falls: bool,
    jumps: bool,
}

/// A function of the program.
#[derive(Clone, Default)]
struct Function {
    start: usize,
    end: usize,
    /// The verifier looks at it alone, and takes nothing for known of its arguments and result.
    global: bool,
    /// What it returns, once an exit was come to.
    result: Option<Value>,
    /// Where it is called.
    callers: BTreeSet<usize>,
}

struct Flow<'p> {
    plan: &'p Plan,
    program: &'p ProgramPlan,
    functions: Vec<Function>,
    marks: Vec<Mark>,
    states: HashMap<usize, State>,
    work: BTreeSet<usize>,
    /// What stood at poisoned instructions.
    originals: HashMap<usize, Op>,
    /// Which bytes of the configuration values are not known of the target.
    open_config: Vec<bool>,
    /// A branch that depends on what is not known of the target was met.
    open: bool,
    /// The program loads the address of a function, which may be called with what points to the stack.
    callbacks: bool,
    steps: usize,
}

impl<'p> Flow<'p> {
    fn new(plan: &'p Plan, program: &'p ProgramPlan, places: &[u32]) -> Flow<'p> {
        let count = program.insns.len();
        let global = global_functions(plan, program);
        let functions: Vec<Function> = program
            .functions
            .iter()
            .map(|function| Function {
                start: function.start as usize,
                end: (function.start as usize).saturating_add(function.len as usize).min(count),
                global: global.contains(&function.start),
                ..Function::default()
            })
            .collect();
        let wanted = |insn: u32| places.binary_search(&insn).is_ok();
        let decisions = program.decisions.iter().map(|placed| (placed.insn, placed.original));
        let missing = program.missing.iter().map(|missing| (missing.insn, missing.original));
        let originals = decisions
            .chain(missing)
            .filter(|(insn, _)| wanted(*insn))
            .filter_map(|(insn, original)| {
                // Its second half does not matter: what it loads is not known.
                let (op, _) = Op::decode(&[original, skep_asm::Insn::default()], 0).ok()?;
                Some((insn as usize, op))
            })
            .collect();
        Flow {
            plan,
            program,
            functions,
            marks: vec![Mark::default(); count],
            states: HashMap::new(),
            work: BTreeSet::new(),
            originals,
            open_config: open_config(plan),
            open: false,
            callbacks: program.insns.iter().any(skep_asm::Insn::is_pseudo_func),
            steps: 0,
        }
    }

    fn mark(&self, at: usize) -> Mark {
        self.marks.get(at).copied().unwrap_or_default()
    }

    fn set(&mut self, at: usize, change: impl FnOnce(&mut Mark)) {
        if let Some(mark) = self.marks.get_mut(at) {
            change(mark);
        }
    }

    /// Follows all ways. False when there is too much to look at.
    fn run(&mut self) -> bool {
        let heads: Vec<usize> = self.heads();
        if heads.len() > MAX_PLACES {
            return false;
        }
        heads.into_iter().for_each(|at| self.set(at, |mark| mark.head = true));
        for (nth, function) in self.functions.clone().iter().enumerate() {
            // Older verifiers look at global functions whether they are called or not.
            if nth == 0 || function.global {
                self.go_to(function.start, &State::entry([Value::OTHER; 5]));
            }
        }
        let limit = self.marks.len().saturating_mul(MAX_ROUNDS).saturating_add(10_000);
        while let Some(at) = self.work.pop_first() {
            if self.steps > limit {
                return false;
            }
            let Some(state) = self.states.get(&at).cloned() else { continue };
            if !self.follow(at, state) {
                return false;
            }
        }
        true
    }

    /// Where ways may meet: targets of jumps, starts of functions, calls and what is behind them.
    fn heads(&self) -> Vec<usize> {
        let mut heads: Vec<usize> = self.functions.iter().map(|function| function.start).collect();
        for (at, insn) in self.program.insns.iter().enumerate() {
            heads.extend(insn.jump_target(at).and_then(|to| usize::try_from(to).ok()));
            if insn.is_pseudo_call() {
                heads.extend([at, at + 1]);
            }
        }
        let tables = self.program.jump_tables.iter().flat_map(|table| &table.targets);
        heads.extend(tables.map(|&target| target as usize));
        heads.sort_unstable();
        heads.dedup();
        heads
    }

    /// Joins a state into a place where ways meet.
    fn go_to(&mut self, at: usize, state: &State) {
        let open = self.open;
        let changed = match self.states.get_mut(&at) {
            Some(known) => known.join(state, open),
            None => {
                self.states.insert(at, state.clone());
                true
            }
        };
        if changed {
            self.work.insert(at);
        }
    }

    /// Runs from a place until the way ends or meets others. False when that cannot be followed.
    fn follow(&mut self, start: usize, mut state: State) -> bool {
        let mut at = start;
        loop {
            self.steps += 1;
            self.set(at, |mark| mark.reached = true);
            let (op, slots) = match self.originals.get(&at) {
                Some(op) => (Some(*op), op.slots()),
                None => match Op::decode(&self.program.insns, at) {
                    Ok((op, slots)) => (Some(op), slots),
                    Err(_) => (None, 1),
                },
            };
            let poisoned = self.originals.contains_key(&at);
            // What cannot be decoded is refused before anything is followed.
            let Some(op) = op else { return true };
            match self.step(at, op, poisoned, &mut state) {
                Step::Next => {}
                Step::Ends => return true,
                Step::Lost => return false,
            }
            self.set(at, |mark| mark.falls = true);
            at += slots;
            if at >= self.marks.len() {
                return true;
            }
            if self.mark(at).head {
                self.go_to(at, &state);
                return true;
            }
        }
    }

    fn step(&mut self, at: usize, op: Op, poisoned: bool, state: &mut State) -> Step {
        let operand = |state: &State, operand: Operand| match operand {
            Operand::Reg(reg) => state.get(reg),
            Operand::Imm(imm) => Value::Known(i64::from(imm).cast_unsigned()),
        };
        match op {
            // Goes on as if what is missing were there, so that all that is missing is found.
            Op::Alu { dst, .. } | Op::Mov { dst, .. } | Op::LdImm64 { dst, .. } if poisoned => {
                state.set(dst, Value::OTHER);
            }
            Op::Alu { width, op, dst, src } => {
                let value = arithmetic(width, op, state.get(dst), operand(state, src));
                state.set(dst, value);
            }
            Op::Mov { width, dst, src } => {
                let value = operand(state, src);
                state.set(dst, if width == Width::W64 { value } else { value.low() });
            }
            Op::MovSx { width, from, dst, src } => {
                let value = match (state.get(src), width) {
                    (Value::Known(number), Width::W64) => Value::Known(sign_extend(number, from)),
                    (Value::Known(number), Width::W32) => Value::Known(sign_extend(number, from)).low(),
                    (other, _) => Value::Other { open: other.is_open() },
                };
                state.set(dst, value);
            }
            // Verifiers before Linux 6.18 give up on these.
            Op::Neg { dst, .. } | Op::ToEndian { dst, .. } | Op::Bswap { dst, .. } => {
                let open = state.get(dst).is_open();
                state.set(dst, Value::Other { open });
            }
            Op::AddrSpaceCast { dst, .. } => state.set(dst, Value::OTHER),
            Op::LdImm64 { dst, imm } => {
                let value = self.constant(at, imm);
                state.set(dst, value);
            }
            Op::LoadAbs { .. } | Op::LoadInd { .. } => state.returned(Value::OTHER),
            Op::Load { size, dst, base, off } | Op::LoadAcquire { size, dst, base, off } => {
                let value = self.load(state, base, off, size);
                state.set(dst, value);
            }
            Op::LoadSx { size, dst, base, off } => {
                let value = match self.load(state, base, off, size) {
                    Value::Known(number) => Value::Known(sign_extend(number, size)),
                    other => Value::Other { open: other.is_open() },
                };
                state.set(dst, value);
            }
            Op::Store { size, base, off, src } => {
                let value = match src {
                    Operand::Reg(reg) => state.get(reg),
                    Operand::Imm(0) => Value::Known(0),
                    // Verifiers before Linux 6.8 remember of constants only zeros.
                    Operand::Imm(_) => Value::OTHER,
                };
                store(state, base, off, size, value);
            }
            Op::StoreRelease { size, base, off, src } => {
                let value = state.get(src);
                store(state, base, off, size, value);
            }
            Op::Atomic { op, size, base, off, src } => {
                store(state, base, off, size, Value::OTHER);
                match op {
                    AtomicOp::CmpXchg => state.set(Reg::R0, Value::ANY),
                    AtomicOp::Add | AtomicOp::Or | AtomicOp::And | AtomicOp::Xor => {}
                    _ => state.set(src, Value::ANY),
                }
            }
            Op::Jump { .. } | Op::JumpLong { .. } => {
                self.jump(at, state);
                return Step::Ends;
            }
            Op::MayGoto { .. } => self.jump(at, state),
            Op::JumpIf { width, cond, dst, src, .. } => {
                return self.branch(at, width, cond, dst, state, operand(state, src), src);
            }
            // A call of a kernel function that is missing was one of a function of the object.
            Op::CallFunc { .. } | Op::CallHelper { .. } | Op::CallKfunc { .. }
                if poisoned || !matches!(op, Op::CallFunc { .. }) =>
            {
                state.written_through(state.arguments(), self.callbacks);
                state.returned(Value::OTHER);
            }
            Op::CallFunc { .. } => return self.call(at, state),
            Op::Exit => {
                self.exit(at, state);
                return Step::Ends;
            }
            Op::JumpReg { .. } => {
                self.jump_by_table(at, state);
                return Step::Ends;
            }
            // Where others go to is not followed.
            _ => return Step::Lost,
        }
        Step::Next
    }

    fn load(&self, state: &State, base: Reg, off: i16, size: Size) -> Value {
        match state.get(base) {
            Value::Frame(at) => at.checked_add(off.into()).map_or(Value::ANY, |at| state.load(at, size)),
            Value::Map { map, offset } => {
                offset.checked_add(off.into()).map_or(Value::OTHER, |at| self.constant_data(map, at, size))
            }
            Value::Any { .. } if size == Size::DW => Value::ANY,
            _ => Value::OTHER,
        }
    }

    /// What a load from a map gives, when its contents do not change any more.
    fn constant_data(&self, map: MapIndex, at: i64, size: Size) -> Value {
        // What a pinned map holds is not known before it is opened.
        let is_constant =
            |plan: &&MapPlan| plan.spec.role.is_read_only() && plan.spec.pinning == Pinning::None;
        let Some(plan) = self.plan.maps.get(map.0).filter(is_constant) else {
            return Value::OTHER;
        };
        let len = usize::from(size.bytes());
        let Some(start) = usize::try_from(at).ok() else { return Value::OTHER };
        let Some(end) = start.checked_add(len).filter(|&end| end <= plan.spec.value_size as usize) else {
            return Value::OTHER;
        };
        let kconfig = plan.spec.role == MapRole::Kconfig;
        if kconfig && self.open_config.get(start..end).is_none_or(|bytes| bytes.contains(&true)) {
            return Value::Other { open: true };
        }
        let little = match &self.plan.btf {
            // Its values are written in the byte order of this machine.
            Some(btf) if !kconfig => btf.endian().is_little(),
            _ => cfg!(target_endian = "little"),
        };
        let byte = |at: usize| u64::from(plan.spec.contents.get(at).copied().unwrap_or(0));
        let bytes = start..end;
        Value::Known(if little {
            bytes.rev().fold(0, |number, at| number << 8 | byte(at))
        } else {
            bytes.fold(0, |number, at| number << 8 | byte(at))
        })
    }

    /// What a load of 64 bits gives.
    fn constant(&mut self, at: usize, imm: Imm64) -> Value {
        let insn = at as u32;
        let placed = self.program.externs.binary_search_by_key(&insn, |placed| placed.insn).ok();
        let placed = placed.and_then(|found| self.program.externs.get(found));
        if placed.is_some_and(|placed| !placed.known && !matches!(placed.kind, ExternKind::Kconfig { .. })) {
            return Value::Other { open: true };
        }
        match imm {
            Imm64::Value(number) => Value::Known(number),
            Imm64::MapValue { off, .. } => {
                let found = self.program.placeholders.binary_search_by_key(&insn, |placed| placed.insn).ok();
                match found.and_then(|found| self.program.placeholders.get(found)).map(|found| &found.value) {
                    Some(PlaceholderValue::MapValue(map)) => {
                        Value::Map { map: *map, offset: i64::from(off.cast_unsigned()) }
                    }
                    _ => Value::OTHER,
                }
            }
            // The address of a kernel function is a number to the verifier, that of a variable a pointer.
            Imm64::BtfId { .. } if placed.is_some_and(|placed| placed.kind == ExternKind::Function) => {
                Value::NotZero
            }
            Imm64::Func { .. } => {
                if let Some(function) = self.function_from(at) {
                    self.enter(at, function, [Value::ANY; 5]);
                }
                Value::OTHER
            }
            _ => Value::OTHER,
        }
    }

    /// The function that a call or the load of an address names.
    fn function_from(&self, at: usize) -> Option<usize> {
        let start = usize::try_from(self.program.insns.get(at)?.func_target(at)?).ok()?;
        self.functions.binary_search_by_key(&start, |function| function.start).ok()
    }

    fn function_of(&self, at: usize) -> Option<usize> {
        let nth = self.functions.partition_point(|function| function.start <= at).checked_sub(1)?;
        self.functions.get(nth).filter(|function| at < function.end).map(|_| nth)
    }

    fn enter(&mut self, caller: usize, function: usize, arguments: [Value; 5]) {
        let Some(found) = self.functions.get_mut(function) else { return };
        found.callers.insert(caller);
        let start = found.start;
        let arguments = if found.global { [Value::OTHER; 5] } else { arguments.map(Value::passed) };
        self.go_to(start, &State::entry(arguments));
    }

    fn call(&mut self, at: usize, state: &mut State) -> Step {
        let Some(function) = self.function_from(at) else { return Step::Lost };
        self.enter(at, function, state.arguments());
        state.written_through(state.arguments(), true);
        let Some(found) = self.functions.get(function) else { return Step::Lost };
        match found.result {
            _ if found.global => state.returned(Value::OTHER),
            Some(result) => state.returned(result),
            // It is looked at again when the function returns.
            None => return Step::Ends,
        }
        Step::Next
    }

    fn exit(&mut self, at: usize, state: &State) {
        let open = self.open;
        let Some(function) = self.function_of(at).and_then(|nth| self.functions.get_mut(nth)) else { return };
        let value = state.get(Reg::R0).passed();
        let result = function.result.map_or(value, |known| known.join(value, open));
        if function.result != Some(result) {
            function.result = Some(result);
            let callers = function.callers.clone();
            // Their states are kept, so that they can go on.
            self.work.extend(callers.into_iter().filter(|caller| self.states.contains_key(caller)));
        }
    }

    /// Goes on where an instruction jumps to, which is within its function, or nothing takes the program.
    fn jump(&mut self, at: usize, state: &State) {
        self.set(at, |mark| mark.jumps = true);
        let target = self.program.insns.get(at).and_then(|insn| insn.jump_target(at));
        let Some(target) = target.and_then(|target| usize::try_from(target).ok()) else { return };
        if target < self.marks.len() && self.function_of(target) == self.function_of(at) {
            self.go_to(target, state);
        }
    }

    /// Goes on wherever a table of the function leads.
    fn jump_by_table(&mut self, at: usize, state: &State) {
        self.set(at, |mark| mark.jumps = true);
        for target in self.table_targets(at) {
            self.steps += 1;
            self.go_to(target, state);
        }
    }

    /// Where a jump through a register may lead: to what any table of the program names in its function.
    fn table_targets(&self, at: usize) -> Vec<usize> {
        let function = self.function_of(at);
        let tables = self.program.jump_tables.iter().flat_map(|table| &table.targets);
        let mut targets: Vec<usize> = tables
            .map(|&target| target as usize)
            .filter(|&target| target < self.marks.len() && self.function_of(target) == function)
            .collect();
        targets.sort_unstable();
        targets.dedup();
        targets
    }

    #[allow(clippy::too_many_arguments, reason = "the parts of one instruction")]
    fn branch(
        &mut self,
        at: usize,
        width: Width,
        cond: Cond,
        dst: Reg,
        state: &mut State,
        right: Value,
        src: Operand,
    ) -> Step {
        let left = state.get(dst);
        match decide(width, cond, left, right) {
            Some(true) => {
                self.jump(at, state);
                return Step::Ends;
            }
            Some(false) => return Step::Next,
            None => {}
        }
        if left.is_open() || right.is_open() {
            self.set(at, |mark| mark.open = true);
            self.open = true;
        }
        // On the side where both are equal, one that is known makes the other known.
        let mut equal = state.clone();
        if width == Width::W64 && matches!(cond, Cond::Eq | Cond::Ne) {
            match (left, right, src) {
                (Value::Known(_), _, Operand::Reg(reg)) if right.is_number() => equal.set(reg, left),
                (_, Value::Known(_), _) if left.is_number() => equal.set(dst, right),
                _ => {}
            }
        }
        if cond == Cond::Ne {
            self.jump(at, state);
            *state = equal;
        } else {
            self.jump(at, &equal);
        }
        Step::Next
    }
}

fn store(state: &mut State, base: Reg, off: i16, size: Size, value: Value) {
    match state.get(base) {
        Value::Frame(at) => match at.checked_add(off.into()) {
            Some(at) => state.store(at, size, value),
            None => state.written_through([Value::ANY; 5], true),
        },
        Value::Any { .. } => state.written_through([Value::ANY; 5], value.may_be_stack()),
        _ => {}
    }
}

/// How a way goes on behind an instruction.
enum Step {
    Next,
    Ends,
    /// Somewhere that is not followed.
    Lost,
}

/// Which bytes of the configuration values are not known of the target.
fn open_config(plan: &Plan) -> Vec<bool> {
    let kconfig = plan.maps.iter().find(|map| map.spec.role == MapRole::Kconfig);
    let mut open = vec![false; kconfig.map_or(0, |map| map.spec.contents.len())];
    for unknown in &plan.unknown {
        if let ExternKind::Kconfig { offset, size } = unknown.kind {
            let (start, end) = (offset as usize, (offset as usize).saturating_add(size as usize));
            open.iter_mut().take(end).skip(start).for_each(|open| *open = true);
        }
    }
    open
}

#[cfg(test)]
mod tests;

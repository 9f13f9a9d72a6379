//! What is known at a place of a program: registers and stack.

use skep_asm::{Reg, Size};

use super::value::Value;

/// Registers, r0 to r10.
const REGS: usize = 11;

/// What is known before an instruction is run.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct State {
    regs: [Value; REGS],
    stack: Stack,
}

impl State {
    /// At the start of a function, whose arguments are these.
    pub(super) fn entry(arguments: [Value; 5]) -> State {
        let mut regs = [Value::OTHER; REGS];
        for (reg, argument) in regs.iter_mut().skip(1).zip(arguments) {
            *reg = argument;
        }
        let mut state = State { regs, stack: Stack::default() };
        state.set(Reg::R10, Value::Frame(0));
        state
    }

    pub(super) fn get(&self, reg: Reg) -> Value {
        self.regs.get(usize::from(reg.number())).copied().unwrap_or(Value::ANY)
    }

    pub(super) fn set(&mut self, reg: Reg, value: Value) {
        if let Some(slot) = self.regs.get_mut(usize::from(reg.number())) {
            *slot = value;
        }
    }

    /// r1 to r5.
    pub(super) fn arguments(&self) -> [Value; 5] {
        [Reg::R1, Reg::R2, Reg::R3, Reg::R4, Reg::R5].map(|reg| self.get(reg))
    }

    /// Adds what is known on another way here. Answers whether less is known now.
    pub(super) fn join(&mut self, other: &State, open: bool) -> bool {
        let mut changed = false;
        for (ours, theirs) in self.regs.iter_mut().zip(other.regs) {
            let joined = ours.join(theirs, open);
            changed |= joined != *ours;
            *ours = joined;
        }
        self.stack.join(&other.stack, open) || changed
    }

    /// What a load of this size from a place in the stack gives.
    pub(super) fn load(&self, at: i64, size: Size) -> Value {
        match size {
            Size::DW if at % 8 == 0 => self.stack.get(at),
            Size::DW => Value::ANY,
            // A part of a slot is a number. Of zeros it is zero, of the rest older verifiers know nothing.
            _ => match self.stack.get(at - at.rem_euclid(8)) {
                Value::Known(0) if at.rem_euclid(8) + i64::from(size.bytes()) <= 8 => Value::Known(0),
                value => Value::Other { open: value.is_open() },
            },
        }
    }

    /// Stores into a place of the stack.
    pub(super) fn store(&mut self, at: i64, size: Size, value: Value) {
        let first = at - at.rem_euclid(8);
        if size == Size::DW && at == first {
            self.stack.put(first, value);
            return;
        }
        let zeros = value == Value::Known(0);
        let last = at + i64::from(size.bytes()) - 1;
        for slot in [first, last - last.rem_euclid(8)] {
            if !(zeros && self.stack.get(slot) == Value::Known(0)) {
                self.stack.put(slot, Value::Other { open: value.is_open() });
            }
        }
    }

    /// Someone else writes to what these values point to: data from there upwards, or anything anywhere when `all`.
    pub(super) fn written_through(&mut self, values: [Value; 5], all: bool) {
        for value in values {
            match value {
                Value::Frame(at) if !all => self.stack.clear_from(at - at.rem_euclid(8)),
                Value::Frame(_) | Value::Any { .. } => {
                    self.stack.clear_from(i64::MIN);
                    self.stack.loose |= all;
                }
                _ => {}
            }
        }
    }

    /// After a call: the arguments are gone.
    pub(super) fn returned(&mut self, value: Value) {
        for reg in [Reg::R1, Reg::R2, Reg::R3, Reg::R4, Reg::R5] {
            self.set(reg, Value::OTHER);
        }
        self.set(Reg::R0, value);
    }
}

/// What is known of the slots of 8 bytes of a function's stack.
#[derive(Clone, Debug, Default, PartialEq)]
struct Stack {
    /// By offset. Those that are not here hold what is not the address of a stack.
    slots: Vec<(i64, Value)>,
    /// An address of a stack was stored where it is not known any more: slots that are not here may hold anything.
    loose: bool,
}

/// Slots of the largest stack that there is. What is outside is refused by every verifier.
const SLOTS: i64 = 64;

impl Stack {
    fn rest(&self) -> Value {
        if self.loose { Value::ANY } else { Value::OTHER }
    }

    fn get(&self, at: i64) -> Value {
        match self.slots.binary_search_by_key(&at, |(at, _)| *at) {
            Ok(found) => self.slots.get(found).map_or(Value::ANY, |(_, value)| *value),
            Err(_) => self.rest(),
        }
    }

    fn put(&mut self, at: i64, value: Value) {
        if !(-SLOTS * 8..0).contains(&at) {
            self.loose |= value.may_be_stack();
            return;
        }
        match self.slots.binary_search_by_key(&at, |(at, _)| *at) {
            Ok(found) => {
                if let Some(slot) = self.slots.get_mut(found) {
                    slot.1 = value;
                }
            }
            Err(place) => self.slots.insert(place, (at, value)),
        }
    }

    /// Forgets the slots from this offset on.
    fn clear_from(&mut self, from: i64) {
        let mut loose = self.loose;
        self.slots.retain(|(at, value)| {
            let kept = *at < from;
            loose |= !kept && value.may_be_stack();
            kept
        });
        self.loose = loose;
    }

    fn join(&mut self, other: &Stack, open: bool) -> bool {
        let before = self.clone();
        let mut offsets: Vec<i64> = self.slots.iter().chain(&other.slots).map(|(at, _)| *at).collect();
        offsets.sort_unstable();
        offsets.dedup();
        let joined: Vec<_> =
            offsets.into_iter().map(|at| (at, self.get(at).join(other.get(at), open))).collect();
        self.loose |= other.loose;
        let rest = self.rest();
        self.slots = joined;
        self.slots.retain(|(_, value)| *value != rest);
        *self != before
    }
}

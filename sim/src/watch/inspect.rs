//! What can be seen of a program that is stopped.

use std::fmt;
use std::sync::Arc;

use skep_asm::Reg;
use skep_btf::{Btf, Kind, TypeId};

use crate::map::Map;
use crate::name::is_called;
use crate::prog::Prog;
use crate::vm::{SourceLine, Vm};

/// Longest packet that is shown.
const PACKET_MAX: usize = 1 << 16;
/// Bytes of a frame's stack.
const STACK: u64 = 512;

/// What `r1` to `r5` held when a function began.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Entry([u64; 5]);

impl Entry {
    pub(super) fn of(vm: &Vm) -> Entry {
        let mut held = [0; 5];
        held.iter_mut().zip(vm.registers().iter().skip(1)).for_each(|(to, from)| *to = *from);
        Entry(held)
    }
}

/// A program that is stopped before an instruction, or at a fault.
///
/// It prints where it is, its registers, functions with their arguments, and the part of the stack that is not zero.
#[derive(Debug)]
pub struct Halted<'a> {
    vm: &'a mut Vm,
    entries: &'a [Entry],
}

/// A function that was called and has not returned.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FrameView {
    /// Name of the function; that of the program where no types tell.
    pub function: String,
    /// Name of the program.
    pub program: String,
    /// Slot of the instruction: the next one, or the call.
    pub index: usize,
    /// The line of C that this comes from.
    pub source: Option<SourceLine>,
    /// The arguments as they were when the function began, by name, as far as types tell: pointers as addresses.
    pub arguments: Vec<(String, String)>,
}

impl fmt::Display for FrameView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}(", self.function)?;
        for (at, (name, value)) in self.arguments.iter().enumerate() {
            write!(f, "{}{name}={value}", if at == 0 { "" } else { ", " })?;
        }
        write!(f, ") at {}", self.index)?;
        match &self.source {
            Some(source) => write!(f, ", {source}"),
            None => Ok(()),
        }
    }
}

impl<'a> Halted<'a> {
    pub(super) fn new(vm: &'a mut Vm, entries: &'a [Entry]) -> Halted<'a> {
        Halted { vm, entries }
    }

    /// Name of the program that runs: another one than at the start after a tail call.
    pub fn program(&self) -> &str {
        self.vm.prog().name()
    }

    /// Slot of the next instruction, or of the one that faulted.
    pub fn index(&self) -> usize {
        self.vm.pc()
    }

    /// The instruction, as the kernel's log writes it.
    pub fn instruction(&self) -> String {
        self.vm.text(self.vm.pc())
    }

    /// The line of C that it comes from.
    pub fn source(&self) -> Option<SourceLine> {
        self.vm.prog().source_line(self.vm.pc())
    }

    /// How many functions were called and have not returned.
    pub fn depth(&self) -> usize {
        self.vm.depth()
    }

    /// How many instructions were executed so far.
    pub fn executed(&self) -> u64 {
        self.vm.executed()
    }

    /// `r0` to `r10`.
    pub fn registers(&self) -> [u64; 11] {
        let mut registers = [0; 11];
        registers.copy_from_slice(self.vm.registers());
        registers
    }

    /// Reads bytes at an address that the program knows; none when they are not all there.
    pub fn read(&mut self, address: u64, len: usize) -> Option<Vec<u8>> {
        self.vm.memory.bytes(address, len).ok()
    }

    /// The stack of the innermost function, up to its frame pointer.
    pub fn stack(&mut self) -> Vec<u8> {
        let pointer = self.registers()[10]; // of 11
        self.read(pointer.wrapping_sub(STACK), STACK as usize).unwrap_or_default()
    }

    /// Bytes of the packet; nothing for programs without one.
    pub fn packet(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut next = [0];
        while bytes.len() < PACKET_MAX && self.vm.memory.packet(bytes.len() as i64, &mut next).is_some() {
            bytes.extend(next);
        }
        bytes
    }

    /// The functions that called each other, innermost first.
    pub fn frames(&self) -> Vec<FrameView> {
        let sites = self.vm.call_sites();
        let depth = sites.len();
        let frame = |(at, (prog, index)): (usize, (Arc<Prog>, usize))| {
            let entry = depth.checked_sub(at + 1).and_then(|level| self.entries.get(level)); // of fewer than 2^16
            FrameView {
                function: prog.function_name(index).unwrap_or_else(|| prog.name().to_owned()),
                program: prog.name().to_owned(),
                index,
                source: prog.source_line(index),
                arguments: entry.map(|entry| arguments(&prog, index, entry)).unwrap_or_default(),
            }
        };
        sites.into_iter().enumerate().map(frame).collect()
    }

    /// The value of a global variable of the program, as C writes it.
    pub fn global(&self, name: &str) -> Option<String> {
        let prog = self.vm.prog();
        for map in prog.save() {
            let Some(types) = &map.btf else { continue };
            let btf = &types.btf.btf;
            let Ok(section) = btf.ty(TypeId(types.value)) else { continue };
            if section.kind() != Kind::DATASEC {
                continue;
            }
            for var in section.vars() {
                let Ok(ty) = btf.ty(var.type_id) else { continue };
                if ty.name() != name {
                    continue;
                }
                let value = map.value(&0u32.to_ne_bytes(), self.vm.cpu).ok()??;
                let mut bytes = vec![0; var.size as usize];
                value.read(var.offset as usize, &mut bytes).ok()?;
                return Some(btf.datum(ty.type_id(), &bytes).ok()?.to_string());
            }
        }
        None
    }

    /// The elements of a map that the program uses, keys and values as C writes them where the map has types, else in
    /// hexadecimal digits; of per-CPU maps the values of this CPU. None when it uses no map of that name.
    pub fn map(&self, name: &str) -> Option<Vec<(String, String)>> {
        let map = self.vm.prog().save().into_iter().find(|map| is_called(&map.name, name))?;
        let show = |key: bool, bytes: &[u8]| show(&map, key, bytes);
        let values = map.values(self.vm.cpu).into_iter().map(|(key, value)| {
            let mut bytes = vec![0; value.len()];
            let _ = value.read(0, &mut bytes); // it is as long
            (show(true, &key), show(false, &bytes))
        });
        Some(values.collect())
    }
}

/// A key or value of a map.
fn show(map: &Map, key: bool, bytes: &[u8]) -> String {
    let typed = map.btf.as_ref().and_then(|types| {
        let id = TypeId(if key { types.key } else { types.value });
        let datum = if id.is_void() { None } else { types.btf.btf.datum(id, bytes).ok() };
        datum.map(|datum| datum.to_string())
    });
    typed.unwrap_or_else(|| bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// The arguments of the function that an instruction is in.
fn arguments(prog: &Prog, index: usize, entry: &Entry) -> Vec<(String, String)> {
    let types = || {
        let btf: &Btf = &prog.btf()?.btf;
        let proto = btf.ty(btf.ty(prog.function_type(index)?).ok()?.type_id()).ok()?;
        let argument = |(param, value): (skep_btf::Param<'_>, &u64)| {
            let shown = btf
                .datum(param.type_id, &value.to_ne_bytes())
                .map_or_else(|_| format!("{value:#x}"), |d| d.to_string());
            (param.name().into_owned(), shown)
        };
        Some(proto.params().zip(&entry.0).map(argument).collect())
    };
    types().unwrap_or_default()
}

impl fmt::Display for Halted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "program `{}` at {}: {}", self.program(), self.index(), self.instruction())?;
        if let Some(source) = self.source() {
            writeln!(f, "source: {source}")?;
        }
        f.write_str("registers:")?;
        for (number, value) in (0..).zip(self.registers()) {
            write!(f, " {}={value:#x}", Reg::new(number).unwrap_or_default())?;
        }
        writeln!(f)?;
        for (at, frame) in self.frames().iter().enumerate() {
            writeln!(f, "#{at} {frame}")?;
        }
        let pointer = self.registers()[10]; // of 11
        let mut words = Vec::new();
        for below in 1..=STACK / 8 {
            if let Some(word) = self.vm.memory.peek(pointer.wrapping_sub(below * 8)).filter(|&word| word != 0)
            {
                words.push((below * 8, word));
            }
        }
        for (below, word) in words {
            writeln!(f, "r10-{below}: {word:#018x}")?;
        }
        Ok(())
    }
}

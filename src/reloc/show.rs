//! A plan as text: the same wherever it is made, to be read and compared.

use std::fmt::{self, Display, Formatter};

use skep_asm::disassemble;

use super::plan::{MapPlan, Missing, PlacedDecision, PlaceholderValue, Plan, ProgramPlan, StructOpsPlan};
use crate::spec::{SlotValue, show_bytes, show_pinning, show_records};

impl Display for Plan {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "object {} license {:?}", self.name, self.license)?;
        if let Some(btf) = &self.btf {
            writeln!(f, "types {} in {} bytes", btf.len(), btf.bytes().len())?;
        }
        for map in &self.maps {
            self.show_map(f, map)?;
        }
        for (number, module) in (1..).zip(&self.modules) {
            writeln!(f, "module {number} {module}")?;
        }
        for program in &self.programs {
            self.show_program(f, program)?;
        }
        for unknown in &self.unknown {
            writeln!(f, "unknown {}: {}", unknown.name, unknown.error)?;
        }
        for note in &self.notes {
            writeln!(f, "note {note}")?;
        }
        Ok(())
    }
}

impl Plan {
    fn show_map(&self, f: &mut Formatter<'_>, plan: &MapPlan) -> fmt::Result {
        let map = &plan.spec;
        if !map.autocreate {
            return writeln!(f, "map {} is not created", map.name);
        }
        write!(
            f,
            "map {} as {:?} {} key {} value {} entries {} flags {:#x}",
            map.name,
            plan.kernel_name,
            map.map_type,
            map.key_size,
            map.value_size,
            map.max_entries,
            map.flags.bits()
        )?;
        if map.map_extra != 0 {
            write!(f, " map_extra {:#x}", map.map_extra)?;
        }
        show_pinning(f, map.pinning)?;
        writeln!(f, "{}", if map.role.is_read_only() { " frozen" } else { "" })?;
        if let Some(inner) = &map.inner {
            writeln!(
                f,
                "  inner {} key {} value {} entries {}",
                inner.map_type, inner.key_size, inner.value_size, inner.max_entries
            )?;
        }
        if let Some(table) = &plan.struct_ops {
            self.show_struct_ops(f, table)?;
            return show_bytes(f, &map.contents);
        }
        for slot in &map.slots {
            match slot.value {
                SlotValue::Map(index) => {
                    let name = self.maps.get(index.0).map_or("?", |map| &map.spec.name);
                    writeln!(f, "  [{}] = map {name}", slot.index)?;
                }
                SlotValue::Program(index) => {
                    let held = self.programs.iter().find(|program| program.program == index);
                    writeln!(
                        f,
                        "  [{}] = program {}",
                        slot.index,
                        held.map_or("(not loaded)", |held| &held.name)
                    )?;
                }
            }
        }
        if plan.contents_offset != 0 {
            writeln!(f, "  contents at {:#x}", plan.contents_offset)?;
        }
        show_bytes(f, &map.contents)
    }

    fn show_struct_ops(&self, f: &mut Formatter<'_>, table: &StructOpsPlan) -> fmt::Result {
        write!(f, "  value {} {}", table.value_type.type_id, table.value_type.name)?;
        if let Some(module) = &table.value_type.module {
            write!(f, " of {module}")?;
        }
        writeln!(f)?;
        for place in &table.programs {
            let held = self.programs.iter().find(|program| program.program == place.program);
            let held = held.map_or("(not loaded)", |held| &held.name);
            writeln!(f, "  [{}] {} = program {held}", place.offset, place.member)?;
        }
        Ok(())
    }

    fn show_program(&self, f: &mut Formatter<'_>, program: &ProgramPlan) -> fmt::Result {
        write!(f, "program {} as {:?} type {}", program.name, program.kernel_name, program.prog_type)?;
        if program.attach_type.0 != 0 {
            write!(f, " attach_type {}", program.attach_type)?;
        }
        if let Some(target) = &program.attach_target {
            write!(f, " target {} {}", target.type_id, target.name)?;
            if let Some(module) = &target.module {
                write!(f, " of {module}")?;
            }
        }
        if let Some(function) = &program.attach_function {
            write!(f, " of another program: {} {}", function.type_id, function.name)?;
        }
        writeln!(f, " flags {:#x}", program.flags.bits())?;
        for function in &program.functions {
            writeln!(f, "  {} at {}, {} instructions", function.name, function.start, function.len)?;
        }
        let mut placeholders = program.placeholders.iter().peekable();
        let mut missing = program.missing.iter().peekable();
        let mut decisions = program.decisions.iter().peekable();
        for line in disassemble(&program.insns) {
            write!(f, "  {:>4}: {line}", line.index)?;
            let end = (line.index + line.slots) as u32;
            while let Some(placeholder) = placeholders.next_if(|placeholder| placeholder.insn < end) {
                write!(f, "  ; {}", self.name_of(&placeholder.value))?;
            }
            while let Some(Missing { name, .. }) = missing.next_if(|missing| missing.insn < end) {
                write!(f, "  ; missing {name}")?;
            }
            while let Some(PlacedDecision { decision, .. }) = decisions.next_if(|placed| placed.insn < end) {
                write!(f, "  ; {decision}")?;
            }
            writeln!(f)?;
        }
        for (index, table) in program.jump_tables.iter().enumerate() {
            writeln!(f, "  jump table {index} {:?}", table.targets)?;
        }
        show_records(f, "func_info", &program.func_info, 2)?;
        show_records(f, "line_info", &program.line_info, 4)
    }

    fn name_of(&self, value: &PlaceholderValue) -> String {
        let map = |index: usize| self.maps.get(index).map_or("?", |map| map.spec.name.as_str());
        match value {
            PlaceholderValue::Map(index) => format!("map {}", map(index.0)),
            PlaceholderValue::MapValue(index) => format!("value of {}", map(index.0)),
            PlaceholderValue::JumpTable(index) => format!("jump table {index}"),
            PlaceholderValue::ModuleBtf(module) => format!("types of {module}"),
            PlaceholderValue::ModuleCall(module) => format!("function of {module}"),
        }
    }
}

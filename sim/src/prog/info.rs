//! Function and line records.

use std::cell::Cell;
use std::collections::BTreeSet;

use skep_asm::{Insn, opcode as op};
use skep_btf::{Btf, Kind, Linkage, StrOffset, TypeId};
use skep_sys::abi::Errno;
use skep_sys::request::Records;

use super::stack;
use super::verify::{Reject, reject};
use crate::vm::SourceLine;

/// Largest record that the kernel takes (`MAX_FUNCINFO_REC_SIZE`, `MAX_LINEINFO_REC_SIZE`).
const RECORD_MAX: u32 = 252;

/// Line records by instruction: where the source of each is.
#[derive(Debug, Default)]
pub(super) struct Lines {
    /// First slot, the offsets of line and file name, and the line's number and column.
    records: Vec<[u32; 4]>,
}

impl Lines {
    /// The source of an instruction as the log writes it: `; text @ file:line`.
    pub(super) fn describe(&self, btf: &Btf, index: usize) -> Option<String> {
        let source = self.source(btf, index)?;
        let file = source.file.rsplit('/').next().unwrap_or_default();
        Some(format!("; {} @ {file}:{}", source.text.trim_start(), source.line))
    }

    /// The source of an instruction.
    pub(super) fn source(&self, btf: &Btf, index: usize) -> Option<SourceLine> {
        let after = self.records.partition_point(|record| record[0] as usize <= index); // four words
        let [_, file, line, position] = *self.records.get(after.checked_sub(1)?)?;
        let text =
            |offset| btf.str_at(StrOffset(offset)).map(|s| String::from_utf8_lossy(s).into_owned()).ok();
        Some(SourceLine {
            file: text(file)?,
            line: position >> 10,
            column: position & 0x3ff,
            text: text(line)?,
        })
    }
}

/// Splits records into the words that are known; the rest of each has to be zero, or `known_size` is told how long the
/// known part is.
fn split<const N: usize>(
    records: Records<'_>,
    what: &str,
    known_size: Option<&Cell<u32>>,
) -> Result<Vec<[u32; N]>, Reject> {
    let size = records.record_size;
    if (size as usize) < N * 4 || size > RECORD_MAX || !size.is_multiple_of(4) {
        return Err(reject(Errno::EINVAL, format!("invalid {what} rec size {size}")));
    }
    let mut split = Vec::new();
    for record in records.bytes.chunks_exact(size as usize) {
        let (words, rest) = record.as_chunks::<4>();
        let mut known = [0; N];
        for (to, from) in known.iter_mut().zip(words) {
            *to = u32::from_ne_bytes(*from);
        }
        let unknown = words.iter().skip(N).flatten().chain(rest);
        if unknown.copied().any(|byte| byte != 0) {
            if let Some(size) = known_size {
                size.set(N as u32 * 4); // a few words
            }
            return Err(reject(Errno::E2BIG, format!("nonzero tailing record in {what}")).unended());
        }
        split.push(known);
    }
    Ok(split)
}

/// Checks that there is a record with a function's type for the start of every sub-program. Answers these types.
pub(super) fn check_functions(
    records: Records<'_>,
    btf: &Btf,
    starts: &[usize],
    known_size: Option<&Cell<u32>>,
) -> Result<Vec<TypeId>, Reject> {
    if records.count() == 0 {
        return Ok(Vec::new());
    }
    let mut previous = None;
    let records = split::<2>(records, "func info", known_size)?;
    for &[offset, type_id] in &records {
        match previous {
            None if offset != 0 => {
                let text = format!("nonzero insn_off {offset} for the first func info record");
                return Err(reject(Errno::EINVAL, text).unended());
            }
            Some(previous) if offset <= previous => {
                let text = format!(
                    "same or smaller insn offset ({offset}) than previous func info record ({previous})"
                );
                return Err(reject(Errno::EINVAL, text).unended());
            }
            _ => previous = Some(offset),
        }
        let function = btf.ty(TypeId(type_id)).ok().filter(|ty| ty.kind() == Kind::FUNC);
        let proto = function.and_then(|ty| btf.ty(ty.type_id()).ok());
        if proto.is_none_or(|ty| ty.kind() != Kind::FUNC_PROTO) {
            return Err(reject(Errno::EINVAL, format!("invalid type id {type_id} in func info")).unended());
        }
    }
    if records.len() != starts.len() {
        return Err(reject(Errno::EINVAL, "number of funcs in func_info doesn't match number of subprogs"));
    }
    if records.iter().zip(starts).any(|(record, &start)| record[0] as usize != start) {
        return Err(reject(
            Errno::EINVAL,
            "func_info BTF section doesn't match subprog layout in BPF program",
        ));
    }
    Ok(records.iter().map(|&[_, type_id]| TypeId(type_id)).collect())
}

/// Checks that sub-programs which are verified by their types alone, those of global linkage, do not take pointers to
/// anything, unless a tag says what to.
pub(super) fn check_arguments(functions: &[TypeId], btf: &Btf, tags: bool) -> Result<(), Reject> {
    let tagged: BTreeSet<(TypeId, i32)> = btf
        .types()
        .filter(|ty| tags && ty.kind() == Kind::DECL_TAG && ty.name_bytes().starts_with(b"arg:"))
        .filter_map(|ty| Some((ty.type_id(), ty.component_index()?)))
        .collect();
    let global = |id: &&TypeId| btf.ty(**id).is_ok_and(|ty| ty.linkage() == Some(Linkage::GLOBAL));
    for &id in functions.iter().skip(1).filter(global) {
        let Ok(proto) = btf.ty(id).and_then(|ty| btf.ty(ty.type_id())) else { continue };
        for (index, param) in (0..).zip(proto.params()) {
            let pointer = btf.peel(param.type_id).ok().filter(|ty| ty.kind() == Kind::PTR);
            let to = pointer.and_then(|ty| btf.peel(ty.type_id()).ok());
            if to.is_some_and(|to| to.is_void()) && !tagged.contains(&(id, index)) {
                let text = format!("arg#{index} reference type('UNKNOWN ') size cannot be determined: -22");
                return Err(reject(Errno::EINVAL, text));
            }
        }
    }
    Ok(())
}

/// Checks that functions which may end in their middle return numbers (`check_abnormal_return`).
pub(super) fn check_returns(
    btf: Option<&Btf>,
    functions: &[TypeId],
    insns: &[Insn],
    starts: &[usize],
) -> Result<(), Reject> {
    let is_packet_load = |insn: &Insn| {
        insn.class() == op::CLASS_LD && matches!(insn.opcode & op::MODE_MASK, op::MODE_ABS | op::MODE_IND)
    };
    let ends = starts.iter().skip(1).copied().chain([insns.len()]);
    for (number, (&start, end)) in starts.iter().zip(ends).enumerate().skip(1) {
        let body = insns.get(start..end).unwrap_or_default();
        let what = match () {
            () if body.iter().any(is_packet_load) => "LD_ABS",
            () if body.iter().any(stack::is_tail_call) => "tail_call",
            () => continue,
        };
        let (Some(btf), Some(&function)) = (btf, functions.get(number)) else {
            return Err(reject(Errno::EINVAL, format!("{what} is not allowed in subprogs without BTF")));
        };
        let returned =
            btf.ty(function).and_then(|ty| btf.ty(ty.type_id())).and_then(|ty| btf.peel(ty.type_id()));
        if !returned.is_ok_and(|ty| matches!(ty.kind(), Kind::INT | Kind::ENUM | Kind::ENUM64)) {
            return Err(reject(
                Errno::EINVAL,
                format!("{what} is only allowed in functions that return 'int'."),
            ));
        }
    }
    Ok(())
}

/// Checks that the records ascend, have strings, and that there is one for the start of every sub-program.
pub(super) fn check_lines(
    records: Records<'_>,
    btf: &Btf,
    insns: &[Insn],
    starts: &[usize],
    known_size: Option<&Cell<u32>>,
) -> Result<Lines, Reject> {
    if records.count() == 0 {
        return Ok(Lines::default());
    }
    let records = split::<4>(records, "line_info", known_size)?;
    let mut previous = 0;
    let mut starts = starts.iter().copied().enumerate().peekable();
    for (i, &[offset, file, line, _]) in records.iter().enumerate() {
        let insn = insns.get(offset as usize);
        if i > 0 && offset <= previous || insn.is_none() {
            let text = format!(
                "Invalid line_info[{i}].insn_off:{offset} (prev_offset:{previous} prog->len:{})",
                insns.len()
            );
            return Err(reject(Errno::EINVAL, text));
        }
        if insn.is_some_and(|insn| insn.opcode == 0) {
            return Err(reject(Errno::EINVAL, format!("Invalid insn code at line_info[{i}].insn_off")));
        }
        if [file, line].iter().any(|&offset| btf.str_at(StrOffset(offset)).is_err()) {
            let text = format!("Invalid line_info[{i}].line_off or .file_name_off");
            return Err(reject(Errno::EINVAL, text));
        }
        match starts.peek() {
            Some(&(_, start)) if start == offset as usize => _ = starts.next(),
            Some(&(function, start)) if start < offset as usize => {
                return Err(reject(Errno::EINVAL, format!("missing bpf_line_info for func#{function}")));
            }
            _ => {}
        }
        previous = offset;
    }
    if let Some(&(function, _)) = starts.peek() {
        let text =
            format!("missing bpf_line_info for {} funcs starting from func#{function}", starts.count());
        return Err(reject(Errno::EINVAL, text));
    }
    Ok(Lines { records })
}

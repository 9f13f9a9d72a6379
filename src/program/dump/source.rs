//! Functions and source lines by a program's records.

use skep_asm::Endian;
use skep_btf::{Btf, ExtRecord, FuncInfo, LineInfo};
use skep_sys::request::{OwnedRecords, ProgDump, ProgInfo};

use crate::program::Program;
use crate::reloc::{PlacedFunction, SourceLine};

/// A program's records, with the types that they refer to.
pub(super) struct Source {
    btf: Option<Btf>,
}

impl Source {
    /// The types of a program. One without, or whose types this process may not read, has no source lines.
    pub(super) fn of(program: &Program, info: &ProgInfo) -> Source {
        let btf = if info.btf_id.0 == 0 { None } else { program.kernel().btf_by_id(info.btf_id).ok() };
        Source { btf: btf.and_then(|btf| btf.bytes().ok()).and_then(|bytes| Btf::parse(bytes).ok()) }
    }

    /// The functions of a program, ordered.
    pub(super) fn functions(&self, dump: &ProgDump) -> Vec<PlacedFunction> {
        let Some(btf) = &self.btf else { return Vec::new() };
        let records: Vec<FuncInfo> = read(&dump.func_info);
        let end = u32::try_from(dump.xlated.len()).unwrap_or(u32::MAX);
        let ends = records.iter().skip(1).map(|record| record.insn_off).chain([end]);
        let placed = records.iter().zip(ends).map(|(record, end)| PlacedFunction {
            name: btf.ty(record.type_id).map_or_else(|_| String::new(), |ty| ty.name().into_owned()),
            start: record.insn_off,
            len: end.saturating_sub(record.insn_off),
        });
        placed.collect()
    }

    /// Line records: where each is, and what it says. A line that cannot be read is none.
    pub(super) fn lines(&self, dump: &ProgDump) -> Vec<(u32, Option<SourceLine>)> {
        let Some(btf) = &self.btf else { return Vec::new() };
        let text = |offset| btf.str_at(offset).ok().map(|text| String::from_utf8_lossy(text).into_owned());
        let line = |record: &LineInfo| {
            let (file, text) = (text(record.file_off)?, text(record.line_off)?);
            Some(SourceLine { file, line: record.line, column: record.col, text })
        };
        read(&dump.line_info).iter().map(|record: &LineInfo| (record.insn_off, line(record))).collect()
    }
}

fn read<R: ExtRecord>(records: &OwnedRecords) -> Vec<R> {
    records.iter().filter_map(|record| R::read(record, Endian::NATIVE)).collect()
}

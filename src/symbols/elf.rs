//! The functions of an ELF file.

use std::io::{Read, Seek};

use object::read::{File, ReadCache};
use object::{Object, ObjectSegment, ObjectSymbol, ObjectSymbolTable, SymbolKind};

/// Most functions that are taken from one file.
const FUNCTIONS_MAX: usize = 1 << 24;

/// Functions in the order of their addresses, and where the file has what is at an address.
#[derive(Debug, Default)]
pub(super) struct Functions {
    segments: Vec<Segment>,
    functions: Vec<Function>,
    names: String,
}

#[derive(Debug)]
struct Segment {
    file_offset: u64,
    file_size: u64,
    address: u64,
}

#[derive(Debug)]
struct Function {
    address: u64,
    /// 0 where the table does not say.
    size: u64,
    /// Where its name is.
    name: (usize, usize),
}

impl Functions {
    /// Those of the symbol table, or of the dynamic one where the file was stripped. None when it is no such file.
    ///
    /// Only the tables are read, since the file may be large, and it is read and not mapped, since it may be cut short.
    pub(super) fn read(file: impl Read + Seek) -> Option<Functions> {
        let cache = ReadCache::new(file);
        let file = File::parse(&cache).ok()?;
        let mut functions = Functions::default();
        for segment in file.segments() {
            let (file_offset, file_size) = segment.file_range();
            functions.segments.push(Segment { file_offset, file_size, address: segment.address() });
        }
        for table in [file.symbol_table(), file.dynamic_symbol_table()].into_iter().flatten() {
            for symbol in table.symbols().take(FUNCTIONS_MAX) {
                if symbol.kind() != SymbolKind::Text || symbol.is_undefined() || symbol.address() == 0 {
                    continue;
                }
                let Ok(name) = symbol.name() else { continue };
                let start = functions.names.len();
                functions.names.push_str(name);
                let name = (start, functions.names.len());
                functions.functions.push(Function { address: symbol.address(), size: symbol.size(), name });
            }
            if !functions.functions.is_empty() {
                break;
            }
        }
        functions.functions.sort_by_key(|function| function.address);
        Some(functions)
    }

    /// The name of the function that is at an offset of the file, and the offset from its beginning.
    pub(super) fn find(&self, file_offset: u64) -> Option<(String, u64)> {
        let address = self.segments.iter().find_map(|segment| {
            let within = file_offset.checked_sub(segment.file_offset)?;
            (within < segment.file_size).then(|| segment.address.checked_add(within))?
        })?;
        let after = self.functions.partition_point(|function| function.address <= address);
        // One that ends before may be within one that does not, or beside one at the same place.
        let nearest = self.functions.get(..after)?.iter().rev().take(16).find(|function| {
            function.size == 0 || address - function.address < function.size // it is not after the address
        })?;
        let name = self.names.get(nearest.name.0..nearest.name.1)?;
        Some((name.to_owned(), address - nearest.address))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::Functions;

    #[test]
    fn this_program_has_functions() {
        let path = std::env::current_exe().unwrap();
        let functions = Functions::read(std::fs::File::open(path).unwrap()).unwrap();
        assert!(functions.functions.len() > 100);
        let own = functions.functions.iter().find(|function| {
            functions.names[function.name.0..function.name.1].contains("this_program_has_functions")
        });
        let own = own.expect("the test has a symbol");
        let code = functions.segments.iter().find(|segment| {
            own.address >= segment.address && own.address - segment.address < segment.file_size
        });
        let code = code.expect("it is in a segment");
        let (name, offset) = functions.find(own.address - code.address + code.file_offset + 1).unwrap();
        assert!(name.contains("this_program_has_functions") && offset == 1, "{name}+{offset}");
        assert_eq!(functions.find(u64::MAX), None);
    }

    #[test]
    fn other_files_have_none() {
        assert!(Functions::read(Cursor::new(b"")).is_none());
        assert!(Functions::read(Cursor::new(b"#!/bin/sh\n")).is_none());
        assert!(Functions::read(Cursor::new(b"\x7fELF\x02\x01\x01")).is_none());
    }
}

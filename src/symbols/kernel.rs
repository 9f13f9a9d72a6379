//! The kernel's functions, from the text of `/proc/kallsyms`.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read};

use skep_sys::abi::Errno;

use super::{Symbol, SymbolError, SymbolOwner};

/// Longest line that is looked at.
const LINE_MAX: u64 = 4096;
/// Bytes of the table that are looked at. Kernels have some ten million.
const TEXT_MAX: u64 = 1 << 30;

/// The functions of a kernel in the order of their addresses.
#[derive(Debug)]
pub(super) struct KernelSymbols {
    functions: Vec<Function>,
    names: String,
    modules: Vec<String>,
}

#[derive(Clone, Copy, Debug)]
struct Function {
    address: u64,
    /// Where its name is.
    name: (usize, usize),
    /// Which module it is of; none for the kernel itself.
    module: Option<usize>,
}

impl KernelSymbols {
    pub(super) fn read(text: impl Read) -> Result<KernelSymbols, SymbolError> {
        let mut text = BufReader::with_capacity(1 << 16, text.take(TEXT_MAX));
        let mut symbols = KernelSymbols { functions: Vec::new(), names: String::new(), modules: Vec::new() };
        let mut known = HashMap::new();
        let mut any = false;
        let mut line = Vec::new();
        loop {
            line.clear();
            let read = (&mut text).take(LINE_MAX).read_until(b'\n', &mut line);
            let failed = |error: std::io::Error| error.raw_os_error().map_or(Errno::EIO, Errno);
            if read.map_err(|error| SymbolError::Kernel(failed(error)))? == 0 {
                break;
            }
            let Ok(line) = std::str::from_utf8(&line) else { continue };
            let mut words = line.split_ascii_whitespace();
            let (Some(address), Some(kind), Some(name)) = (words.next(), words.next(), words.next()) else {
                continue;
            };
            // Code, global, local or weak.
            if !matches!(kind, "t" | "T" | "w" | "W") {
                continue;
            }
            any = true;
            let Ok(address) = u64::from_str_radix(address, 16) else { continue };
            if address == 0 {
                continue;
            }
            let module = words.next().and_then(|word| word.strip_prefix('[')?.strip_suffix(']'));
            let module = module.map(|module| {
                *known.entry(module.to_owned()).or_insert_with(|| {
                    symbols.modules.push(module.to_owned());
                    symbols.modules.len() - 1 // it was pushed
                })
            });
            let start = symbols.names.len();
            symbols.names.push_str(name);
            symbols.functions.push(Function { address, name: (start, symbols.names.len()), module });
        }
        if symbols.functions.is_empty() && any {
            return Err(SymbolError::Hidden);
        }
        symbols.functions.sort_by_key(|function| function.address);
        Ok(symbols)
    }

    /// The function that begins last before an address, or at it.
    pub(super) fn find(&self, address: u64) -> Option<Symbol> {
        let after = self.functions.partition_point(|function| function.address <= address);
        let last = self.functions.get(after.checked_sub(1)?)?;
        // Of several names, the table has the one that counts first.
        let first = self.functions.partition_point(|function| function.address < last.address);
        let function = self.functions.get(first)?;
        let of = match function.module {
            Some(module) => SymbolOwner::Module(self.modules.get(module)?.clone()),
            None => SymbolOwner::Kernel,
        };
        let name = self.names.get(function.name.0..function.name.1)?.to_owned();
        Some(Symbol { name: Some(name), offset: address - function.address, of }) // it is not after the address
    }
}

#[cfg(test)]
mod tests {
    use super::super::SymbolError;
    use super::KernelSymbols;

    fn find(symbols: &KernelSymbols, address: u64) -> Option<String> {
        symbols.find(address).map(|symbol| symbol.to_string())
    }

    #[test]
    fn functions_are_found_by_address() {
        let text = "0 A fixed\nffffffff81000000 T first\nffffffff81000000 t second\nffffffff81000010 d data\n\
            ffffffff81000020 W third\nffffffffc0000000 t ext4\t[ext4]\nffffffffc0000008 t other [ext4]\nnonsense\n";
        let symbols = KernelSymbols::read(text.as_bytes()).unwrap();
        assert_eq!(find(&symbols, 0xffff_ffff_80ff_ffff), None);
        assert_eq!(find(&symbols, 0xffff_ffff_8100_0000).as_deref(), Some("first+0x0"));
        assert_eq!(find(&symbols, 0xffff_ffff_8100_001f).as_deref(), Some("first+0x1f"));
        assert_eq!(find(&symbols, 0xffff_ffff_8100_0021).as_deref(), Some("third+0x1"));
        assert_eq!(find(&symbols, 0xffff_ffff_c000_0004).as_deref(), Some("ext4+0x4 [ext4]"));
        assert_eq!(find(&symbols, 0xffff_ffff_c000_0009).as_deref(), Some("other+0x1 [ext4]"));
    }

    #[test]
    fn a_table_without_addresses_is_said_to_be_hidden() {
        let hidden = KernelSymbols::read("0 T a\n0 T b\n".as_bytes());
        assert_eq!(hidden.err(), Some(SymbolError::Hidden));
        let empty = KernelSymbols::read("".as_bytes()).unwrap();
        assert_eq!(find(&empty, 1), None);
        let odd = "x".repeat(100_000) + "\n\u{fffd} T a\nffffffff81000000 T b\n";
        assert!(KernelSymbols::read(odd.as_bytes()).unwrap().find(u64::MAX).is_some());
    }
}

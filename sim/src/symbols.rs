//! The addresses of the kernel's variables and functions.

use crate::kernel::Inner;

/// A place in the code or data of the kernel.
#[derive(Clone, Debug)]
pub(crate) struct SymbolAt {
    pub(crate) name: String,
    pub(crate) offset: u64,
    pub(crate) size: u64,
}

impl Inner {
    /// The address of a symbol, as `/proc/kallsyms` has it.
    pub(crate) fn symbol_address(&self, name: &str) -> Option<u64> {
        let text = std::str::from_utf8(&self.config().symbols).ok()?;
        let mut fields = text.lines().map(|line| line.split_ascii_whitespace());
        fields.find_map(|mut fields| {
            let address = fields.next()?;
            (fields.nth(1)? == name).then(|| u64::from_str_radix(address, 16).ok()).flatten()
        })
    }

    /// The symbol that an address is in, as `/proc/kallsyms` has them.
    pub(crate) fn symbol_at(&self, address: u64) -> Option<SymbolAt> {
        let text = std::str::from_utf8(&self.config().symbols).ok()?;
        let symbols = text.lines().filter_map(|line| {
            let mut fields = line.split_ascii_whitespace();
            let start = u64::from_str_radix(fields.next()?, 16).ok()?;
            Some((start, fields.nth(1)?))
        });
        let (mut found, mut next) = (None::<(u64, &str)>, None::<u64>);
        for (start, name) in symbols {
            if start > address {
                next = Some(next.map_or(start, |next| next.min(start)));
            } else if found.is_none_or(|(known, _)| known < start) {
                found = Some((start, name));
            }
        }
        let (start, name) = found?;
        // The last one is as long as what is asked for.
        let size = next.map_or(address - start + 1, |next| next - start);
        Some(SymbolAt { name: name.to_owned(), offset: address - start, size })
    }

    /// The address of a variable or function: of the symbols, or the one that a test gave it.
    pub(crate) fn variable_address(&self, name: &str) -> Option<u64> {
        self.symbol_address(name).or_else(|| self.world().memory.known_variable(name))
    }

    /// The address of a function: of the symbols, or one that stays the same.
    pub(crate) fn function_address(&self, name: &str) -> u64 {
        let known = self.symbol_address(name);
        known.unwrap_or_else(|| self.world().memory.variable(name, 1, false))
    }
}

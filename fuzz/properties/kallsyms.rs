//! The table of symbols: each name has the address that its lines give it, or the table is refused.

use skep::Kernel;
use skep::load::KernelTarget;
use skep::reloc::Target;
use skep::sim::SimKernel;

/// Most names that an input looks for.
const NAMES: usize = 8;
/// Lines that are longer are read in parts.
const LINE: usize = 4096;

/// Looks for the names in the first line of the input in the rest of it.
pub fn kallsyms(data: &[u8]) {
    let end = data.iter().position(|&byte| byte == b'\n').unwrap_or(data.len());
    let first = String::from_utf8_lossy(&data[..end]).into_owned();
    let names: Vec<&str> = first.split(' ').take(NAMES).collect();
    let table = data.get(end + 1..).unwrap_or_default();
    let sim = SimKernel::builder().symbols(table.to_vec()).build().expect("there is no BTF");
    let target = KernelTarget::new(&Kernel::new(sim));
    let found = target.symbols(&names);
    if table.split(|&byte| byte == b'\n').any(|line| line.len() >= LINE) {
        return;
    }
    let mut expected: Vec<Option<u64>> = vec![None; names.len()];
    let mut hidden = true;
    for line in table.split(|&byte| byte == b'\n') {
        let Some((address, name)) = symbol(line) else { continue };
        hidden &= address == 0;
        // Of equal names the last one gets the address.
        let Some(at) = names.iter().rposition(|wanted| wanted.as_bytes() == name) else { continue };
        if expected[at].is_some_and(|known| known != address) {
            assert!(found.is_err(), "a name with two addresses");
            return;
        }
        expected[at] = Some(address);
    }
    if hidden && expected.iter().any(Option::is_some) {
        assert!(found.is_err_and(|error| error.withheld));
    } else {
        assert_eq!(found, Ok(expected));
    }
}

/// Address and name of a line.
fn symbol(line: &[u8]) -> Option<(u64, &[u8])> {
    let mut words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    let (address, kind, name) = (words.next()?, words.next()?, words.next()?);
    let mut number = 0u64;
    let digits = address.strip_prefix(b"+").unwrap_or(address);
    if digits.is_empty() {
        return None;
    }
    for &digit in digits {
        let digit = char::from(digit).to_digit(16)?;
        number = number.checked_mul(16)?.checked_add(digit.into())?;
    }
    let suffix = name.windows(6).position(|part| part == b".llvm.");
    match suffix {
        Some(end) if matches!(kind, b"d" | b"D") => Some((number, &name[..end])),
        _ => Some((number, name)),
    }
}

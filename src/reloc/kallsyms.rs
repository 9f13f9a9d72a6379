//! Addresses of kernel symbols, from the text of `/proc/kallsyms`.

use std::collections::{BTreeMap, HashMap};
use std::io::BufRead;

use super::TargetError;

/// Longest line that is looked at.
const LINE_MAX: u64 = 4096;

/// What is asked for.
const WHAT: &str = "kernel symbols";

/// The addresses of `names`, in their order; none for those that are not there.
///
/// Two addresses for one name are an error: nothing says which is meant. So are addresses when all of the table are 0,
/// as they are for who may not see them.
pub(crate) fn find(mut text: impl BufRead, names: &[&str]) -> Result<Vec<Option<u64>>, TargetError> {
    let fail = |reason: String| TargetError::new(WHAT, reason);
    let wanted: HashMap<&[u8], usize> =
        names.iter().enumerate().map(|(at, name)| (name.as_bytes(), at)).collect();
    let mut found: Vec<Option<u64>> = vec![None; names.len()];
    let mut hidden = true;
    let mut line = Vec::new();
    while next_line(&mut text, &mut line).map_err(|error| fail(error.to_string()))? {
        let mut words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
        let (Some(address), Some(kind), Some(name)) = (words.next(), words.next(), words.next()) else {
            continue;
        };
        // The compiler renames variables that it makes global for link-time optimisation.
        let name = match name.windows(6).position(|window| window == b".llvm.") {
            Some(end) if kind.eq_ignore_ascii_case(b"d") => name.get(..end).unwrap_or(name),
            _ => name,
        };
        let at = wanted.get(name);
        if at.is_none() && !hidden {
            continue;
        }
        let address = std::str::from_utf8(address).ok().and_then(|text| u64::from_str_radix(text, 16).ok());
        let Some(address) = address else { continue };
        hidden &= address == 0;
        let Some(&at) = at else { continue };
        match found.get_mut(at) {
            Some(Some(known)) if *known != address => {
                let name = String::from_utf8_lossy(name);
                return Err(fail(format!("`{name}` is at two addresses, {known:#x} and {address:#x}")));
            }
            Some(slot) => *slot = Some(address),
            None => {}
        }
    }
    if hidden && found.iter().any(Option::is_some) {
        let reason = "the kernel hides addresses: lower kernel.kptr_restrict, or run with CAP_SYSLOG";
        return Err(TargetError::withheld(WHAT, reason));
    }
    Ok(found)
}

/// The names of the symbols at these addresses, of several the first one.
pub(crate) fn names<V>(
    mut text: impl BufRead,
    addresses: &BTreeMap<u64, V>,
) -> std::io::Result<BTreeMap<u64, String>> {
    let mut found = BTreeMap::new();
    let mut line = Vec::new();
    while next_line(&mut text, &mut line)? {
        let mut words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
        let (Some(address), Some(_), Some(name)) = (words.next(), words.next(), words.next()) else {
            continue;
        };
        let address = std::str::from_utf8(address).ok().and_then(|text| u64::from_str_radix(text, 16).ok());
        if let Some(address) = address.filter(|address| addresses.contains_key(address)) {
            found.entry(address).or_insert_with(|| String::from_utf8_lossy(name).into_owned());
        }
    }
    Ok(found)
}

/// Reads the next line, or a piece of one that is too long. Answers whether there was one.
fn next_line(text: &mut impl BufRead, line: &mut Vec<u8>) -> std::io::Result<bool> {
    line.clear();
    std::io::Read::take(text, LINE_MAX).read_until(b'\n', line).map(|read| read > 0)
}

#[cfg(test)]
mod tests {
    use super::{find, names};

    const TEXT: &str = "ffffffff81000000 T _stext\nffffffff81000010 t twin\nffffffff81000020 t twin\n\
        ffffffff82000000 d counter.llvm.123\nffffffff82000008 D plain\t[module]\nnonsense\n0 A\n";

    #[test]
    fn symbols_are_found_by_name() {
        let find = |names: &[&str]| find(TEXT.as_bytes(), names);
        assert_eq!(find(&["_stext", "missing"]), Ok(vec![Some(0xffffffff81000000), None]));
        assert_eq!(find(&["counter", "plain"]), Ok(vec![Some(0xffffffff82000000), Some(0xffffffff82000008)]));
        assert!(find(&["twin"]).is_err());
        assert_eq!(find(&[]), Ok(vec![]));
    }

    #[test]
    fn names_are_found_by_addresses() {
        let wanted =
            [0xffffffff81000010, 0xffffffff82000008, 0xffffffff83000000].map(|address| (address, ()));
        let found = names(TEXT.as_bytes(), &wanted.into()).unwrap();
        assert_eq!(found, [(0xffffffff81000010, "twin".into()), (0xffffffff82000008, "plain".into())].into());
    }

    #[test]
    fn one_address_twice_is_no_matter() {
        let text = "ffffffff81000000 T a\nffffffff81000000 W a\n+ffffffff81000000 t a\n0x10 T a\n g T a\n";
        assert_eq!(find(text.as_bytes(), &["a"]), Ok(vec![Some(0xffffffff81000000)]));
    }

    #[test]
    fn hidden_addresses_are_said_to_be_hidden() {
        assert!(
            find("0 T a\n0 T b\n".as_bytes(), &["a"])
                .is_err_and(|error| error.withheld && error.reason.contains("kptr_restrict"))
        );
        // The beginning of per-CPU variables is at 0 on some kernels.
        assert_eq!(find("0 T a\nffffffff81000000 T b\n".as_bytes(), &["a", "c"]), Ok(vec![Some(0), None]));
        assert_eq!(find("0 T a\n".as_bytes(), &["c"]), Ok(vec![None]));
    }

    #[test]
    fn endless_lines_are_read_in_pieces() {
        let text = "x".repeat(100_000) + "\nffffffff81000000 T _stext\n";
        assert_eq!(find(text.as_bytes(), &["_stext"]), Ok(vec![Some(0xffffffff81000000)]));
    }
}

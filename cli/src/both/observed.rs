//! What was seen of a program, byte by byte, and which of these bytes are comparable.

use std::collections::BTreeMap;

/// Everything that a program answered and left behind, in the order in which it is compared: each thing by a name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Observed {
    parts: Vec<(String, Part)>,
}

/// Bytes, or a word on why there are none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// What a program returned.
    Returned(u32),
    Bytes(Vec<u8>),
    Text(String),
    /// The fault that ended everything.
    Fault(String),
}

impl Observed {
    pub(super) fn add(&mut self, name: String, part: Part) {
        self.parts.push((name, part));
    }

    /// Adds why nothing else is looked at.
    pub(super) fn stop(&mut self, name: String, why: String) {
        self.parts.push((name, Part::Fault(why)));
    }

    /// The fault that ended it.
    pub(super) fn fault(&self) -> Option<&str> {
        self.parts.iter().find_map(|(_, part)| match part {
            Part::Fault(text) => Some(text.as_str()),
            _ => None,
        })
    }

    fn by_name(&self) -> BTreeMap<&str, &Part> {
        self.parts.iter().map(|(name, part)| (name.as_str(), part)).collect()
    }
}

/// The parts, and the bytes of them, that are not the same each time.
#[derive(Debug, Default)]
pub(super) struct Varying(BTreeMap<String, Bytes>);

#[derive(Debug, Clone)]
enum Bytes {
    All,
    These(Vec<bool>),
}

impl Varying {
    /// What differs between two observations of the same thing on kernels of one kind.
    pub(super) fn between(one: &Observed, other: &Observed) -> Varying {
        let (one, other) = (one.by_name(), other.by_name());
        let mut varying = BTreeMap::new();
        for name in one.keys().chain(other.keys()) {
            let bytes = match (one.get(name), other.get(name)) {
                (Some(one), Some(other)) if one == other => continue,
                // What it says has addresses in it.
                (Some(Part::Fault(_)), Some(Part::Fault(_))) => continue,
                (Some(Part::Bytes(one)), Some(Part::Bytes(other))) if one.len() == other.len() => {
                    Bytes::These(differing(one, other))
                }
                _ => Bytes::All,
            };
            varying.insert((*name).to_owned(), bytes);
        }
        Varying(varying)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn add(&mut self, other: &Varying) {
        for (name, bytes) in &other.0 {
            match (self.0.get_mut(name), bytes) {
                (Some(Bytes::These(mine)), Bytes::These(theirs)) if mine.len() == theirs.len() => {
                    mine.iter_mut().zip(theirs).for_each(|(mine, theirs)| *mine |= theirs);
                }
                _ => _ = self.0.insert(name.clone(), bytes.clone()),
            }
        }
    }

    fn hides(&self, name: &str, at: usize) -> bool {
        match self.0.get(name) {
            None => false,
            Some(Bytes::All) => true,
            Some(Bytes::These(which)) => which.get(at).copied().unwrap_or_default(),
        }
    }
}

/// Where two values of one length differ. Of what looks like an address, all bytes are meant.
fn differing(one: &[u8], other: &[u8]) -> Vec<bool> {
    let mut which: Vec<bool> = one.iter().zip(other).map(|(one, other)| one != other).collect();
    for (which, (one, other)) in which.chunks_mut(8).zip(one.chunks(8).zip(other.chunks(8))) {
        let is_address = |word: &[u8]| {
            let word = word.try_into().map_or(0, u64::from_ne_bytes);
            // Of Linux, and of the simulated kernel, whose addresses have their region above the place in it.
            word >> 48 == 0xffff || word >> 56 == 0x80
        };
        if which.contains(&true) && (is_address(one) || is_address(other)) {
            which.fill(true);
        }
    }
    which
}

/// The first difference beside what varies, as text.
pub(super) fn difference(there: &Observed, here: &Observed, varying: &Varying) -> Option<String> {
    let (by_name, here_by_name) = (there.by_name(), here.by_name());
    for (name, part) in &there.parts {
        let found = match (part, here_by_name.get(name.as_str())) {
            (part, Some(same)) if part == *same => None,
            // After the place where it stopped there is nothing to compare.
            (_, Some(Part::Fault(_))) if varying.hides(name, usize::MAX) => return None,
            _ if varying.hides(name, usize::MAX) => None,
            (Part::Bytes(one), Some(Part::Bytes(other))) if one.len() == other.len() => {
                let which = differing(one, other);
                let plain =
                    which.iter().enumerate().any(|(at, differs)| *differs && !varying.hides(name, at));
                plain.then(|| format!("{name}: {} there, {} here", hex(one), hex(other)))
            }
            (part, Some(other)) => Some(format!("{name}: {} there, {} here", part.text(), other.text())),
            (part, None) => Some(format!("{name}: {} there, not here", part.text())),
        };
        if found.is_some() {
            return found;
        }
    }
    let more = here
        .parts
        .iter()
        .find(|(name, _)| !by_name.contains_key(name.as_str()) && !varying.hides(name, usize::MAX));
    more.map(|(name, part)| format!("{name}: not there, {} here", part.text()))
}

impl Part {
    fn text(&self) -> String {
        match self {
            Part::Returned(value) => value.to_string(),
            Part::Bytes(bytes) => hex(bytes),
            Part::Text(text) | Part::Fault(text) => text.clone(),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    let shown = bytes.iter().take(64).map(|byte| format!("{byte:02x}"));
    let rest = if bytes.len() > 64 { "…" } else { "" };
    format!("{}{rest} ({})", shown.collect::<String>(), bytes.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(parts: &[(&str, Part)]) -> Observed {
        let parts = parts.iter().map(|(name, part)| ((*name).to_owned(), part.clone())).collect();
        Observed { parts }
    }

    #[test]
    fn only_bytes_that_vary_are_left_out() {
        let bytes = |bytes: &[u8]| Part::Bytes(bytes.to_vec());
        let there = of(&[("map a", bytes(&[1, 2, 3]))]);
        let varying = Varying::between(&there, &of(&[("map a", bytes(&[1, 9, 3]))]));
        assert_eq!(difference(&there, &of(&[("map a", bytes(&[1, 7, 3]))]), &varying), None);
        let other = difference(&there, &of(&[("map a", bytes(&[1, 7, 4]))]), &varying);
        assert_eq!(other.as_deref(), Some("map a: 010203 (3) there, 010704 (3) here"));
        let other = difference(&there, &there, &Varying::default());
        assert_eq!(other, None);
    }

    #[test]
    fn what_is_on_one_side_only_differs() {
        let there = of(&[("a", Part::Returned(1)), ("b", Part::Returned(2))]);
        let here = of(&[("a", Part::Returned(1)), ("c", Part::Returned(2))]);
        let none = Varying::default();
        assert_eq!(difference(&there, &here, &none).as_deref(), Some("b: 2 there, not here"));
        let varying = Varying::between(&there, &of(&[("a", Part::Returned(1))]));
        assert_eq!(difference(&there, &here, &varying).as_deref(), Some("c: not there, 2 here"));
    }

    #[test]
    fn a_fault_does_not_vary_by_its_text() {
        let fault = |text: &str| of(&[("a", Part::Fault(text.to_owned()))]);
        let (there, here) = (of(&[("a", Part::Returned(1))]), fault("at 0x10"));
        let varying = Varying::between(&here, &fault("at 0x20"));
        assert_eq!(difference(&there, &here, &varying).as_deref(), Some("a: 1 there, at 0x10 here"));
        let varying = Varying::between(&here, &there);
        assert_eq!(difference(&there, &here, &varying), None);
    }

    #[test]
    fn addresses_vary_as_a_whole() {
        let one = 0xffff_8881_0123_4500_u64.to_ne_bytes();
        let other = 0xffff_8881_0123_4600_u64.to_ne_bytes();
        assert_eq!(differing(&one, &other), [true; 8]);
        assert_eq!(
            differing(&[1; 8], &[1, 1, 2, 1, 1, 1, 1, 1]).iter().filter(|differs| **differs).count(),
            1
        );
    }
}

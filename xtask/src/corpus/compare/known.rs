//! The list of what is known to differ, and why.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

/// Something that libbpf does and skep does not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::corpus) struct Difference {
    /// `open`; `whole` for the object as its autoload flags say; `load` for a program; `tag` when both load a program and
    /// make different instructions of it. What `deep` and `malformed` compare has names of its own.
    pub(in crate::corpus) what: String,
    pub(in crate::corpus) file: String,
    pub(in crate::corpus) program: String,
    pub(in crate::corpus) section: String,
    /// The program's type, as libbpf prints it.
    pub(in crate::corpus) kind: String,
    pub(in crate::corpus) error: String,
}

/// One reason. A field that is not there matches everything; `*` in a pattern stands for any text.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::corpus) struct Entry {
    /// Why, and what it would take.
    why: String,
    what: Option<String>,
    file: Option<String>,
    program: Option<String>,
    section: Option<String>,
    #[serde(rename = "type")]
    kind: Option<String>,
    error: Option<String>,
}

/// All reasons.
#[derive(Debug, Default)]
pub(in crate::corpus) struct Known(Vec<Entry>);

impl Known {
    pub(in crate::corpus) fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
        Self::parse(&text).with_context(|| path.display().to_string())
    }

    pub(in crate::corpus) fn parse(text: &str) -> Result<Self> {
        Ok(Known(serde_json::from_str(text)?))
    }

    /// The differences that no entry matches, and the entries that match no difference.
    pub(in crate::corpus) fn explain<'a>(
        &self,
        differences: &'a [Difference],
    ) -> (Vec<&'a Difference>, Vec<String>) {
        let unexplained = differences
            .iter()
            .filter(|difference| !self.0.iter().any(|entry| entry.matches(difference)))
            .collect();
        let stale =
            self.0.iter().filter(|entry| !differences.iter().any(|difference| entry.matches(difference)));
        (unexplained, stale.map(|entry| entry.why.clone()).collect())
    }
}

impl Entry {
    fn matches(&self, difference: &Difference) -> bool {
        let d = difference;
        [
            (&self.what, &d.what),
            (&self.file, &d.file),
            (&self.program, &d.program),
            (&self.section, &d.section),
            (&self.kind, &d.kind),
            (&self.error, &d.error),
        ]
        .into_iter()
        .all(|(pattern, text)| pattern.as_ref().is_none_or(|pattern| glob(pattern, text)))
    }
}

/// Whether `pattern`, in which `*` stands for any text, is all of `text`.
fn glob(pattern: &str, text: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut text) = text.strip_prefix(first) else { return false };
    let mut parts: Vec<&str> = rest.split('*').collect();
    let last = parts.pop().unwrap_or_default();
    for part in parts {
        match text.find(part) {
            // `find` gave the position of `part`
            Some(at) => text = &text[at + part.len()..],
            None => return false,
        }
    }
    text.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::super::super::testdata;
    use super::*;

    #[test]
    fn every_reason_is_given_in_words() {
        for list in ["known.json", "known-deep.json", "known-malformed.json", "known-runs.json"] {
            let known = Known::read(&testdata().join(list)).unwrap();
            for entry in known.0 {
                assert!(entry.why.contains(' '), "{entry:?}");
                let narrow = [&entry.error, &entry.file, &entry.program, &entry.section, &entry.kind];
                assert!(narrow.iter().any(|field| field.is_some()), "matches too much: {entry:?}");
            }
        }
    }

    #[test]
    fn a_star_stands_for_any_text() {
        for (pattern, text, expected) in [
            ("abc", "abc", true),
            ("abc", "abcd", false),
            ("*", "", true),
            ("a*c", "abc", true),
            ("a*c", "ac", true),
            ("a*c", "acd", false),
            ("*b*", "abc", true),
            ("*bc*bc", "abc", false),
            ("*bc*bc", "abcbc", true),
        ] {
            assert_eq!(glob(pattern, text), expected, "{pattern} on {text}");
        }
    }
}

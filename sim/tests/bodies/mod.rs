//! What any kernel is asked, written down as a transcript: one line for each thing that was tried and its result.
//!
//! The simulated kernel is compared with rows that were recorded on Linux 6.18, and the running kernel with the
//! simulated one. A line has a subject, what was tried, and the result: `hash | lookup missing | ENOENT`.

#![allow(dead_code, reason = "each test target uses a part")]

mod batches;
mod bpffs;
mod maps;
mod objects;
mod programs;
pub(crate) mod structure;

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write;
use std::path::Path;

use skep_sys::abi::{Errno, MapFlags, MapType, UpdateFlags};
use skep_sys::request::MapCreate;
use skep_sys::{Feature, Kernel, MapError, MapFd};

/// Everything that is tried. `pins` is an empty directory on a bpffs.
pub(crate) fn all(kernel: &Kernel, pins: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    for body in [maps::all, batches::all, programs::all, structure::all] {
        body(kernel, &mut lines);
    }
    objects::all(kernel, pins, &mut lines);
    bpffs::all(kernel, pins, &mut lines);
    lines
}

/// Subjects that old kernels do not have.
const LATER: &[(&str, Feature)] = &[
    ("bloom_filter", Feature::MapType(MapType::BLOOM_FILTER)),
    ("batches of bloom_filter", Feature::MapType(MapType::BLOOM_FILTER)),
    ("user_ringbuf", Feature::MapType(MapType::USER_RINGBUF)),
];

/// Whether the kernel certainly lacks a subject, so that nothing of it is tried.
pub(crate) fn lacks(kernel: &Kernel, subject: &str) -> bool {
    if subject == "kfuncs" && kernel.btf().is_err() {
        return true;
    }
    LATER.iter().any(|&(name, feature)| name == subject && kernel.has(feature).is_unsupported())
}

/// What differs between what was found and what was expected, matched by subject and what was tried.
///
/// `known` answers whether a row that differs is as it should be. Rows of subjects that the kernel lacks are left out.
pub(crate) fn differences(
    kernel: &Kernel,
    found: &[String],
    expected: &str,
    known: impl Fn(&str) -> bool,
) -> Vec<String> {
    let mut places = BTreeMap::<&str, VecDeque<&str>>::new();
    for row in found {
        places.entry(place(row)).or_default().push_back(row);
    }
    let mut differences = Vec::new();
    for row in expected.lines() {
        match places.get_mut(place(row)).and_then(VecDeque::pop_front) {
            Some(found) if found == row || known(found) => {}
            Some(found) => differences.push(format!("{found}\n    and Linux 6.18: {row}\n")),
            None if lacks(kernel, row.split(" |").next().unwrap_or_default()) => {}
            None => differences.push(format!("nothing\n    and Linux 6.18: {row}\n")),
        }
    }
    let more = places.values().flatten().map(|row| format!("{row}\n    and Linux 6.18: nothing\n"));
    differences.extend(more);
    differences
}

/// Subject and label of a row.
fn place(row: &str) -> &str {
    let labels = row.match_indices(" | ").nth(1).map_or(row.len(), |(at, _)| at);
    &row[..labels]
}

/// Something with a result that can be written down.
pub(crate) trait Outcome {
    fn text(self) -> String;
}

impl Outcome for Errno {
    fn text(self) -> String {
        self.name().map_or_else(|| self.0.to_string(), str::to_owned)
    }
}

impl Outcome for MapError {
    fn text(self) -> String {
        self.errno().map_or_else(|| self.to_string(), Outcome::text)
    }
}

impl<T: Outcome, E: Outcome> Outcome for Result<T, E> {
    fn text(self) -> String {
        self.map_or_else(Outcome::text, Outcome::text)
    }
}

impl Outcome for () {
    fn text(self) -> String {
        "ok".to_owned()
    }
}

impl Outcome for Vec<u8> {
    fn text(self) -> String {
        let mut text = "ok:".to_owned();
        for byte in self {
            write!(text, "{byte:02x}").unwrap();
        }
        text
    }
}

impl Outcome for bool {
    fn text(self) -> String {
        if self { "True" } else { "False" }.to_owned()
    }
}

impl Outcome for usize {
    fn text(self) -> String {
        self.to_string()
    }
}

impl Outcome for String {
    fn text(self) -> String {
        self
    }
}

macro_rules! handles {
    ($($handle:ty)*) => {$(
        impl Outcome for $handle {
            fn text(self) -> String {
                "ok".to_owned()
            }
        }
    )*};
}

handles!(MapFd skep_sys::LoadedProgram skep_sys::LinkFd skep_sys::BtfFd std::os::fd::OwnedFd);

/// Writes down what is tried of one subject.
pub(crate) struct Script<'a> {
    pub(crate) kernel: &'a Kernel,
    subject: &'static str,
    lines: &'a mut Vec<String>,
}

impl<'a> Script<'a> {
    pub(crate) fn new(kernel: &'a Kernel, subject: &'static str, lines: &'a mut Vec<String>) -> Self {
        Script { kernel, subject, lines }
    }

    pub(crate) fn row(&mut self, label: &str, outcome: impl Outcome) {
        self.lines.push(format!("{} | {label} | {}", self.subject, outcome.text()));
    }
}

pub(crate) fn create(kernel: &Kernel, map_type: MapType, shape: [u32; 3], flags: MapFlags) -> MapFd {
    let [key, value, max] = shape;
    let mut request = MapCreate::new(map_type, key, value, max);
    request.flags = flags;
    kernel.map_create(&request).unwrap_or_else(|errno| panic!("{map_type}: {errno}"))
}

/// Keys and values as numbers, for maps with a key of 4 bytes (or none) and a value of any length.
pub(crate) struct Numbers<'a>(pub(crate) &'a MapFd);

impl Numbers<'_> {
    fn key(&self, key: u32) -> Vec<u8> {
        let mut bytes = key.to_ne_bytes().to_vec();
        bytes.truncate(self.0.key_len());
        bytes
    }

    /// The value for every CPU, one more on each.
    fn value(&self, value: u64) -> Vec<u8> {
        let cpus = self.0.values_per_element() as usize;
        let len = self.0.value_len() / cpus;
        let one = |cpu: usize| {
            let mut bytes = (value + cpu as u64).to_ne_bytes().to_vec();
            bytes.resize(len, 0);
            bytes
        };
        (0..cpus).flat_map(one).collect()
    }

    pub(crate) fn lookup(&self, key: u32) -> Result<Vec<u8>, MapError> {
        self.lookup_with(key, 0)
    }

    pub(crate) fn lookup_with(&self, key: u32, flags: u64) -> Result<Vec<u8>, MapError> {
        let mut value = vec![0xee; self.0.value_len()];
        self.0.lookup(&self.key(key), &mut value, UpdateFlags::from_bits_retain(flags))?;
        Ok(value)
    }

    pub(crate) fn update(&self, key: u32, value: u64) -> Result<(), MapError> {
        self.update_with(key, value, 0)
    }

    pub(crate) fn update_with(&self, key: u32, value: u64, flags: u64) -> Result<(), MapError> {
        self.0.update(&self.key(key), &self.value(value), UpdateFlags::from_bits_retain(flags))
    }

    pub(crate) fn delete(&self, key: u32) -> Result<(), MapError> {
        self.0.delete(&self.key(key))
    }

    pub(crate) fn next(&self, key: Option<u32>) -> Result<Vec<u8>, MapError> {
        let mut next = vec![0; self.0.key_len()];
        let key = key.map(|key| self.key(key));
        self.0.next_key(key.as_deref(), &mut next)?;
        Ok(next)
    }

    pub(crate) fn take(&self, key: u32, flags: u64) -> Result<Vec<u8>, MapError> {
        let mut value = vec![0xee; self.0.value_len()];
        self.0.lookup_and_delete(&self.key(key), &mut value, UpdateFlags::from_bits_retain(flags))?;
        Ok(value)
    }

    /// All keys, and how the iteration ended.
    pub(crate) fn keys(&self) -> (Vec<Vec<u8>>, String) {
        let mut keys: Vec<Vec<u8>> = Vec::new();
        loop {
            let mut next = vec![0; self.0.key_len()];
            match self.0.next_key(keys.last().map(Vec::as_slice), &mut next) {
                Ok(()) => keys.push(next),
                Err(error) => return (keys, error.text()),
            }
            assert!(keys.len() < 100_000, "iteration does not end");
        }
    }
}

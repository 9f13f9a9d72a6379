//! What Linux 6.18 was seen to answer, row by row, and what a kernel answers to the same.

#![allow(dead_code, reason = "each test target uses a part")]

mod batches;
mod maps;
mod objects;
mod pins;
mod programs;
mod runs;
mod sockets;
mod types;

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write;
use std::os::fd::AsFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use skep_sys::{Kernel, MapFd};

use crate::bodies::{self, Outcome};

const GOLDEN: &str = include_str!("../../../testdata/golden/rows_6.18.txt");

/// What was tried and what came of it, under the heading that it was recorded under.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Row<'a> {
    pub(crate) group: &'a str,
    pub(crate) subject: &'a str,
    pub(crate) tried: &'a str,
    pub(crate) result: &'a str,
}

/// The recorded rows.
pub(crate) fn recorded() -> Vec<Row<'static>> {
    let (mut group, mut subject) = ("", "");
    let mut rows = Vec::new();
    for line in GOLDEN.lines() {
        if let Some(name) = line.strip_prefix("== ") {
            (group, subject) = name.split_once(' ').expect("a group and a subject");
        } else if let Some((tried, result)) = line.rsplit_once(" -> ") {
            rows.push(Row { group, subject, tried, result });
        }
    }
    rows
}

/// A recorded row and what the kernel answered, if it was asked at all.
pub(crate) struct Played {
    pub(crate) row: Row<'static>,
    pub(crate) found: Option<String>,
}

impl Played {
    pub(crate) fn holds(&self) -> bool {
        self.found.as_deref() == Some(self.row.result)
    }

    pub(crate) fn name(&self) -> String {
        format!("{} {} | {}", self.row.group, self.row.subject, self.row.tried)
    }
}

/// What a kernel was asked and answered.
#[derive(Default)]
pub(crate) struct Transcript {
    pub(crate) lines: Vec<String>,
    /// Parts that came to an end before their last row, as happens on kernels that lack what they need.
    pub(crate) stopped: Vec<&'static str>,
}

impl Transcript {
    /// What is tried where there is a network.
    pub(crate) fn play_sockets(&mut self, kernel: &Kernel) {
        self.play("sockets", |lines| sockets::all(kernel, lines));
    }

    fn play(&mut self, part: &'static str, body: impl FnOnce(&mut Vec<String>)) {
        let mut lines = Vec::new();
        let ended = catch_unwind(AssertUnwindSafe(|| body(&mut lines)));
        if ended.is_err() {
            self.stopped.push(part);
        }
        self.lines.append(&mut lines);
    }

    /// What is tried in a network namespace that has nothing but a loopback device. `pins` is an empty directory on a
    /// bpffs.
    pub(crate) fn play_rest(&mut self, kernel: &Kernel, pins: &Path) {
        self.play("maps", |lines| maps::all(kernel, lines));
        self.play("batches", |lines| batches::all(kernel, lines));
        self.play("objects", |lines| objects::all(kernel, lines));
        self.play("types", |lines| types::all(kernel, lines));
        self.play("pins", |lines| pins::all(kernel, pins, lines));
        self.play("programs", |lines| programs::all(kernel, lines));
        self.play("runs", |lines| runs::all(kernel, lines));
        self.play("bodies", |lines| lines.extend(bodies::all(kernel, pins)));
    }
}

/// Brings together what was recorded and what was found, by subject and what was tried, in order. Rows that have
/// another meaning where they were found first take the later one.
pub(crate) fn compare(found: &[String]) -> Vec<Played> {
    let mut places = BTreeMap::<(&str, &str), VecDeque<&str>>::new();
    for line in found {
        let (subject, rest) = line.split_once(" | ").expect("a subject");
        let (tried, result) = rest.split_once(" | ").expect("what was tried");
        places.entry((subject, tried)).or_default().push_back(result);
    }
    let answer = |row: Row<'static>| {
        let found = places.get_mut(&(row.subject, row.tried)).and_then(VecDeque::pop_front);
        Played { row, found: found.map(str::to_owned) }
    };
    recorded().into_iter().map(answer).collect()
}

/// How many rows hold, by group and subject: `map_ops hash: 51 of 53`.
pub(crate) fn counts(played: &[Played]) -> String {
    let mut counts = BTreeMap::<(&str, &str), (usize, usize)>::new();
    for row in played {
        for key in [(row.row.group, row.row.subject), (row.row.group, ""), ("", "")] {
            let (holds, all) = counts.entry(key).or_default();
            *all += 1;
            *holds += usize::from(row.holds());
        }
    }
    let mut text = String::new();
    for ((group, subject), (holds, all)) in counts {
        let name = if group.is_empty() { "all" } else { group };
        writeln!(text, "{}: {holds} of {all}", format!("{name} {subject}").trim_end()).unwrap();
    }
    text
}

/// The kind of map that a subject is one of, or the subject.
fn kind(subject: &str) -> &str {
    match subject.split(['(', '+']).next().unwrap_or_default() {
        "lpm" => "lpm_trie",
        "type3" => "prog_array",
        "type7" => "stack_trace",
        "type12" => "array_of_maps",
        "type14" => "devmap",
        "type15" => "sockmap",
        "type17" => "xskmap",
        // Calls and not a kind.
        "bpf" => "bpf(2)",
        kind => kind,
    }
}

/// How many rows hold of those that were asked, for each kind of map or program and for each group.
pub(crate) fn shares(played: &[Played]) -> BTreeMap<String, (usize, usize)> {
    let mut shares = BTreeMap::<String, (usize, usize)>::new();
    for row in played.iter().filter(|row| row.found.is_some()) {
        for name in [format!("kind {}", kind(row.row.subject)), format!("group {}", row.row.group)] {
            let (holds, all) = shares.entry(name).or_default();
            *all += 1;
            *holds += usize::from(row.holds());
        }
    }
    shares
}

/// The keys of a map of 4-byte keys in the kernel's order, and how the iteration ended.
fn keys(map: &MapFd) -> String {
    let (keys, end) = bodies::Numbers(map).keys();
    let keys = keys.into_iter().map(|key| key.text().replace("ok:", ""));
    keys.chain([end]).collect::<Vec<_>>().join(" ")
}

/// What poll(2) says of a map.
fn poll_events(map: &MapFd) -> String {
    let events = PollFlags::POLLIN | PollFlags::POLLOUT;
    let mut fds = [PollFd::new(map.as_fd(), events)];
    match poll(&mut fds, PollTimeout::ZERO) {
        Ok(0) => "none".to_owned(),
        Ok(_) => format!("{:#x}", fds[0].revents().map_or(0, |events| events.bits())),
        Err(errno) => format!("{errno:?}"),
    }
}

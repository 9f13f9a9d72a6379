//! What libtest prints, counted.

use std::fmt;
use std::ops::AddAssign;

/// The outcome of some tests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Results {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    pub(crate) ignored: u64,
    /// Those that failed.
    pub(crate) failures: Vec<Failure>,
    /// What tests that passed left out: name and reason.
    pub(crate) skipped: Vec<(String, String)>,
}

/// A test that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) name: String,
    /// What its threads said when they panicked.
    pub(crate) panics: Vec<String>,
}

impl AddAssign<&Self> for Results {
    fn add_assign(&mut self, other: &Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.ignored += other.ignored;
        self.failures.extend(other.failures.iter().cloned());
        self.skipped.extend(other.skipped.iter().cloned());
    }
}

impl fmt::Display for Results {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)
    }
}

/// Reads the output of test binaries line by line.
#[derive(Default)]
pub(crate) struct Reader {
    results: Results,
    /// A binary said that it runs tests and has not said how they ended.
    running: bool,
    /// Inside of the list of names that follows `failures:`.
    failures: bool,
    /// The threads that panicked in this binary, with what they said, and whether the last one may go on.
    panics: Vec<(String, Vec<String>)>,
    panicking: bool,
    /// Begun and not yet a whole line.
    partial: Vec<u8>,
}

impl Reader {
    /// Takes output as it comes.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            if byte == b'\n' {
                let line = std::mem::take(&mut self.partial);
                self.line(String::from_utf8_lossy(&line).trim_end_matches('\r'));
            } else {
                self.partial.push(byte);
            }
        }
    }

    /// What was read. A binary that died before it gave its result counts as one failure.
    pub(crate) fn finish(mut self) -> Results {
        self.died();
        self.results
    }

    fn died(&mut self) {
        if std::mem::take(&mut self.running) {
            self.results.failed += 1;
            let panics = std::mem::take(&mut self.panics);
            self.results.failures.push(Failure {
                name: "(a test binary ended without a result)".into(),
                panics: panics.into_iter().map(|(_, lines)| lines.join("\n")).collect(),
            });
        }
    }

    /// What a thread says when it panics. Tests run in threads of their names; threads of their own have none.
    fn panic_line(&mut self, line: &str) {
        const LINES: usize = 12;
        if let Some(thread) = panicking(line) {
            self.panics.push((thread.to_owned(), vec![line.to_owned()]));
            self.panicking = true;
        } else if self.panicking {
            match self.panics.last_mut() {
                Some((_, said)) if said.len() < LINES && !line.is_empty() && !is_after_panic(line) => {
                    said.push(line.to_owned());
                }
                _ => self.panicking = false,
            }
        }
    }

    fn failure(&self, name: &str) -> Failure {
        let of_it = self.panics.iter().filter(|(thread, _)| thread == name || thread == "<unnamed>");
        Failure { name: name.to_owned(), panics: of_it.map(|(_, said)| said.join("\n")).collect() }
    }

    fn line(&mut self, line: &str) {
        self.panic_line(line);
        if let Some(text) = skip_line(line) {
            if let Some((name, reason)) = text.split_once(": ") {
                self.results.skipped.push((name.to_owned(), reason.to_owned()));
            }
        } else if is_running(line) {
            self.died();
            self.running = true;
            self.failures = false;
            self.panics.clear();
        } else if let Some(result) = line.strip_prefix("test result: ") {
            self.running = false;
            self.failures = false;
            let count = |what: &str| {
                let part = result.split(['.', ';']).find_map(|part| part.trim().strip_suffix(what));
                part.and_then(|n| n.trim().parse::<u64>().ok()).unwrap_or(0)
            };
            self.results.passed += count(" passed");
            self.results.failed += count(" failed");
            self.results.ignored += count(" ignored");
        } else if line == "failures:" {
            self.failures = true;
        } else if self.failures
            && let Some(name) = line.strip_prefix("    ")
            && !name.starts_with(' ')
            && !self.results.failures.iter().any(|known| known.name == name)
        {
            self.results.failures.push(self.failure(name));
        } else if line.starts_with("----") {
            // The outputs of failed tests, which stand between `failures:` and the names.
            self.failures = false;
        }
    }
}

/// `running 3 tests`, as libtest says before it starts.
fn is_running(line: &str) -> bool {
    let number =
        line.strip_prefix("running ").and_then(|rest| rest.split_once(" test")).map(|(number, _)| number);
    number.is_some_and(|number| number.parse::<u64>().is_ok())
}

/// The thread of `thread 'NAME' (ID) panicked at PLACE:`.
fn panicking(line: &str) -> Option<&str> {
    let (thread, rest) = line.split_once("thread '")?.1.split_once('\'')?;
    rest.contains(" panicked at ").then_some(thread)
}

/// What Rust adds to the message of a panic.
fn is_after_panic(line: &str) -> bool {
    line.starts_with("stack backtrace:") || line.starts_with("note: ") || line.starts_with("test ")
}

/// `NAME: REASON`, from a line that says so or from the output that follows a test's name on its line.
fn skip_line(line: &str) -> Option<&str> {
    let output =
        line.strip_prefix("test ").and_then(|rest| rest.split_once(" ... ")).map_or(line, |(_, out)| out);
    output.strip_prefix("skip: ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Results {
        let mut reader = Reader::default();
        // In pieces that end anywhere.
        text.as_bytes().chunks(7).for_each(|piece| reader.bytes(piece));
        reader.finish()
    }

    #[test]
    fn results_of_binaries_are_added() {
        let results = read(
            "running 2 tests\ntest a ... ok\ntest b ... ok\n\n\
             test result: ok. 2 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s\n\
             running 1 test\ntest c ... FAILED\n\nfailures:\n\n---- c stdout ----\n    noise\n\nfailures:\n    c\n\n\
             test result: FAILED. 0 passed; 1 failed; 0 ignored; 0 measured; 4 filtered out\n",
        );
        assert_eq!(results.to_string(), "2 passed, 1 failed");
        assert_eq!(results.ignored, 1);
        assert_eq!(results.failures, [Failure { name: "c".into(), panics: vec![] }]);
    }

    #[test]
    fn a_failure_says_why() {
        let results = read(
            "running 3 tests\ntest a ... \nthread 'a' (7) panicked at a.rs:1:2:\nassertion failed: x\n  left: 1\n\
             stack backtrace:\n   0: no\nFAILED\ntest b ... thread 'b' panicked at b.rs:3:4:\nwanted\nnote: run with\nok\n\
             test c ... \nthread '<unnamed>' (9) panicked at c.rs:5:6:\nin a thread\n\nFAILED\n\
             failures:\n\nfailures:\n    a\n    c\n\n\
             test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out\n",
        );
        let panics: Vec<_> =
            results.failures.iter().map(|failure| (&*failure.name, failure.panics.clone())).collect();
        let of_a = "thread 'a' (7) panicked at a.rs:1:2:\nassertion failed: x\n  left: 1".to_owned();
        let of_thread = "thread '<unnamed>' (9) panicked at c.rs:5:6:\nin a thread".to_owned();
        // Whose thread it was cannot be told.
        assert_eq!(panics, [("a", vec![of_a, of_thread.clone()]), ("c", vec![of_thread])]);
    }

    #[test]
    fn skips_are_found_where_tests_print_them() {
        let results = read(
            "running 3 tests\ntest a ... skip: a: no kprobe PMU: ENOENT\nok\ntest b ... ok\nskip: c: not root\n\
             test result: ok. 3 passed; 0 failed; 0 ignored\n",
        );
        let skipped = |name: &str, reason: &str| (name.to_owned(), reason.to_owned());
        assert_eq!(results.skipped, [skipped("a", "no kprobe PMU: ENOENT"), skipped("c", "not root")]);
    }

    #[test]
    fn a_binary_that_dies_is_a_failure() {
        assert_eq!(read("running 2 tests\ntest a ... ok\n").failed, 1);
        let results =
            read("running 2 tests\nrunning 1 test\ntest result: ok. 1 passed; 0 failed; 0 ignored\n");
        assert_eq!(results.to_string(), "1 passed, 1 failed");
        assert_eq!(read("running away\n"), Results::default());
    }
}

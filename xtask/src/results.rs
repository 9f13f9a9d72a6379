//! What libtest prints, counted.

use std::fmt;
use std::ops::AddAssign;

/// The outcome of some tests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Results {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    pub(crate) ignored: u64,
    /// The names of those that failed.
    pub(crate) failures: Vec<String>,
    /// What tests that passed left out: name and reason.
    pub(crate) skipped: Vec<(String, String)>,
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
            self.results.failures.push("(a test binary ended without a result)".into());
        }
    }

    fn line(&mut self, line: &str) {
        if let Some(text) = skip_line(line) {
            if let Some((name, reason)) = text.split_once(": ") {
                self.results.skipped.push((name.to_owned(), reason.to_owned()));
            }
        } else if is_running(line) {
            self.died();
            self.running = true;
            self.failures = false;
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
            && !self.results.failures.iter().any(|known| known == name)
        {
            self.results.failures.push(name.to_owned());
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
        assert_eq!(results.failures, ["c"]);
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

//! The log of program and BTF loads.

use skep_sys::abi::Errno;
use skep_sys::request::LogBuffer;

/// Keep the start of a log that is too long, not its end (`BPF_LOG_FIXED`).
const FIXED: u32 = 8;
/// Statistics only (`BPF_LOG_STATS`).
const STATS: u32 = 4;
/// Every bit that means something.
const LEVELS: u32 = 15;

/// Most bytes of one text (`BPF_VERIFIER_TMP_LOG_SIZE`, less the end of the string).
const TEXT_MAX: usize = 1023;

/// Collects text, and puts as much of it as fits into the user's buffer.
#[derive(Debug)]
pub(crate) struct Log<'a> {
    buffer: Option<&'a mut LogBuffer>,
    text: String,
}

impl<'a> Log<'a> {
    /// `EINVAL` when level and buffer contradict each other.
    pub(crate) fn new(mut buffer: Option<&'a mut LogBuffer>) -> Result<Self, Errno> {
        if let Some(log) = &mut buffer {
            let wanted = log.level != 0;
            if log.level & !LEVELS != 0 || wanted == log.bytes.is_empty() {
                return Err(Errno::EINVAL);
            }
            log.true_size = 0;
        }
        Ok(Log { buffer, text: String::new() })
    }

    /// Whether the instructions are wanted that the verifier goes through (`BPF_LOG_LEVEL`).
    pub(crate) fn shows_steps(&self) -> bool {
        self.buffer.as_ref().is_some_and(|log| log.level & !(STATS | FIXED) != 0)
    }

    /// Adds a line.
    pub(crate) fn line(&mut self, text: &str) {
        if self.is_any() {
            self.text.push_str(text);
            self.text.push('\n');
        }
    }

    /// Adds a line of what the verifier goes through.
    pub(crate) fn step(&mut self, text: &str) {
        if self.shows_steps() {
            self.line(text);
        }
    }

    /// Adds text that does not end its line.
    pub(crate) fn text(&mut self, text: &str) {
        if self.is_any() {
            self.text.push_str(text);
        }
    }

    /// Whether there is a log.
    pub(crate) fn is_any(&self) -> bool {
        self.buffer.as_ref().is_some_and(|log| log.level != 0)
    }

    /// Adds text that the kernel writes whatever the level is, as far as its buffer for one text reaches.
    pub(crate) fn any(&mut self, text: std::fmt::Arguments<'_>) {
        if !self.is_any() {
            return;
        }
        let text = text.to_string();
        let end = text.floor_char_boundary(TEXT_MAX);
        self.text.push_str(text.get(..end).unwrap_or_default());
    }

    /// Fills the buffer: `ENOSPC` when the text does not fit, in place of what the load would have answered.
    pub(crate) fn finish(self) -> Result<(), Errno> {
        let Some(log) = self.buffer else {
            return Ok(());
        };
        let text = self.text.as_bytes();
        log.true_size = u32::try_from(text.len()).unwrap_or(u32::MAX).saturating_add(1);
        let room = log.bytes.len().saturating_sub(1);
        let cut = text.len().saturating_sub(room);
        let shown = if log.level & FIXED != 0 { text.get(..text.len() - cut) } else { text.get(cut..) }; // cut is at most the length
        let shown = shown.unwrap_or_default();
        if let Some(to) = log.bytes.get_mut(..shown.len()) {
            to.copy_from_slice(shown);
        }
        if let Some(end) = log.bytes.get_mut(shown.len()) {
            *end = 0;
        }
        if cut > 0 { Err(Errno::ENOSPC) } else { Ok(()) }
    }
}

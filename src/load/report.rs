use std::fmt;

/// What a load did beside what was asked: what it left out, changed for this kernel, or reused.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LoadReport {
    /// The notes, in the order in which things happened.
    pub notes: Vec<Note>,
}

impl LoadReport {
    pub(super) fn add(&mut self, kind: NoteKind, subject: &str, text: impl Into<String>) {
        self.notes.push(Note { kind, subject: subject.to_owned(), text: text.into() });
    }

    /// The notes of a kind.
    pub fn of(&self, kind: NoteKind) -> impl Iterator<Item = &Note> {
        self.notes.iter().filter(move |note| note.kind == kind)
    }
}

impl fmt::Display for LoadReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for note in &self.notes {
            writeln!(f, "{note}")?;
        }
        Ok(())
    }
}

/// One thing that a load did beside what was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Note {
    /// What kind of thing.
    pub kind: NoteKind,
    /// Which map, program or section.
    pub subject: String,
    /// What happened and why.
    pub text: String,
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            NoteKind::Skipped => "skipped",
            NoteKind::Adapted => "adapted",
            NoteKind::Reused => "reused",
            NoteKind::Replaced => "replaced",
            NoteKind::Poisoned => "poisoned",
            NoteKind::Delegated => "delegated",
        };
        write!(f, "{kind} {}: {}", self.subject, self.text)
    }
}

/// Kinds of [`Note`]s.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum NoteKind {
    /// Left out.
    Skipped,
    /// Asked for in another way, since this kernel refused the first.
    Adapted,
    /// Taken from a pin, or from whom loads it, instead of made.
    Reused,
    /// Made to take the place of one that does not fit.
    Replaced,
    /// An instruction was made one that must not be reached.
    Poisoned,
    /// Done with the right that a token gives.
    Delegated,
}

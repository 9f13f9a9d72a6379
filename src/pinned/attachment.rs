//! Where programs are attached, in a form that outlives the process: the text of a symbolic link.

use std::fmt;

use skep_link::xdp::{Interface, Mode};
use skep_link::{Link, LinkError, raw_tracepoint, tracing, xdp};
use skep_sys::LoadedProgram;
use skep_sys::abi::AttachType;

/// Where a program of a pinned set is attached, and in which order it takes the place of the one before.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct Attachment {
    place: Place,
    exchange: Exchange,
}

/// What happens first where the program of a link cannot be exchanged, so that another link takes its place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Exchange {
    /// The new link is attached, then the old one detached: nothing is missed, and for a moment both programs run.
    #[default]
    NewFirst,
    /// The old link is detached, then the new one attached: nothing is counted twice, and for a moment neither runs.
    OldFirst,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    Xdp { interface: Interface, mode: Mode },
    RawTracepoint { name: String, cookie: u64 },
    Tracing { cookie: u64 },
}

impl Attachment {
    /// An XDP program to a network device, by name or index (Linux 5.9). Its link is exchanged without a gap.
    pub fn xdp(interface: impl Into<Interface>) -> Attachment {
        Attachment::of(Place::Xdp { interface: interface.into(), mode: Mode::AUTO })
    }

    /// As [`xdp`](Attachment::xdp), run by whom `mode` says.
    pub fn xdp_mode(interface: impl Into<Interface>, mode: Mode) -> Attachment {
        Attachment::of(Place::Xdp { interface: interface.into(), mode })
    }

    /// A raw tracepoint program to the tracepoint of that name, without its category (Linux 4.17, pinned 5.7).
    pub fn raw_tracepoint(name: impl Into<String>) -> Attachment {
        Attachment::of(Place::RawTracepoint { name: name.into(), cookie: 0 })
    }

    /// A program to what it named at load: BTF tracepoints, `fentry`, `fexit`, `fmod_ret`, LSM, `freplace` (Linux 5.5,
    /// pinned 5.7). Before Linux 5.13 a kernel attaches such a program once only, so that a switch cannot be undone.
    pub fn tracing() -> Attachment {
        Attachment::of(Place::Tracing { cookie: 0 })
    }

    fn of(place: Place) -> Attachment {
        Attachment { place, exchange: Exchange::default() }
    }

    /// A value that raw tracepoint and tracing programs read with `bpf_get_attach_cookie` (Linux 5.19, 6.10 for
    /// tracepoints). 0 is none. XDP has no such thing.
    pub fn cookie(mut self, value: u64) -> Attachment {
        match &mut self.place {
            Place::Xdp { .. } => {}
            Place::RawTracepoint { cookie, .. } | Place::Tracing { cookie } => *cookie = value,
        }
        self
    }

    /// What happens first where the program of the link cannot be exchanged.
    pub fn exchange(mut self, exchange: Exchange) -> Attachment {
        self.exchange = exchange;
        self
    }

    /// Whether both are at the same place, so that one link can serve both.
    pub(super) fn same_place(&self, other: &Attachment) -> bool {
        self.place == other.place
    }

    pub(super) fn order(&self) -> Exchange {
        self.exchange
    }

    pub(super) fn attach(&self, program: &LoadedProgram) -> Result<Link, LinkError> {
        match &self.place {
            Place::Xdp { interface, mode } => {
                xdp::attach(program, xdp::Options::new(interface.clone()).mode(*mode))
            }
            Place::RawTracepoint { name, cookie } => {
                raw_tracepoint::attach(program, raw_tracepoint::Options::new(name).cookie(*cookie))
            }
            Place::Tracing { cookie } => tracing::attach(program, tracing::Options::new().cookie(*cookie)),
        }
    }

    /// Why it cannot be written down, if it cannot.
    pub(super) fn problem(&self) -> Option<&'static str> {
        let unfit = |name: &str| name.is_empty() || name.contains([':', '\0']);
        match &self.place {
            Place::Xdp { interface: Interface::Name(name), .. } => match name.to_str() {
                Some(name) if !unfit(name) && !name.starts_with(INDEX) => None,
                _ => Some("that is no name of a network device"),
            },
            Place::RawTracepoint { name, .. } if unfit(name) => Some("that is no name of a tracepoint"),
            _ => None,
        }
    }
}

/// Marks the index of a device, where a name would be.
const INDEX: char = '#';

/// What a pinned set says of one of its links.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) attachment: Attachment,
    /// The attach type of the program, which kernels do not tell.
    pub(super) attach_type: AttachType,
    /// Its name among the set's programs.
    pub(super) program: String,
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.attachment.exchange {
            Exchange::NewFirst => "new-first",
            Exchange::OldFirst => "old-first",
        })?;
        match &self.attachment.place {
            Place::Xdp { interface: Interface::Index(index), mode } => {
                write!(f, ":xdp:{INDEX}{index}:{}", mode.0)?;
            }
            Place::Xdp { interface: Interface::Name(name), mode } => {
                write!(f, ":xdp:{}:{}", name.display(), mode.0)?;
            }
            Place::RawTracepoint { name, cookie } => write!(f, ":raw_tracepoint:{name}:{cookie}")?,
            Place::Tracing { cookie } => write!(f, ":tracing::{cookie}")?,
        }
        // It is last since it may hold anything.
        write!(f, ":{}:{}", self.attach_type.0, self.program)
    }
}

impl Record {
    /// Reads what [`Display`](fmt::Display) wrote.
    pub(super) fn parse(text: &str) -> Option<Record> {
        let mut parts = text.splitn(6, ':');
        let mut next = || parts.next();
        let (order, kind, name, number, attach_type, program) =
            (next()?, next()?, next()?, next()?, next()?, next()?);
        let exchange = match order {
            "new-first" => Exchange::NewFirst,
            "old-first" => Exchange::OldFirst,
            _ => return None,
        };
        let place = match kind {
            "xdp" => Place::Xdp {
                interface: match name.strip_prefix(INDEX) {
                    Some(index) => Interface::Index(index.parse().ok()?),
                    None => Interface::from(name),
                },
                mode: Mode(number.parse().ok()?),
            },
            "raw_tracepoint" => Place::RawTracepoint { name: name.to_owned(), cookie: number.parse().ok()? },
            "tracing" => Place::Tracing { cookie: number.parse().ok()? },
            _ => return None,
        };
        Some(Record {
            attachment: Attachment { place, exchange },
            attach_type: AttachType(attach_type.parse().ok()?),
            program: program.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_read_as_they_were_written() {
        let attachments = [
            (Attachment::xdp("eth0"), "new-first:xdp:eth0:0:37:count"),
            (Attachment::xdp_mode(7, Mode::SKB).exchange(Exchange::OldFirst), "old-first:xdp:#7:2:37:count"),
            (
                Attachment::raw_tracepoint("sched_switch").cookie(9),
                "new-first:raw_tracepoint:sched_switch:9:37:count",
            ),
            (Attachment::tracing(), "new-first:tracing::0:37:count"),
        ];
        for (attachment, text) in attachments {
            assert_eq!(attachment.problem(), None);
            let record = Record { attachment, attach_type: AttachType(37), program: "count".into() };
            assert_eq!(record.to_string(), text);
            assert_eq!(Record::parse(text), Some(record));
        }
        for text in [
            "",
            "new-first",
            "new-first:xdp:eth0:x:37:count",
            "soon:xdp:eth0:0:37:count",
            "new-first:tc:a:0:0:b",
        ] {
            assert_eq!(Record::parse(text), None, "{text}");
        }
    }

    #[test]
    fn names_that_cannot_be_written_down_are_refused() {
        for name in ["", "a:b", "#3"] {
            assert!(Attachment::xdp(name).problem().is_some(), "{name}");
        }
        assert!(Attachment::raw_tracepoint("a:b").problem().is_some());
    }
}

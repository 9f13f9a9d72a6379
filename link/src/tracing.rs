//! What a program named at load: BTF tracepoints (`tp_btf`), `fentry`, `fexit`, `fmod_ret`, LSM hooks and functions of
//! other programs that a `freplace` program takes the place of (`BPF_LINK_TYPE_TRACING`, Linux 5.5; a link since 5.7).

use std::os::fd::AsFd;

use skep_sys::abi::{AttachType, Errno, LinkType, ProgType};
use skep_sys::request::{LinkCreate, LinkTarget};
use skep_sys::{LinkFd, LoadedProgram};

use crate::error::{ANY_ATTACH, Hints, LinkError, meaning};
use crate::kinds::Hook;
use crate::link::Link;

/// How to attach a program to what it named at load. `()` converts into the default.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[must_use]
pub struct Options {
    cookie: u64,
}

impl Options {
    /// Without a cookie.
    pub fn new() -> Options {
        Options::default()
    }

    /// A value that the program reads with `bpf_get_attach_cookie` (Linux 5.19; 6.10 for BTF tracepoints). 0 is none.
    pub fn cookie(mut self, cookie: u64) -> Options {
        self.cookie = cookie;
        self
    }
}

impl From<()> for Options {
    fn from((): ()) -> Options {
        Options::default()
    }
}

/// Attaches a tracing, LSM or freplace program to what it named at load (`BPF_RAW_TRACEPOINT_OPEN` without a name,
/// Linux 5.5; with a cookie `BPF_LINK_CREATE`, Linux 5.19).
///
/// # Errors
/// [`LinkError::WrongProgram`]; [`LinkError::UnknownAttachType`]; [`LinkError::Attach`] with [`Errno::EBUSY`] when the
/// place is taken, [`Errno::E2BIG`] when too many programs are attached, [`Errno::ENOTSUPP`] when the machine has no
/// trampolines.
#[doc(alias = "bpf_program__attach_trace")]
#[doc(alias = "bpf_program__attach_lsm")]
pub fn attach(prog: &LoadedProgram, options: impl Into<Options>) -> Result<Link, LinkError> {
    let options = options.into();
    Hook::Tracing.check(prog)?;
    let result = if options.cookie == 0 {
        prog.kernel().raw_tracepoint_open(prog, None, 0)
    } else {
        with_cookie(prog, attach_type(prog)?, options.cookie)
    };
    let fd = result.map_err(|errno| {
        let specific = if options.cookie == 0 { &[] } else { COOKIE };
        LinkError::Attach {
            hook: Hook::Tracing,
            program: prog.name().to_owned(),
            target: "what it named at load".to_owned(),
            hint: meaning(errno, &[specific, ATTACH, ANY_ATTACH]),
            errno,
        }
    })?;
    // The kernel attaches a BTF tracepoint as a raw one.
    let link_type = match prog.attach_type() {
        Some(AttachType::TRACE_RAW_TP) => LinkType::RAW_TRACEPOINT,
        Some(_) => LinkType::TRACING,
        None => fd.info().map_or(LinkType::TRACING, |info| info.link_type),
    };
    Ok(Link::new(fd, link_type))
}

fn attach_type(prog: &LoadedProgram) -> Result<AttachType, LinkError> {
    prog.attach_type().ok_or_else(|| LinkError::UnknownAttachType { program: prog.name().to_owned() })
}

fn with_cookie(prog: &LoadedProgram, attach_type: AttachType, cookie: u64) -> Result<LinkFd, Errno> {
    if prog.prog_type() == ProgType::EXT {
        // The kernel has no place for it.
        return Err(Errno::EINVAL);
    }
    let mut request = LinkCreate::new(prog.as_fd(), LinkTarget::Loaded, attach_type);
    request.cookie = cookie;
    prog.kernel().link_create(&request)
}

const COOKIE: Hints = &[
    (
        Errno::EINVAL,
        "the kernel is too old for a cookie here, which needs Linux 5.19 (6.10 for BTF tracepoints), freplace \
         programs have none, or the attach type is not the one that the program was loaded with",
    ),
    (Errno::E2BIG, "the kernel is too old for a cookie here, or too many programs are attached already"),
];

const ATTACH: Hints = &[
    (
        Errno::EBUSY,
        "the place is taken by a program, or by another user of function tracing that excludes it",
    ),
    (Errno::EEXIST, "the program is attached there already, which before Linux 6.10 it can be once only"),
    (Errno::E2BIG, "too many programs are attached there already"),
    (
        Errno::EINVAL,
        "the program has no target, or is attached to it already, or the kernel is older than Linux 5.5",
    ),
    (
        Errno::ENOENT,
        "the program was attached before, and Linux before 5.13 attaches one only once: load it anew; or the \
         tracepoint is gone, as when its module was unloaded",
    ),
    (Errno::ENOTSUPP, "the kernel has no trampolines on this machine, or was built without function tracing"),
    (Errno::EOPNOTSUPP, "the kernel cannot attach there"),
    (Errno::ENODEV, "the kernel was built without function tracing with direct calls"),
];

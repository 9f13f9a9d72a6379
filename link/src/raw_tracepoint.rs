//! Raw tracepoints: programs that get a tracepoint's arguments as the kernel passes them
//! (`BPF_LINK_TYPE_RAW_TRACEPOINT`, Linux 4.17; a link since 5.7).

use skep_sys::LoadedProgram;
use skep_sys::abi::{Errno, LinkType};

use crate::error::{ANY_ATTACH, Hints, LinkError, meaning};
use crate::kinds::Hook;
use crate::link::Link;

/// How to attach to a raw tracepoint. The tracepoint's name converts into it.
#[derive(Clone, PartialEq, Eq, Debug)]
#[must_use]
pub struct Options {
    name: String,
    cookie: u64,
}

impl Options {
    /// To the tracepoint of that name, without its category: `sched_switch`, not `sched/sched_switch`.
    pub fn new(name: impl Into<String>) -> Options {
        Options { name: name.into(), cookie: 0 }
    }

    /// A value that the program reads with `bpf_get_attach_cookie` (Linux 6.10). 0 is none.
    pub fn cookie(mut self, cookie: u64) -> Options {
        self.cookie = cookie;
        self
    }
}

impl From<&str> for Options {
    fn from(name: &str) -> Options {
        Options::new(name)
    }
}

impl From<String> for Options {
    fn from(name: String) -> Options {
        Options::new(name)
    }
}

/// Attaches a raw tracepoint program (`BPF_RAW_TRACEPOINT_OPEN`, Linux 4.17). Any number of programs can be
/// attached to one tracepoint, and from Linux 6.10 on one program any number of times.
///
/// ```
/// use skep_link::raw_tracepoint;
/// # use skep_sys::{abi::ProgType, request::ProgLoad};
/// # let kernel = skep_sim::kernel();
/// # let insns = skep_asm::Assembler::new().mov64_imm(skep_asm::Reg::R0, 2).exit().finish()?;
/// # let prog = kernel.prog_load(&ProgLoad::new(ProgType::RAW_TRACEPOINT, &insns, "GPL"), None)?;
///
/// let link = raw_tracepoint::attach(&prog, "sched_switch")?;
/// assert_eq!(link.info()?.prog_id, prog.info()?.id);
///
/// let error = raw_tracepoint::attach(&prog, "sched/sched_switch").unwrap_err();
/// assert_eq!(
///     error.to_string(),
///     "cannot attach raw tracepoint program `` to tracepoint sched/sched_switch: raw tracepoints are named without \
///      their category"
/// );
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`LinkError::WrongProgram`]; [`LinkError::Attach`] with [`Errno::ENOENT`] for an unknown tracepoint,
/// [`Errno::EINVAL`] when the program uses more arguments than the tracepoint has, and for a cookie on an older kernel.
#[doc(alias = "bpf_program__attach_raw_tracepoint")]
pub fn attach(prog: &LoadedProgram, options: impl Into<Options>) -> Result<Link, LinkError> {
    let options = options.into();
    Hook::RawTracepoint.check(prog)?;
    let result = prog.kernel().raw_tracepoint_open(prog, Some(&options.name), options.cookie);
    let fd = result.map_err(|errno| {
        let category = if options.name.contains('/') { CATEGORY } else { &[] };
        let cookie = if options.cookie == 0 { &[] } else { COOKIE };
        LinkError::Attach {
            hook: Hook::RawTracepoint,
            program: prog.name().to_owned(),
            target: format!("tracepoint {}", options.name),
            hint: meaning(errno, &[category, cookie, ATTACH, ANY_ATTACH]),
            errno,
        }
    })?;
    Ok(Link::new(fd, LinkType::RAW_TRACEPOINT))
}

const CATEGORY: Hints = &[(Errno::ENOENT, "raw tracepoints are named without their category")];

const COOKIE: Hints = &[
    (
        Errno::EINVAL,
        "cookies of raw tracepoints need Linux 6.10, or the program uses arguments that the tracepoint does not have",
    ),
    (Errno::E2BIG, "cookies of raw tracepoints need Linux 6.10"),
];

const ATTACH: Hints = &[
    (
        Errno::ENOENT,
        "there is no such tracepoint (`/sys/kernel/tracing/available_events` lists them, each after its category)",
    ),
    (
        Errno::EINVAL,
        "the program uses arguments that the tracepoint does not have, or writes to one that is not writable, or the \
         name is no name",
    ),
    (Errno::EEXIST, "the program is attached there already, which before Linux 6.10 it can be once only"),
];

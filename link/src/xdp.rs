//! XDP: programs on the receive path of a network device (`BPF_LINK_TYPE_XDP`, Linux 5.9).

use std::ffi::{OsStr, OsString};
use std::fmt;

use skep_sys::abi::{AttachType, Errno, LinkType};
use skep_sys::request::{LinkCreate, LinkTarget};
use skep_sys::{Kernel, LoadedProgram};
use std::os::fd::AsFd;

use crate::error::{ANY_ATTACH, Hints, LinkError, meaning};
use crate::kinds::Hook;
use crate::link::Link;

/// A network device, of the network namespace of the calling thread.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Interface {
    /// By its index.
    Index(u32),
    /// By its name, whose index is asked for when a program is attached.
    Name(OsString),
}

impl From<u32> for Interface {
    fn from(index: u32) -> Interface {
        Interface::Index(index)
    }
}

impl From<&str> for Interface {
    fn from(name: &str) -> Interface {
        Interface::Name(name.into())
    }
}

impl From<String> for Interface {
    fn from(name: String) -> Interface {
        Interface::Name(name.into())
    }
}

impl From<&OsStr> for Interface {
    fn from(name: &OsStr) -> Interface {
        Interface::Name(name.to_owned())
    }
}

impl fmt::Display for Interface {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Interface::Index(index) => write!(f, "network device with index {index}"),
            Interface::Name(name) => write!(f, "network device {}", name.display()),
        }
    }
}

/// Who runs the program.
///
/// A newtype over the kernel's flags (`XDP_FLAGS_*_MODE`), so that newer ones can be said.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Mode(pub u32);

impl Mode {
    /// The driver where it can, else the network stack.
    pub const AUTO: Mode = Mode(0);
    /// The network stack, on any device and slower (`XDP_FLAGS_SKB_MODE`).
    #[doc(alias = "XDP_FLAGS_SKB_MODE")]
    pub const SKB: Mode = Mode(1 << 1);
    /// The driver (`XDP_FLAGS_DRV_MODE`).
    #[doc(alias = "XDP_FLAGS_DRV_MODE")]
    pub const DRIVER: Mode = Mode(1 << 2);
    /// The network card, for a program that was loaded for it (`XDP_FLAGS_HW_MODE`).
    #[doc(alias = "XDP_FLAGS_HW_MODE")]
    pub const HARDWARE: Mode = Mode(1 << 3);
}

/// How to attach an XDP program. A device's name or index converts into it.
#[derive(Clone, PartialEq, Eq, Debug)]
#[must_use]
pub struct Options {
    interface: Interface,
    mode: Mode,
}

impl Options {
    /// To that device, in [`Mode::AUTO`].
    pub fn new(interface: impl Into<Interface>) -> Options {
        Options { interface: interface.into(), mode: Mode::AUTO }
    }

    /// Who runs the program.
    pub fn mode(mut self, mode: Mode) -> Options {
        self.mode = mode;
        self
    }
}

impl<I: Into<Interface>> From<I> for Options {
    fn from(interface: I) -> Options {
        Options::new(interface)
    }
}

/// Attaches an XDP program to a network device (`BPF_LINK_CREATE`, Linux 5.9).
///
/// A device runs one program: to exchange it, [update](Link::update) the link.
///
/// ```
/// use skep_link::xdp::{self, Mode, Options};
/// # use skep_sys::{abi::{Errno, ProgType}, request::ProgLoad};
/// # let kernel = skep_sim::kernel();
/// # let insns = skep_asm::Assembler::new().mov64_imm(skep_asm::Reg::R0, 2).exit().finish()?;
/// # let prog = kernel.prog_load(&ProgLoad::new(ProgType::XDP, &insns, "GPL"), None)?;
///
/// let link = xdp::attach(&prog, Options::new("lo").mode(Mode::SKB))?;
/// let error = xdp::attach(&prog, "lo").unwrap_err();
/// assert_eq!(error.errno(), Some(Errno::EBUSY));
/// drop(link);
/// assert!(xdp::attach(&prog, "lo").is_ok());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`LinkError::WrongProgram`]; [`LinkError::NoTarget`] for an unknown name; [`LinkError::Attach`] with
/// [`Errno::EBUSY`] when the device runs a program already, [`Errno::EOPNOTSUPP`] when its driver has no XDP,
/// [`Errno::EINVAL`] for an unknown index and on older kernels.
#[doc(alias = "bpf_program__attach_xdp")]
pub fn attach(prog: &LoadedProgram, options: impl Into<Options>) -> Result<Link, LinkError> {
    let options = options.into();
    Hook::Xdp.check(prog)?;
    let kernel = prog.kernel();
    let index = index_of(kernel, &options.interface)?;
    let mut request = LinkCreate::new(prog.as_fd(), LinkTarget::Ifindex(index), AttachType::XDP);
    request.flags = options.mode.0;
    let fd = kernel.link_create(&request).map_err(|errno| LinkError::Attach {
        hook: Hook::Xdp,
        program: prog.name().to_owned(),
        target: options.interface.to_string(),
        hint: meaning(errno, &[ATTACH, ANY_ATTACH]),
        errno,
    })?;
    Ok(Link::new(fd, LinkType::XDP))
}

fn index_of(kernel: &Kernel, interface: &Interface) -> Result<u32, LinkError> {
    match interface {
        Interface::Index(index) => Ok(*index),
        Interface::Name(name) => kernel.backend().ifindex(name).map_err(|errno| LinkError::NoTarget {
            hook: Hook::Xdp,
            target: interface.to_string(),
            hint: meaning(errno, &[FIND]),
            errno,
        }),
    }
}

const FIND: Hints = &[
    (Errno::ENODEV, "it is not in this network namespace (`ip link` lists those that are)"),
    (Errno::EINVAL, "that is no name of a device"),
];

const ATTACH: Hints = &[
    (
        Errno::EBUSY,
        "the device runs an XDP program already: update its link, or detach it first (`ip link show`, `bpftool net`)",
    ),
    (
        Errno::EEXIST,
        "the device runs an XDP program in the other mode: driver and network stack cannot both run one",
    ),
    (
        Errno::EOPNOTSUPP,
        "the device's driver cannot run this program: try `Mode::SKB`; for large packets the program has to be \
         loaded with support for fragments (section `xdp.frags`)",
    ),
    (Errno::ENODEV, "the device is gone, or not in this network namespace"),
    (
        Errno::EINVAL,
        "there is no device with that index in this network namespace, the program was loaded for another device, \
         or the kernel is older than Linux 5.9, which brought XDP links",
    ),
    (Errno::ERANGE, "the device's MTU is too large for XDP"),
    (Errno::EPERM, "the process needs CAP_NET_ADMIN in the network namespace, and CAP_BPF"),
];

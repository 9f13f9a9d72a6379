use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use skep_sys::abi::{Errno, LinkId, LinkType};
use skep_sys::request::LinkInfo;
use skep_sys::{Kernel, LinkFd, LoadedProgram, MapFd};

use crate::error::{ANY_ATTACH, Hints, LinkError, meaning};

/// An attached program.
///
/// Dropping the last handle detaches, unless the link is pinned somewhere. A process that ends drops its handles, so a
/// program that shall stay attached is [pinned](Link::pin).
///
/// ```
/// use skep_link::{Link, xdp};
/// # use skep_sys::{abi::ProgType, request::ProgLoad};
/// # let kernel = skep_sim::kernel();
/// # let insns = skep_asm::Assembler::new().mov64_imm(skep_asm::Reg::R0, 2).exit().finish()?;
/// # let prog = kernel.prog_load(&ProgLoad::new(ProgType::XDP, &insns, "GPL"), None)?;
///
/// let link = xdp::attach(&prog, "lo")?;
/// link.pin("/sys/fs/bpf/filter")?;
/// drop(link);
///
/// // In another process, with a newer program.
/// let link = Link::open_pinned(&kernel, "/sys/fs/bpf/filter")?;
/// link.update(&prog)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Kernels before Linux 5.7 have no links: a raw tracepoint or tracing program is attached there as long as the
/// descriptor that this handle owns is open, and everything but dropping it fails.
#[derive(Debug)]
#[must_use = "dropping a link detaches it"]
pub struct Link {
    fd: LinkFd,
    link_type: LinkType,
}

impl Link {
    pub(crate) fn new(fd: LinkFd, link_type: LinkType) -> Link {
        Link { fd, link_type }
    }

    /// Opens a pinned link (`BPF_OBJ_GET`, Linux 5.8).
    ///
    /// # Errors
    /// [`LinkError::Open`]: nothing is pinned there, or something else.
    pub fn open_pinned(kernel: &Kernel, path: impl AsRef<Path>) -> Result<Link, LinkError> {
        let path = path.as_ref();
        kernel.link_open_pinned(path).and_then(opened).map_err(|errno| LinkError::Open {
            from: format!("pinned at {}", path.display()),
            hint: meaning(errno, &[OPEN, ANY_ATTACH]),
            errno,
        })
    }

    /// Opens a link by its id (`BPF_LINK_GET_FD_BY_ID`, Linux 5.8).
    ///
    /// # Errors
    /// [`LinkError::Open`]: there is no such link, or the process lacks `CAP_SYS_ADMIN`.
    pub fn by_id(kernel: &Kernel, id: LinkId) -> Result<Link, LinkError> {
        kernel.link_by_id(id).and_then(opened).map_err(|errno| LinkError::Open {
            from: format!("with id {id}"),
            hint: meaning(errno, &[OPEN_ID, ANY_ATTACH]),
            errno,
        })
    }

    /// Takes a descriptor that came from elsewhere, such as another process (Linux 5.8).
    ///
    /// # Errors
    /// [`LinkError::Open`]: it is no link.
    pub fn from_fd(kernel: &Kernel, fd: OwnedFd) -> Result<Link, LinkError> {
        kernel.link_from_fd(fd).and_then(opened).map_err(|errno| LinkError::Open {
            from: "from a descriptor".to_owned(),
            hint: meaning(errno, &[OPEN, ANY_ATTACH]),
            errno,
        })
    }

    /// The kernel that the link lives in.
    pub fn kernel(&self) -> &Kernel {
        self.fd.kernel()
    }

    /// Kind.
    pub fn link_type(&self) -> LinkType {
        self.link_type
    }

    /// Id of the link (Linux 5.8). Asks the kernel.
    ///
    /// # Errors
    /// As [`info`](Link::info).
    pub fn id(&self) -> Result<LinkId, LinkError> {
        self.info().map(|info| info.id)
    }

    /// What the kernel says of the link: its id, its program, where it is attached (`BPF_OBJ_GET_INFO_BY_FD`,
    /// Linux 5.8).
    ///
    /// # Errors
    /// [`LinkError::Link`], [`Errno::EINVAL`] where the kernel has no links.
    pub fn info(&self) -> Result<LinkInfo, LinkError> {
        self.fd.info().map_err(|errno| self.failed("inspect", errno, INFO))
    }

    /// Puts `new` in the place of the program that the link runs, without a moment in which none runs
    /// (`BPF_LINK_UPDATE`, Linux 5.7). XDP links can, tracing and raw tracepoint links cannot; see
    /// [`LinkKind::updates`](crate::LinkKind::updates).
    ///
    /// # Errors
    /// [`LinkError::Link`]: the link cannot, it is detached ([`Errno::ENOLINK`]), `new` is of another kind or belongs
    /// to another kernel ([`Errno::EXDEV`]).
    pub fn update(&self, new: &LoadedProgram) -> Result<(), LinkError> {
        self.fd.update(new, None).map_err(|errno| self.failed("update", errno, UPDATE))
    }

    /// As [`update`](Link::update), if the link still runs `old`.
    ///
    /// # Errors
    /// As [`update`](Link::update), and [`Errno::EPERM`] when it runs another program.
    pub fn replace(&self, old: &LoadedProgram, new: &LoadedProgram) -> Result<(), LinkError> {
        self.fd.update(new, Some(old)).map_err(|errno| self.failed("replace the program of", errno, REPLACE))
    }

    /// Detaches now, whoever else has the link open or pinned; it stays, attached to nothing (`BPF_LINK_DETACH`,
    /// Linux 5.9). Kinds that cannot do that are detached by dropping all handles and pins; see
    /// [`LinkKind::detaches`](crate::LinkKind::detaches).
    ///
    /// # Errors
    /// [`LinkError::Link`], [`Errno::EOPNOTSUPP`] when this kind cannot.
    pub fn detach(&self) -> Result<(), LinkError> {
        self.fd.detach().map_err(|errno| self.failed("detach", errno, DETACH))
    }

    /// Pins the link at a path on a bpffs, so that it outlives its handles (`BPF_OBJ_PIN`, Linux 5.7). Removing that
    /// file unpins it.
    ///
    /// # Errors
    /// [`LinkError::Link`]: the path is taken ([`Errno::EEXIST`]), not on a bpffs ([`Errno::EPERM`]), or its
    /// directory is missing ([`Errno::ENOENT`]).
    pub fn pin(&self, path: impl AsRef<Path>) -> Result<(), LinkError> {
        let path = path.as_ref();
        let failed = |errno| LinkError::Link {
            operation: format!("pin at {} the", path.display()),
            link_type: self.link_type,
            hint: meaning(errno, &[PIN, ANY_ATTACH]),
            errno,
        };
        self.fd.pin(path).map_err(failed)
    }

    /// A second handle of the same link.
    ///
    /// # Errors
    /// [`LinkError::Link`] when the process has no descriptor left.
    pub fn try_clone(&self) -> Result<Link, LinkError> {
        let fd = self.fd.try_clone().map_err(|errno| self.failed("duplicate", errno, &[]))?;
        Ok(Link { fd, link_type: self.link_type })
    }

    pub(crate) fn update_map(&self, new: &MapFd) -> Result<(), Errno> {
        self.fd.update_map(new)
    }

    fn failed(&self, operation: &str, errno: Errno, hints: Hints) -> LinkError {
        LinkError::Link {
            operation: operation.to_owned(),
            link_type: self.link_type,
            hint: meaning(errno, &[hints, ANY_ATTACH]),
            errno,
        }
    }
}

fn opened(fd: LinkFd) -> Result<Link, Errno> {
    let link_type = fd.info()?.link_type;
    Ok(Link { fd, link_type })
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl From<Link> for LinkFd {
    fn from(link: Link) -> LinkFd {
        link.fd
    }
}

/// The descriptor, which keeps the program attached until it is closed.
impl From<Link> for OwnedFd {
    fn from(link: Link) -> OwnedFd {
        link.fd.into()
    }
}

const NO_LINKS: &str = "the kernel attached the program without a link, which Linux before 5.7 does not have, or does \
                        not describe links, which needs 5.8";

const INFO: Hints = &[(Errno::EINVAL, NO_LINKS)];

const OPEN: Hints = &[
    (Errno::ENOENT, "nothing is pinned there"),
    (Errno::EINVAL, "that is something else than a link"),
    (Errno::EACCES, "the path is not on a bpffs, or this process may not open it"),
];

const OPEN_ID: Hints = &[
    (Errno::ENOENT, "there is no such link any more"),
    (Errno::EPERM, "opening by id needs CAP_SYS_ADMIN"),
    (Errno::EINVAL, "the kernel cannot open links by id, which needs Linux 5.8"),
];

const UPDATE: Hints = &[
    (
        Errno::EINVAL,
        "links of this kind keep their program, or the new program has another type or attach type: attach the new \
         program by a link of its own, then drop this one",
    ),
    (Errno::ENOLINK, "the link is detached, or what it was attached to is gone"),
];

const REPLACE: Hints = &[
    (
        Errno::EPERM,
        "the link runs another program than the one to be replaced, or the process lacks the right",
    ),
    (
        Errno::EINVAL,
        "links of this kind keep their program, or the new program has another type or attach type: attach the new \
         program by a link of its own, then drop this one",
    ),
    (Errno::ENOLINK, "the link is detached, or what it was attached to is gone"),
];

const DETACH: Hints = &[
    (Errno::EOPNOTSUPP, "links of this kind detach when the last handle is dropped and the last pin removed"),
    (Errno::EINVAL, "detaching a link that stays needs Linux 5.9: drop it and remove its pins instead"),
];

const PIN: Hints = &[
    (Errno::EEXIST, "the path is taken"),
    (
        Errno::ENOENT,
        "the directory does not exist, or no bpffs is mounted there (`mount -t bpf bpf /sys/fs/bpf`)",
    ),
    (Errno::EROFS, "the bpffs is mounted read-only"),
    (
        Errno::EPERM,
        "the path is not on a bpffs (`mount -t bpf bpf /sys/fs/bpf`), holds a dot, or the process lacks the right",
    ),
    (Errno::EINVAL, "the kernel attached the program without a link, which Linux before 5.7 does not have"),
    (Errno::EACCES, "the process may not write to the directory"),
];

const _: fn() = || {
    fn shared<T: Send + Sync>() {}
    shared::<Link>();
    shared::<LinkError>();
};

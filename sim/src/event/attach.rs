//! Attaching programs to the places of events.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use skep_sys::abi::{AttachType, Errno, ProgType};
use skep_sys::request::{LinkCreate, LinkTarget};

use crate::attach::{link_create, link_loaded, link_raw_tracepoint, new_link};
use crate::kernel::SimKernel;
use crate::link::Place;
use crate::object::Object;
use crate::perf::PerfEvent;
use crate::prog::Prog;

/// A place that a program is attached to, for [`SimKernel::attach`].
///
/// ```
/// use skep_sim::{AttachPoint, SimKernel, Socket, SocketCall};
/// # use skep_sys::{Kernel, abi::{AttachType, Errno, ProgType}, request::ProgLoad};
///
/// let sim = SimKernel::new();
/// # let kernel = Kernel::new(sim.clone());
/// # let insns = skep_asm::Assembler::new().mov64_imm(skep_asm::Reg::R0, 0).exit().finish()?;
/// # let mut request = ProgLoad::new(ProgType::CGROUP_SOCK_ADDR, &insns, "GPL");
/// # request.expected_attach_type = AttachType::CGROUP_INET4_CONNECT;
/// # let refuse = kernel.prog_load(&request, None)?;
/// sim.add_cgroup("/web")?;
/// let link = sim.attach(&refuse, AttachPoint::cgroup("/web"))?; // dropping it detaches
/// let client = sim.add_socket(Socket::tcp("10.0.0.1:0".parse()?).cgroup("/web"));
/// let outcome = sim.fire(SocketCall::connect(client, "10.0.0.9:80".parse()?))?;
/// assert_eq!(outcome.result, Err(Errno::EPERM));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct AttachPoint {
    kind: AttachKind,
    cookie: u64,
}

#[derive(Clone, Debug)]
enum AttachKind {
    Loaded,
    RawTracepoint(String),
    Points { points: Vec<Point>, multi: bool },
    Interface { name: String, attach_type: AttachType },
    Cgroup(String),
    Netns,
}

/// One of the places of a link.
#[derive(Clone, Debug)]
pub(crate) struct Point {
    pub(crate) kind: PointKind,
    /// `None` for the one of the link.
    pub(crate) cookie: Option<u64>,
}

/// A place in a program or library.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Code {
    pub(crate) path: String,
    /// Empty where the offset is one in the file.
    pub(crate) function: String,
    pub(crate) offset: u64,
    /// The one process in which it counts.
    pub(crate) process: Option<u32>,
}

impl Code {
    fn new(path: impl Into<String>, function: impl Into<String>, offset: u64) -> Code {
        Code { path: path.into(), function: function.into(), offset, process: None }
    }
}

#[derive(Clone, Debug)]
pub(crate) enum PointKind {
    Kprobe {
        function: String,
        offset: u64,
    },
    Kretprobe {
        function: String,
    },
    /// Both, with a word that they share.
    KprobeSession {
        function: String,
    },
    Tracepoint {
        category: String,
        name: String,
    },
    Uprobe(Code),
    Uretprobe(Code),
    /// Both, with a word that they share.
    UprobeSession(Code),
    Usdt {
        path: String,
        provider: String,
        name: String,
    },
    Perf(Option<Arc<PerfEvent>>),
}

impl AttachPoint {
    fn point(kind: PointKind) -> AttachPoint {
        let points = vec![Point { kind, cookie: None }];
        AttachPoint { kind: AttachKind::Points { points, multi: false }, cookie: 0 }
    }

    fn points(kinds: impl Iterator<Item = PointKind>) -> AttachPoint {
        let points = kinds.map(|kind| Point { kind, cookie: None }).collect();
        AttachPoint { kind: AttachKind::Points { points, multi: true }, cookie: 0 }
    }

    /// What the program named at load: BTF tracepoints, `fentry`, `fexit`, `fmod_ret`, LSM hooks.
    pub fn loaded() -> AttachPoint {
        AttachPoint { kind: AttachKind::Loaded, cookie: 0 }
    }

    /// A tracepoint with its raw arguments.
    pub fn raw_tracepoint(name: impl Into<String>) -> AttachPoint {
        AttachPoint { kind: AttachKind::RawTracepoint(name.into()), cookie: 0 }
    }

    /// A tracepoint with its fields: `sched`, `sched_switch`.
    pub fn tracepoint(category: impl Into<String>, name: impl Into<String>) -> AttachPoint {
        Self::point(PointKind::Tracepoint { category: category.into(), name: name.into() })
    }

    /// The start of a function of the kernel.
    pub fn kprobe(function: impl Into<String>) -> AttachPoint {
        Self::point(PointKind::Kprobe { function: function.into(), offset: 0 })
    }

    /// The inside of a function of the kernel, at an offset from its start.
    pub fn kprobe_at(function: impl Into<String>, offset: u64) -> AttachPoint {
        Self::point(PointKind::Kprobe { function: function.into(), offset })
    }

    /// The end of a function of the kernel.
    pub fn kretprobe(function: impl Into<String>) -> AttachPoint {
        Self::point(PointKind::Kretprobe { function: function.into() })
    }

    /// The starts of several functions (`kprobe.multi`).
    pub fn kprobes<S: Into<String>>(functions: impl IntoIterator<Item = S>) -> AttachPoint {
        Self::points(functions.into_iter().map(|name| PointKind::Kprobe { function: name.into(), offset: 0 }))
    }

    /// The ends of several functions (`kretprobe.multi`).
    pub fn kretprobes<S: Into<String>>(functions: impl IntoIterator<Item = S>) -> AttachPoint {
        Self::points(functions.into_iter().map(|name| PointKind::Kretprobe { function: name.into() }))
    }

    /// Starts and ends of several functions (`kprobe.session`). A program that returns 1 at the start does not run at the end.
    pub fn kprobe_sessions<S: Into<String>>(functions: impl IntoIterator<Item = S>) -> AttachPoint {
        Self::points(functions.into_iter().map(|name| PointKind::KprobeSession { function: name.into() }))
    }

    /// The start of a function of a program or library. Events name it by the same path.
    pub fn uprobe(path: impl Into<String>, function: impl Into<String>) -> AttachPoint {
        Self::point(PointKind::Uprobe(Code::new(path, function, 0)))
    }

    /// The inside of a function of a program or library, or with an empty name an offset in its file.
    pub fn uprobe_at(path: impl Into<String>, function: impl Into<String>, offset: u64) -> AttachPoint {
        Self::point(PointKind::Uprobe(Code::new(path, function, offset)))
    }

    /// The end of a function of a program or library.
    pub fn uretprobe(path: impl Into<String>, function: impl Into<String>) -> AttachPoint {
        Self::point(PointKind::Uretprobe(Code::new(path, function, 0)))
    }

    /// The starts of several functions of a program or library (`uprobe.multi`).
    pub fn uprobes<S: Into<String>>(
        path: impl Into<String>,
        functions: impl IntoIterator<Item = S>,
    ) -> AttachPoint {
        let path = path.into();
        let each = functions.into_iter().map(Into::into);
        Self::points(each.map(|function| PointKind::Uprobe(Code::new(path.clone(), function, 0))))
    }

    /// The ends of several functions of a program or library (`uretprobe.multi`).
    pub fn uretprobes<S: Into<String>>(
        path: impl Into<String>,
        functions: impl IntoIterator<Item = S>,
    ) -> AttachPoint {
        let path = path.into();
        let each = functions.into_iter().map(Into::into);
        Self::points(each.map(|function| PointKind::Uretprobe(Code::new(path.clone(), function, 0))))
    }

    /// Starts and ends of several functions of a program or library (`uprobe.session`). A program that returns 1 at the start does not
    /// run at the end.
    pub fn uprobe_sessions<S: Into<String>>(
        path: impl Into<String>,
        functions: impl IntoIterator<Item = S>,
    ) -> AttachPoint {
        let path = path.into();
        let each = functions.into_iter().map(Into::into);
        Self::points(each.map(|function| PointKind::UprobeSession(Code::new(path.clone(), function, 0))))
    }

    /// A tracepoint of a program or library (USDT). Where the arguments are, libbpf's `usdt.bpf.h` reads from a map of the program.
    /// When the event has [arguments](crate::Uprobe::arg), it fills in that map, and the [cookie](AttachPoint::cookie) is what
    /// `bpf_usdt_cookie` answers; else the test has filled it, and the cookie is the index of the description in it.
    pub fn usdt(
        path: impl Into<String>,
        provider: impl Into<String>,
        name: impl Into<String>,
    ) -> AttachPoint {
        Self::point(PointKind::Usdt { path: path.into(), provider: provider.into(), name: name.into() })
    }

    /// Samples of any perf event.
    pub fn perf_event() -> AttachPoint {
        Self::point(PointKind::Perf(None))
    }

    /// Packets that an interface receives, before all else (XDP).
    pub fn xdp(interface: impl Into<String>) -> AttachPoint {
        Self::interface(interface, AttachType::XDP)
    }

    /// Packets that an interface receives (tcx), behind the programs that are there.
    pub fn ingress(interface: impl Into<String>) -> AttachPoint {
        Self::interface(interface, AttachType::TCX_INGRESS)
    }

    /// Packets that an interface sends (tcx), behind the programs that are there.
    pub fn egress(interface: impl Into<String>) -> AttachPoint {
        Self::interface(interface, AttachType::TCX_EGRESS)
    }

    fn interface(name: impl Into<String>, attach_type: AttachType) -> AttachPoint {
        let kind = AttachKind::Interface { name: name.into(), attach_type };
        AttachPoint { kind, cookie: 0 }
    }

    /// A control group by its [path](SimKernel::add_cgroup), for what the program was loaded for: packets, sockets, addresses,
    /// options, settings, devices.
    pub fn cgroup(path: impl Into<String>) -> AttachPoint {
        AttachPoint { kind: AttachKind::Cgroup(path.into()), cookie: 0 }
    }

    /// The network namespace: what looks up sockets, and what dissects flows.
    pub fn netns() -> AttachPoint {
        AttachPoint { kind: AttachKind::Netns, cookie: 0 }
    }

    /// A value that the program reads with `bpf_get_attach_cookie`.
    pub fn cookie(mut self, cookie: u64) -> AttachPoint {
        self.cookie = cookie;
        self
    }

    /// A value for each of several functions, in their order.
    pub fn cookies(mut self, cookies: impl IntoIterator<Item = u64>) -> AttachPoint {
        if let AttachKind::Points { points, .. } = &mut self.kind {
            for (point, cookie) in points.iter_mut().zip(cookies) {
                point.cookie = Some(cookie);
            }
        }
        self
    }
}

impl SimKernel {
    /// Attaches a program to a place of events, whatever perf events and files of tracefs a real kernel wants for that.
    /// It is detached when the last descriptor of the link is closed.
    ///
    /// ```
    /// use skep_sim::{AttachPoint, FunctionCall, SimKernel};
    /// # use skep_sys::{Kernel, abi::ProgType, request::ProgLoad};
    ///
    /// let sim = SimKernel::new();
    /// # let kernel = Kernel::new(sim.clone());
    /// # let insns = skep_asm::Assembler::new()
    /// #     .ldx(skep_asm::Size::DW, skep_asm::Reg::R0, skep_asm::Reg::R1, 112).exit().finish()?;
    /// # let prog = kernel.prog_load(&ProgLoad::new(ProgType::KPROBE, &insns, "GPL"), None)?;
    /// // A program that returns the first argument of what it is attached to.
    /// let link = sim.attach(&prog, AttachPoint::kprobe("do_unlinkat"))?;
    /// let call = sim.fire(FunctionCall::new("do_unlinkat").arg(-100).returns(0))?;
    /// assert_eq!(call.runs.ok()?.values(), [-100i64 as u64]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`AttachError`], which says what does not go together: [`Errno::EINVAL`] when the program is of another kind,
    /// [`Errno::ENOENT`] when there is no such tracepoint, and what the descriptor of something else gives.
    pub fn attach(&self, prog: impl AsFd, point: AttachPoint) -> Result<OwnedFd, AttachError> {
        let fd = prog.as_fd();
        let object = self.0.object(fd);
        let prog = object.as_ref().map_err(|errno| *errno).and_then(Object::prog);
        let prog = prog.map_err(|errno| AttachError { what: "it is no program".to_owned(), errno })?;
        let told = wrong_kind(prog, &point.kind).unwrap_or_else(|| self.what(prog, &point.kind));
        self.attach_to(fd, prog, point).map_err(|errno| AttachError { what: told, errno })
    }

    /// What is to be attached where, and what is there where the place is not.
    fn what(&self, prog: &Prog, kind: &AttachKind) -> String {
        let what = format!("attach program `{}` ({}) to ", prog.name(), prog.prog_type);
        match kind {
            AttachKind::Loaded => format!("{what}what it named when it was loaded"),
            AttachKind::RawTracepoint(name) => format!(
                "{what}raw tracepoint `{name}`, which the types of the kernel must have, or `Builder::tracepoint` adds it"
            ),
            AttachKind::Points { .. } => format!("{what}points"),
            AttachKind::Interface { name, .. } => {
                let world = self.0.world();
                let names: Vec<&str> = world.net.interfaces.values().map(|one| one.name.as_str()).collect();
                format!("{what}network device `{name}`; there are {}", names.join(", "))
            }
            AttachKind::Cgroup(path) => {
                format!("{what}control group `{path}`, which `SimKernel::add_cgroup` adds if it is not there")
            }
            AttachKind::Netns => format!("{what}the network namespace"),
        }
    }

    fn attach_to(&self, fd: BorrowedFd<'_>, prog: &Arc<Prog>, point: AttachPoint) -> Result<OwnedFd, Errno> {
        let kernel = &*self.0;
        let AttachPoint { kind, cookie } = point;
        if wrong_kind(prog, &kind).is_some() {
            return Err(Errno::EINVAL);
        }
        match kind {
            AttachKind::Loaded => link_loaded(kernel, prog, cookie),
            AttachKind::RawTracepoint(name) => link_raw_tracepoint(kernel, prog, &name, cookie),
            AttachKind::Points { points, multi } => {
                // Programs of USDT are verified for one link to all places of a tracepoint.
                let is_usdt = points.iter().any(|point| matches!(point.kind, PointKind::Usdt { .. }));
                let multi = multi || is_usdt && prog.expected_attach_type == AttachType::TRACE_UPROBE_MULTI;
                let place = Place::Points { points, multi };
                new_link(kernel, prog, place, cookie)
            }
            AttachKind::Interface { name, attach_type } => {
                let ifindex = self.interface(&name).ok_or(Errno::ENODEV)?.ifindex;
                link_create(kernel, &LinkCreate::new(fd, LinkTarget::Ifindex(ifindex), attach_type))
            }
            AttachKind::Cgroup(path) => {
                let group = self.open_cgroup(&path)?;
                let target = LinkTarget::Fd(group.as_fd());
                link_create(kernel, &LinkCreate::new(fd, target, in_cgroup(prog)))
            }
            AttachKind::Netns => {
                let attach_type = match prog.prog_type {
                    ProgType::FLOW_DISSECTOR => AttachType::FLOW_DISSECTOR,
                    _ => AttachType::SK_LOOKUP,
                };
                let netns = self.open_netns()?;
                let target = LinkTarget::Fd(netns.as_fd());
                link_create(kernel, &LinkCreate::new(fd, target, attach_type))
            }
        }
    }
}

/// What is wrong with the kind of a program, for the place.
fn wrong_kind(prog: &Prog, kind: &AttachKind) -> Option<String> {
    let wanted = match kind {
        AttachKind::Loaded if prog.target.is_none() => {
            let name = prog.name();
            return Some(format!(
                "program `{name}` named no place when it was loaded: say where to attach it"
            ));
        }
        AttachKind::RawTracepoint(_)
            if !matches!(prog.prog_type, ProgType::RAW_TRACEPOINT | ProgType::RAW_TRACEPOINT_WRITABLE) =>
        {
            ProgType::RAW_TRACEPOINT
        }
        AttachKind::Points { points, .. } if points.is_empty() => {
            return Some(format!("attach program `{}`: no function is named", prog.name()));
        }
        AttachKind::Points { points, .. } => points.iter().find_map(|point| {
            let wanted = match point.kind {
                PointKind::Tracepoint { .. } => ProgType::TRACEPOINT,
                PointKind::Perf(_) => ProgType::PERF_EVENT,
                _ => ProgType::KPROBE,
            };
            (prog.prog_type != wanted).then_some(wanted)
        })?,
        _ => return None,
    };
    let (name, is) = (prog.name(), prog.prog_type);
    Some(format!("program `{name}` is of type {is}, and this place takes {wanted}"))
}

/// Why a program cannot be attached to a place of events: [`SimKernel::attach`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}: {errno}")]
#[non_exhaustive]
pub struct AttachError {
    what: String,
    errno: Errno,
}

impl AttachError {
    /// What a kernel would answer.
    pub fn errno(&self) -> Errno {
        self.errno
    }
}

/// What a program is in a control group: for some kinds its type says it.
fn in_cgroup(prog: &Prog) -> AttachType {
    match prog.prog_type {
        ProgType::CGROUP_DEVICE => AttachType::CGROUP_DEVICE,
        ProgType::CGROUP_SYSCTL => AttachType::CGROUP_SYSCTL,
        ProgType::SOCK_OPS => AttachType::CGROUP_SOCK_OPS,
        ProgType::CGROUP_SOCK if prog.expected_attach_type.0 == 0 => AttachType::CGROUP_INET_SOCK_CREATE,
        _ => prog.expected_attach_type,
    }
}

/// The kinds of attach that programs of functions have.
pub(super) const FENTRY: &[AttachType] = &[AttachType::TRACE_FENTRY];

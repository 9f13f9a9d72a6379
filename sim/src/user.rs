//! Who makes the calls of a simulated kernel, and what they may do.

use std::os::fd::BorrowedFd;
use std::sync::Arc;

use skep_sys::abi::{Errno, MapType, ProgType};
use skep_sys::wrap::Command;

use crate::features::Features;
use crate::kernel::{Core, SimKernel};
use crate::object::Object;

/// A right that the kernel asks for by itself (`CAP_BPF` and its like), by its number.
///
/// ```
/// use skep_sim::Capability;
///
/// assert_eq!(Capability::BPF.to_string(), "CAP_BPF");
/// assert_eq!(Capability(40).to_string(), "capability 40");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Capability(pub u32);

macro_rules! capabilities {
    ($($(#[$doc:meta])* $name:ident = $number:literal, $text:literal;)*) => {
        impl Capability {
            $($(#[$doc])* pub const $name: Capability = Capability($number);)*
        }

        impl std::fmt::Display for Capability {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                match *self {
                    $(Capability::$name => f.pad($text),)*
                    Capability(number) => write!(f, "capability {number}"),
                }
            }
        }
    };
}

capabilities! {
    /// To give files to others.
    CHOWN = 0, "CAP_CHOWN";
    /// To do with files what their modes forbid.
    DAC_OVERRIDE = 1, "CAP_DAC_OVERRIDE";
    /// To read files and search directories whose modes forbid it.
    DAC_READ_SEARCH = 2, "CAP_DAC_READ_SEARCH";
    /// To do with files of others what only owners may.
    FOWNER = 3, "CAP_FOWNER";
    /// To load programs and make maps of the network, beside [`BPF`](Capability::BPF).
    NET_ADMIN = 12, "CAP_NET_ADMIN";
    /// To find objects by their ids, and everything that the other ones of BPF allow.
    SYS_ADMIN = 21, "CAP_SYS_ADMIN";
    /// To raise what may be locked in memory.
    SYS_RESOURCE = 24, "CAP_SYS_RESOURCE";
    /// To load programs that trace, beside [`BPF`](Capability::BPF), and to open perf events (Linux 5.8).
    PERFMON = 38, "CAP_PERFMON";
    /// To make maps, programs and BTF (Linux 5.8).
    BPF = 39, "CAP_BPF";
}

impl Capability {
    fn bit(self) -> u64 {
        1u64.checked_shl(self.0).unwrap_or(0)
    }
}

/// Every capability that Linux 6.18 has.
const ALL: u64 = (1 << 41) - 1;

/// Who makes calls of a simulated kernel: see [`SimKernel::as_user`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    pub(crate) uid: u32,
    gid: u32,
    groups: Vec<u32>,
    capabilities: u64,
}

impl User {
    /// A user in the group of the same number only. User 0 has every capability, others have none.
    pub fn new(uid: u32) -> User {
        User { uid, gid: uid, groups: Vec::new(), capabilities: if uid == 0 { ALL } else { 0 } }
    }

    /// The user that a simulated kernel takes the process for: who runs it, with every capability.
    pub(crate) fn process() -> User {
        let (uid, gid) = (nix::unistd::getuid().as_raw(), nix::unistd::getgid().as_raw());
        User { uid, gid, groups: Vec::new(), capabilities: ALL }
    }

    /// The group of what the user makes.
    pub fn group(mut self, gid: u32) -> User {
        self.gid = gid;
        self
    }

    /// Adds a group that the user is in.
    pub fn also_in(mut self, gid: u32) -> User {
        self.groups.push(gid);
        self
    }

    /// Adds a capability.
    pub fn with(mut self, capability: Capability) -> User {
        self.capabilities |= capability.bit();
        self
    }

    /// Takes a capability away.
    pub fn without(mut self, capability: Capability) -> User {
        self.capabilities &= !capability.bit();
        self
    }

    pub(crate) fn mask(&self) -> u64 {
        self.capabilities
    }

    pub(crate) fn has(&self, capability: Capability) -> bool {
        self.capabilities & capability.bit() != 0
    }

    /// `EPERM` without a capability of BPF, for which that of the administrator stands too.
    pub(crate) fn needs(&self, capability: Capability) -> Result<(), Errno> {
        let may = self.has(capability) || self.has(Capability::SYS_ADMIN);
        if may { Ok(()) } else { Err(Errno::EPERM) }
    }

    fn is_in(&self, gid: u32) -> bool {
        self.gid == gid || self.groups.contains(&gid)
    }
}

/// Read, write and search, as three bits of a mode have them.
pub(crate) const READ: u32 = 4;
pub(crate) const WRITE: u32 = 2;
pub(crate) const SEARCH: u32 = 1;

/// Only the owner of a file, or of the directory, may take it out of a directory with this bit.
pub(crate) const STICKY: u32 = 0o1000;
/// What is made in a directory with this bit belongs to its group.
const SET_GID: u32 = 0o2000;

/// Whose a file is, and what may be done with it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Mode {
    pub(crate) bits: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

impl Mode {
    /// That of a file that a user makes in a directory.
    pub(crate) fn made(user: &User, directory: Mode, bits: u32, is_directory: bool) -> Mode {
        let inherits = directory.bits & SET_GID != 0;
        Mode {
            bits: bits | if inherits && is_directory { SET_GID } else { 0 },
            uid: user.uid,
            gid: if inherits { directory.gid } else { user.gid },
        }
    }

    /// `EACCES` unless a user may do all of `wanted`.
    pub(crate) fn check(self, user: &User, wanted: u32) -> Result<(), Errno> {
        let granted = match () {
            () if user.uid == self.uid => self.bits >> 6,
            () if user.is_in(self.gid) => self.bits >> 3,
            () => self.bits,
        };
        let may = granted & wanted == wanted
            || user.has(Capability::DAC_OVERRIDE)
            || wanted & WRITE == 0 && user.has(Capability::DAC_READ_SEARCH);
        if may { Ok(()) } else { Err(Errno::EACCES) }
    }

    /// `EPERM` when a file may not be taken out of this directory by a user who may write to it.
    pub(crate) fn check_removal(self, user: &User, file: Mode) -> Result<(), Errno> {
        let may = self.bits & STICKY == 0
            || user.uid == file.uid
            || user.uid == self.uid
            || user.has(Capability::FOWNER);
        if may { Ok(()) } else { Err(Errno::EPERM) }
    }

    /// Gives the file other bits (`chmod`).
    pub(crate) fn change(&mut self, user: &User, bits: u32) -> Result<(), Errno> {
        if user.uid != self.uid && !user.has(Capability::FOWNER) {
            return Err(Errno::EPERM);
        }
        self.bits = bits & 0o7777;
        Ok(())
    }

    /// Gives the file to others (`chown`).
    pub(crate) fn give(&mut self, user: &User, uid: Option<u32>, gid: Option<u32>) -> Result<(), Errno> {
        let owns = user.uid == self.uid;
        let may_user = uid.is_none_or(|uid| owns && uid == self.uid);
        let may_group = gid.is_none_or(|gid| owns && (gid == self.gid || user.is_in(gid)));
        if !(may_user && may_group || user.has(Capability::CHOWN)) {
            return Err(Errno::EPERM);
        }
        (self.uid, self.gid) = (uid.unwrap_or(self.uid), gid.unwrap_or(self.gid));
        Ok(())
    }
}

/// What it takes to make a map of a kind beside `CAP_BPF`.
fn needed_for_map(kind: MapType) -> Option<Capability> {
    use MapType as M;
    let network = [M::SOCKMAP, M::SOCKHASH, M::DEVMAP, M::DEVMAP_HASH, M::XSKMAP];
    network.contains(&kind).then_some(Capability::NET_ADMIN)
}

/// What it takes to load a program of a kind beside `CAP_BPF`.
pub(crate) fn needed_for_program(kind: ProgType) -> &'static [Capability] {
    use ProgType as P;
    match kind {
        P::EXT => &[Capability::NET_ADMIN, Capability::PERFMON],
        P::SCHED_CLS
        | P::SCHED_ACT
        | P::XDP
        | P::LWT_IN
        | P::LWT_OUT
        | P::LWT_XMIT
        | P::LWT_SEG6LOCAL
        | P::SK_SKB
        | P::SK_MSG
        | P::FLOW_DISSECTOR
        | P::CGROUP_DEVICE
        | P::CGROUP_SOCK
        | P::CGROUP_SOCK_ADDR
        | P::CGROUP_SOCKOPT
        | P::CGROUP_SYSCTL
        | P::SOCK_OPS
        | P::NETFILTER => &[Capability::NET_ADMIN],
        P::KPROBE
        | P::TRACEPOINT
        | P::PERF_EVENT
        | P::RAW_TRACEPOINT
        | P::RAW_TRACEPOINT_WRITABLE
        | P::TRACING
        | P::LSM
        | P::STRUCT_OPS => &[Capability::PERFMON],
        _ => &[],
    }
}

/// The calls that are made by bpf(2).
const BPF_CALLS: &[Command] = &[
    Command::MAP_CREATE,
    Command::MAP_LOOKUP,
    Command::MAP_UPDATE,
    Command::MAP_UPDATE_FD,
    Command::MAP_DELETE,
    Command::MAP_NEXT_KEY,
    Command::MAP_LOOKUP_AND_DELETE,
    Command::MAP_LOOKUP_BATCH,
    Command::MAP_LOOKUP_AND_DELETE_BATCH,
    Command::MAP_UPDATE_BATCH,
    Command::MAP_DELETE_BATCH,
    Command::MAP_FREEZE,
    Command::PROG_LOAD,
    Command::PROG_TEST_RUN,
    Command::PROG_BIND_MAP,
    Command::PROG_DUMP,
    Command::PROG_STREAM_READ,
    Command::ENABLE_STATS,
    Command::BTF_LOAD,
    Command::TOKEN_CREATE,
    Command::MAP_INFO,
    Command::PROG_INFO,
    Command::BTF_INFO,
    Command::BTF_BYTES,
    Command::LINK_INFO,
    Command::NEXT_ID,
    Command::OPEN_BY_ID,
    Command::PIN,
    Command::OPEN_PINNED,
    Command::LINK_CREATE,
    Command::PROG_ATTACH,
    Command::PROG_DETACH,
    Command::PROG_QUERY,
    Command::LINK_UPDATE,
    Command::LINK_DETACH,
    Command::ITER_CREATE,
    Command::RAW_TRACEPOINT_OPEN,
];

impl Core {
    /// `EPERM` for every call of bpf(2) by who has no capability of BPF, on kernels that ask for one before they look at the call.
    pub(crate) fn may_call(&self, command: &str) -> Result<(), Errno> {
        let asks = self.1.is_some() && !self.features().contains(Features::UNPRIVILEGED_CALLS);
        if asks && BPF_CALLS.iter().any(|call| call.name() == command) {
            return self.needs(Capability::BPF);
        }
        Ok(())
    }

    /// `EPERM` for who may not make a map of a kind, beside [`Capability::BPF`]. Until there were tokens (Linux 6.9) the
    /// administrator's capability did not stand for that of the network there.
    pub(crate) fn permit_map(&self, token: Option<BorrowedFd<'_>>, kind: MapType) -> Result<(), Errno> {
        let needed = needed_for_map(kind);
        self.permit(token, [Capability::BPF].into_iter().chain(needed))?;
        match (needed, &self.1) {
            (Some(needed), Some(user)) if !self.features().contains(Features::TOKEN) && !user.has(needed) => {
                Err(Errno::EPERM)
            }
            _ => Ok(()),
        }
    }

    /// Who calls.
    pub(crate) fn user(&self) -> Arc<User> {
        self.1.clone().unwrap_or_else(|| Arc::new(User::process()))
    }

    /// `EPERM` for a caller who lacks one of some capabilities, unless a token stands for them.
    pub(crate) fn permit(
        &self,
        token: Option<BorrowedFd<'_>>,
        needed: impl IntoIterator<Item = Capability>,
    ) -> Result<(), Errno> {
        match token.map(|fd| self.object(fd)).transpose()? {
            Some(Object::Token) => Ok(()),
            Some(_) => Err(Errno::EINVAL),
            None => needed.into_iter().try_for_each(|capability| self.needs(capability)),
        }
    }

    /// `EPERM` for a caller who lacks a capability of BPF.
    pub(crate) fn needs(&self, capability: Capability) -> Result<(), Errno> {
        let known = self.features().contains(Features::CAPABILITIES);
        match &self.1 {
            Some(user) if known || capability == Capability::NET_ADMIN => user.needs(capability),
            Some(user) => user.needs(Capability::SYS_ADMIN),
            None if self.config().delegating.is_some() => Err(Errno::EPERM),
            None => Ok(()),
        }
    }
}

impl SimKernel {
    /// The same kernel as another user's process has it: what is called through the answer is called by that user.
    ///
    /// Without it, calls are those of the user who runs the process, who may do everything. With it,
    /// - paths of a bpffs are walked, listed, opened and changed as the modes of what is on the way allow
    ///   ([`Errno::EACCES`]; [`Errno::EPERM`] for what only an owner may);
    /// - maps, programs and BTF are made with the [`Capability`] that Linux asks for where `kernel.unprivileged_bpf_disabled` is
    ///   set, as it is by most distributions, and objects are found by their ids by the administrator only
    ///   ([`Errno::EPERM`]);
    /// - who has a descriptor may use it, whoever opened it.
    ///
    /// A kernel like one before Linux 5.19 ([`Builder::linux`](crate::Builder::linux)) refuses all calls of bpf(2) to who has
    /// no capability of BPF, and one before 5.8 knows only the administrator's: see
    /// [`Features::UNPRIVILEGED_CALLS`](crate::Features::UNPRIVILEGED_CALLS) and
    /// [`Features::CAPABILITIES`](crate::Features::CAPABILITIES).
    ///
    /// A pin has mode 0600, a directory 0700, and the bpffs of the [`Builder`](crate::Builder) mode 0700, as `systemd` mounts it;
    /// [`set_pin_mode`](skep_sys::Backend::set_pin_mode) and [`set_pin_owner`](skep_sys::Backend::set_pin_owner) change that:
    ///
    /// ```
    /// use std::path::Path;
    /// use skep_sim::{SimKernel, User};
    /// use skep_sys::abi::{Errno, MapType, OpenFlags};
    /// use skep_sys::{Kernel, request::MapCreate};
    ///
    /// let sim = SimKernel::new();
    /// let service = Kernel::new(sim.clone());
    /// let path = Path::new("/sys/fs/bpf/counters");
    /// service.map_create(&MapCreate::new(MapType::ARRAY, 4, 8, 1))?.pin(path)?;
    ///
    /// let reader = Kernel::new(sim.as_user(User::new(1000).also_in(50)));
    /// let open = |flags| reader.map_open_pinned(path, flags).map(drop);
    /// assert_eq!(open(OpenFlags::RDONLY), Err(Errno::EACCES));
    ///
    /// let files = service.backend();
    /// files.set_pin_mode(Path::new("/sys/fs/bpf"), 0o711)?;
    /// files.set_pin_owner(path, None, Some(50))?;
    /// files.set_pin_mode(path, 0o640)?;
    /// assert_eq!(open(OpenFlags::RDONLY), Ok(()));
    /// assert_eq!(open(OpenFlags::empty()), Err(Errno::EACCES));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use = "the kernel itself is not changed"]
    pub fn as_user(&self, user: User) -> SimKernel {
        let mut sim = self.clone();
        sim.0.1 = Some(Arc::new(user));
        sim
    }
}

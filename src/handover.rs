//! Handles that go from process to process: over a Unix socket, or through the descriptor store of a service manager.
//!
//! A map, program or link lives as long as a descriptor of it is open somewhere. A service that restarts can leave its
//! own with whoever starts it again, and needs no pins then:
//!
//! ```no_run
//! use skep::handover::Handles;
//! use skep::{Kernel, Loader, Spec};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let kernel = Kernel::linux();
//! let kept = Handles::from_service_manager(&kernel)?; // first thing in main
//! let link = match kept.link("filter") {
//!     Ok(link) => link.try_clone()?, // from the run before
//!     Err(_) => {
//!         let object = Loader::new(&kernel).load(&Spec::open("filter.bpf.o")?)?;
//!         let link = object.program("filter")?.attach_xdp("eth0")?;
//!         let mut handles = Handles::new();
//!         handles.add("filter", link.try_clone()?)?;
//!         handles.add("flows", object.map("flows")?.clone())?;
//!         handles.store()?; // systemd: with FileDescriptorStoreMax= in the unit
//!         link
//!     }
//! };
//! # drop(link);
//! # Ok(())
//! # }
//! ```
//!
//! Nothing of systemd is needed for that: a store is any process that listens at `$NOTIFY_SOCKET` and passes descriptors on
//! as `LISTEN_FDS`.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixStream};
use std::path::PathBuf;

use skep_link::Link;
use skep_sys::abi::Errno;
use skep_sys::passing::{MAX_FDS, receive_fds, send_fds, take_listen_fds};
use skep_sys::{Kernel, LoadedProgram, ObjectKind};

use crate::map::Map;

/// A handle of a map, a program or a link.
#[derive(Debug)]
#[non_exhaustive]
pub enum Handle {
    /// A map.
    Map(Map),
    /// A program.
    Program(LoadedProgram),
    /// A link.
    Link(Link),
}

/// Why handles could not be handed over.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HandoverError {
    /// A descriptor is no map, program or link of the kernel.
    #[error("descriptor `{name}` is no map, program or link of this kernel")]
    NotBpf {
        /// Its name.
        name: String,
    },
    /// A descriptor could not be made a handle.
    #[error("descriptor `{name}`: the kernel does not say what it is")]
    Unknown {
        /// Its name.
        name: String,
        /// What it answered.
        source: Errno,
    },
    /// There is no handle of that name and kind.
    #[error("no {kind} `{name}` was handed over; there are: {}", if there.is_empty() { "none".to_owned() } else { there.join(", ") })]
    Missing {
        /// What was asked for.
        kind: HandleKind,
        /// Its name.
        name: String,
        /// What there is.
        there: Vec<String>,
    },
    /// A name cannot be used.
    #[error("handle name `{}`: {reason}", name.escape_debug())]
    Name {
        /// The name.
        name: String,
        /// Why not.
        reason: &'static str,
    },
    /// A socket refused.
    #[error("{step}{}", socket.as_ref().map(|path| format!(" {}", path.display())).unwrap_or_default())]
    Socket {
        /// What was being done.
        step: &'static str,
        /// The socket, if it has a path.
        socket: Option<PathBuf>,
        /// What the system answered.
        source: std::io::Error,
    },
    /// The other side sent something else than handles.
    #[error("the other side sent something else than handles: {reason}")]
    Protocol {
        /// What is wrong.
        reason: &'static str,
    },
    /// There is no service manager that keeps descriptors.
    #[error("no service manager keeps descriptors of this process: NOTIFY_SOCKET is not set")]
    NoManager,
}

/// Kinds of [`Handle`]s.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum HandleKind {
    /// A map.
    Map,
    /// A program.
    Program,
    /// A link.
    Link,
}

impl fmt::Display for HandleKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            HandleKind::Map => "map",
            HandleKind::Program => "program",
            HandleKind::Link => "link",
        })
    }
}

impl Handle {
    /// Finds out what a descriptor is, and makes it a handle.
    ///
    /// ```
    /// use std::os::fd::OwnedFd;
    ///
    /// use skep::handover::{Handle, HandleKind};
    /// use skep::map::Map;
    /// use skep::sys::abi::MapType;
    /// use skep::sys::request::MapCreate;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let kernel = skep::sim::kernel();
    /// let map = Map::create(&kernel, &MapCreate::new(MapType::HASH, 4, 8, 16))?;
    /// let fd: OwnedFd = map.to_owned_fd()?;
    /// assert_eq!(Handle::from_fd(&kernel, "counts", fd)?.kind(), HandleKind::Map);
    /// let file = std::fs::File::open("Cargo.toml")?;
    /// assert!(Handle::from_fd(&kernel, "file", file.into()).is_err());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`HandoverError::NotBpf`] when it is something else, [`HandoverError::Unknown`].
    pub fn from_fd(kernel: &Kernel, name: &str, fd: OwnedFd) -> Result<Handle, HandoverError> {
        let unknown = |source| HandoverError::Unknown { name: name.to_owned(), source };
        match kernel.kind_of(fd.as_fd()).map_err(unknown)? {
            Some(ObjectKind::Map) => {
                Ok(Handle::Map(Map::new(name, kernel.map_from_fd(fd).map_err(unknown)?)))
            }
            Some(ObjectKind::Program) => Ok(Handle::Program(kernel.prog_from_fd(fd).map_err(unknown)?)),
            Some(ObjectKind::Link) => Link::from_fd(kernel, fd)
                .map(Handle::Link)
                .map_err(|error| unknown(error.errno().unwrap_or(Errno::EINVAL))),
            _ => Err(HandoverError::NotBpf { name: name.to_owned() }),
        }
    }

    /// What it is a handle of.
    pub fn kind(&self) -> HandleKind {
        match self {
            Handle::Map(_) => HandleKind::Map,
            Handle::Program(_) => HandleKind::Program,
            Handle::Link(_) => HandleKind::Link,
        }
    }
}

impl AsFd for Handle {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Handle::Map(map) => map.as_fd(),
            Handle::Program(program) => program.as_fd(),
            Handle::Link(link) => link.as_fd(),
        }
    }
}

impl From<Map> for Handle {
    fn from(map: Map) -> Handle {
        Handle::Map(map)
    }
}

impl From<LoadedProgram> for Handle {
    fn from(program: LoadedProgram) -> Handle {
        Handle::Program(program)
    }
}

impl From<Link> for Handle {
    fn from(link: Link) -> Handle {
        Handle::Link(link)
    }
}

/// Handles by their names.
#[derive(Debug, Default)]
pub struct Handles {
    named: Vec<(String, Handle)>,
}

/// Begins each message of a stream, so that what else comes over it is not taken for handles.
const MAGIC: [u8; 8] = *b"skepfds1";
/// Length of what comes before the names: [`MAGIC`], the number of handles, the length of the names, whether more follows.
const HEADER: usize = MAGIC.len() + 12;
/// Longest name, as service managers take it.
const NAME_MAX: usize = 255;

impl Handles {
    /// None yet.
    pub fn new() -> Handles {
        Handles::default()
    }

    /// Adds a handle, in the place of one of the same name. A name has 1 to 255 ASCII characters, without control characters and
    /// colons, as service managers want it.
    ///
    /// # Errors
    ///
    /// [`HandoverError::Name`].
    pub fn add(&mut self, name: &str, handle: impl Into<Handle>) -> Result<(), HandoverError> {
        let refused = |reason| Err(HandoverError::Name { name: name.to_owned(), reason });
        if name.is_empty() || name.len() > NAME_MAX {
            return refused("it must have 1 to 255 characters");
        }
        if !name.bytes().all(|byte| matches!(byte, b' '..=b'~') && byte != b':') {
            return refused("it must be ASCII without control characters and colons");
        }
        self.named.retain(|(there, _)| there != name);
        self.named.push((name.to_owned(), handle.into()));
        Ok(())
    }

    /// The handles with their names, in the order in which they were added or came.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Handle)> {
        self.named.iter().map(|(name, handle)| (name.as_str(), handle))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.named.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.named.is_empty()
    }

    /// The map of that name.
    ///
    /// # Errors
    ///
    /// [`HandoverError::Missing`], also when that is something else.
    pub fn map(&self, name: &str) -> Result<&Map, HandoverError> {
        match self.get(name) {
            Some(Handle::Map(map)) => Ok(map),
            _ => Err(self.missing(HandleKind::Map, name)),
        }
    }

    /// The program of that name.
    ///
    /// # Errors
    ///
    /// [`HandoverError::Missing`], also when that is something else.
    pub fn program(&self, name: &str) -> Result<&LoadedProgram, HandoverError> {
        match self.get(name) {
            Some(Handle::Program(program)) => Ok(program),
            _ => Err(self.missing(HandleKind::Program, name)),
        }
    }

    /// The link of that name.
    ///
    /// # Errors
    ///
    /// [`HandoverError::Missing`], also when that is something else.
    pub fn link(&self, name: &str) -> Result<&Link, HandoverError> {
        match self.get(name) {
            Some(Handle::Link(link)) => Ok(link),
            _ => Err(self.missing(HandleKind::Link, name)),
        }
    }

    /// Takes a handle out.
    pub fn take(&mut self, name: &str) -> Option<Handle> {
        let at = self.named.iter().position(|(there, _)| there == name)?;
        Some(self.named.remove(at).1)
    }

    fn get(&self, name: &str) -> Option<&Handle> {
        self.named.iter().find(|(there, _)| there == name).map(|(_, handle)| handle)
    }

    fn missing(&self, kind: HandleKind, name: &str) -> HandoverError {
        let there = self.named.iter().map(|(name, handle)| format!("{} `{name}`", handle.kind()));
        HandoverError::Missing { kind, name: name.to_owned(), there: there.collect() }
    }

    /// Sends all over a Unix socket (`SCM_RIGHTS`) to a process that [receives](Handles::receive) them. It gets handles of
    /// its own; those here stay open.
    ///
    /// # Errors
    ///
    /// [`HandoverError::Socket`].
    pub fn send(&self, socket: &UnixStream) -> Result<(), HandoverError> {
        let mut left = self.named.as_slice();
        loop {
            let (now, later) = left.split_at(left.len().min(MAX_FDS));
            let names = now.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join("\n");
            let mut bytes = MAGIC.to_vec();
            for number in [now.len(), names.len(), usize::from(!later.is_empty())] {
                // At most 253 names of 255 bytes.
                bytes.extend(u32::try_from(number).unwrap_or(u32::MAX).to_le_bytes());
            }
            bytes.extend(names.as_bytes());
            let fds: Vec<BorrowedFd<'_>> = now.iter().map(|(_, handle)| handle.as_fd()).collect();
            send_all(socket, &bytes, &fds)?;
            if later.is_empty() {
                return Ok(());
            }
            left = later;
        }
    }

    /// Receives what another process [sent](Handles::send).
    ///
    /// # Errors
    ///
    /// [`HandoverError::Socket`]; [`HandoverError::Protocol`] when something else was sent; [`HandoverError::NotBpf`] when
    /// a descriptor is none of this kernel. What came is closed then.
    pub fn receive(kernel: &Kernel, socket: &UnixStream) -> Result<Handles, HandoverError> {
        let mut handles = Handles::new();
        loop {
            let mut header = [0; HEADER];
            let mut fds = Vec::new();
            receive_all(socket, &mut header, &mut fds)?;
            let (magic, numbers) = header.split_at(MAGIC.len());
            let mut numbers = numbers.chunks_exact(4).map(|four| {
                u32::from_le_bytes(four.try_into().unwrap_or_default()) as usize // chunks have four bytes
            });
            let mut next = || numbers.next().unwrap_or_default();
            let (count, len, more) = (next(), next(), next());
            if magic != MAGIC || count > MAX_FDS || len > MAX_FDS * (NAME_MAX + 1) {
                return Err(HandoverError::Protocol { reason: "a message does not begin as one" });
            }
            let mut names = vec![0; len];
            receive_all(socket, &mut names, &mut fds)?;
            let names = String::from_utf8(names);
            let names = names.map_err(|_| HandoverError::Protocol { reason: "names are not ASCII" })?;
            let names: Vec<&str> = if count == 0 { Vec::new() } else { names.split('\n').collect() };
            if names.len() != count || fds.len() != count {
                return Err(HandoverError::Protocol { reason: "there are not as many descriptors as names" });
            }
            for (name, fd) in names.into_iter().zip(fds) {
                handles.add(name, Handle::from_fd(kernel, name, fd)?)?;
            }
            if more == 0 {
                return Ok(handles);
            }
        }
    }

    /// Gives all to the service manager to keep (`FDSTORE=1` at `$NOTIFY_SOCKET`), which passes them to the next run of the
    /// service. systemd does so for units with `FileDescriptorStoreMax=`. It says nothing of whether it kept them.
    ///
    /// # Errors
    ///
    /// [`HandoverError::NoManager`], [`HandoverError::Socket`].
    pub fn store(&self) -> Result<(), HandoverError> {
        self.store_at(&notify_socket()?)
    }

    /// As [`store`](Handles::store), at a socket of that address: a path, or `@` and the name of an abstract one.
    ///
    /// # Errors
    ///
    /// [`HandoverError::Socket`].
    pub fn store_at(&self, address: &str) -> Result<(), HandoverError> {
        let socket = connect(address)?;
        for (name, handle) in &self.named {
            // Without FDPOLL=0 the manager would close those that report an error, as a ring buffer's may.
            let text = format!("FDSTORE=1\nFDNAME={name}\nFDPOLL=0");
            send_fds(socket.as_fd(), text.as_bytes(), &[handle.as_fd()])
                .map_err(|errno| refused("send to the service manager at", address, errno))?;
        }
        Ok(())
    }

    /// Asks the service manager to close what it keeps under a name (`FDSTOREREMOVE=1`).
    ///
    /// # Errors
    ///
    /// [`HandoverError::NoManager`], [`HandoverError::Socket`].
    pub fn forget(name: &str) -> Result<(), HandoverError> {
        let address = notify_socket()?;
        let text = format!("FDSTOREREMOVE=1\nFDNAME={name}");
        send_fds(connect(&address)?.as_fd(), text.as_bytes(), &[])
            .map_err(|errno| refused("send to the service manager at", &address, errno))?;
        Ok(())
    }

    /// Takes what the service manager kept (`LISTEN_FDS`). What is no map, program or link of this kernel, such as a socket that it
    /// listens at for the service, is left out and stays open, since it is another's to take over.
    ///
    /// Call it first thing in `main`: [`take_listen_fds`] has more.
    ///
    /// # Errors
    ///
    /// [`HandoverError::Unknown`], [`HandoverError::Name`].
    pub fn from_service_manager(kernel: &Kernel) -> Result<Handles, HandoverError> {
        Handles::from_named(kernel, take_listen_fds()).map(|(handles, others)| {
            // Their numbers are in the variables, for whoever knows what they are.
            for (_, fd) in others {
                std::mem::forget(fd);
            }
            handles
        })
    }

    /// Makes handles of descriptors with names, and answers beside them those that are no map, program or link.
    ///
    /// # Errors
    ///
    /// [`HandoverError::Unknown`], [`HandoverError::Name`].
    pub fn from_named(
        kernel: &Kernel,
        named: impl IntoIterator<Item = (String, OwnedFd)>,
    ) -> Result<(Handles, Vec<(String, OwnedFd)>), HandoverError> {
        let mut handles = Handles::new();
        let mut others = Vec::new();
        for (name, fd) in named {
            let kind = kernel.kind_of(fd.as_fd());
            let kind = kind.map_err(|source| HandoverError::Unknown { name: name.clone(), source })?;
            match kind {
                Some(ObjectKind::Map | ObjectKind::Program | ObjectKind::Link) => {
                    handles.add(&name, Handle::from_fd(kernel, &name, fd)?)?;
                }
                _ => others.push((name, fd)),
            }
        }
        Ok((handles, others))
    }
}

fn send_all(socket: &UnixStream, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> Result<(), HandoverError> {
    let (mut left, mut fds) = (bytes, fds);
    while !left.is_empty() {
        let sent = send_fds(socket.as_fd(), left, fds).map_err(|errno| io("send handles", errno))?;
        // The descriptors went with the first byte.
        (left, fds) = (left.get(sent..).unwrap_or_default(), &[]);
    }
    Ok(())
}

fn receive_all(socket: &UnixStream, bytes: &mut [u8], fds: &mut Vec<OwnedFd>) -> Result<(), HandoverError> {
    let mut filled = 0;
    while let Some(left) = bytes.get_mut(filled..).filter(|left| !left.is_empty()) {
        let (len, more) = receive_fds(socket.as_fd(), left).map_err(|errno| io("receive handles", errno))?;
        fds.extend(more);
        if len == 0 {
            return Err(HandoverError::Protocol { reason: "the connection ended in the middle" });
        }
        filled += len;
    }
    Ok(())
}

fn notify_socket() -> Result<String, HandoverError> {
    std::env::var("NOTIFY_SOCKET").ok().filter(|address| !address.is_empty()).ok_or(HandoverError::NoManager)
}

fn connect(address: &str) -> Result<UnixDatagram, HandoverError> {
    let connect = || {
        let socket = UnixDatagram::unbound()?;
        match address.strip_prefix('@') {
            Some(name) => socket.connect_addr(&SocketAddr::from_abstract_name(name)?)?,
            None => socket.connect(address)?,
        }
        Ok(socket)
    };
    let step = "connect to the service manager at";
    connect().map_err(|source| HandoverError::Socket { step, socket: Some(address.into()), source })
}

fn io(step: &'static str, errno: Errno) -> HandoverError {
    HandoverError::Socket { step, socket: None, source: std::io::Error::from_raw_os_error(errno.0) }
}

fn refused(step: &'static str, address: &str, errno: Errno) -> HandoverError {
    let source = std::io::Error::from_raw_os_error(errno.0);
    HandoverError::Socket { step, socket: Some(address.into()), source }
}

const _: fn() = || {
    fn shared<T: Send + Sync>() {}
    shared::<Handles>();
    shared::<HandoverError>();
};

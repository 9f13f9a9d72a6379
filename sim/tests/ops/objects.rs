//! What descriptors in keys and values stand for: each is made when it is first asked for.

use std::collections::BTreeMap;
use std::fs::File;
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::PathBuf;

use rustix::net::{AddressFamily, SocketAddrV4, SocketType, sockopt};
use skep_asm::{Assembler, Reg};
use skep_sys::abi::{AttachType, MapFlags, MapType, PerfEventKind, ProgType};
use skep_sys::request::{MapCreate, PerfEventOpen, PerfTarget, ProgLoad};
use skep_sys::{Kernel, LoadedProgram, MapFd};

/// Programs, maps, and what is not of a kernel's BPF.
pub(crate) const PROGRAMS: [&str; 5] = ["socket", "socket2", "xdp", "xdp_devmap", "xdp_cpumap"];
pub(crate) const MAPS: [&str; 8] = [
    "array_4_8_4",
    "array_4_8_5",
    "array_4_4_4",
    "array_4_8_4_inner",
    "hash_4_8_4",
    "hash_4_8_9",
    "hash_8_8_4",
    "lpm_8_8_4",
];
pub(crate) const SOCKETS: [&str; 11] = [
    "tcp_listening",
    "tcp_client",
    "tcp_server",
    "tcp_idle",
    "udp_bound",
    "udp_idle",
    "udp_shared",
    "udp_shared2",
    "tcp_shared",
    "unix_stream",
    "unix_datagram",
];
pub(crate) const OTHERS: [&str; 6] = ["perf", "file", "file2", "process", "cgroup", "bad"];

/// The name as one that lives for ever.
pub(crate) fn known(name: &str) -> &'static str {
    let all = PROGRAMS.iter().chain(&MAPS).chain(&SOCKETS).chain(&OTHERS);
    all.copied().find(|known| *known == name).unwrap_or_else(|| panic!("object {name}"))
}

enum Object {
    Program(LoadedProgram),
    Map(MapFd),
    Other(OwnedFd),
}

impl Object {
    fn fd(&self) -> BorrowedFd<'_> {
        match self {
            Object::Program(prog) => prog.as_fd(),
            Object::Map(map) => map.as_fd(),
            Object::Other(fd) => fd.as_fd(),
        }
    }
}

/// The objects of one kernel that were asked for.
pub(crate) struct Objects {
    kernel: Kernel,
    made: BTreeMap<&'static str, Object>,
}

impl Objects {
    pub(crate) fn new(kernel: &Kernel) -> Objects {
        Objects { kernel: kernel.clone(), made: BTreeMap::new() }
    }

    /// The descriptor of an object; none for one that stands for no object, or cannot be made here.
    pub(crate) fn fd(&mut self, name: &'static str) -> Option<BorrowedFd<'_>> {
        if !self.made.contains_key(name) {
            self.make(name)?;
        }
        self.made.get(name).map(Object::fd)
    }

    pub(crate) fn number(&mut self, name: &'static str) -> i32 {
        self.fd(name).map_or(-1, |fd| fd.as_raw_fd())
    }

    /// Whether the object is one of sockets, files or processes, which a kernel is handed as such.
    pub(crate) fn is_outside(name: &str) -> bool {
        SOCKETS.contains(&name) || ["file", "file2", "process", "cgroup"].contains(&name)
    }

    /// The name of a map by its id.
    pub(crate) fn map_with_id(&self, id: u32) -> Option<&'static str> {
        self.found(
            |object| matches!(object, Object::Map(map) if map.info().is_ok_and(|info| info.id.0 == id)),
        )
    }

    /// The name of a program by its id.
    pub(crate) fn program_with_id(&self, id: u32) -> Option<&'static str> {
        self.found(
            |object| matches!(object, Object::Program(prog) if prog.info().is_ok_and(|info| info.id.0 == id)),
        )
    }

    fn found(&self, is_it: impl Fn(&Object) -> bool) -> Option<&'static str> {
        self.made.iter().find(|(_, object)| is_it(object)).map(|(name, _)| *name)
    }

    /// The name of a socket by its cookie.
    pub(crate) fn with_cookie(&self, cookie: u64) -> Option<&'static str> {
        let is_it = |name: &str, object: &Object| {
            SOCKETS.contains(&name) && sockopt::socket_cookie(object.fd()).is_ok_and(|found| found == cookie)
        };
        self.made.iter().find(|(name, object)| is_it(name, object)).map(|(name, _)| *name)
    }

    fn make(&mut self, name: &'static str) -> Option<()> {
        let object = match name {
            "socket" | "socket2" => Object::Program(self.program(ProgType::SOCKET_FILTER, AttachType(0))?),
            "xdp" => Object::Program(self.program(ProgType::XDP, AttachType(0))?),
            "xdp_devmap" => Object::Program(self.program(ProgType::XDP, AttachType::XDP_DEVMAP)?),
            "xdp_cpumap" => Object::Program(self.program(ProgType::XDP, AttachType::XDP_CPUMAP)?),
            "tcp_listening" | "tcp_client" | "tcp_server" => {
                let listener = TcpListener::bind("127.0.0.1:0").ok()?;
                let client = TcpStream::connect(listener.local_addr().ok()?).ok()?;
                let (server, _) = listener.accept().ok()?;
                self.made.insert("tcp_listening", Object::Other(listener.into()));
                self.made.insert("tcp_client", Object::Other(client.into()));
                self.made.insert("tcp_server", Object::Other(server.into()));
                return Some(());
            }
            "tcp_idle" => Object::Other(idle(SocketType::STREAM)?),
            "udp_idle" => Object::Other(idle(SocketType::DGRAM)?),
            "udp_bound" => Object::Other(UdpSocket::bind("127.0.0.1:0").ok()?.into()),
            "udp_shared" | "udp_shared2" => Object::Other(shared(SocketType::DGRAM)?),
            "tcp_shared" => {
                let socket = shared(SocketType::STREAM)?;
                rustix::net::listen(&socket, 1).ok()?;
                Object::Other(socket)
            }
            "unix_stream" => Object::Other(UnixStream::pair().ok()?.0.into()),
            "unix_datagram" => Object::Other(UnixDatagram::pair().ok()?.0.into()),
            "perf" => Object::Other(self.perf()?),
            "file" | "file2" => Object::Other(file(name)?.into()),
            "process" => Object::Other(process()?),
            "cgroup" => Object::Other(self.cgroup()?.into()),
            "bad" => return None,
            _ => Object::Map(self.map(name)?),
        };
        self.made.insert(name, object);
        Some(())
    }

    fn program(&self, prog_type: ProgType, attach_type: AttachType) -> Option<LoadedProgram> {
        let insns = Assembler::new().mov64_imm(Reg::R0, 2).exit().finish().ok()?;
        let mut request = ProgLoad::new(prog_type, &insns, "GPL");
        request.expected_attach_type = attach_type;
        self.kernel.prog_load(&request, None).ok()
    }

    /// A map by its name: kind, sizes of key and value, capacity, and perhaps a flag.
    fn map(&self, name: &str) -> Option<MapFd> {
        let mut parts = name.split('_');
        let kind = match parts.next()? {
            "lpm" => MapType::LPM_TRIE,
            kind => MapType::from_name(kind)?,
        };
        let mut number = || parts.next()?.parse().ok();
        let mut request = MapCreate::new(kind, number()?, number()?, number()?);
        if parts.next() == Some("inner") {
            request.flags = MapFlags::INNER_MAP;
        }
        if kind == MapType::LPM_TRIE {
            request.flags = MapFlags::NO_PREALLOC;
        }
        self.kernel.map_create(&request).ok()
    }

    fn perf(&self) -> Option<OwnedFd> {
        let request = PerfEventOpen::new(PerfEventKind::BPF_OUTPUT, PerfTarget::Cpu(0));
        self.kernel.backend().perf_event_open(&request).ok()
    }

    /// A cgroup of the second version; on a simulated kernel any directory is one.
    fn cgroup(&self) -> Option<File> {
        if self.kernel.backend().name() == "simulated" {
            return File::open(std::env::temp_dir()).ok();
        }
        let mounts = std::fs::read_to_string("/proc/self/mounts").ok()?;
        let path = mounts.lines().find_map(|line| {
            let mut fields = line.split(' ');
            let path = fields.nth(1)?;
            (fields.next() == Some("cgroup2")).then(|| PathBuf::from(path))
        })?;
        File::open(path).ok()
    }
}

fn idle(kind: SocketType) -> Option<OwnedFd> {
    rustix::net::socket(AddressFamily::INET, kind, None).ok()
}

fn shared(kind: SocketType) -> Option<OwnedFd> {
    let socket = idle(kind)?;
    sockopt::set_socket_reuseport(&socket, true).ok()?;
    rustix::net::bind(&socket, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0)).ok()?;
    Some(socket)
}

fn file(name: &str) -> Option<File> {
    use std::sync::atomic::{AtomicU32, Ordering};

    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let path = std::env::temp_dir().join(format!("skep_ops_{name}_{}_{count}", std::process::id()));
    let file = File::create(&path).ok()?;
    std::fs::remove_file(path).ok()?;
    Some(file)
}

#[cfg(target_os = "linux")]
fn process() -> Option<OwnedFd> {
    use rustix::process::{PidfdFlags, getpid, pidfd_open};

    pidfd_open(getpid(), PidfdFlags::empty()).ok()
}

#[cfg(not(target_os = "linux"))]
fn process() -> Option<OwnedFd> {
    None
}

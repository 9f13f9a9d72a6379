//! Connections of the running kernel.

use std::cell::Cell;
use std::fs;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use skep_sys::Kernel;

use super::Network;

/// The process in a control group of its own.
pub(crate) struct Linux {
    kernel: Kernel,
    directory: PathBuf,
    before: PathBuf,
    group: OwnedFd,
    /// How long nothing has to come until nothing comes any more.
    quiet: Cell<Duration>,
}

/// Far longer than bytes take on a machine that has time.
const QUIET: Duration = Duration::from_millis(60);

impl Linux {
    /// `None` and the reason where there are no control groups of the second version.
    pub(crate) fn new(kernel: Kernel) -> Result<Linux, String> {
        let mounts = fs::read_to_string("/proc/mounts").map_err(|error| error.to_string())?;
        let of_cgroup2 = |line: &str| {
            let mut fields = line.split(' ');
            let place = fields.nth(1)?;
            (fields.next()? == "cgroup2").then(|| PathBuf::from(place))
        };
        let mount = mounts.lines().find_map(of_cgroup2).ok_or("no cgroup2 is mounted")?;
        let own = fs::read_to_string("/proc/self/cgroup").map_err(|error| error.to_string())?;
        let own = own.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default();
        let before = mount.join(own);
        let directory = before.join(format!("skep-sockets-{}", std::process::id()));
        let step = |error: io::Error| format!("{}: {error}", directory.display());
        // Of a process of before that had the number, and was ended in the middle.
        let _ = fs::remove_dir(&directory);
        fs::create_dir(&directory).map_err(step)?;
        let entered = enter(&directory).and_then(|()| fs::File::open(&directory));
        let group = match entered {
            Ok(group) => OwnedFd::from(group),
            Err(error) => {
                let _ = fs::remove_dir(&directory);
                return Err(step(error));
            }
        };
        Ok(Linux { kernel, directory, before, group, quiet: Cell::new(QUIET) })
    }

    /// Waits twice as long for what comes, up to seconds.
    pub(crate) fn wait_longer(&self) {
        self.quiet.set((self.quiet.get() * 2).min(Duration::from_secs(4)));
    }

    /// Waits as long as at first.
    pub(crate) fn wait_shortly(&self) {
        self.quiet.set(QUIET);
    }
}

fn enter(directory: &Path) -> io::Result<()> {
    fs::write(directory.join("cgroup.procs"), std::process::id().to_string())
}

impl Drop for Linux {
    fn drop(&mut self) {
        let _ = enter(&self.before);
        // Sockets that wait for their end keep it for a while.
        for _ in 0..50 {
            if fs::remove_dir(&self.directory).is_ok() {
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

pub(crate) enum Socket {
    Listener(TcpListener),
    Stream(TcpStream),
}

impl Socket {
    fn stream(&self) -> &TcpStream {
        match self {
            Socket::Stream(stream) => stream,
            Socket::Listener(_) => panic!("it listens"),
        }
    }
}

impl Network for Linux {
    type Socket = Socket;

    fn kernel(&self) -> &Kernel {
        &self.kernel
    }

    fn group(&self) -> BorrowedFd<'_> {
        self.group.as_fd()
    }

    fn listen(&self) -> Socket {
        Socket::Listener(TcpListener::bind("127.0.0.1:0").unwrap())
    }

    fn connect(&self, to: &Socket) -> Socket {
        let stream = TcpStream::connect(("127.0.0.1", self.port(to))).unwrap();
        stream.set_read_timeout(Some(self.quiet.get())).unwrap();
        stream.set_nodelay(true).unwrap();
        Socket::Stream(stream)
    }

    fn accept(&self, listener: &Socket) -> Socket {
        let Socket::Listener(listener) = listener else { panic!("it does not listen") };
        let (stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(self.quiet.get())).unwrap();
        stream.set_nodelay(true).unwrap();
        Socket::Stream(stream)
    }

    fn send(&self, socket: &Socket, bytes: &[u8]) -> Result<usize, i32> {
        socket.stream().write(bytes).map_err(|error| error.raw_os_error().unwrap_or(0))
    }

    fn read(&self, socket: &Socket) -> Vec<u8> {
        let mut all = Vec::new();
        let mut part = [0; 4096];
        // Until nothing comes for a while, or the other end is closed. What is redirected comes a little later.
        while let Ok(len @ 1..) = socket.stream().read(&mut part) {
            all.extend(&part[..len]);
        }
        all
    }

    fn settle(&self) {
        // The shortest time until a segment is sent that is not full.
        std::thread::sleep(Duration::from_millis(250));
    }

    fn close(&self, socket: Socket) {
        drop(socket);
        std::thread::sleep(Duration::from_millis(20));
    }

    fn fd(&self, socket: &Socket) -> OwnedFd {
        let fd = match socket {
            Socket::Listener(listener) => listener.as_fd(),
            Socket::Stream(stream) => stream.as_fd(),
        };
        fd.try_clone_to_owned().unwrap()
    }

    fn port(&self, socket: &Socket) -> u16 {
        let address = match socket {
            Socket::Listener(listener) => listener.local_addr(),
            Socket::Stream(stream) => stream.local_addr(),
        };
        address.unwrap().port()
    }
}

//! Values of groups, tasks, inodes and sockets on the running kernel. Needs root.

#![cfg(target_os = "linux")]
#![allow(missing_docs)]

mod owner_conformance;
mod support;

use std::fs::File;
use std::io::{Read, Write};
use std::net::UdpSocket;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use owner_conformance::Host;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use skep::Kernel;
use support::groups::Groups;

/// A process in a group of its own, and a file.
struct Linux {
    kernel: Kernel,
    group: Option<Groups>,
    process: Child,
    path: PathBuf,
}

impl Host for Linux {
    fn kernel(&self) -> &Kernel {
        &self.kernel
    }

    fn lacks(&self, test: &str, what: &str) {
        support::skip(test, what);
    }

    fn group(&self) -> OwnedFd {
        self.group.as_ref().expect("the test needs one").open()
    }

    fn task(&self) -> (u32, OwnedFd) {
        let pid = Pid::from_child(&self.process);
        (self.process.id(), pidfd_open(pid, PidfdFlags::empty()).unwrap())
    }

    fn call(&self) {
        // It reads the line and writes it.
        let mut line = [0; 2];
        self.process.stdin.as_ref().unwrap().write_all(b"x\n").unwrap();
        File::from(self.process.stdout.as_ref().unwrap().as_fd().try_clone_to_owned().unwrap())
            .read_exact(&mut line)
            .unwrap();
        assert_eq!(&line, b"x\n");
    }

    fn file(&self) -> (u64, OwnedFd) {
        let file = File::open(&self.path).unwrap();
        (file.metadata().unwrap().ino(), file.into())
    }

    fn open(&self) {
        File::open(&self.path).unwrap();
    }

    fn sockets(&self) -> [(u16, OwnedFd); 2] {
        [(); 2].map(|()| {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            (socket.local_addr().unwrap().port(), socket.into())
        })
    }
}

impl Drop for Linux {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = std::fs::remove_file(&self.path);
    }
}

fn run(name: &str, body: owner_conformance::Body) {
    let Some(kernel) = support::linux(name) else { return };
    let group = Groups::new(name);
    if name == "groups_and_tasks" && group.is_none() {
        return support::skip(name, "no control group can be made");
    }
    let process = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    if let Some(group) = &group {
        std::fs::write(group.path().join("cgroup.procs"), process.id().to_string()).unwrap();
    }
    let path = std::env::temp_dir().join(format!("skep_owners_{name}_{}", std::process::id()));
    std::fs::write(&path, "").unwrap();
    body(&Linux { kernel, group, process, path });
}

owner_conformance::tests! { run }

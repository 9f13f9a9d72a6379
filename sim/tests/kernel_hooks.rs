//! Links of the running kernel, against what was recorded on Linux 6.18. Needs root.
//!
//! On another kernel differences are printed. That an attached program runs, and one that is not attached does not, is
//! demanded of all.

#![cfg(target_os = "linux")]
#![allow(missing_docs, clippy::print_stdout)]

mod hooks;
#[path = "../../tests/support/kernel.rs"]
mod support;

use std::fs::{self, File};
use std::net::UdpSocket;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use hooks::World;
use nix::sched::{CloneFlags, unshare};
use nix::time::{ClockId, clock_gettime};
use skep_sys::Kernel;
use skep_sys::abi::PerfEventKind;
use skep_sys::request::{PerfEventOpen, PerfTarget};

const NETKIT: &str = "skep0";
const NETKIT_PEER: &str = "skep1";

/// A network namespace of this thread, and a cgroup that the process is in.
struct Linux {
    kernel: Kernel,
    /// Where cgroups of the second version are, and the one that was made there.
    groups: Option<(PathBuf, PathBuf)>,
}

impl Linux {
    fn new() -> Linux {
        let mounts = fs::read_to_string("/proc/mounts").unwrap();
        let mounted = mounts.lines().filter(|line| line.split(' ').nth(2) == Some("cgroup2"));
        let root = mounted.filter_map(|line| line.split(' ').nth(1)).map(PathBuf::from).next();
        let groups = root.and_then(|root| {
            let group = root.join(format!("skep-hooks-{}", std::process::id()));
            // Of a process of before that had the number, and was ended in the middle.
            let _ = fs::remove_dir(&group);
            fs::create_dir(&group).ok()?;
            fs::write(group.join("cgroup.procs"), "0").ok()?;
            Some((root, group))
        });
        Linux { kernel: Kernel::linux(), groups }
    }
}

impl Drop for Linux {
    fn drop(&mut self) {
        if let Some((root, group)) = &self.groups {
            let _ = fs::write(root.join("cgroup.procs"), "0");
            let _ = fs::remove_dir(group);
        }
    }
}

fn send(to: &UdpSocket, from: &UdpSocket) {
    from.send_to(b"hello", to.local_addr().unwrap()).unwrap();
    let mut room = [0; 16];
    to.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    assert_eq!(to.recv(&mut room).unwrap(), 5);
}

impl World for Linux {
    fn datagram(&self) {
        send(&UdpSocket::bind("127.0.0.1:0").unwrap(), &UdpSocket::bind("127.0.0.1:0").unwrap());
    }

    fn connect(&self) {
        UdpSocket::bind("127.0.0.1:0").unwrap().connect("127.0.0.1:9").unwrap();
    }

    fn work(&self, _event: &OwnedFd) {
        // Of the thread's own, which is what the event counts.
        let spent = || Duration::from(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap());
        let start = spent();
        while spent() - start < Duration::from_millis(50) {
            std::hint::spin_loop();
        }
    }

    fn cgroup(&self) -> Result<OwnedFd, String> {
        let (_, group) = self.groups.as_ref().ok_or("no cgroup of the second version can be made")?;
        File::open(group).map(OwnedFd::from).map_err(|error| error.to_string())
    }

    fn netns(&self) -> Result<OwnedFd, String> {
        File::open("/proc/thread-self/ns/net").map(OwnedFd::from).map_err(|error| error.to_string())
    }

    fn netkit(&self) -> Result<u32, String> {
        let known = self.kernel.backend().ifindex(NETKIT.as_ref());
        known.or_else(|_| {
            let run = |args: &[&str]| {
                let done = Command::new("ip").args(args).output().map_err(|error| error.to_string())?;
                let said = String::from_utf8_lossy(&done.stderr).into_owned();
                if done.status.success() { Ok(()) } else { Err(format!("netkit: {}", said.trim())) }
            };
            run(&["link", "add", NETKIT, "type", "netkit"])?;
            // The kernel gave its peer the first name that was free.
            run(&["link", "set", "nk0", "name", NETKIT_PEER])?;
            run(&["addr", "add", "10.99.0.1/24", "dev", NETKIT])?;
            for device in [NETKIT, NETKIT_PEER] {
                run(&["link", "set", device, "up"])?;
            }
            self.kernel.backend().ifindex(NETKIT.as_ref()).map_err(|errno| errno.to_string())
        })
    }

    fn netkit_datagram(&self) {
        // Nobody receives it.
        UdpSocket::bind("10.99.0.1:0").unwrap().send_to(b"hello", "10.99.0.2:9").unwrap();
    }

    fn clock(&self) -> Result<OwnedFd, String> {
        let target = PerfTarget::Process { pid: 0, cpu: None };
        let mut request = PerfEventOpen::new(PerfEventKind::CPU_CLOCK, target);
        request.sample_period = 1_000_000;
        self.kernel.backend().perf_event_open(&request).map_err(|errno| errno.to_string())
    }
}

#[test]
fn hooks_answer_as_recorded() {
    let Some(kernel) = support::linux("hooks") else { return };
    // Of this thread alone, so that no device of the machine is touched.
    if let Err(errno) = unshare(CloneFlags::CLONE_NEWNET) {
        return support::denied("hooks", format_args!("no network namespace: {errno}"));
    }
    let up = Command::new("ip").args(["link", "set", "lo", "up"]).status();
    if !up.is_ok_and(|status| status.success()) {
        return support::denied("hooks", "`ip` does not bring up the loopback device");
    }
    let world = Linux::new();
    let (rows, skipped) = hooks::play(&kernel, &world);
    for reason in &skipped {
        println!("skip: hooks: {reason}");
    }
    if let Some(path) = std::env::var_os("SKEP_RECORD") {
        let release = kernel.backend().release().unwrap();
        let text = format!(
            "# Links of Linux {}: what each kind answers.\n\n{}\n",
            release.split('-').next().unwrap(),
            rows.join("\n")
        );
        // A guest has no files of the host, but an output.
        if path == "-" {
            return println!("{text}");
        }
        return fs::write(Path::new(&path), text).unwrap();
    }
    let code = kernel.version_code().unwrap();
    let version = (code >> 16, code >> 8 & 0xff);
    let differences = hooks::differences(&rows, &skipped, version);
    println!(
        "{} of {} rows differ on this kernel\n{}",
        differences.len(),
        rows.len(),
        differences.join("\n")
    );
    let run: Vec<&String> = differences.iter().filter(|row| row.contains(" | runs ")).collect();
    assert!(run.is_empty(), "programs run when they must not, or do not when they must: {run:#?}");
    assert!(
        version != (6, 18) || differences.is_empty(),
        "rows differ on the kernel that they were recorded on"
    );
}

//! Links of the simulated kernel, against what was recorded on Linux 6.18.

#![allow(missing_docs, clippy::print_stdout)]

mod hooks;

use std::os::fd::OwnedFd;

use hooks::World;
use skep_sim::{Interface, PerfSample, SimKernel, Socket, SocketCall, SocketId, Transmit};
use skep_sys::abi::PerfEventKind;
use skep_sys::request::{PerfEventOpen, PerfTarget};
use skep_sys::{Backend, Kernel};

/// A kernel with two sockets in a cgroup, and a pair of netkit devices.
struct Simulated {
    sim: SimKernel,
    kernel: Kernel,
    client: SocketId,
    /// Where there are such devices.
    netkit: Option<u32>,
}

const GROUP: &str = "/skep";

impl Simulated {
    fn new(sim: SimKernel, has_netkit: bool) -> Simulated {
        let _ = sim.raise_memlock();
        sim.add_cgroup(GROUP).unwrap();
        sim.add_socket(Socket::udp("127.0.0.1:53".parse().unwrap()).cgroup(GROUP));
        let client = sim.add_socket(Socket::udp("127.0.0.1:4660".parse().unwrap()).cgroup(GROUP));
        let netkit = has_netkit.then(|| {
            let first = sim.add_interface(Interface::new("nk0").netkit()).unwrap();
            sim.add_interface(Interface::new("nk1").netkit().peer(first)).unwrap();
            first
        });
        Simulated { kernel: Kernel::new(sim.clone()), sim, client, netkit }
    }
}

/// A datagram from one address of this machine to another.
fn packet() -> Vec<u8> {
    let mut frame = vec![0; 12];
    frame.extend([8, 0, 0x45, 0, 0, 33, 0, 1, 0, 0, 64, 17, 0, 0, 127, 0, 0, 1, 127, 0, 0, 1]);
    frame.extend([0x12, 0x34, 0, 53, 0, 13, 0, 0]);
    frame.extend(b"hello");
    frame
}

impl World for Simulated {
    fn datagram(&self) {
        let sent = self.sim.fire(Transmit::new("lo", packet()).socket(self.client)).unwrap();
        let received = self.sim.receive("lo", &packet()).unwrap();
        assert!(!sent.is_dropped() && !received.is_dropped());
    }

    fn connect(&self) {
        let call = SocketCall::connect(self.client, "127.0.0.1:9".parse().unwrap());
        assert_eq!(self.sim.fire(call).unwrap().result, Ok(()));
    }

    fn work(&self, _event: &OwnedFd) {
        assert!(self.sim.fire(PerfSample::new(0)).unwrap().ok().is_ok());
    }

    fn cgroup(&self) -> Result<OwnedFd, String> {
        self.sim.open_cgroup(GROUP).map_err(|errno| errno.to_string())
    }

    fn netns(&self) -> Result<OwnedFd, String> {
        self.sim.open_netns().map_err(|errno| errno.to_string())
    }

    fn netkit(&self) -> Result<u32, String> {
        self.netkit.ok_or_else(|| "this kernel has no such devices".to_owned())
    }

    fn netkit_datagram(&self) {
        assert!(!self.sim.transmit("nk0", &packet()).unwrap().is_dropped());
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
    let world = Simulated::new(SimKernel::new(), true);
    let (rows, skipped) = hooks::play(&world.kernel, &world);
    assert!(skipped.is_empty(), "{skipped:?}");
    assert!(rows.len() > 400);
    let differences = hooks::differences(&rows, &skipped, (6, 18));
    assert!(
        differences.is_empty(),
        "{} of {} rows differ:\n{}",
        differences.len(),
        rows.len(),
        differences.join("\n")
    );
}

#[test]
fn hooks_of_releases_answer_as_recorded() {
    for (major, minor) in [(5, 10), (6, 1), (6, 12), (7, 2)] {
        let sim = SimKernel::builder().linux(major, minor).build().unwrap();
        let world = Simulated::new(sim, (major, minor) >= (6, 7));
        let (rows, skipped) = hooks::play(&world.kernel, &world);
        assert!(rows.len() > 200);
        let differences = hooks::differences(&rows, &skipped, (major, minor));
        let (count, all) = (differences.len(), rows.len());
        assert!(
            differences.is_empty(),
            "{major}.{minor}: {count} of {all} rows differ:\n{}",
            differences.join("\n")
        );
    }
}

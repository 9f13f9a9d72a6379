//! Values of groups, tasks, inodes and sockets on a simulated kernel.

#![allow(missing_docs)]

mod owner_conformance;
mod support;

use std::os::fd::OwnedFd;

use owner_conformance::Host;
use skep::Kernel;
use skep::sim::{Lsm, RawTracepoint, SimKernel, Socket, Task};

/// A process in a group, a file and sockets, all of them simulated.
struct Simulated(SimKernel, Kernel);

const PROCESS: u32 = 4000;
const FILE: &str = "/etc/passwd";

impl Host for Simulated {
    fn kernel(&self) -> &Kernel {
        &self.1
    }

    fn lacks(&self, test: &str, what: &str) {
        panic!("{test}: a simulated kernel lacks nothing of it: {what}");
    }

    fn group(&self) -> OwnedFd {
        self.0.open_cgroup("/watched").unwrap()
    }

    fn task(&self) -> (u32, OwnedFd) {
        (PROCESS, self.0.open_task(PROCESS).unwrap())
    }

    fn call(&self) {
        for pid in [1, PROCESS] {
            let _ =
                self.0.fire(RawTracepoint::new("sys_enter").task(pid).args([0, 0])).unwrap().ok().unwrap();
        }
    }

    fn file(&self) -> (u64, OwnedFd) {
        let number = self.0.file_object(FILE).unwrap().get("f_inode.i_ino").unwrap();
        (number.try_into().unwrap(), self.0.open_file(FILE).unwrap())
    }

    fn open(&self) {
        for path in ["/etc/hosts", FILE] {
            let file = self.0.file_object(path).unwrap();
            let _ = self.0.fire(Lsm::new("file_open").arg(&file)).unwrap().runs.ok().unwrap();
        }
    }

    fn sockets(&self) -> [(u16, OwnedFd); 2] {
        [5001, 5002].map(|port| {
            let socket = self.0.add_socket(Socket::udp(([127, 0, 0, 1], port).into()));
            (port, self.0.open_socket(socket).unwrap())
        })
    }
}

fn host() -> Simulated {
    let btf = std::fs::read("testdata/net-6.18.btf").unwrap();
    let sim = SimKernel::builder().btf(btf).build().unwrap();
    let group = sim.add_cgroup("/watched").unwrap();
    sim.add_task(Task::new(PROCESS).cgroups([1, group]));
    Simulated(sim.clone(), Kernel::new(sim))
}

fn run(_: &str, body: owner_conformance::Body) {
    body(&host());
}

owner_conformance::tests! { run }

/// With what they belong to, values go.
#[test]
fn values_go_with_their_owners() {
    use skep::map::{CgroupStorage, Map, SkStorage, TaskStorage};
    use skep::sys::abi::{Errno, MapFlags, MapType, UpdateFlags};
    use skep::sys::request::{MapBtf, MapCreate};
    use std::os::fd::AsFd;

    let Simulated(sim, kernel) = host();
    let mut btf = skep::btf::BtfBuilder::new();
    let int = btf.add_int("int", 4, skep::btf::IntEncoding::SIGNED).unwrap();
    let btf = kernel.btf_load(btf.finish().unwrap().bytes(), None).unwrap();
    let map = |kind| {
        let mut request = MapCreate::new(kind, 4, 4, 0);
        request.flags = MapFlags::NO_PREALLOC;
        request.btf = Some(MapBtf { btf: btf.as_fd(), key_type: int.0, value_type: int.0 });
        Map::create(&kernel, &request).unwrap()
    };
    let any = UpdateFlags::empty();
    let tasks: TaskStorage<i32> = map(MapType::TASK_STORAGE).typed().unwrap();
    let task = sim.open_task(PROCESS).unwrap();
    tasks.insert(&task, &1, any).unwrap();
    sim.remove_task(PROCESS);
    assert_eq!(tasks.get(&task).unwrap(), None);
    assert_eq!(tasks.insert(&task, &1, any).unwrap_err().errno(), Some(Errno::ENOENT));
    assert_eq!(sim.open_task(PROCESS).err(), Some(Errno::ESRCH));
    sim.add_task(Task::new(PROCESS));
    assert_eq!(tasks.get(&task).unwrap(), None, "it is another task with that number");

    let sockets: SkStorage<i32> = map(MapType::SK_STORAGE).typed().unwrap();
    let socket = sim.add_socket(Socket::udp(([127, 0, 0, 1], 9).into()));
    let open = sim.open_socket(socket).unwrap();
    sockets.insert(&open, &1, any).unwrap();
    assert_eq!(sockets.get(&open).unwrap(), Some(1));
    sim.remove_socket(socket);
    assert_eq!(sockets.get(&open).unwrap_err().errno(), Some(Errno::EBADF));

    let groups: CgroupStorage<i32> = map(MapType::CGRP_STORAGE).typed().unwrap();
    sim.add_cgroup("/other").unwrap();
    let group = sim.open_cgroup("/other").unwrap();
    groups.insert(&group, &1, any).unwrap();
    assert_eq!(groups.get(sim.open_cgroup("/other").unwrap()).unwrap(), Some(1));
    assert_eq!(groups.get(sim.open_cgroup("/").unwrap()).unwrap(), None);
    sim.remove_cgroup("/other").unwrap();
    assert_eq!(groups.get(&group).unwrap(), None);
}

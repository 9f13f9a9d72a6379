//! What programs of control groups do, on a simulated kernel.

#![allow(missing_docs)]

mod cgroup_conformance;
mod support;

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use cgroup_conformance::{Host, Opt};
use skep::btf::{BtfBuilder, IntEncoding, Linkage, TypeId};
use skep::sim::{
    DeviceAccess, Lsm, OptionCall, SimKernel, Socket, SocketCall, SocketCreate, SocketId, SocketRelease,
    Sysctl, Task, TcpEvent,
};
use skep::sys::Kernel;
use skep::sys::abi::Errno;

const GROUP: &str = "/test";
const SOL_SOCKET: i32 = 1;
/// Tasks in the group, and in none.
const INSIDE: u32 = 700;
const OUTSIDE: u32 = 701;

struct Simulated {
    sim: SimKernel,
    kernel: Kernel,
    group: OwnedFd,
    sockets: RefCell<Vec<SocketId>>,
    task: Cell<u32>,
}

impl Simulated {
    fn id(&self, socket: usize) -> SocketId {
        self.sockets.borrow()[socket]
    }

    fn of(&self, socket: usize) -> Socket {
        self.sim.socket(self.id(socket)).unwrap()
    }
}

impl Host for Simulated {
    fn kernel(&self) -> &Kernel {
        &self.kernel
    }

    fn group(&self) -> &OwnedFd {
        &self.group
    }

    fn socket(&self, stream: bool) -> Result<usize, Errno> {
        let none = "0.0.0.0:0".parse().unwrap();
        let socket = if stream { Socket::tcp(none) } else { Socket::udp(none) };
        let made = self.sim.fire(SocketCreate::new(socket.cgroup(GROUP))).unwrap();
        let mut sockets = self.sockets.borrow_mut();
        sockets.push(made.result?);
        Ok(sockets.len() - 1)
    }

    fn bind(&self, socket: usize, address: SocketAddr) -> Result<(), Errno> {
        self.sim.fire(SocketCall::bind(self.id(socket), address)).unwrap().result
    }

    fn listen(&self, socket: usize) {
        let _ = self.sim.fire(TcpEvent::listen(self.id(socket))).unwrap();
    }

    fn connect(&self, socket: usize, address: SocketAddr) -> Result<(), Errno> {
        self.sim.fire(SocketCall::connect(self.id(socket), address)).unwrap().result
    }

    fn local(&self, socket: usize) -> Result<SocketAddr, Errno> {
        let local = self.of(socket).local;
        let outcome = self.sim.fire(SocketCall::socket_name(self.id(socket), local)).unwrap();
        outcome.result.map(|()| outcome.address)
    }

    fn peer(&self, socket: usize) -> Result<SocketAddr, Errno> {
        let remote = self.of(socket).remote.ok_or(Errno::ENOENT)?;
        let outcome = self.sim.fire(SocketCall::peer_name(self.id(socket), remote)).unwrap();
        outcome.result.map(|()| outcome.address)
    }

    fn send(&self, socket: usize, to: SocketAddr) -> Result<(), Errno> {
        self.sim.fire(SocketCall::send(self.id(socket), to)).unwrap().result
    }

    fn close(&self, socket: usize) {
        self.sim.fire(SocketRelease::new(self.id(socket))).unwrap();
    }

    fn set(&self, socket: usize, option: Opt, value: u32) -> Result<(), Errno> {
        let call = OptionCall::set(self.id(socket), SOL_SOCKET, option.name(), value.to_ne_bytes());
        self.sim.fire(call).unwrap().result
    }

    fn get(&self, socket: usize, option: Opt) -> Result<u32, Errno> {
        let call = OptionCall::get(self.id(socket), SOL_SOCKET, option.name()).room(4);
        let outcome = self.sim.fire(call).unwrap();
        outcome.result.map(|()| u32::from_ne_bytes(outcome.value.try_into().unwrap()))
    }

    fn sysctl(&self, name: &str) -> Result<Vec<u8>, Errno> {
        self.sim.fire(Sysctl::read(name).cgroup(GROUP)).unwrap().result
    }

    fn set_sysctl(&self, name: &str, value: &[u8]) -> Result<(), Errno> {
        self.sim.fire(Sysctl::write(name, value).cgroup(GROUP)).unwrap().result.map(drop)
    }

    fn open_device(&self, _: &str, (major, minor): (u32, u32), write: bool) -> Result<(), Errno> {
        let access = DeviceAccess::character(major, minor).cgroup(GROUP).read();
        self.sim.fire(if write { access.write() } else { access }).unwrap().result
    }

    fn lacks(&self, what: &str, reason: &str) {
        panic!("{what}: {reason}");
    }

    fn create(&self, stream: bool) -> Result<(), Errno> {
        let [kind, protocol] = if stream { [1, 6] } else { [2, 17] };
        self.ask(Lsm::new("socket_create").args([2, kind, protocol, 0]))
    }

    fn secure_bind(&self, socket: usize, _: SocketAddr) -> Result<(), Errno> {
        let object = self.sim.memory().object("socket").unwrap();
        object.set("type", u64::from(self.of(socket).kind)).unwrap();
        let address = self.sim.memory().put(&[2; 16]);
        self.ask(Lsm::new("socket_bind").arg(&object).arg(address).arg(16))
    }

    fn outside(&self, act: &mut dyn FnMut()) {
        self.task.set(OUTSIDE);
        act();
        self.task.set(INSIDE);
    }
}

impl Simulated {
    fn ask(&self, hook: Lsm) -> Result<(), Errno> {
        let outcome = self.sim.fire(hook.task(self.task.get())).unwrap();
        assert!(outcome.runs.ok().is_ok());
        if outcome.verdict == 0 { Ok(()) } else { Err(Errno(-outcome.verdict)) }
    }
}

/// Types of the hooks that programs name.
fn types() -> Vec<u8> {
    let mut btf = BtfBuilder::new();
    let int = btf.add_int("int", 4, IntEncoding::SIGNED).unwrap();
    let short = btf.add_int("short", 2, IntEncoding::SIGNED).unwrap();
    let address = btf.add_ptr(TypeId(0)).unwrap();
    let socket = btf.add_struct("socket", 8).unwrap();
    btf.add_member("state", int, 0, 0).unwrap();
    btf.add_member("type", short, 32, 0).unwrap();
    let socket = btf.add_ptr(socket).unwrap();
    for (name, params) in [("socket_create", &[int; 4][..]), ("socket_bind", &[socket, address, int])] {
        let proto = btf.add_func_proto(int).unwrap();
        for param in params {
            btf.add_param("", *param).unwrap();
        }
        btf.add_func(format!("bpf_lsm_{name}"), Linkage::STATIC, proto).unwrap();
    }
    btf.finish().unwrap().bytes().to_vec()
}

fn run(_: &str, body: cgroup_conformance::Body) {
    let sim = SimKernel::builder().btf(types()).build().unwrap();
    let id = sim.add_cgroup(GROUP).unwrap();
    sim.add_task(Task::new(INSIDE).cgroups([1, id]));
    sim.add_task(Task::new(OUTSIDE).cgroups([1]));
    sim.set_sysctl("kernel/domainname", "(none)");
    let group = sim.open_cgroup(GROUP).unwrap();
    let kernel = Kernel::new(sim.clone());
    let task = Cell::new(INSIDE);
    body(&Simulated { sim, kernel, group, sockets: RefCell::default(), task });
}

cgroup_conformance::tests! { run }

//! Users without rights on simulated kernels.

#![allow(missing_docs)]

mod support;
mod user_conformance;

use std::path::Path;

use skep::Kernel;
use skep::asm::{Assembler, Reg};
use skep::sim::{Capability, SimKernel, User};
use skep::sys::abi::{Errno, MapType, ProgType};
use skep::sys::request::{MapCreate, ProgLoad};
use user_conformance::{Act, Host};

struct Simulated(SimKernel, Kernel);

impl Host for Simulated {
    fn kernel(&self) -> &Kernel {
        &self.1
    }

    fn place(&self) -> &Path {
        Path::new("/skep_users")
    }

    fn as_user(&self, uid: u32, groups: &[u32], act: Act<'_>) {
        let user = User::new(uid).group(groups[0]);
        let user = groups.iter().fold(user, |user, group| user.also_in(*group));
        act(&Kernel::new(self.0.as_user(user)));
    }

    fn with_capabilities(&self, capabilities: &[u32], act: Act<'_>) {
        let user = capabilities.iter().fold(User::new(1), |user, number| user.with(Capability(*number)));
        act(&Kernel::new(self.0.as_user(user)));
    }
}

fn run(_: &str, body: user_conformance::Body) {
    let old = [(5, 10), (6, 1), (6, 12)].map(|(major, minor)| SimKernel::builder().linux(major, minor));
    for sim in old.into_iter().map(|builder| builder.build().unwrap()).chain([SimKernel::new()]) {
        body(&Simulated(sim.clone(), Kernel::new(sim)));
    }
}

user_conformance::tests! { run }

/// What a load says to who lacks a right.
#[test]
fn a_load_names_the_right_that_is_missing() {
    let spec = skep::Spec::open("examples/packet_counter.bpf.o").unwrap();
    let sim = SimKernel::new();
    let load = |user| skep::Loader::new(&Kernel::new(sim.as_user(user))).load(&spec).map(drop);
    let error = load(User::new(1000)).unwrap_err();
    assert_eq!(error.kind(), skep::ErrorKind::PermissionDenied);
    assert!(
        support::chain(&error).contains("this process lacks CAP_BPF and CAP_PERFMON"),
        "{}",
        support::chain(&error)
    );
    let error = load(User::new(1000).with(Capability::BPF)).unwrap_err();
    assert!(support::chain(&error).contains("CAP_NET_ADMIN for networking"), "{}", support::chain(&error));
    let enough = User::new(1000).with(Capability::BPF).with(Capability::NET_ADMIN);
    load(enough.with(Capability::PERFMON)).unwrap();
    assert_eq!(sim.live().maps, 0);
}

/// Before Linux 5.8 only the administrator had rights.
#[test]
fn the_first_capability_was_that_of_the_administrator() {
    let sim = SimKernel::builder().linux(5, 4).build().unwrap();
    let make = |user: User, kind| {
        let kernel = Kernel::new(sim.as_user(user));
        kernel.map_create(&MapCreate::new(kind, 4, 4, 1)).map(drop)
    };
    let with = |capabilities: &[Capability]| {
        capabilities.iter().fold(User::new(1), |user, capability| user.with(*capability))
    };
    let (bpf, admin) = (with(&[Capability::BPF, Capability::PERFMON]), with(&[Capability::SYS_ADMIN]));
    assert_eq!(make(bpf.clone(), MapType::HASH), Err(Errno::EPERM));
    assert_eq!(make(admin.clone(), MapType::HASH), Ok(()));
    assert_eq!(make(admin.clone(), MapType::SOCKMAP), Err(Errno::EPERM));
    assert_eq!(make(admin.clone().with(Capability::NET_ADMIN), MapType::SOCKMAP), Ok(()));
    let load = |user| {
        let insns = Assembler::new().mov64_imm(Reg::R0, 0).exit().finish().unwrap();
        let kernel = Kernel::new(sim.as_user(user));
        kernel.prog_load(&ProgLoad::new(ProgType::XDP, &insns, "GPL"), None).map(drop)
    };
    assert_eq!((load(bpf.with(Capability::NET_ADMIN)), load(admin)), (Err(Errno::EPERM), Ok(())));
}

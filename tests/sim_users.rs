//! Users without rights on simulated kernels.

#![allow(missing_docs)]

mod support;
mod user_conformance;

use std::path::Path;

use skep::Kernel;
use skep::sim::{Capability, SimKernel, User};
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
    let sim = SimKernel::new();
    body(&Simulated(sim.clone(), Kernel::new(sim)));
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

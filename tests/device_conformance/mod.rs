//! XDP programs that are bound to a device, on any kernel: bodies that the test binaries run on theirs.

#![allow(clippy::print_stdout)]

use std::os::fd::AsFd;
use std::path::Path;

use skep::btf::Kind;
use skep::sys::Kernel;
use skep::sys::abi::{AttachType, Errno, ProgFlags, ProgType};
use skep::sys::request::{LinkCreate, LinkTarget, ProgLoad, TestRun};
use skep::{Loader, Object, Spec};

/// A body: what it is called, and what it does on a kernel.
pub(crate) type Body = (&'static str, fn(&World<'_>));

/// A kernel, and two devices that are the ends of one cable.
pub(crate) struct World<'a> {
    pub(crate) kernel: &'a Kernel,
    pub(crate) devices: [u32; 2],
    /// Lets the first one receive a packet of UDP from the second, which has no tag and came at no time.
    pub(crate) receive: &'a dyn Fn(),
}

pub(crate) const BODIES: &[Body] = &[("bound", bound), ("refused", refused), ("hints", hints)];

/// Runs the body of that name.
pub(crate) fn run(name: &str, world: &World<'_>) {
    let (_, body) = BODIES.iter().find(|(body, _)| *body == name).expect("a body of that name");
    let has =
        world.kernel.btf().is_ok_and(|btf| btf.find(b"bpf_xdp_metadata_rx_vlan_tag", Kind::FUNC).is_some());
    if has {
        body(world);
    } else {
        println!("skip: {name}: this kernel has no bpf_xdp_metadata_rx_vlan_tag");
    }
}

/// One test per body. `$run` runs a body in a world, where it can.
macro_rules! tests {
    ($run:path: $($name:ident)*) => {
        $(
            #[test]
            fn $name() {
                $run(stringify!($name));
            }
        )*

        #[test]
        fn every_body_is_run() {
            let bodies: Vec<&str> = device_conformance::BODIES.iter().map(|(name, _)| *name).collect();
            assert_eq!(bodies, [$(stringify!($name)),*]);
        }
    };
}
pub(crate) use tests;

fn spec() -> Spec {
    Spec::open(Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/run/xdp_metadata.o")).unwrap()
}

fn loaded(world: &World<'_>, device: u32) -> Object {
    Loader::new(world.kernel).device("hints", device).load(&spec()).unwrap_or_else(|error| {
        panic!("{error:?}: {}", error.verifier_log().unwrap_or("no log"));
    })
}

fn attach(world: &World<'_>, object: &Object, device: u32, flags: u32) -> Result<(), Errno> {
    let program = object.program("hints").unwrap().loaded();
    let mut request = LinkCreate::new(program.as_fd(), LinkTarget::Ifindex(device), AttachType::XDP);
    request.flags = flags;
    world.kernel.link_create(&request).map(drop)
}

/// A program of a device attaches there and nowhere else, not in the mode that has no driver, and is not test-run.
fn bound(world: &World<'_>) {
    const GENERIC: u32 = 1 << 1;
    const DRIVER: u32 = 1 << 2;

    let [first, second] = world.devices;
    let object = loaded(world, first);
    assert_eq!(object.program("hints").unwrap().info().unwrap().ifindex, 0);
    let mut run = TestRun::default();
    run.data_in = &[0; 64];
    let refused = object.program("hints").unwrap().loaded().test_run(&mut run).unwrap_err();
    assert_eq!(refused.0, Errno::EINVAL);
    assert_eq!(attach(world, &object, second, 0), Err(Errno::EINVAL));
    assert_eq!(attach(world, &object, first, GENERIC), Err(Errno::EINVAL));
    assert_eq!(attach(world, &object, first, DRIVER), Ok(()));
    assert_eq!(attach(world, &object, first, 0), Ok(()));
}

/// What cannot be bound, and what only bound programs may do.
fn refused(world: &World<'_>) {
    let [first, _] = world.devices;
    let insns = skep::asm::Assembler::new().mov64_imm(skep::asm::Reg::R0, 2).exit().finish().unwrap();
    let bind = |prog_type, ifindex, flags| {
        let mut request = ProgLoad::new(prog_type, &insns, "GPL");
        (request.ifindex, request.flags) = (ifindex, flags);
        world.kernel.prog_load(&request, None).map(drop)
    };
    const BOUND: ProgFlags = ProgFlags::XDP_DEV_BOUND_ONLY;
    assert_eq!(bind(ProgType::XDP, first, BOUND), Ok(()));
    assert_eq!(bind(ProgType::XDP, first, BOUND | ProgFlags::XDP_HAS_FRAGS), Ok(()));
    assert_eq!(bind(ProgType::XDP, 0, BOUND), Ok(()));
    assert_eq!(bind(ProgType::XDP, 4711, BOUND), Err(Errno::EINVAL));
    assert_eq!(bind(ProgType::XDP, 1, BOUND), Err(Errno::EOPNOTSUPP)); // the loopback device
    assert_eq!(bind(ProgType::XDP, first, BOUND | ProgFlags::STRICT_ALIGNMENT), Err(Errno::EINVAL));
    assert_eq!(bind(ProgType::XDP, first, ProgFlags::XDP_HAS_FRAGS), Err(Errno::EINVAL));
    assert_eq!(bind(ProgType::XDP, first, ProgFlags::empty()), Err(Errno::EINVAL));
    assert_eq!(bind(ProgType::SCHED_CLS, first, BOUND), Err(Errno::EINVAL));
    assert_eq!(bind(ProgType::SOCKET_FILTER, first, BOUND), Err(Errno::EINVAL));

    let error = Loader::new(world.kernel).load(&spec()).unwrap_err();
    assert_eq!(error.errno(), Some(Errno::EINVAL));
    let log = error.verifier_log().unwrap_or_default();
    assert!(log.contains("metadata kfuncs require device-bound program"), "{log}");
}

/// What a device answers that takes the time of packets, but of this one did not, and computes the hash of the flow.
fn hints(world: &World<'_>) {
    /// A hash of addresses and ports (`XDP_RSS_TYPE_L4_ANY`).
    const L4: u32 = 1 << 3;

    let [first, _] = world.devices;
    let object = loaded(world, first);
    let program = object.program("hints").unwrap();
    let link = program.attach_xdp(first).unwrap();
    object.set_global("timestamp", &7u64).unwrap();
    (world.receive)();
    drop(link);
    assert_eq!(object.global::<u32>("runs").unwrap(), 1);
    assert_eq!(object.global::<[i32; 3]>("answers").unwrap(), [0, 0, -Errno::ENODATA.0]);
    assert_eq!(object.global::<u64>("timestamp").unwrap(), 0);
    assert_ne!(object.global::<u32>("hash").unwrap(), 0);
    assert_eq!(object.global::<u32>("rss_type").unwrap(), L4);
}

//! XDP programs that are bound to a device, on any kernel: bodies that the test binaries run on theirs.

use std::os::fd::AsFd;
use std::path::Path;

use skep::btf::Kind;
use skep::sys::Kernel;
use skep::sys::abi::{AttachType, Errno, ProgFlags, ProgType};
use skep::sys::request::{LinkCreate, LinkTarget, ProgLoad, TestRun};
use skep::{Loader, Object, Spec};

use crate::support::skip;

/// A body: what it does on a kernel.
pub(crate) type Body = fn(&World<'_>);

/// A kernel, and two devices that are the ends of one cable.
pub(crate) struct World<'a> {
    pub(crate) kernel: &'a Kernel,
    pub(crate) devices: [u32; 2],
    /// Lets the first one receive a packet of UDP from the second, which has no tag and came at no time.
    pub(crate) receive: &'a dyn Fn(),
}

crate::support::bodies! { ($) device_conformance;
    bound: bound,
    refused: refused,
    hints: hints,
    metadata: metadata,
}

/// Whether a kernel has the functions that ask a device.
fn has(world: &World<'_>, test: &str, function: &str) -> bool {
    let has = world.kernel.btf().is_ok_and(|btf| btf.find(function.as_bytes(), Kind::FUNC).is_some());
    if !has {
        skip(test, format_args!("this kernel has no {function}"));
    }
    has
}

const HINT: &str = "bpf_xdp_metadata_rx_vlan_tag";

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
    if !has(world, "bound", HINT) {
        return;
    }
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
    if !has(world, "refused", HINT) {
        return;
    }
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
    if !has(world, "hints", HINT) {
        return;
    }
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

/// What an XDP program leaves before a packet, a tc program reads and writes.
fn metadata(world: &World<'_>) {
    if !has(world, "metadata", "bpf_dynptr_from_skb_meta") {
        return;
    }
    let [first, _] = world.devices;
    let spec = Spec::open(Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/run/skb_meta.o")).unwrap();
    let object = Loader::new(world.kernel).load(&spec).unwrap_or_else(|error| {
        panic!("{error:?}: {}", error.verifier_log().unwrap_or("no log"));
    });
    let attach = |program: &str, attach_type| {
        let program = object.program(program).unwrap().loaded();
        let request = LinkCreate::new(program.as_fd(), LinkTarget::Ifindex(first), attach_type);
        world.kernel.link_create(&request).unwrap()
    };
    let links = [
        attach("leaves", AttachType::XDP),
        attach("reads", AttachType::TCX_INGRESS),
        attach("looks", AttachType::TCX_INGRESS),
    ];
    (world.receive)();
    drop(links);
    assert_eq!(object.global::<u32>("runs").unwrap(), 1);
    let (einval, e2big) = (-i64::from(Errno::EINVAL.0), -i64::from(Errno::E2BIG.0));
    let noted = object.global::<[i64; 24]>("noted").unwrap();
    // The flags of the null one, its size; the other one's size.
    assert_eq!(noted[..5], [einval, einval, 0, 16, 0]);
    // Reads, a pointer that is not given, writes.
    assert_eq!(noted[5..12], [0, e2big, einval, 0, 0, einval, e2big]);
    // Pointers to it, and what is left of it.
    assert_eq!(noted[12..18], [1, 0, 0, 8, 1, 0]);
    let values = object.global::<[u64; 4]>("values").unwrap();
    assert_eq!(values[0], 0x1817_1615_1413_1211);
    assert_eq!(values[1], 0xaabb_ccdd_0403_0201);
    assert_eq!(values[2], 0x1413_1211_aabb_ccde);
    assert_eq!(values[3], 0xaabb_ccde_0403_0201);
}

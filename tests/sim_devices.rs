//! XDP programs that are bound to a device, on a simulated kernel.

#![allow(missing_docs)]

mod device_conformance;
mod support;

use device_conformance::World;
use skep::asm::{Assembler, Reg, Size};
use skep::sim::{Interface, Receive, SimKernel, XdpHints};
use skep::sys::Kernel;
use skep::sys::abi::{AttachType, Errno, ProgType};
use skep::sys::request::{LinkCreate, LinkTarget, ProgLoad};
use skep::{Loader, Object, Spec};
use std::os::fd::AsFd;

fn spec() -> Spec {
    open("xdp_metadata")
}

fn open(name: &str) -> Spec {
    let path = format!("{}/testdata/run/{name}.o", env!("CARGO_MANIFEST_DIR"));
    Spec::open(std::path::Path::new(&path)).unwrap()
}

/// A kernel whose types have the functions of drivers, with two devices.
fn simulated(types: &str) -> (SimKernel, [u32; 2]) {
    let types = open(types).btf.unwrap().bytes().to_vec();
    let sim = SimKernel::builder().btf(types).build().unwrap();
    let first = sim.add_interface(Interface::new("left")).unwrap();
    let second = sim.add_interface(Interface::new("right").peer(first)).unwrap();
    (sim, [first, second])
}

fn run(name: &str, body: device_conformance::Body) {
    let (sim, devices) = simulated(if name == "metadata" { "skb_meta" } else { "xdp_metadata" });
    let receive = || {
        let passage =
            sim.fire(Receive::new("left", [0; 64]).rx_timestamp(0).rx_hash(0x1234, 1 << 3)).unwrap();
        assert!(!passage.is_dropped());
    };
    let kernel = Kernel::new(sim.clone());
    body(&World { kernel: &kernel, devices, receive: &receive });
}

device_conformance::tests! { run }

fn answers(object: &Object) -> [i32; 3] {
    object.global("answers").unwrap()
}

#[test]
fn a_test_says_what_a_device_reports() {
    let (sim, [left, _]) = simulated("xdp_metadata");
    let kernel = Kernel::new(sim.clone());
    let object = Loader::new(&kernel).device("hints", left).load(&spec()).unwrap();
    let _link = object.program("hints").unwrap().attach_xdp(left).unwrap();
    let none = -Errno::ENODATA.0;
    let _ = sim.fire(Receive::new("left", [0; 64])).unwrap();
    assert_eq!(answers(&object), [none; 3]);
    let all = Receive::new("left", [0; 64]).rx_timestamp(5_000).rx_hash(99, 1 << 4).rx_vlan_tag(0x8100, 7);

    // What the stack has of it is what the device said.
    let mut asm = Assembler::new();
    asm.ldx(Size::W, Reg::R2, Reg::R1, 24); // vlan_tci
    asm.ldx(Size::W, Reg::R3, Reg::R1, 68).add64_reg(Reg::R2, Reg::R3); // hash
    asm.ldx(Size::DW, Reg::R3, Reg::R1, 184).add64_reg(Reg::R2, Reg::R3); // hwtstamp
    asm.stx(Size::W, Reg::R1, 8, Reg::R2).mov64_imm(Reg::R0, -1).exit(); // mark
    let insns = asm.finish().unwrap();
    let classifier = kernel.prog_load(&ProgLoad::new(ProgType::SCHED_CLS, &insns, "GPL"), None).unwrap();
    let request = LinkCreate::new(classifier.as_fd(), LinkTarget::Ifindex(left), AttachType::TCX_INGRESS);
    let _tcx = kernel.link_create(&request).unwrap();
    let passage = sim.fire(all.clone()).unwrap();
    assert_eq!(answers(&object), [0; 3]);
    assert_eq!(object.global::<u64>("timestamp").unwrap(), 5_000);
    assert_eq!([object.global::<u32>("hash").unwrap(), object.global("rss_type").unwrap()], [99, 1 << 4]);
    let tag = [object.global::<u16>("vlan_proto").unwrap(), object.global("vlan_tci").unwrap()];
    assert_eq!(tag, [0x8100u16.to_be(), 7]);
    assert_eq!(passage.mark, 5_000 + 99 + 7);
    assert_eq!(passage.packet[12..16], [0x81, 0, 0, 7]);

    // A driver that does less.
    sim.change_interface(left, |device| device.xdp_hints = XdpHints::HASH).unwrap();
    let _ = sim.fire(all).unwrap();
    let lacking = -Errno::EOPNOTSUPP.0;
    assert_eq!(answers(&object), [lacking, 0, lacking]);
}

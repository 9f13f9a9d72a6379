//! XDP programs that are bound to a device, on the running kernel.

#![cfg(target_os = "linux")]
#![allow(missing_docs)]

mod device_conformance;
mod support;

use std::process::Command;
use std::sync::Mutex;

use device_conformance::World;
use nix::sched::{CloneFlags, unshare};
use skep::asm::{Assembler, Reg};
use skep::sys::Kernel;
use skep::sys::abi::ProgType;
use skep::sys::request::{ProgLoad, TestRun};
use support::time::eventually;
use support::{denied, linux, skip};

/// A packet of UDP.
const PACKET: [u8; 60] = {
    let mut packet = [0; 60];
    let head = [
        0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 1, 8, 0, // to everyone, IPv4
        0x45, 0, 0, 46, 0, 0, 0, 0, 64, 17, 0x6e, 0x9b, 192, 0, 2, 1, 192, 0, 2,
        2, // from one to another
        0x30, 0x39, 0, 9, 0, 26, 0, 0, // ports, length
    ];
    let mut at = 0;
    while at < head.len() {
        packet[at] = head[at];
        at += 1;
    }
    packet
};

fn ip(arguments: &[&str]) -> Result<String, String> {
    let output =
        Command::new("ip").args(arguments).output().map_err(|error| format!("no program ip: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(format!("ip {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim()))
}

/// Sends a copy of a packet through a device.
fn send(kernel: &Kernel, device: u32) {
    let mut asm = Assembler::new();
    asm.mov64_imm(Reg::R2, i32::try_from(device).unwrap()).mov64_imm(Reg::R3, 0).call_helper(13).exit();
    let insns = asm.finish().unwrap();
    let sender = kernel.prog_load(&ProgLoad::new(ProgType::SCHED_CLS, &insns, "GPL"), None).unwrap();
    let mut run = TestRun::default();
    run.data_in = &PACKET;
    assert_eq!(sender.test_run(&mut run).unwrap().retval, 0);
}

/// What is counted of a device of this thread's network, if there is such a one.
fn device(name: &str) -> Option<String> {
    let all = std::fs::read_to_string("/proc/thread-self/net/dev").unwrap();
    let mut counts = all.lines().filter_map(|line| line.trim().strip_prefix(name)?.strip_prefix(':'));
    counts.next().map(str::to_owned)
}

/// How many packets a device received.
fn received(name: &str) -> u64 {
    device(name).unwrap().split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// One at a time: a process that one of them starts has the links of the others too until it executes its program, and a place
/// is free only when nobody has its link any more.
static ONE: Mutex<()> = Mutex::new(());

fn run(name: &str, body: device_conformance::Body) {
    let _one = ONE.lock();
    let Some(kernel) = linux(name) else { return };
    // Each test is a thread, which gets a network of its own.
    if let Err(errno) = unshare(CloneFlags::CLONE_NEWNET) {
        return denied(name, format_args!("no network of its own: {errno}"));
    }
    // Where there is IPv6, devices send packets of their own.
    for which in ["all", "default"] {
        let _ = std::fs::write(format!("/proc/sys/net/ipv6/conf/{which}/disable_ipv6"), "1");
    }
    let pair = ip(&["link", "add", "left", "type", "veth", "peer", "name", "right"]);
    // The `ip` of busybox does not look at the name.
    let other = if device("right").is_some() { "right" } else { "veth0" };
    let pair =
        pair.and_then(|_| ip(&["link", "set", "left", "up"])).and_then(|_| ip(&["link", "set", other, "up"]));
    if let Err(why) = pair {
        // A kernel without such devices lacks no privilege.
        return skip(name, why);
    }
    let devices = ["left", other].map(|name| {
        let shown = ip(&["-o", "link", "show", name]).unwrap();
        shown.split(':').next().unwrap().parse().unwrap()
    });
    let receive = || {
        let before = received("left");
        send(&kernel, devices[1]);
        eventually(|| received("left") > before, || "nothing is received");
    };
    body(&World { kernel: &kernel, devices, receive: &receive });
}

device_conformance::tests! { run }

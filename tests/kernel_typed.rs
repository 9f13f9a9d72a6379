//! What programs see that read by the kernel's own types, on the running kernel.

#![cfg(target_os = "linux")]
mod support;
mod typed_conformance;

use std::collections::BTreeSet;
use std::fs;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};

use skep::map::Map;
use skep::program::Program;
use skep::sim::SimKernel;
use skep::sys::Feature;
use skep::sys::abi::{MapId, OpenFlags, ProgId, ProgType};
use skep::sys::request::LinkTarget;
use skep::{Error, Kernel};
use support::groups::Groups;
use support::{denied, linux, skip};
use typed_conformance::iterate;

/// What an old kernel lacks, which is no reason to fail.
fn lacks(reasons: impl IntoIterator<Item = String>) {
    for reason in reasons {
        skip("typed contexts", reason);
    }
}

#[test]
fn packets_devices_and_maps() {
    let Some(kernel) = linux("typed contexts") else { return };
    let (differs, lacking) = typed_conformance::check(&kernel).expect("the programs run");
    assert!(differs.is_empty(), "{}", differs.concat());
    // Old kernels lack casts, or netfilter programs.
    lacks(lacking);
}

#[test]
fn open_coded_iterators() {
    let Some(kernel) = linux("typed contexts") else { return };
    let pid = std::process::id().cast_signed();
    lacks(typed_conformance::walk(&kernel, pid).expect("the programs run"));
}

#[test]
fn iterators() {
    let Some(kernel) = linux("typed contexts") else { return };
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a socket");
    let datagrams = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a socket");
    let file = fs::File::open("/dev/null").expect("a file");
    let pid = std::process::id();
    let port = |address: std::io::Result<std::net::SocketAddr>| address.expect("it is bound").port();
    let expected = [
        ("tcp", LinkTarget::Loaded, format!("{} 0 10 536 0", port(listener.local_addr()))),
        ("udp", LinkTarget::Loaded, format!("{} 0 0", port(datagrams.local_addr()))),
        ("files", LinkTarget::Process(pid), format!("{pid} {} null", file.as_raw_fd())),
    ];
    for (program, target, line) in expected {
        match iterate(&kernel, program, target) {
            Ok(text) => assert!(text.lines().any(|found| found == line), "{program}: no {line} in\n{text}"),
            Err(error) => denied("typed contexts", format_args!("{program}: {error}")),
        }
    }
    // The kernel fails a second read of the groups, so there are few.
    let Some(groups) = Groups::new("iterators") else {
        return denied("typed contexts", "no control group can be made");
    };
    let _below = groups.make("below");
    let directory = groups.open();
    for order in [1, 2, 3] {
        let target = LinkTarget::Cgroups { cgroup: directory.as_fd(), order };
        match iterate(&kernel, "groups", target) {
            Ok(text) => assert!(text.ends_with("end 0\n") && text.lines().count() >= 2, "{order}: {text}"),
            Err(error) => denied("typed contexts", format_args!("groups: {error}")),
        }
    }
}

/// The id of what a descriptor of this process stands for.
fn id(number: i32, name: &str) -> Result<u32, Box<dyn std::error::Error>> {
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{number}"))?;
    let line = info.lines().find_map(|line| line.strip_prefix(name)).ok_or("it is none of bpf(2)")?;
    Ok(line.trim_start_matches(':').trim().parse()?)
}

#[test]
fn a_loader_that_is_a_program() {
    let Some(kernel) = linux("typed contexts") else { return };
    if kernel.has(Feature::ProgType(ProgType::SYSCALL)).is_unsupported() {
        return lacks(["light skeletons: no programs of system calls".to_owned()]); // before 5.14
    }
    // The descriptors stay open, as those that nobody owns; their objects end with the process.
    typed_conformance::light_skeleton(
        &kernel,
        &|number| Ok(Map::by_id(&kernel, MapId(id(number, "map_id")?), OpenFlags::empty())?),
        &|number| Ok(Program::by_id(&kernel, ProgId(id(number, "prog_id")?))?),
    )
    .expect("the loader loads");
}

/// The simulated kernel with the types of the running one writes the same.
#[test]
fn objects_as_text() -> Result<(), Error> {
    let Some(kernel) = linux("typed contexts") else { return Ok(()) };
    let Ok(types) = fs::read("/sys/kernel/btf/vmlinux") else {
        denied("typed contexts", "the kernel has no types");
        return Ok(());
    };
    let sim = Kernel::new(SimKernel::builder().btf(types).build().expect("the kernel's types"));
    let there = typed_conformance::shown(&kernel).expect("the program runs");
    let here = typed_conformance::shown(&sim).expect("the program runs");
    assert_eq!(there.len(), here.len());
    // Before 6.0, which came with larger ones, enums were written with a sign; the number of bytes is another one then.
    let signed = kernel.has(Feature::BtfEnum64).is_unsupported();
    let name = |text: &String| text.split_once(" round ").map(|(name, _)| name.to_owned());
    let enums: BTreeSet<_> =
        there.iter().filter(|text| signed && text.contains("(enum ")).filter_map(name).collect();
    lacks(
        enums
            .iter()
            .map(|name| format!("objects as text: {name} has enums, which this kernel writes otherwise")),
    );
    let mut rows =
        there.iter().zip(&here).filter(|(there, _)| name(there).is_none_or(|name| !enums.contains(&name)));
    let differs = rows.find(|(there, here)| there != here);
    if let Some((there, here)) = differs {
        panic!("{there}and not\n{here}");
    }
    Ok(())
}

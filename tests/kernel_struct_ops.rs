//! Tables of programs on the running kernel: a congestion control that TCP uses.

#![allow(clippy::print_stdout)] // a skipped test says so

mod struct_ops_conformance;
mod support;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;

use skep::map::{StructOpsMap, StructOpsState};
use skep::spec::MapRole;
use skep::sys::abi::{Errno, MapType};
use skep::sys::{Feature, Probe};
use skep::{Error, ErrorKind, Kernel, Loader};
use support::{denied, open};

const AVAILABLE: &str = "/proc/sys/net/ipv4/tcp_available_congestion_control";

/// The running kernel, if it takes tables and this process may make them.
fn kernel(test: &str) -> Option<Kernel> {
    let kernel = Kernel::linux();
    let reason = match kernel.has(Feature::MapType(MapType::STRUCT_OPS)) {
        Probe::Supported if Path::new(AVAILABLE).exists() => return Some(kernel),
        Probe::Supported => "this system has no TCP".to_owned(),
        other => format!("struct_ops maps: {other:?}"),
    };
    denied(test, reason);
    None
}

fn is_available(name: &str) -> bool {
    let text = std::fs::read_to_string(AVAILABLE).expect("it was there");
    text.split_whitespace().any(|other| other == name)
}

/// The congestion control of a connection that `choose` names, after some bytes went over it.
fn talk(choose: &str) -> std::io::Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    let mut client = TcpStream::connect(listener.local_addr()?)?;
    nix::sys::socket::setsockopt(
        &client,
        nix::sys::socket::sockopt::TcpCongestion,
        &std::ffi::OsString::from(choose),
    )?;
    let (mut server, _) = listener.accept()?;
    client.write_all(&[7; 4096])?;
    let mut there = [0; 4096];
    server.read_exact(&mut there)
}

#[test]
fn a_congestion_control_is_used_and_taken_out() {
    let Some(kernel) = kernel("a_congestion_control_is_used_and_taken_out") else { return };
    let mut spec = open("struct_ops.o");
    // Links of tables are newer (Linux 6.4) than tables.
    let with_links = Loader::new(&kernel).load(&spec).is_ok();
    if !with_links {
        spec.map_mut("skep_linked").expect("it is there").autocreate = false;
    }
    let object = Loader::new(&kernel).load(&spec).expect("it loads");
    let tables: Vec<&str> = object.struct_ops().map(|(name, _)| name).collect();
    assert_eq!(tables, if with_links { &["skep_plain", "skep_linked"][..] } else { &["skep_plain"] });
    assert!(!is_available("skep_plain") && talk("skep_plain").is_err());

    for table in tables {
        let view: StructOpsMap = object.map(table).expect("it was created").typed().expect("it is a table");
        assert_eq!(view.state().expect("it can be read"), StructOpsState::INIT);
        let registered = object.attach_struct_ops(table).expect("the kernel takes it");
        assert!(is_available(table));
        let value = view.value().expect("it can be read");
        let linked = registered.link().is_some();
        assert_eq!(value.state(), if linked { StructOpsState::READY } else { StructOpsState::IN_USE });
        if let Some(structure) = value.structure() {
            assert_eq!(structure, "tcp_congestion_ops");
            assert_eq!(value.member("name").and_then(|name| name.get(..table.len())), Some(table.as_bytes()));
            assert_eq!(value.member("nothing"), None);
            let programs = value.programs();
            // Kernels have the members in different orders.
            let id = |name: &str| programs.iter().find(|(member, _)| member == name).map(|(_, id)| *id);
            for name in ["ssthresh", "cong_avoid", "undo_cwnd"] {
                let program = object.program(&format!("skep_{name}")).expect("it is loaded");
                assert_eq!(id(name), Some(program.info().expect("it is there").id), "{name}");
            }
            assert_eq!(programs.len(), 3);
            assert!(programs.iter().all(|(_, id)| kernel.prog_by_id(*id).is_ok()));
        }
        talk(table).expect("a connection can use it");
        let error = object.attach_struct_ops(table).expect_err("it is registered already");
        assert_eq!(error.kind(), ErrorKind::Exists, "{error:?}");
        assert_eq!(registered.link().is_some(), table == "skep_linked");
        drop(registered);
        assert!(!is_available(table), "{table} is taken out with its registration");
    }
    if with_links {
        let again = object.attach_struct_ops("skep_linked").expect("a link can register it again");
        assert!(is_available("skep_linked"));
        again.detach().expect("it can be taken out");
    }
    assert!(matches!(object.attach_struct_ops("no_such"), Err(Error::NoSuch { .. })));
}

#[test]
fn tables_are_registered_as_on_the_simulated_kernel() {
    let Some(kernel) = kernel("tables_are_registered_as_on_the_simulated_kernel") else { return };
    if !struct_ops_conformance::registers(&kernel, "two") {
        println!("skip: tables with links: this kernel has none");
    }
}

#[test]
fn a_table_that_is_left_in_the_kernel_stays() {
    let Some(kernel) = kernel("a_table_that_is_left_in_the_kernel_stays") else { return };
    let mut spec = open("struct_ops.o");
    // A name of its own, since tests run at the same time.
    spec.map_mut("skep_linked").expect("it is there").autocreate = false;
    let plain = spec.map_mut("skep_plain").expect("it is there");
    let at = plain.contents.windows(10).position(|bytes| bytes == b"skep_plain").expect("its name is in it");
    plain.contents[at..at + 10].copy_from_slice(b"skep_stays");
    let object = Loader::new(&kernel).load(&spec).expect("it loads");
    object.attach_struct_ops("skep_plain").expect("the kernel takes it").leave();
    assert!(is_available("skep_stays"));
    let map = object.map("skep_plain").expect("it is there");
    map.delete(&[0; 4]).expect("the only key takes it out");
    assert!(!is_available("skep_stays"));
}

#[test]
fn members_that_a_kernel_lacks_must_be_zero() {
    let Some(kernel) = kernel("members_that_a_kernel_lacks_must_be_zero") else { return };
    let spec = open("struct_ops_optional.o");
    let table = spec.map("skep_wider").expect("it is there");
    assert_eq!(table.role, MapRole::StructOps);

    // A function that this kernel does not have.
    let mut wrong = spec.clone();
    let held = wrong.map("skep_wider").expect("it is there").slots[0].value;
    let slots = &mut wrong.map_mut("skep_wider").expect("it is there").slots;
    slots.push(skep::spec::Slot { index: 3, value: held });
    let error = Loader::new(&kernel).load(&wrong).expect_err("no kernel has it");
    let text = format!("{error}: {}", std::error::Error::source(&error).expect("it has a cause"));
    assert!(text.contains("`tcp_congestion_ops` has no member `skep_future`"), "{text}");

    // A number in a place that it does not have.
    let mut wrong = spec.clone();
    wrong.map_mut("skep_wider").expect("it is there").contents[32] = 1;
    assert!(Loader::new(&kernel).load(&wrong).is_err());

    // One program cannot be two functions.
    let mut wrong = spec.clone();
    wrong.map_mut("skep_wider").expect("it is there").slots[2].value = held;
    let error = Loader::new(&kernel).load(&wrong).expect_err("the program is another function already");
    let text = format!("{error}: {}", std::error::Error::source(&error).expect("it has a cause"));
    assert!(text.contains("already another function"), "{text}");
}

#[test]
fn a_table_without_a_needed_function_is_refused_with_the_reason() {
    let Some(kernel) = kernel("a_table_without_a_needed_function_is_refused_with_the_reason") else { return };
    let mut spec = open("struct_ops.o");
    let names = ["skep_ssthresh"];
    spec.map_mut("skep_linked").expect("it is there").autocreate = false;
    let ssthresh = spec.program_index(names[0]).expect("it is there");
    let plain = spec.map_mut("skep_plain").expect("it is there");
    plain.slots.retain(|slot| slot.value != skep::spec::SlotValue::Program(ssthresh));
    // A program that no table holds any more is an error until it is switched off.
    spec.map_mut("skep_linked").expect("it is there").slots.clear();
    let error = Loader::new(&kernel).load(&spec).expect_err("a program hangs in the air");
    let text = format!("{error}: {}", std::error::Error::source(&error).expect("it has a cause"));
    assert!(text.contains("no struct_ops table"), "{text}");
    spec.program_mut(names[0]).expect("it is there").autoload = false;
    let object = Loader::new(&kernel).load(&spec).expect("it loads");
    assert_eq!(object.programs().count(), 2);
    let error = object.attach_struct_ops("skep_plain").expect_err("TCP needs ssthresh");
    assert_eq!(error.errno(), Some(Errno::EINVAL));
    let text = format!("{error}: {}", std::error::Error::source(&error).expect("it has a cause"));
    assert!(text.contains("misses a function"), "{text}");
}

//! What may go between threads and processes, and what loads of one kernel share; on a simulated kernel.

#![allow(missing_docs)]

use std::os::fd::AsFd;
use std::os::unix::net::{UnixDatagram, UnixStream};

use skep::handover::{Handle, HandleKind, Handles, HandoverError};
use skep::link::Link;
use skep::map::{Array, HashMap, Map, PerCpuArray, PerCpuHashMap};
use skep::pinned::{PinnedSet, Staged, Switched, Upgrade};
use skep::sim::SimKernel;
use skep::sys::passing::{receive_fds, send_fds};
use skep::sys::wrap::CallLog;
use skep::sys::{BtfFd, LinkFd, LoadedProgram, MapFd, SharedMemory};
use skep::{Kernel, LoadReport, Loader, Object, Program, Spec};

/// All handles may be used and dropped in any thread.
const _: fn() = || {
    fn shared<T: Send + Sync>() {}
    shared::<(Kernel, Spec, Loader, LoadReport, Object, Program, Map, Link)>();
    shared::<(MapFd, LoadedProgram, LinkFd, BtfFd, SharedMemory)>();
    shared::<(Array<u64>, HashMap<u32, u64>, PerCpuArray<u64>, PerCpuHashMap<u32, u64>)>();
    shared::<(Upgrade, Staged, Switched, PinnedSet, Handle, Handles, HandoverError)>();
    shared::<(skep::Error, skep::map::MapError, skep::link::LinkError, skep::load::LoadError)>();
};

fn spec() -> Spec {
    Spec::open(concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/xdp_count.o")).expect("test data")
}

fn handles(kernel: &Kernel) -> Handles {
    let object = Loader::new(kernel).load(&spec()).expect("it loads");
    let program = object.program("xdp_count").unwrap();
    let mut handles = Handles::new();
    handles.add("flows", object.map("flows").unwrap().clone()).unwrap();
    handles.add("count", program.loaded().try_clone().unwrap()).unwrap();
    handles.add("on lo", program.attach_xdp("lo").unwrap()).unwrap();
    handles
}

#[test]
fn handles_go_over_a_socket() {
    let kernel = skep::sim::kernel();
    let sent = handles(&kernel);
    let (left, right) = UnixStream::pair().unwrap();
    sent.send(&left).unwrap();
    Handles::new().send(&left).unwrap();
    let received = Handles::receive(&kernel, &right).unwrap();
    assert!(Handles::receive(&kernel, &right).unwrap().is_empty());
    assert_eq!(received.len(), 3);
    let id = |handles: &Handles| handles.map("flows").unwrap().id().unwrap();
    assert_eq!(id(&received), id(&sent));
    let link = received.link("on lo").unwrap().id().unwrap();
    drop(sent);
    assert!(kernel.link_by_id(link).is_ok(), "what was received keeps it attached");
    drop(received);
    assert!(kernel.link_by_id(link).is_err());
}

#[test]
fn many_handles_go_in_several_messages() {
    let kernel = skep::sim::kernel();
    let map = handles(&kernel).take("flows").unwrap();
    let Handle::Map(map) = map else { panic!("it is a map") };
    let mut many = Handles::new();
    for n in 0..300 {
        many.add(&format!("map {n}"), map.clone()).unwrap();
    }
    let (left, right) = UnixStream::pair().unwrap();
    let sender = std::thread::spawn(move || many.send(&left));
    assert_eq!(Handles::receive(&kernel, &right).unwrap().len(), 300);
    sender.join().unwrap().unwrap();
}

#[test]
fn other_things_are_refused() {
    let kernel = skep::sim::kernel();
    let receive = |bytes: &[u8], fds: usize| {
        let (left, right) = UnixStream::pair().unwrap();
        let file = std::fs::File::open("/dev/null").unwrap();
        send_fds(left.as_fd(), bytes, &vec![file.as_fd(); fds]).unwrap();
        drop(left);
        Handles::receive(&kernel, &right).unwrap_err()
    };
    let message = |count: u32, names: &str| {
        let mut bytes = b"skepfds1".to_vec();
        for number in [count, names.len() as u32, 0] {
            bytes.extend(number.to_le_bytes());
        }
        bytes.extend(names.as_bytes());
        bytes
    };
    for (bytes, fds) in [
        (b"GET / HTTP/1.1\r\n\r\n ".to_vec(), 0),
        (b"skep".to_vec(), 0),
        (message(2, "a\nb"), 1),
        (message(1, "a\nb"), 2),
        (message(u32::MAX, "a"), 1),
    ] {
        let error = receive(&bytes, fds);
        assert!(matches!(error, HandoverError::Protocol { .. }), "{error}");
    }
    assert!(matches!(receive(&message(1, "a"), 1), HandoverError::NotBpf { .. }));
    let mut handles = handles(&kernel);
    for name in ["", "a:b", "a\nb", "ä", &"x".repeat(256)] {
        let Some(Handle::Map(map)) = handles.take("flows") else { panic!("it is a map") };
        assert!(matches!(handles.add(name, map.clone()), Err(HandoverError::Name { .. })), "{name:?}");
        handles.add("flows", map).unwrap();
    }
    // One of another kernel is none of this one.
    let other = skep::sim::kernel();
    let fd = handles.map("flows").unwrap().to_owned_fd().unwrap();
    assert!(matches!(Handle::from_fd(&other, "flows", fd), Err(HandoverError::NotBpf { .. })));
}

#[test]
fn a_service_manager_keeps_handles() {
    let kernel = skep::sim::kernel();
    let sent = handles(&kernel);
    let path = std::env::temp_dir().join(format!("skep-sim-notify-{}", std::process::id()));
    // Of a process of before that had the number, and was ended in the middle.
    let _ = std::fs::remove_file(&path);
    let manager = UnixDatagram::bind(&path).unwrap();
    sent.store_at(path.to_str().unwrap()).unwrap();
    std::fs::remove_file(&path).unwrap();
    assert!(matches!(sent.store_at(path.to_str().unwrap()), Err(HandoverError::Socket { .. })));
    let ids = (sent.map("flows").unwrap().id().unwrap(), sent.link("on lo").unwrap().id().unwrap());
    drop(sent);
    let mut named = vec![("a file".to_owned(), std::fs::File::open("/dev/null").unwrap().into())];
    for _ in 0..3 {
        let mut bytes = [0; 512];
        let (len, mut fds) = receive_fds(manager.as_fd(), &mut bytes).unwrap();
        let text = std::str::from_utf8(&bytes[..len]).unwrap();
        let name = text.strip_prefix("FDSTORE=1\nFDNAME=").and_then(|rest| rest.strip_suffix("\nFDPOLL=0"));
        named.push((name.expect("that is the protocol").to_owned(), fds.remove(0)));
    }
    let (kept, others) = Handles::from_named(&kernel, named).unwrap();
    assert_eq!((kept.map("flows").unwrap().id().unwrap(), kept.link("on lo").unwrap().id().unwrap()), ids);
    let kinds: Vec<HandleKind> = kept.iter().map(|(_, handle)| handle.kind()).collect();
    assert_eq!(kinds, [HandleKind::Map, HandleKind::Program, HandleKind::Link]);
    assert_eq!((others.len(), others[0].0.as_str()), (1, "a file"));
}

/// Maps, programs and links are duplicated, become descriptors, and are rebuilt from them.
#[test]
fn handles_are_duplicated_and_rebuilt() {
    let kernel = skep::sim::kernel();
    let handles = handles(&kernel);
    let map = handles.map("flows").unwrap();
    let rebuilt = Map::from_fd(&kernel, map.to_owned_fd().unwrap()).unwrap();
    assert_eq!(rebuilt.id().unwrap(), map.id().unwrap());
    let program = handles.program("count").unwrap();
    let rebuilt = kernel.prog_from_fd(program.try_clone().unwrap().into()).unwrap();
    assert_eq!(rebuilt.info().unwrap().id, program.info().unwrap().id);
    let link = handles.link("on lo").unwrap();
    let rebuilt = Link::from_fd(&kernel, link.try_clone().unwrap().into()).unwrap();
    assert_eq!(rebuilt.id().unwrap(), link.id().unwrap());
    let error = Link::from_fd(&kernel, map.to_owned_fd().unwrap()).unwrap_err();
    assert!(error.to_string().contains("something else than a link"), "{error}");
    assert!(kernel.prog_from_fd(map.to_owned_fd().unwrap()).is_err());
    let error = Map::from_fd(&kernel, program.try_clone().unwrap().into()).unwrap_err();
    assert!(error.to_string().contains("something else than a map"), "{error}");
}

/// A second load opens neither the kernel's BTF nor a token again.
#[test]
fn loads_share_what_is_known_of_the_kernel() {
    let btf = std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/btf/6.12.btf")).unwrap();
    let sim = SimKernel::builder().btf(btf).delegating_bpffs("/run/bpf").build().unwrap();
    let (backend, calls) = CallLog::around(std::sync::Arc::new(sim));
    let kernel = Kernel::new(backend);
    let spec = Spec::open(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/exec_watch.bpf.o")).unwrap();
    let loader = Loader::new(&kernel).token_path("/run/bpf");
    let first = loader.load(&spec).expect("it loads");
    assert_eq!((calls.count("kernel_btf"), calls.count("token_create")), (1, 1));
    let second = loader.load(&spec).expect("it loads");
    // So do a loader that is a copy, and any loader of a handle that has the token.
    loader.clone().load(&spec).expect("it loads");
    Loader::new(first.kernel()).load(&spec).expect("it loads");
    assert_eq!((calls.count("kernel_btf"), calls.count("token_create")), (1, 1));
    assert!(first.kernel().same(second.kernel()));
}

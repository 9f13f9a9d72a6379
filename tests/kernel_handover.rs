//! Handles that go to other processes, and bpffs mounts, on the running kernel.

#![cfg(target_os = "linux")]
#![allow(missing_docs)] // what is skipped is said

mod support;

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::Path;
use std::process::{Command, Stdio};

use nix::sched::{CloneFlags, unshare};
use rustix::mount::{MountFlags, MountPropagationFlags, mount_change, mount_remount, unmount};
use skep::handover::{Handle, HandleKind, Handles, HandoverError};
use skep::map::{HashMap, Map};
use skep::sys::abi::{MapType, OpenFlags, UpdateFlags};
use skep::sys::passing::receive_fds;
use skep::sys::request::MapCreate;
use skep::{Kernel, Loader, bpffs};
use support::{denied, linux, open};

const ANY: UpdateFlags = UpdateFlags::empty();

/// A map with one entry, a program, and a link of it to the loopback device of a network namespace of this thread.
fn handles(kernel: &Kernel) -> Option<Handles> {
    unshare(CloneFlags::CLONE_NEWNET).ok()?;
    let object = Loader::new(kernel).load(&open("xdp_count.o")).expect("it loads");
    let flows = object.map("flows").unwrap();
    flows.update(&[1; 8], &[2; 16], ANY).unwrap();
    let program = object.program("xdp_count").unwrap();
    let mut handles = Handles::new();
    handles.add("flows", flows.clone()).unwrap();
    handles.add("count", program.loaded().try_clone().unwrap()).unwrap();
    handles.add("on lo", program.attach_xdp("lo").unwrap()).unwrap();
    Some(handles)
}

/// What a process that got the handles sees. It adds an entry.
fn use_them(handles: &Handles) {
    let mut names: Vec<&str> = handles.iter().map(|(name, _)| name).collect();
    names.sort_unstable();
    assert_eq!(names, ["count", "flows", "on lo"]);
    let flows: HashMap<[u8; 8], [u8; 16]> = handles.map("flows").unwrap().typed().unwrap();
    assert_eq!(flows.get(&[1; 8]).unwrap(), Some([2; 16]));
    flows.insert(&[3; 8], &[4; 16], ANY).unwrap();
    let program = handles.program("count").unwrap().info().unwrap();
    assert_eq!(handles.link("on lo").unwrap().info().unwrap().prog_id, program.id);
    let error = handles.map("count").expect_err("it is a program");
    assert!(error.to_string().contains("program `count`"), "{error}");
}

const CHILD: &str = "SKEP_HANDOVER_CHILD";

/// Not a test of its own: the other process.
#[test]
fn child() {
    let kernel = Kernel::linux();
    match std::env::var(CHILD).as_deref() {
        Ok("socket") => {
            let socket = std::io::stdin().as_fd().try_clone_to_owned().expect("it is open");
            use_them(&Handles::receive(&kernel, &UnixStream::from(socket)).expect("handles come"));
        }
        Ok("service") => {
            let handles = Handles::from_service_manager(&kernel).expect("they were kept");
            use_them(&handles);
            assert!(Handles::from_service_manager(&kernel).expect("they were taken").is_empty());
        }
        _ => {}
    }
}

fn run_child(command: &mut Command) {
    let output = command.output().expect("it can be run");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

/// A real process gets them over a socket, and they are the same objects.
#[test]
fn handles_go_over_a_socket() {
    let name = "handles_go_over_a_socket";
    let Some(kernel) = linux(name) else { return };
    let Some(handles) = handles(&kernel) else {
        denied(name, "no network namespace");
        return;
    };
    let (ours, theirs) = UnixStream::pair().unwrap();
    handles.send(&ours).expect("there is room in the socket");
    run_child(
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child"])
            .env(CHILD, "socket")
            .stdin(Stdio::from(OwnedFd::from(theirs))),
    );
    assert_eq!(handles.map("flows").unwrap().lookup(&[3; 8]).unwrap(), Some(vec![4; 16]));
}

/// A service gives them to its manager, ends, and its next run gets them.
#[test]
fn handles_are_kept_by_a_service_manager() {
    let name = "handles_are_kept_by_a_service_manager";
    let Some(kernel) = linux(name) else { return };
    let Some(handles) = handles(&kernel) else {
        denied(name, "no network namespace");
        return;
    };
    let program = handles.program("count").unwrap().info().unwrap().id;
    let link = handles.link("on lo").unwrap().id().unwrap();
    let path = std::env::temp_dir().join(format!("skep-notify-{}", std::process::id()));
    // Of a process of before that had the number, and was ended in the middle.
    let _ = std::fs::remove_file(&path);
    let manager = UnixDatagram::bind(&path).unwrap();
    handles.store_at(path.to_str().unwrap()).expect("the manager listens");
    std::fs::remove_file(&path).unwrap();
    drop(handles);

    let mut kept = Vec::new();
    for _ in 0..3 {
        let mut bytes = [0; 512];
        let (len, mut fds) = receive_fds(manager.as_fd(), &mut bytes).unwrap();
        let text = std::str::from_utf8(&bytes[..len]).unwrap();
        let mut lines = text.lines();
        assert_eq!((lines.next(), fds.len()), (Some("FDSTORE=1"), 1), "{text}");
        let name =
            lines.next().and_then(|line| line.strip_prefix("FDNAME=")).expect("it is named").to_owned();
        assert_eq!(lines.next(), Some("FDPOLL=0"));
        kept.push((name, fds.remove(0)));
    }
    assert_eq!(
        kernel.link_by_id(link).unwrap().info().unwrap().prog_id,
        program,
        "the manager keeps it attached"
    );

    // A manager makes them descriptors 3, 4 and 5; here a shell does.
    let names: Vec<&str> = kept.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["flows", "count", "on lo"]);
    let joined = names.join(":");
    let mut fds = kept.into_iter().map(|(_, fd)| fd);
    let mut next = || Stdio::from(fds.next().expect("there are three"));
    // They take the places of the standard streams, since a shell names only descriptors below 10; the result goes to a file.
    let result = path.with_extension("result");
    let script =
        "export LISTEN_PID=$$ LISTEN_FDS=3; exec 3<&0 4<&1 5<&2 0</dev/null 1>\"$0\" 2>&1; exec \"$@\"";
    let status = Command::new("sh")
        .args(["-c", script])
        .arg(&result)
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "child"])
        .env("LISTEN_FDNAMES", joined)
        .env(CHILD, "service")
        .stdin(next())
        .stdout(next())
        .stderr(next())
        .status()
        .expect("there is a shell");
    let text = std::fs::read_to_string(&result).unwrap_or_default();
    let _ = std::fs::remove_file(&result);
    assert!(status.success() && text.contains("1 passed"), "{status}: {text}");
}

/// Kinds are told apart, and what is no object is refused.
#[test]
fn kinds_are_told_apart() {
    let Some(kernel) = linux("kinds_are_told_apart") else { return };
    let Some(mut handles) = handles(&kernel) else { return };
    for (name, kind) in
        [("flows", HandleKind::Map), ("count", HandleKind::Program), ("on lo", HandleKind::Link)]
    {
        let handle = handles.take(name).unwrap();
        let fd = handle.as_fd().try_clone_to_owned().unwrap();
        assert_eq!(Handle::from_fd(&kernel, name, fd).unwrap().kind(), kind);
    }
    let file = std::fs::File::open("/dev/null").unwrap();
    assert!(matches!(Handle::from_fd(&kernel, "null", file.into()), Err(HandoverError::NotBpf { .. })));
}

/// A mount namespace of this thread, in which nothing that is mounted is seen elsewhere.
fn own_mounts(name: &str) -> bool {
    if let Err(errno) = unshare(CloneFlags::CLONE_NEWNS) {
        denied(name, format!("no mount namespace: {errno}"));
        return false;
    }
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).expect("it is ours");
    true
}

fn map(kernel: &Kernel) -> Map {
    Map::create(kernel, &MapCreate::new(MapType::HASH, 4, 8, 16)).unwrap()
}

/// Without a bpffs, errors say so; one can be mounted; a read-only one is explained; and it is nobody else's.
#[test]
fn a_bpffs_is_absent_private_or_read_only() {
    let name = "a_bpffs_is_absent_private_or_read_only";
    let Some(kernel) = linux(name) else { return };
    if !bpffs::is_mounted(&kernel, "/sys/fs/bpf").unwrap() {
        denied(name, "no bpffs at /sys/fs/bpf");
        return;
    }
    if !own_mounts(name) {
        return;
    }
    while bpffs::is_mounted(&kernel, "/sys/fs/bpf").unwrap() {
        unmount("/sys/fs/bpf", rustix::mount::UnmountFlags::DETACH).expect("it is mounted here");
    }
    // Absent.
    let object = Loader::new(&kernel).load(&open("xdp_count.o")).expect("it loads");
    let root = Path::new("/sys/fs/bpf/app");
    for error in [
        object.pin_all(root).expect_err("there is no bpffs").to_string(),
        map(&kernel).pin("/sys/fs/bpf/x").expect_err("there is no bpffs").to_string(),
        skep::pinned::Upgrade::begin(&kernel, root).expect_err("there is no bpffs").to_string(),
        std::error::Error::source(
            &Loader::new(&kernel).load(&open("pinned.o")).expect_err("there is no bpffs"),
        )
        .expect("it has a cause")
        .to_string(),
    ] {
        assert!(error.contains("mount -t bpf bpf /sys/fs/bpf"), "{error}");
        assert!(error.contains("/sys/fs/bpf"), "{error}");
    }
    // Mounted when it is asked for, for this namespace alone.
    assert!(bpffs::ensure(&kernel, "/sys/fs/bpf").expect("it can be mounted"));
    assert!(!bpffs::ensure(&kernel, "/sys/fs/bpf").expect("it is mounted"));
    assert_eq!(object.pin_all(root).expect("there is one now").paths().count(), 3);
    let elsewhere = std::thread::spawn(|| {
        // Threads begin in the namespace of the one that makes them: the process's first one is where it was.
        Path::new("/proc/1/root/sys/fs/bpf/app").exists()
    });
    assert!(!elsewhere.join().unwrap(), "it is private");
    let error = bpffs::ensure(&kernel, "/no/such/parent/bpf").expect_err("its parent is missing");
    assert!(error.to_string().contains("parent directory must exist"), "{error}");
    // Read-only.
    mount_remount("/sys/fs/bpf", MountFlags::RDONLY | MountFlags::BIND, "").expect("it is ours");
    for error in [
        map(&kernel).pin("/sys/fs/bpf/x").map_err(|error| error.to_string()).expect_err("it is read-only"),
        object
            .pin_all("/sys/fs/bpf/other")
            .map(drop)
            .map_err(|error| error.to_string())
            .expect_err("it is read-only"),
        object.unpin_all(root).map_err(|error| error.to_string()).expect_err("it is read-only"),
    ] {
        assert!(error.contains("read-only"), "{error}");
    }
    // A map opens for reading there, as the kernel allows.
    let open = Map::open_pinned(&kernel, root.join("flows"), OpenFlags::RDONLY);
    assert_eq!(open.expect("reading is allowed").key_len(), 8);
}

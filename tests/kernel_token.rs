//! Loads in a user namespace, with a BPF token of a bpffs that a privileged process mounted for it.

#![allow(clippy::print_stdout)] // a skipped test says so, and the processes talk to each other

mod support;

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_string, fsmount, fsopen,
};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};
use skep::load::{LoadError, NoteKind};
use skep::sys::abi::Errno;
use skep::sys::{Feature, Probe};
use skep::{Error, ErrorKind, Kernel, Loader};
use support::{denied, open};

const VARIABLE: &str = "LIBBPF_BPF_TOKEN_PATH";
const ALL: &str = "delegate_cmds=any,delegate_maps=any,delegate_progs=any,delegate_attachs=any";

fn text(error: &Error) -> String {
    format!("{error}: {}", std::error::Error::source(error).expect("it has a cause"))
}

/// What a test that another one runs says at its end: that it passed does not say that it ran.
const DONE: &str = "all of it was tried";

/// Arguments that run one of the ignored tests of this program.
fn only(test: &str) -> [&str; 4] {
    [test, "--exact", "--ignored", "--nocapture"]
}

fn this_program() -> PathBuf {
    std::env::current_exe().expect("it runs")
}

/// A process that does not outlive the test.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        // One that ended already cannot be killed.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_process_in_a_user_namespace_loads_with_a_token() {
    let name = "a_process_in_a_user_namespace_loads_with_a_token";
    let kernel = Kernel::linux();
    let root = Path::new("/sys/fs/bpf");
    if kernel.backend().is_bpffs(root) != Ok(true) {
        return denied(name, "no bpffs at /sys/fs/bpf");
    }
    match kernel.token_create(root) {
        // Nobody needs one there, and the kernel says so in its own way.
        Err(Errno::EOPNOTSUPP) => {}
        Err(Errno::EINVAL) => return println!("skip: {name}: this kernel knows no tokens (Linux 6.9)"),
        Err(errno) => return denied(name, format!("this process is not privileged: {errno}")),
        Ok(_) => panic!("a token in the first user namespace"),
    }
    // A process enters a user namespace before it has threads, so not one that runs tests.
    let spawned = Command::new("unshare")
        .args(["-U", "-r", "-m"])
        .arg(this_program())
        .args(only("child_in_a_user_namespace"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .env_remove(VARIABLE)
        .spawn();
    let mut child = match spawned {
        Ok(child) => Ended(child),
        Err(error) => return denied(name, format!("unshare of util-linux cannot be run: {error}")),
    };
    let pid = Pid::from_child(&child.0);
    let mut answers = child.0.stdin.take().expect("it is piped");
    let mut said = String::new();
    for line in BufReader::new(child.0.stdout.take().expect("it is piped")).lines() {
        let line = line.expect("it is text");
        if let Some((_, wish)) = line.split_once("mount ") {
            delegate(pid, wish);
            answers.write_all(b"done\n").expect("the child waits");
        }
        writeln!(said, "{line}").expect("it grows");
    }
    let status = child.0.wait().expect("it ends");
    if said.is_empty() && !status.success() {
        return denied(name, format!("no user namespace can be entered: unshare ended with {status}"));
    }
    assert!(status.success() && said.contains(DONE), "{said}");
}

/// Sets up the bpffs that `pid` opened as the descriptor that comes first in `wish`, with the options that follow. Who has
/// no rights outside of its user namespace cannot set these.
fn delegate(pid: Pid, wish: &str) {
    let (fd, options) = wish.split_once(' ').expect("a descriptor and options");
    let process = pidfd_open(pid, PidfdFlags::empty()).expect("the child lives");
    let fd = fd.parse().expect("a number");
    let context = pidfd_getfd(process, fd, PidfdGetfdFlags::empty()).expect("it is open there");
    for option in options.split(',') {
        let (key, value) = option.split_once('=').expect("an option has a value");
        fsconfig_set_string(&context, key, value).unwrap_or_else(|errno| panic!("{option}: {errno}"));
    }
    fsconfig_create(&context).expect("a bpffs can be made");
}

/// A bpffs of this user namespace that delegates what `options` say. It is mounted nowhere: its path goes through `/proc`.
fn mount(options: &str) -> (OwnedFd, String) {
    let context = fsopen("bpf", FsOpenFlags::empty()).expect("a user namespace may");
    println!("mount {} {options}", context.as_raw_fd());
    let mut answer = [0; 5];
    std::io::stdin().read_exact(&mut answer).expect("the parent answers");
    let mount = fsmount(&context, FsMountFlags::empty(), MountAttrFlags::empty()).expect("it was set up");
    let path = format!("/proc/self/fd/{}", mount.as_raw_fd());
    (mount, path)
}

#[test]
#[ignore = "enters a user namespace; run by another test"]
fn child_in_a_user_namespace() {
    let kernel = Kernel::linux();
    let spec = open("kinds.o");

    let error = Loader::new(&kernel).load(&spec).expect_err("its capabilities count for nothing");
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    assert!(
        text(&error).contains("user namespace") && text(&error).contains("token_path"),
        "{}",
        text(&error)
    );
    assert!(matches!(kernel.has(Feature::BtfFloat), Probe::Unknown(_)), "not seen is not missing");
    let error =
        Loader::new(&kernel).token_path("/sys/fs/bpf").load(&spec).expect_err("it is of another namespace");
    assert!(
        matches!(error, Error::Load { source: LoadError::Token { source: Errno::EPERM, .. }, .. }),
        "{error:?}"
    );

    let (_mounted, path) = mount(ALL);
    let loader = Loader::new(&kernel).token_path(&path);
    let object = loader.load(&spec).unwrap_or_else(|error| panic!("{}", text(&error)));
    assert_eq!(object.report().of(NoteKind::Delegated).count(), 1, "{}", object.report());
    assert_eq!(object.report().of(NoteKind::Adapted).count(), 0, "{}", object.report());
    object.set_global("zeroed", &5u64).expect("it can be written");
    assert_eq!(object.global::<u64>("zeroed").expect("it can be read"), 5);
    let info = object.map("counts").expect("it is there").info().expect("the kernel knows it");
    assert_ne!((info.btf_id.0, info.btf_value_type_id), (0, 0), "types came with it");
    // Types of the kernel are used as everywhere.
    if kernel.btf().is_ok() {
        loader.load(&open("core_fields.o")).unwrap_or_else(|error| panic!("{}", text(&error)));
    }
    let with_token = kernel.with_token(&kernel.token_create(&path).expect("as before"));
    assert_eq!(with_token.has(Feature::BtfFloat), Probe::Supported);
    // Opening BTF by its id takes a token since Linux 6.15 only.
    match with_token.btf_by_id(info.btf_id) {
        Ok(btf) => assert_eq!(btf.info().expect("it can be read").id, info.btf_id),
        Err(errno) => assert_eq!(errno, Errno::EPERM),
    }

    // The variable names it as well.
    let grandchild = only("grandchild_with_a_variable");
    let output = Command::new(this_program()).args(grandchild).env(VARIABLE, &path).output();
    let output = output.expect("it runs");
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains(DONE), "{said}{errors}");

    // A token gives what was delegated and no more.
    let (_mounted, path) = mount("delegate_cmds=any,delegate_maps=any,delegate_attachs=any");
    let error =
        Loader::new(&kernel).token_path(&path).load(&spec).expect_err("no kind of program is delegated");
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    assert!(text(&error).contains("the token does not allow it"), "{}", text(&error));
    assert!(text(&error).contains("program `kinds`"), "{}", text(&error));
    println!("{DONE}");
}

#[test]
#[ignore = "needs a bpffs that delegates; run by another test"]
fn grandchild_with_a_variable() {
    let kernel = Kernel::linux();
    let object =
        Loader::new(&kernel).load(&open("xdp_count.o")).expect("the variable names a bpffs that delegates");
    assert_eq!(object.report().of(NoteKind::Delegated).count(), 1);
    assert!(
        Loader::new(&kernel).token_path("").load(&open("xdp_count.o")).is_err(),
        "what is said comes first"
    );
    println!("{DONE}");
}

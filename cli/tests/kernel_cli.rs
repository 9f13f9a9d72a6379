//! The command as a user calls it, on the running kernel.

#![allow(clippy::print_stdout)] // a skipped test says so

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use serde_json::Value;
use skep::Kernel;
use skep::sys::abi::{MapType, OpenFlags};
use skep::sys::request::MapCreate;

fn testdata(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata").join(name)
}

fn skep(args: &[&str], objects: &[PathBuf]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_skep"));
    command.args(args).args(objects).stdin(Stdio::null()).output().expect("the command starts")
}

fn lines(output: &Output) -> Vec<Value> {
    let text = std::str::from_utf8(&output.stdout).expect("JSON is UTF-8");
    text.lines().map(|line| serde_json::from_str(line).expect("each line is JSON")).collect()
}

/// Whether this process may load programs, or why not.
fn permitted(test: &str) -> bool {
    let Err(errno) = Kernel::linux().map_create(&MapCreate::new(MapType::ARRAY, 4, 4, 1)) else {
        return true;
    };
    println!("skip: {test}: this process may not create a map: {errno}");
    assert!(std::env::var_os("SKEP_REQUIRE_KERNEL").is_none(), "{test} was skipped: {errno}");
    false
}

#[test]
fn verify_keeps_its_contract() {
    if !permitted("verify_keeps_its_contract") {
        return;
    }
    let objects = [testdata("xdp_count.o"), testdata("README.md"), testdata("bad_null_deref.o")];
    let output = skep(&["verify", "--json"], &objects);
    assert_eq!(output.status.code(), Some(1));
    let lines = lines(&output);
    assert_eq!(lines.len(), 3);

    let good = &lines[0];
    assert_eq!(good["file"], objects[0].to_str().expect("the path is UTF-8"));
    assert_eq!((&good["open"]["ok"], &good["load"]["ok"]), (&true.into(), &true.into()));
    assert!(good["open"]["us"].is_u64() && good["load"]["us"].is_u64());
    let program = &good["programs"][0];
    assert_eq!(
        (&program["name"], &program["ok"], &program["error"]),
        (&"xdp_count".into(), &true.into(), &Value::Null)
    );
    assert_eq!(program["tag"].as_str().map(str::len), Some(16));
    assert!(program["instructions"].as_u64() > Some(0));
    assert!(program["verified_instructions"].is_u64());

    assert_eq!(lines[1]["open"]["ok"], false);
    assert!(lines[1]["open"]["error"].is_string());
    assert_eq!(lines[1]["programs"].as_array().map(Vec::len), Some(0));

    let bad = &lines[2];
    assert_eq!((&bad["load"]["ok"], &bad["load"]["errno"]), (&false.into(), &13.into()));
    let program = bad["programs"].as_array().expect("programs").iter().find(|p| p["name"] == "no_check");
    let error = program.expect("it is in the object")["error"].as_str().expect("it does not load").to_owned();
    assert!(error.contains("bad_null_deref.c:") && error.contains("*value += skb->len"), "{error}");
    let fine = bad["programs"].as_array().expect("programs").iter().find(|p| p["name"] == "fine");
    assert_eq!(fine.expect("it is in the object")["ok"], true);
}

#[test]
fn verify_exits_0_when_everything_loads() {
    if permitted("verify_exits_0_when_everything_loads") {
        let output = skep(&["verify"], &[testdata("xdp_count.o"), testdata("subprogs.o")]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    }
}

/// A step that takes too long is ended, and what comes after it is still tried.
#[test]
fn verify_ends_what_takes_too_long() {
    if !permitted("verify_ends_what_takes_too_long") {
        return;
    }
    // Nobody will write to it: reading it takes for ever.
    let endless = std::env::temp_dir().join(format!("skep-endless-{}.o", std::process::id()));
    mkfifo(&endless, Mode::S_IRUSR | Mode::S_IWUSR).expect("a place to write to");
    let output = skep(&["verify", "--json", "--timeout", "3"], &[endless.clone(), testdata("xdp_count.o")]);
    std::fs::remove_file(&endless).expect("it is there");
    let lines = lines(&output);
    assert_eq!(lines.len(), 2);
    let error = lines[0]["open"]["error"].as_str().expect("it was not opened");
    assert!(error.contains("timed out") && error.contains("--timeout"), "{error}");
    // On a busy machine this can take too long, too.
    let next = &lines[1]["open"];
    assert!(
        next["ok"] == true || next["error"].as_str().is_some_and(|error| error.contains("timed out")),
        "{next}"
    );
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn load_pins_what_it_loads_and_takes_back_what_it_cannot() {
    if !permitted("load_pins_what_it_loads_and_takes_back_what_it_cannot") {
        return;
    }
    let directory = format!("/sys/fs/bpf/skep_cli_{}", std::process::id());
    // Of a process of before that had the number, and was ended in the middle.
    let _ = std::fs::remove_dir_all(&directory);
    let object = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/packet_counter.bpf.o");
    let args = ["load", "--json", "--pin", &directory, "--set", "sample_every=3"];
    let output = skep(&args, std::slice::from_ref(&object));
    let loaded = &lines(&output)[0];
    assert_eq!(loaded["ok"], true, "{loaded}");
    let kernel = Kernel::linux();
    for name in ["count_packets", "per_protocol", "rodata", "bss"] {
        let path = Path::new(&directory).join(name);
        kernel.backend().open_pinned(&path, OpenFlags::empty()).expect("it is pinned");
    }
    let rodata =
        kernel.map_open_pinned(Path::new(&directory).join("rodata"), OpenFlags::empty()).expect("a map");
    let mut value = vec![0; rodata.value_len()];
    rodata.lookup(&0u32.to_ne_bytes(), &mut value, Default::default()).expect("it has one element");
    assert_eq!(value[..4], 3u32.to_ne_bytes());

    // The names are taken: nothing of the second load may stay, and nothing of the first may go.
    let output = skep(&args, std::slice::from_ref(&object));
    assert_eq!((output.status.code(), &lines(&output)[0]["ok"]), (Some(1), &false.into()));
    let there = std::fs::read_dir(&directory).expect("the directory is there").count();
    assert_eq!(there, 4);
    for wrong in ["sample_every=999999999999", "sample_every", "no_such=1", "sample_every=x"] {
        let output = skep(&["load", "--set", wrong], std::slice::from_ref(&object));
        assert_eq!(output.status.code(), Some(2), "{wrong}");
    }
    std::fs::remove_dir_all(&directory).expect("pins can be removed");

    // What fails after it was pinned leaves neither pins nor the directory.
    let args = ["load", "--json", "--pin", &directory, "--attach=count_packets@nosuchif0"];
    let output = skep(&args, std::slice::from_ref(&object));
    assert_eq!((output.status.code(), &lines(&output)[0]["ok"]), (Some(1), &false.into()));
    assert!(!Path::new(&directory).exists());
    let output = skep(&["load", "--pin", "/tmp/skep_cli"], std::slice::from_ref(&object));
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(error.contains("mount -t bpf bpf /sys/fs/bpf"), "{error}");
}

#[test]
fn load_says_when_nothing_can_be_attached() {
    if permitted("load_says_when_nothing_can_be_attached") {
        let output = skep(&["load", "--attach"], &[testdata("xdp_count.o")]);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(error.contains("--attach=PROGRAM@INTERFACE"), "{error}");
        let output = skep(&["load", "--attach=xdp_count@nosuchif0"], &[testdata("xdp_count.o")]);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(error.contains("nosuchif0"), "{error}");
    }
}

/// Tables are registered until the command is asked to end, with and without links.
#[test]
fn load_registers_tables() {
    const AVAILABLE: &str = "/proc/sys/net/ipv4/tcp_available_congestion_control";
    let available = || std::fs::read_to_string(AVAILABLE).unwrap_or_default();
    if !permitted("load_registers_tables") {
        return;
    }
    // Older kernels have no links of tables, and the object has one.
    let loads = skep(&["load"], &[testdata("struct_ops.o")]).status.success();
    if !loads || available().is_empty() {
        return println!(
            "skip: load_registers_tables: this kernel has no links of struct_ops (Linux 6.4), or no TCP"
        );
    }
    let mut child = Command::new(env!("CARGO_BIN_EXE_skep"))
        .args(["load", "--attach=skep_plain", "--attach=skep_linked"])
        .arg(testdata("struct_ops.o"))
        .stdout(Stdio::piped())
        .spawn()
        .expect("the command can be started");
    let mut said = BufReader::new(child.stdout.take().expect("it is a pipe")).lines();
    let attached = said.any(|line| line.is_ok_and(|line| line.starts_with("attached")));
    let there = available();
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(child.id().cast_signed()),
        nix::sys::signal::Signal::SIGTERM,
    )
    .expect("it runs");
    let status = child.wait().expect("it ends");
    assert!(attached && status.success(), "{status}");
    assert!(there.contains("skep_plain") && there.contains("skep_linked"), "{there}");
    assert!(!available().contains("skep_"), "{}", available());
}

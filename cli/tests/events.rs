//! `skep run --event` as a user calls it, without a kernel.

use std::path::Path;
use std::process::{Command, Output};

const UDP: &str = "000000000000 000000000000 0800 4500 0000 0000 0000 0011 0000 00000000 00000000";

fn skep(object: &str, args: &[&str]) -> Output {
    let object = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(object);
    let mut command = Command::new(env!("CARGO_BIN_EXE_skep"));
    command.arg("run").arg(object).args(args).output().expect("the command starts")
}

fn shown(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn packets_come_by_what_is_attached() {
    let args = ["--event", "receive:eth0", "--hex", UDP];
    let text = shown(&skep("examples/packet_counter.bpf.o", &args));
    assert!(text.starts_with("receive:eth0: delivered by device"), "{text}");
    assert!(text.contains("  count_packets returns XDP_PASS (2)\n"), "{text}");
    assert!(text.contains(".packets_seen = 1"), "{text}");
}

#[test]
fn several_events_and_json() {
    let args = ["--event", "receive:eth0", "--event", "receive:eth0", "--hex", UDP, "--json"];
    let text = shown(&skep("examples/packet_counter.bpf.o", &args));
    let lines: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines[0]["programs"][0]["verdict"], "XDP_PASS");
    assert_eq!(lines[2]["maps"][".bss"][0]["after"]["packets_seen"], 2);
}

#[test]
fn where_nothing_runs_it_says_what_is_attached() {
    let text = shown(&skep("examples/packet_counter.bpf.o", &["--event", "sysctl:kernel/ostype"]));
    assert!(
        text.contains("sysctl:kernel/ostype: allowed: kernel/ostype is Linux\n  no program ran\n"),
        "{text}"
    );
    assert!(text.contains("    count_packets is attached to eth0 (xdp)\n"), "{text}");
}

#[test]
fn system_calls_come_by_their_tracepoints() {
    let text = shown(&skep("testdata/tracepoint.o", &["--event", "syscall:getpid()=5"]));
    assert!(text.contains("syscall:getpid()=5: the process gets 5\n  on_getpid returns 0\n"), "{text}");
    // Fields have to be known.
    let output = skep("testdata/tracepoint.o", &["--event", "tp:sched/sched_process_exec(pid=7)"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stdout).contains("fields of tracepoint"));
}

#[test]
fn what_is_wrong_says_what_is_right() {
    let output = skep("examples/packet_counter.bpf.o", &["--event", "recieve:eth0"]);
    assert_eq!(output.status.code(), Some(2));
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(
        error.contains("there is no kind of event `recieve`") && error.contains("receive:DEVICE"),
        "{error}"
    );
    let linux = skep("examples/packet_counter.bpf.o", &["--kernel", "linux", "--event", "receive:eth0"]);
    assert_eq!(linux.status.code(), Some(2));
    let short = skep("examples/packet_counter.bpf.o", &["--event", "receive:eth0", "--hex", "00"]);
    assert_eq!(short.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&short.stdout).contains("has to have 14 to 65535"));
}

//! What people get wrong: one error that names the thing and says what to do, the right exit code, and no panic.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

/// A UDP packet in IPv4.
const UDP: &str = "0000000000000000000000000800450000000000000000110000000000000000";

/// A directory of files that are wrong in some way, gone afterwards.
struct Files(PathBuf);

impl Files {
    fn new(name: &str) -> Files {
        let path = std::env::temp_dir().join(format!("skep-wrong-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).expect("the directory can be made");
        let files = Files(path);
        let object = fs::read(root().join("examples/packet_counter.bpf.o")).expect("the object is there");
        files.write("empty", b"");
        files.write("text", b"int main(void) { return 0; }\n");
        files.write("cut.o", &object[..object.len() / 2]);
        files.write("good.pcap", &pcap(1, &[34, 34]));
        let whole = pcap(1, &[34, 34]);
        files.write("cut.pcap", &whole[..whole.len() - 5]);
        files.write("header.pcap", &whole[..30]);
        files.write("raw.pcap", &pcap(101, &[20]));
        files.write("none.pcap", &pcap(1, &[]));
        files.write("member.json", br#"{"per_protocol": [[17, {"packet": 1}]]}"#);
        files.write("map.json", br#"{"per_protocl": []}"#);
        files.write("syntax.json", b"{");
        files.write("variable.json", br#"{".bss": [[0, {"packets_sen": 1}]]}"#);
        files
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        fs::write(self.0.join(name), bytes).expect("the directory can be written");
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        // Others may have cleaned up meanwhile.
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn pcap(link: u32, packets: &[usize]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for word in [0xa1b2_c3d4, 4 << 16 | 2, 0, 0, 65535, link] {
        bytes.extend(u32::to_le_bytes(word));
    }
    for &len in packets {
        for word in [0, 0, len as u32, len as u32] {
            bytes.extend(u32::to_le_bytes(word));
        }
        bytes.resize(bytes.len() + len, 0);
    }
    bytes
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().expect("it is there")
}

/// Runs the command with words, of which `@NAME` is one of the files and `UDP` a packet.
fn skep(files: &Files, line: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_skep"));
    command.current_dir(root()).stdin(Stdio::null());
    for word in line.split(' ') {
        match word.strip_prefix('@') {
            Some(name) => command.arg(files.0.join(name)),
            None if word == "UDP" => command.arg(UDP),
            None if word == "NOTHING" => command.arg(""),
            None => command.arg(word),
        };
    }
    command.output().expect("the command starts")
}

const COUNTER: &str = "examples/packet_counter.bpf.o";
const WATCH: &str = "examples/exec_watch.bpf.o";

/// The exit code, the command, and what the error has to say.
#[test]
fn each_is_one_clear_error() {
    let files = Files::new("table");
    let run = |rest: &str| format!("run {COUNTER} {rest}");
    let udp = |rest: &str| format!("run {COUNTER} --hex UDP {rest}");
    let mut cases: Vec<(i32, String, &[&str])> = Vec::new();
    for command in ["inspect", "run", "load"] {
        let mut add =
            |file: &str, says: &'static [&'static str]| cases.push((1, format!("{command} {file}"), says));
        add("/no/such/file.o", &["/no/such/file.o", "No such file"]);
        add("/tmp", &["/tmp", "directory"]);
        add("@empty", &["empty", "not a readable ELF file"]);
        add("@text", &["text", "not a readable ELF file"]);
        add("@cut.o", &["cut.o", "cut short"]);
        add("/bin/sh", &["/bin/sh", "not an eBPF object", "clang --target=bpf"]);
    }
    cases.extend([
        (2, "frob".to_owned(), &["frob"][..]),
        (2, format!("check {COUNTER}"), &["--btf"]),
        (1, format!("check {COUNTER} --btf /no/such/file"), &["/no/such/file", "No such file"]),
        (2, format!("check {COUNTER} --btf examples"), &["examples holds no kernel's types", "*.btf"]),
        (2, udp("--prog count_packet"), &["no program `count_packet`", "count_packets"]),
        (2, run("--hex 0g"), &["--hex", "`0g`"]),
        (2, run("--hex 000"), &["--hex", "pairs of hexadecimal digits"]),
        (2, run("--hex é0"), &["--hex", "é0"]),
        (2, run("--ctx zz"), &["--ctx", "`zz`"]),
        (1, run("--data /no/such"), &["/no/such", "No such file"]),
        (1, run("--data /tmp"), &["/tmp", "directory"]),
        (2, udp("--data /no/such"), &["--hex", "--data"]),
        (1, run("--pcap @cut.pcap"), &["cut.pcap", "packet 2", "cut short"]),
        (1, run("--pcap @header.pcap"), &["header.pcap", "cut short"]),
        (1, run("--pcap @raw.pcap"), &["raw.pcap", "link type 101 (IP packets)", "Ethernet"]),
        (1, run("--pcap @none.pcap"), &["none.pcap", "no packets"]),
        (1, run("--pcap @empty"), &["it is empty"]),
        (1, run("--pcap @text"), &["neither pcap nor pcapng"]),
        (2, udp("--set sample_evry=1"), &["--set sample_evry=1", "there are: sample_every"]),
        (2, udp("--set sample_every"), &["--set sample_every", "NAME=NUMBER"]),
        (2, udp("--set sample_every=x"), &["`x` is not a number"]),
        (2, udp("--set sample_every=99999999999"), &["4 bytes", "`sample_every`"]),
        (1, udp("--maps @member.json"), &["member.json", "`per_protocol`, key 17", "no member `packet`"]),
        (1, udp("--maps @map.json"), &["map.json", "no map `per_protocl`", "there are: per_protocol"]),
        (1, udp("--maps @syntax.json"), &["syntax.json", "line 1"]),
        (1, udp("--maps @variable.json"), &["`.bss`", "no variable `packets_sen`"]),
        (1, udp("--out /no/such/x.pcap"), &["--out", "/no/such/x.pcap", "No such file"]),
        (1, udp("--btf /no/such"), &["--btf", "/no/such", "No such file"]),
        (1, udp("--btf @text"), &["--btf", "text", "neither BTF nor an ELF file"]),
        (1, udp("--btf /bin/sh"), &["--btf", "/bin/sh", ".BTF section"]),
        (2, udp("--kernel linux --trace"), &["--trace", "simulated kernel"]),
        (2, udp("--event frob"), &["frob", "Events:"]),
        (2, udp("--event receive:"), &["no device", "--help"]),
        (2, run("--event receive:eth0"), &["receive:eth0", "--hex, --data or --pcap"]),
        (2, udp("--event receive:eth0(1)"), &["takes no values"]),
        (1, format!("run {WATCH} --args 1,2"), &["--btf /sys/kernel/btf/vmlinux", "does not fit"]),
        (1, format!("run {WATCH} --event tp_btf:sched_process_exec"), &["--btf", "does not fit"]),
        (2, format!("load {COUNTER} --set sample_every"), &["--set sample_every"]),
    ]);
    for (code, line, says) in cases {
        let output = skep(&files, &line);
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{line}: {error}");
        assert!(!error.contains("panicked") && !error.contains("stack backtrace"), "{line}: {error}");
        for part in says {
            assert!(error.contains(part), "`{part}` is not in the error of `{line}`: {error}");
        }
        let told: Vec<&str> =
            error.lines().filter(|line| line.starts_with("skep: ") || line.starts_with("error: ")).collect();
        assert_eq!(told.len(), 1, "{line}: {error}");
    }
}

/// What a run cannot do is told in its report.
#[test]
fn runs_that_fail() {
    let files = Files::new("runs");
    let watch = format!("run {WATCH} --btf testdata/btf/6.18.btf");
    let cases = [
        (format!("run {COUNTER}"), &["at least 14 bytes, and has 0", "--hex, --data or --pcap"][..]),
        (format!("run {COUNTER} --hex 00"), &["at least 14 bytes, and has 1"]),
        (watch.clone(), &["make the event happen", "--event"]),
        (
            format!("{watch} --event tp_btf:sched_proces_exec"),
            &["similar: sched_process_exec", "watch_exec is attached to"],
        ),
        (format!("run {COUNTER} --event call:nope"), &["function of the kernel `nope`", "--btf"]),
        (format!("run {COUNTER} --event syscall:opnat"), &["similar: openat"]),
        (
            "run testdata/bad_null_deref.o --prog no_check --hex 0000000000000000000000000000".to_owned(),
            &["null pointer", "bad_null_deref.c:12"],
        ),
        // This one is not loaded by default.
        (
            "run testdata/bad_null_deref.o --prog fine --hex UDP".to_owned(),
            &["is IPv4, which takes 34 bytes, and it has 32"],
        ),
    ];
    for (line, says) in cases {
        let output = skep(&files, &line);
        let report = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(1), "{line}: {report}");
        for part in says {
            assert!(report.contains(part), "`{part}` is not in the report of `{line}`: {report}");
        }
    }
}

/// Who asked for JSON gets errors as JSON.
#[test]
fn errors_in_json() {
    let files = Files::new("json");
    for (code, line) in [
        (1, "run --json /no/such.o".to_owned()),
        (1, "load --json /no/such.o".to_owned()),
        (1, "inspect --json /no/such.o".to_owned()),
        (1, format!("check --json {COUNTER} --btf /no/such.o")),
        (1, "check --json /no/such.o --btf testdata/btf/6.18.btf".to_owned()),
        (2, format!("run --json {COUNTER} --hex 0g")),
        (2, format!("load --json {COUNTER} --set x")),
    ] {
        let output = skep(&files, &line);
        assert_eq!(output.status.code(), Some(code), "{line}");
        assert!(output.stderr.is_empty(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).expect("JSON is UTF-8");
        let told: Value = serde_json::from_str(&text).expect("one line of JSON");
        assert_eq!(told["ok"], false, "{line}");
        assert!(told["error"].as_str().is_some_and(|error| !error.is_empty()), "{line}: {text}");
    }
}

/// Nothing runs when what it makes cannot be written, and whoever reads may go.
#[test]
fn outputs_that_cannot_be_written() {
    let files = Files::new("out");
    let output = skep(&files, &format!("run {COUNTER} --hex UDP --out /no/such/x.pcap"));
    assert!(output.stdout.is_empty());
    let to = |file: &str| {
        let out = fs::OpenOptions::new().write(true).open(file).expect("the device is there");
        let mut command = Command::new(env!("CARGO_BIN_EXE_skep"));
        command
            .current_dir(root())
            .args(["inspect", COUNTER])
            .stdout(out)
            .output()
            .expect("the command starts")
    };
    let full = to("/dev/full");
    let error = String::from_utf8_lossy(&full.stderr);
    assert_eq!(full.status.code(), Some(1));
    assert!(error.contains("write the standard output: No space left"), "{error}");

    let mut command = Command::new(env!("CARGO_BIN_EXE_skep"));
    let objects = std::iter::repeat_n(COUNTER, 200);
    command.current_dir(root()).arg("inspect").args(objects).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the command starts");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("it ends");
    assert!(output.status.success());
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Variables of a section are told by their names, and keep what they begin with where they are not told.
#[test]
fn variables_are_filled() {
    let files = Files::new("variables");
    files.write("bss.json", br#"{".bss": [[0, {"packets_seen": 41}]]}"#);
    let output = skep(&files, &format!("run {COUNTER} --hex UDP --maps @bss.json --json"));
    let text = String::from_utf8(output.stdout).expect("JSON is UTF-8");
    let left: Value = serde_json::from_str(text.lines().last().expect("two lines")).expect("JSON");
    assert_eq!(left["maps"][".bss"][0]["before"]["packets_seen"], 41);
    assert_eq!(left["maps"][".bss"][0]["after"]["packets_seen"], 42);
}

//! `skep run` as a user calls it, without a kernel.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

/// A UDP packet in IPv4.
const UDP: &str = "000000000000 000000000000 0800 4500 0000 0000 0000 0011 0000 00000000 00000000";

fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples").join(name)
}

fn skep(object: &str, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_skep"));
    command.arg("run").arg(example(object)).args(args).output().expect("the command starts")
}

fn text(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn lines(output: &Output) -> Vec<Value> {
    let text = std::str::from_utf8(&output.stdout).expect("JSON is UTF-8");
    text.lines().map(|line| serde_json::from_str(line).expect("each line is JSON")).collect()
}

/// A file that is gone afterwards.
struct File(PathBuf);

impl File {
    fn new(name: &str, contents: impl AsRef<[u8]>) -> File {
        let path = std::env::temp_dir().join(format!("skep-run-{}-{name}", std::process::id()));
        fs::write(&path, contents).expect("the directory can be written");
        File(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().expect("the path is UTF-8")
    }
}

impl Drop for File {
    fn drop(&mut self) {
        // It may never have been there.
        let _ = fs::remove_file(&self.0);
    }
}

#[test]
fn a_verdict_and_changed_maps() {
    let output = skep("packet_counter.bpf.o", &["--hex", UDP, "--json"]);
    assert!(output.status.success());
    let [ran, left] = lines(&output).try_into().expect("two lines");
    assert_eq!((&ran["verdict"], &ran["retval"], &ran["ok"]), (&"XDP_PASS".into(), &2.into(), &true.into()));
    let counted = &left["maps"]["per_protocol"][0];
    assert_eq!(counted["key"], 17);
    assert_eq!(counted["after"][0]["packets"], 1);
    assert_eq!(left["maps"][".bss"][0]["after"]["packets_seen"], 1);

    // A constant is set before, and the random numbers follow from the seed.
    let skipped = |seed| {
        let args = ["--hex", UDP, "--set", "sample_every=2", "--repeat", "64", "--seed", seed, "--json"];
        lines(&skep("packet_counter.bpf.o", &args))[1]["maps"][".bss"][0]["after"]["packets_skipped"].clone()
    };
    assert_eq!(skipped("1"), skipped("1"));
    assert_ne!(skipped("1"), skipped("2"));
    assert!(skipped("1").as_u64().is_some_and(|skipped| (10..54).contains(&skipped)));
}

#[test]
fn instructions_and_coverage() {
    let shown = text(&skep("packet_counter.bpf.o", &["--hex", UDP, "--trace", "--coverage"]));
    assert!(shown.contains(":55: __sync_fetch_and_add(&packets_seen, 1);\n"), "{shown}");
    assert!(shown.contains(": (95) exit\n"), "{shown}");
    let missed = shown.lines().find(|line| line.contains("packets_skipped, 1")).expect("the line is told");
    assert!(missed.trim_start().starts_with("#####"), "{missed}");
}

/// The file agrees with itself, as those who read it check.
#[test]
fn coverage_for_other_tools() {
    let file = File::new("coverage.info", "");
    let output = skep("blocklist.bpf.o", &["--hex", UDP, "--lcov", file.path()]);
    assert!(output.status.success());
    let text = fs::read_to_string(&file.0).expect("it was written");
    let numbers = |key: &str| -> Vec<Vec<u64>> {
        let of = text.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
        of.map(|rest| rest.split(',').filter_map(|number| number.parse().ok()).collect()).collect()
    };
    let lines = numbers("DA");
    assert!(lines.is_sorted() && lines.iter().all(|line| line.len() == 2), "{text}");
    assert_eq!(numbers("LF"), [[lines.len() as u64]]);
    let hit = lines.iter().filter(|line| line[1] > 0).count();
    assert!(hit > 0 && hit < lines.len());
    assert_eq!(numbers("LH"), [[hit as u64]]);
    assert_eq!(numbers("BRF"), [[numbers("BRDA").len() as u64]]);
    assert_eq!(numbers("FNF"), [[text.lines().filter(|line| line.starts_with("FN:")).count() as u64]]);
    assert!(text.starts_with("TN:\nSF:") && text.ends_with("end_of_record\n"), "{text}");
    let refused = skep("blocklist.bpf.o", &["--hex", UDP, "--lcov", "/no/such/file"]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("--lcov: write /no/such/file"));
    assert_eq!(skep("blocklist.bpf.o", &["--kernel", "linux", "--lcov", "x"]).status.code(), Some(2));
}

#[test]
fn a_capture_and_filled_maps() {
    let packet: Vec<u8> = (0..34)
        .map(|at| match at {
            12 => 8,
            14 => 0x45,
            23 => 17,
            26 => 10,
            _ => 0,
        })
        .collect();
    let other = vec![0; 60];
    let mut capture = Vec::new();
    for word in [0xa1b2_c3d4_u32, 4 << 16 | 2, 0, 0, 65535, 1] {
        capture.extend(word.to_be_bytes());
    }
    for packet in [&packet, &other] {
        for word in [0, 0, packet.len() as u32, packet.len() as u32] {
            capture.extend(word.to_be_bytes());
        }
        capture.extend(packet);
    }
    let capture = File::new("in.pcap", &capture);
    let maps = r#"{"blocked": [[{"bits": 8, "address": [10, 0, 0, 0]}, 1000]], "config": [[0, {"report_one_in": 1}]]}"#;
    let maps = File::new("maps.json", maps);
    let after = File::new("out.pcap", "");
    let args = ["--pcap", capture.path(), "--maps", maps.path(), "--out", after.path()];
    let output = skep("blocklist.bpf.o", &args);
    let shown = text(&output);
    assert!(shown.contains("packet 1: guard returns XDP_DROP (1)\n"), "{shown}");
    assert!(shown.contains("packet 2: guard returns XDP_PASS (2)\n"), "{shown}");
    let written = fs::read(&after.0).expect("it was written");
    assert_eq!(written.len(), 24 + 16 + packet.len() + 16 + other.len());

    let wrong = File::new("wrong.json", r#"{"config": [[0, {"no_such": 1}]]}"#);
    let output = skep("blocklist.bpf.o", &["--hex", UDP, "--maps", wrong.path()]);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.contains("map `config`, key 0") && error.contains("no member `no_such`"), "{error}");
}

#[test]
fn what_cannot_be_run() {
    let wrong = skep("packet_counter.bpf.o", &["--prog", "other"]);
    assert_eq!(wrong.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("count_packets"));
    let short = skep("packet_counter.bpf.o", &["--hex", "00"]);
    assert_eq!(short.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&short.stdout).contains("FAILED"));
    let digits = skep("packet_counter.bpf.o", &["--hex", "0g"]);
    assert_eq!(digits.status.code(), Some(2));
    let linux = skep("packet_counter.bpf.o", &["--kernel", "linux", "--trace"]);
    assert_eq!(linux.status.code(), Some(2));
}

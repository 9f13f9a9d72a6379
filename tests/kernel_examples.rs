//! The examples do on the running kernel what they say. Needs root.
//!
//! A test that cannot run prints `skip: NAME: REASON`, and fails instead when `SKEP_REQUIRE_KERNEL=1`, unless it is the
//! kernel that lacks something.

#![cfg(target_os = "linux")]
#[allow(dead_code, reason = "it has a main function")]
#[path = "../examples/blocklist.rs"]
mod blocklist;
#[allow(dead_code, reason = "it has a main function")]
#[path = "../examples/exec_stream.rs"]
mod exec_stream;
#[allow(dead_code, reason = "it has a main function")]
#[path = "../examples/exec_watch.rs"]
mod exec_watch;
#[allow(dead_code, reason = "it has a main function")]
#[path = "../examples/flow_counter.rs"]
mod flow_counter;
#[allow(dead_code, reason = "it has a main function")]
#[path = "../examples/packet_counter.rs"]
mod packet_counter;
mod support;

use std::process::Command;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use clap::Parser;
use nix::sched::{CloneFlags, unshare};
use skep::Kernel;
use skep::asm::{Assembler, AtomicOp, Reg, Size};
use skep::sys::abi::{Errno, MapType, ProgType};
use skep::sys::request::{MapCreate, ProgLoad};
use skep::sys::{Feature, Probe};
use support::{denied, linux, skip};

/// Both watchers see what both start, so one at a time.
static WATCH: Mutex<()> = Mutex::new(());

/// Whether the kernel has atomic operations that return what was there before (Linux 5.12).
fn has_fetch(kernel: &Kernel) -> bool {
    let mut asm = Assembler::new();
    asm.mov64_imm(Reg::R0, 0)
        .stx(Size::DW, Reg::R10, -8, Reg::R0)
        .atomic(AtomicOp::FetchAdd, Size::DW, Reg::R10, -8, Reg::R0)
        .exit();
    let insns = asm.finish().expect("the program is right");
    match kernel.prog_load(&ProgLoad::new(ProgType::SOCKET_FILTER, &insns, "GPL"), None) {
        Ok(_) => true,
        Err(Errno::EINVAL) => false,
        Err(errno) => panic!("cannot find out: {errno}"),
    }
}

/// The number that stands right before `after` in a text.
fn number_before(text: &str, after: &str) -> u64 {
    let before = text.split(after).next().expect("a split has a first part");
    let digits = before.rsplit(|c: char| !c.is_ascii_digit()).next().expect("a split has a first part");
    digits.parse().unwrap_or_else(|_| panic!("no number before `{after}` in:\n{text}"))
}

#[test]
fn exec_watch_sees_what_it_starts() {
    let _one = WATCH.lock();
    let kernel = Kernel::linux();
    if linux("exec_watch").is_none() {
        return;
    }
    if !has_fetch(&kernel) {
        return skip("exec_watch", "the kernel has no atomic operations that fetch (Linux 5.12)");
    }
    let me = std::process::id().to_string();
    // Executions of others can push out its own before they are shown, or end up before them in the ring and be late.
    in_some_try(|| {
        let mut out = Vec::new();
        let args = exec_watch::Args::parse_from(["exec_watch", "--seconds", "0.2"]);
        exec_watch::run(&kernel, &args, &mut out).expect("the example works");
        let out = String::from_utf8(out).expect("the example writes text");

        assert!(number_before(&out, " executions seen, 0 ignored") >= 4, "{out}");
        assert!(number_before(&out, " CO-RE relocations") > 0, "{out}");
        let rows: Vec<Vec<&str>> = out.lines().map(|line| line.split_whitespace().collect()).collect();
        let mine = |command| {
            rows.iter()
                .filter(|row| {
                    row.get(1) == Some(&me.as_str())
                        && row.get(3) == Some(&command)
                        && row.last().is_some_and(|file| file.ends_with(command))
                })
                .count()
        };
        let mine = (mine("true"), mine("uname"));
        assert!(mine.0 <= 3 && mine.1 <= 1, "{out}");
        if mine == (3, 1) { Ok(()) } else { Err(out) }
    });
}

/// Does something again while a busy machine is in its way.
#[track_caller]
fn in_some_try(mut attempt: impl FnMut() -> Result<(), String>) {
    let start = Instant::now();
    while let Err(out) = attempt() {
        assert!(start.elapsed() < support::time::PATIENCE, "{out}");
    }
}

#[test]
fn exec_watch_counts_only_who_is_asked_for() {
    let _one = WATCH.lock();
    let kernel = Kernel::linux();
    if linux("exec_watch_uid").is_none() || !has_fetch(&kernel) {
        return;
    }
    let mut out = Vec::new();
    let args = exec_watch::Args::parse_from(["exec_watch", "--seconds", "0", "--uid", "4000000000"]);
    exec_watch::run(&kernel, &args, &mut out).expect("the example works");
    let out = String::from_utf8(out).expect("the example writes text");
    assert!(out.contains("\n0 executions seen, "), "{out}");
    assert!(number_before(&out, " ignored") >= 4, "{out}");
}

#[test]
fn exec_stream_sees_what_is_started() {
    let _one = WATCH.lock();
    let kernel = Kernel::linux();
    if linux("exec_stream").is_none() {
        return;
    }
    if kernel.has(Feature::MapType(MapType::RINGBUF)) != Probe::Supported {
        return skip("exec_stream", "the kernel has no ring buffers (Linux 5.8)");
    }
    let mut out = Vec::new();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let (object, _link) = exec_stream::load(&kernel).expect("the example loads");
        let processes = async {
            for _ in 0..3 {
                Command::new("true").status().expect("`true` starts");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        exec_stream::stream(&object, processes, &mut out).await.expect("the example works");
    });
    let out = String::from_utf8(out).expect("the example writes text");
    let me = std::process::id().to_string();
    let rows: Vec<Vec<&str>> = out.lines().map(|line| line.split_whitespace().collect()).collect();
    let mine = rows.iter().filter(|row| row.get(1) == Some(&me.as_str()) && row.get(3) == Some(&"true"));
    assert_eq!(mine.count(), 3, "{out}");
    assert!(number_before(&out, " executions seen, 0 lost") >= 3, "{out}");
}

#[test]
fn packet_counter_counts_what_it_sends() {
    if linux("packet_counter").is_none() {
        return;
    }
    // Of this thread alone, so that no device of the machine is touched.
    if let Err(errno) = unshare(CloneFlags::CLONE_NEWNET) {
        return denied("packet_counter", format_args!("no network namespace: {errno}"));
    }
    // Where this fails, no packet comes and the test says so.
    let _ = Command::new("ip").args(["link", "set", "lo", "up"]).status();
    let mut out = Vec::new();
    let args = packet_counter::Args::parse_from(["packet_counter", "--kernel", "linux", "--seconds", "0"]);
    packet_counter::run(&args, &mut out).expect("the example works");
    let out = String::from_utf8(out).expect("the example writes text");
    // 14 bytes of Ethernet, 20 of IP and 8 of UDP before 1, 10 and 100 bytes.
    assert!(out.contains(&format!("{:<10} {:>10} {:>12}\n", "udp", 3, 3 * 42 + 111)), "{out}");
    assert!(number_before(&out, " packets seen, 0 not counted") >= 3, "{out}");
}

/// Whether the kernel has ring buffers (Linux 5.8).
fn has_rings(kernel: &Kernel) -> bool {
    match kernel.map_create(&MapCreate::new(MapType::RINGBUF, 0, 0, 4096)) {
        Ok(_) => true,
        Err(Errno::EINVAL) => false,
        Err(errno) => panic!("cannot create a ring buffer: {errno}"),
    }
}

#[test]
fn blocklist_blocks_who_sends_too_much() {
    if linux("blocklist").is_none() {
        return;
    }
    if !has_rings(&Kernel::linux()) {
        return skip("blocklist", "the kernel has no ring buffers (Linux 5.8)");
    }
    if let Err(errno) = unshare(CloneFlags::CLONE_NEWNET) {
        return denied("blocklist", format_args!("no network namespace: {errno}"));
    }
    // Where this fails, no packet comes and the test says so.
    let _ = Command::new("ip").args(["link", "set", "lo", "up"]).status();
    // Packets that a machine lets wait come in a later round than they were sent in.
    in_some_try(|| {
        let mut out = Vec::new();
        let args =
            ["blocklist", "--interval", "0.05", "--rounds", "4", "--packets", "50", "--block-for", "2"];
        blocklist::run(&blocklist::Args::parse_from(args), &mut out).expect("the example works");
        let out = String::from_utf8(out).expect("the example writes text");
        // 14 bytes of Ethernet, 20 of IP, 8 of UDP and one more, in each of the two rounds that it is blocked for.
        let dropped = 51 * 43;
        let lines = [
            "round 1: 127.7.7.7 sent 51 packets and is blocked".to_owned(),
            format!("round 2: {dropped} bytes of 127.7.7.7 dropped"),
            format!("round 3: {dropped} bytes of 127.7.7.7 dropped"),
            "round 3: 127.7.7.7 is blocked no longer".to_owned(),
            "round 4: 127.7.7.7 sent 51 packets and is blocked".to_owned(),
        ];
        let missing = lines.iter().find(|line| !out.lines().any(|there| there == **line));
        missing.map_or(Ok(()), |line| Err(format!("no `{line}` in:\n{out}")))
    });
}

#[test]
fn packet_counter_counts_on_a_simulated_kernel() {
    let mut out = Vec::new();
    let args = packet_counter::Args::parse_from(["packet_counter"]);
    packet_counter::run(&args, &mut out).expect("the example works");
    let out = String::from_utf8(out).expect("the example writes text");
    assert!(out.contains(&format!("{:<10} {:>10} {:>12}\n", "udp", 3, 3 * 42 + 111)), "{out}");
    assert!(out.contains("\n3 packets seen, 0 not counted"), "{out}");
    let args = packet_counter::Args::parse_from(["packet_counter", "eth9"]);
    let error = packet_counter::run(&args, &mut Vec::new()).expect_err("there is no such interface");
    assert!(format!("{error:#}").contains("eth9"), "{error:#}");
}

#[test]
fn flow_counter_counts_what_it_sends() {
    if linux("flow_counter").is_none() {
        return;
    }
    if let Err(errno) = unshare(CloneFlags::CLONE_NEWNET) {
        return denied("flow_counter", format_args!("no network namespace: {errno}"));
    }
    let _ = Command::new("ip").args(["link", "set", "lo", "up"]).status();
    let mut out = Vec::new();
    let args = flow_counter::Args::parse_from(["flow_counter", "--seconds", "0"]);
    flow_counter::run(&args, &mut out).expect("the example works");
    let out = String::from_utf8(out).expect("the example writes text");
    let rows: Vec<Vec<&str>> = out.lines().map(|line| line.split_whitespace().collect()).collect();
    // 14 bytes of Ethernet, 20 of IP and 8 of UDP before 1, 10 and 100 bytes, and before 1000.
    let (large, small) = (rows.iter().position(|row| row.ends_with(&["1", "1042"])), ["3", "237"]);
    let small = rows.iter().position(|row| row.ends_with(&small));
    assert!(large.is_some() && small > large, "{out}");
    for row in [large, small].into_iter().flatten() {
        assert_eq!((rows[row][0], rows[row][1], rows[row][3]), ("udp", "127.0.0.1", "127.0.0.1"), "{out}");
    }
    assert!(number_before(&out, " packets seen") >= 4, "{out}");
}

#[test]
fn flow_counter_needs_no_kernel_to_load() {
    let mut out = Vec::new();
    let args = flow_counter::Args::parse_from(["flow_counter", "--kernel", "sim"]);
    flow_counter::run(&args, &mut out).expect("the example works");
    let out = String::from_utf8(out).expect("the example writes text");
    assert!(out.contains("simulated") && out.contains("\n0 flows, 0 packets seen"), "{out}");
}

/// What a program would have counted is put into the map by hand.
#[test]
fn flow_counter_adds_up() {
    use flow_counter::{Count, Flow, Totals};
    use skep::map::{Map, PerCpuHashMap, PerCpuValues};
    use skep::sys::abi::UpdateFlags;

    let kernel = skep::sim::kernel();
    let cpus = kernel.possible_cpus().expect("it is known");
    let map = Map::create(&kernel, &MapCreate::new(MapType::LRU_PERCPU_HASH, 16, 16, 1000)).expect("a map");
    let flows: PerCpuHashMap<Flow, Count> = map.typed().expect("the types fit");
    let flow = |n: u8| Flow {
        source: [10, 0, 0, n],
        destination: [10, 0, 0, 1],
        source_port: [0x30, n],
        destination_port: [0, 53],
        protocol: 17,
        unused: [0; 3],
    };
    let counts = PerCpuValues::from_fn(cpus, |cpu| Count { packets: 1, bytes: 100 + u64::from(cpu) });
    let mut totals = Totals::default();
    for _ in 0..3 {
        for n in 0..50 {
            flows.insert(&flow(n), &counts, UpdateFlags::empty()).expect("there is room");
        }
        assert_eq!(totals.collect(&flows), Ok(50));
        assert_eq!(totals.collect(&flows), Ok(0));
    }
    assert_eq!(totals.0.len(), 50);
    let bytes = 3 * (0..u64::from(cpus)).map(|cpu| 100 + cpu).sum::<u64>();
    assert!(totals.0.values().all(|count| *count == Count { packets: 3 * u64::from(cpus), bytes }));
    assert_eq!(flow(7).to_string(), "udp     10.0.0.7        12295  10.0.0.1        53     ");
}

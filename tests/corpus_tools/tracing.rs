//! Tracing tools of `libbpf-tools`.

use std::time::Duration;

use skep::ring::RingBuffer;
use skep::sim::{FunctionCall, PerfSample, RawTracepoint, SimKernel, Syscall, Task};
use skep::sys::abi::UpdateFlags;

use super::{Result, holds, perf_buffer, samples, tool, word};

const TOOLS: &str = "libbpf-tools-sid";

/// A process with strings in its memory. Answers where each is.
fn process<const N: usize>(sim: &SimKernel, task: Task, strings: [&str; N]) -> Result<[u64; N]> {
    let tgid = task.tgid();
    sim.add_task(task);
    let mut at = 0x40_0000;
    let mut places = [0; N];
    for (place, string) in places.iter_mut().zip(strings) {
        sim.process_memory(tgid).write(at, format!("{string}\0").as_bytes())?;
        *place = at;
        at += 256;
    }
    Ok(places)
}

/// The record tells who executed what, with all arguments.
#[test]
fn execsnoop_tells_of_executions() -> Result {
    let Some(tool) = tool("execsnoop", TOOLS, "usr/sbin/execsnoop-libbpf@") else { return Ok(()) };
    let object = tool.load()?;
    let _links = tool.attach(&object)?;
    let mut events = perf_buffer(&object, "events")?;

    let make = Task::new(4242).comm("make").uid(1000).parent(1);
    let [file, cc, flag, name] = process(&tool.sim, make, ["/usr/bin/cc", "cc", "-c", "main.c"])?;
    let args: Vec<u8> = [cc, flag, name, 0].into_iter().flat_map(u64::to_ne_bytes).collect();
    tool.sim.process_memory(4242).write(0x50_0000, &args)?;
    let execve =
        |result: i64| Syscall::new("execve").arg(file).arg(0x50_0000).arg(0).returns(result).task(4242);
    assert_eq!(tool.sim.fire(execve(0))?.runs.ok()?.len(), 2);
    // Without -x those that fail are left out.
    let _ = tool.sim.fire(execve(-2))?.runs.ok()?;

    let records = samples(&mut events)?;
    assert_eq!(records.len(), 1);
    let record = &records[0];
    // struct event: pid, ppid, uid, retval, args_count, args_size, comm[16], args[]
    assert_eq!([0, 4, 8, 12, 16].map(|at| word(record, at)), [4242, 1, 1000, 0, 3]);
    assert_eq!(&record[24..29], b"make\0");
    let args = &record[40..40 + word(record, 20) as usize];
    assert_eq!(args, b"/usr/bin/cc\0-c\0main.c\0");
    Ok(())
}

/// The file name is read from the process when the call returns, and only what the tool asked for comes through.
#[test]
fn opensnoop_tells_of_files() -> Result {
    let Some(mut tool) = tool("opensnoop", TOOLS, "usr/sbin/opensnoop-libbpf@") else { return Ok(()) };
    tool.spec.set_global("targ_uid", &1000_u32)?;
    let object = tool.load()?;
    let _links = tool.attach(&object)?;
    let mut events: RingBuffer = object.map("events")?.clone().typed()?;

    let [hostname] = process(&tool.sim, Task::new(31).comm("cat").uid(1000), ["/etc/hostname"])?;
    let [secret] = process(&tool.sim, Task::new(32).comm("root's").uid(0), ["/etc/shadow"])?;
    let open = |name: u64, pid| Syscall::new("openat").arg(-100_i64).arg(name).arg(0).returns(7).task(pid);
    assert_eq!(tool.sim.fire(open(hostname, 31))?.runs.ok()?.len(), 2);
    let _ = tool.sim.fire(open(secret, 32))?.runs.ok()?;

    let mut records = Vec::new();
    events.for_each(|record| records.push(record.to_vec()))?;
    assert_eq!(records.len(), 1);
    // struct event: ts, pid, uid, ret, flags, …
    assert_eq!([8, 12, 16, 20].map(|at| word(&records[0], at)), [31, 1000, 7, 0]);
    assert!(holds(&records[0], b"cat\0") && holds(&records[0], b"/etc/hostname\0"));
    Ok(())
}

/// A kprobe keeps the socket, and the kretprobe reads the connection out of it.
#[test]
fn tcpconnect_tells_of_connections() -> Result {
    let Some(tool) = tool("tcpconnect", TOOLS, "usr/sbin/tcpconnect-libbpf@") else { return Ok(()) };
    let object = tool.load()?;
    let _links = tool.attach(&object)?;
    let mut events = perf_buffer(&object, "events")?;
    tool.sim.add_task(Task::new(77).comm("curl").uid(33));

    let sock = tool.sim.memory().object("sock")?;
    sock.set("__sk_common.skc_daddr", u32::from_ne_bytes([93, 184, 216, 34]))?;
    sock.set("__sk_common.skc_rcv_saddr", u32::from_ne_bytes([192, 168, 1, 5]))?;
    sock.set("__sk_common.skc_dport", 443_u16.to_be())?;
    sock.set("__sk_common.skc_num", 40_001_u16)?;
    let connect = |result: i64| FunctionCall::new("tcp_v4_connect").arg(&sock).returns(result).task(77);
    assert_eq!(tool.sim.fire(connect(0))?.runs.ok()?.len(), 2);
    // A connection that is refused at once is none.
    let _ = tool.sim.fire(connect(-101))?.runs.ok()?;

    let records = samples(&mut events)?;
    assert_eq!(records.len(), 1);
    let record = &records[0];
    assert!(holds(record, &[192, 168, 1, 5]) && holds(record, &[93, 184, 216, 34]));
    assert!(holds(record, b"curl\0") && holds(record, &443_u16.to_be_bytes()));
    Ok(())
}

/// Microseconds from issue to completion, by powers of two.
#[test]
fn biolatency_counts_by_time() -> Result {
    let Some(mut tool) = tool("biolatency", TOOLS, "usr/sbin/biolatency-libbpf@") else { return Ok(()) };
    let object = tool.load_some(&["block_rq_insert_btf", "block_rq_issue_btf", "block_rq_complete_btf"])?;
    let _links = tool.attach(&object)?;
    for (number, micros) in [(0, 150), (1, 140), (2, 5000)] {
        let request = tool.sim.memory().object("request")?;
        request.set("__sector", u64::from(number == 0))?;
        let _ = tool.sim.fire(RawTracepoint::new("block_rq_issue").arg(&request))?.ok()?;
        tool.sim.advance(Duration::from_micros(micros));
        let complete = RawTracepoint::new("block_rq_complete").arg(&request).arg(0).arg(4096);
        assert_eq!(tool.sim.fire(complete)?.ok()?.len(), 1);
    }
    let hists = object.map("hists")?;
    let slots = hists.lookup(&[0; 8])?.ok_or("the histogram of all disks")?;
    // 128 to 255, and 4096 to 8191.
    let found: Vec<u32> = (0..27).map(|slot| word(&slots, slot * 4)).collect();
    let mut expected = [0; 27];
    (expected[7], expected[12]) = (2, 1);
    assert_eq!(found, expected);
    assert_eq!(object.map("start")?.keys().count(), 0);
    Ok(())
}

/// How long tasks waited after they were woken up.
#[test]
fn runqlat_counts_by_time() -> Result {
    let Some(mut tool) = tool("runqlat", TOOLS, "usr/sbin/runqlat-libbpf@") else { return Ok(()) };
    let object = tool.load_some(&["sched_wakeup", "sched_wakeup_new", "sched_switch"])?;
    let _links = tool.attach(&object)?;
    tool.sim.add_task(Task::new(50).comm("worker"));
    tool.sim.add_task(Task::new(51).comm("other"));
    let (worker, other) = (tool.sim.task_object(50)?, tool.sim.task_object(51)?);
    let _ = tool.sim.fire(RawTracepoint::new("sched_wakeup").arg(&worker))?.ok()?;
    tool.sim.advance(Duration::from_micros(40));
    let switch = RawTracepoint::new("sched_switch").arg(false).arg(&other).arg(&worker).arg(0);
    assert_eq!(tool.sim.fire(switch)?.ok()?.len(), 1);
    let (_, histogram) = elements(&object, "hists")?.pop().ok_or("a histogram")?;
    assert_eq!(word(&histogram, 5 * 4), 1); // 32 to 63
    Ok(())
}

/// Stacks of samples are counted, by process and name.
#[test]
fn profile_counts_stacks() -> Result {
    let Some(mut tool) = tool("profile", TOOLS, "usr/sbin/profile-libbpf@") else { return Ok(()) };
    // The tool itself says how large this map is.
    let stacks = tool.spec.map_mut("stackmap").ok_or("a map of stacks")?;
    (stacks.value_size, stacks.max_entries) = (127 * 8, 1024);
    let object = tool.load()?;
    let _links = tool.attach(&object)?;
    tool.sim.add_task(Task::new(60).comm("busy"));
    let kernel = [0xffff_ffff_8100_0000, 0xffff_ffff_8100_2000];
    let sample = |ip| PerfSample::new(ip).kernel_stack(kernel).user_stack([0x40_1000, 0x40_2000]).task(60);
    for _ in 0..3 {
        assert_eq!(tool.sim.fire(sample(kernel[0]))?.ok()?.len(), 1);
    }
    let counts = elements(&object, "counts")?;
    assert_eq!(counts.len(), 1);
    // struct key_t: pid, user_stack_id, kern_stack_id, name[16]
    let (key, count) = &counts[0];
    assert_eq!((word(key, 0), word(count, 0)), (60, 3));
    assert_eq!(&key[12..17], b"busy\0");
    let stack = object.map("stackmap")?.lookup(&word(key, 8).to_ne_bytes())?.ok_or("the stack")?;
    assert_eq!(&stack[..16], kernel.map(u64::to_ne_bytes).as_flattened());
    Ok(())
}

/// All elements of a map.
fn elements(object: &skep::Object, map: &str) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let map = object.map(map)?;
    let mut elements = Vec::new();
    for key in map.keys() {
        let key = key?;
        if let Some(value) = map.lookup(&key)? {
            elements.push((key.to_vec(), value));
        }
    }
    Ok(elements)
}

/// A filter by process is a map that the tool fills.
#[test]
fn profile_filters_by_process() -> Result {
    let Some(mut tool) = tool("profile", TOOLS, "usr/sbin/profile-libbpf@") else { return Ok(()) };
    let stacks = tool.spec.map_mut("stackmap").ok_or("a map of stacks")?;
    (stacks.value_size, stacks.max_entries) = (127 * 8, 1024);
    tool.spec.set_global("filter_by_pid", &true)?;
    let object = tool.load()?;
    let _links = tool.attach(&object)?;
    object.map("pids")?.update(&61_u32.to_ne_bytes(), &[1], UpdateFlags::empty())?;
    for pid in [60, 61] {
        tool.sim.add_task(Task::new(pid));
        let _ = tool.sim.fire(PerfSample::new(0x40_1000).task(pid))?.ok()?;
    }
    let counts = elements(&object, "counts")?;
    assert_eq!(counts.iter().map(|(key, _)| word(key, 0)).collect::<Vec<_>>(), [61]);
    Ok(())
}

/// A socket gets its cookie when a program asks for it first, and keeps it.
#[test]
fn tcppktlat_asks_for_cookies() -> Result {
    let Some(mut tool) = tool("tcppktlat", TOOLS, "usr/sbin/tcppktlat-libbpf@") else { return Ok(()) };
    let object = tool.load_some(&["tcp_destroy_sock_btf"])?;
    let _links = tool.attach(&object)?;
    let cookie = "__sk_common.skc_cookie.counter";
    let (first, second) = (tool.sim.memory().object("sock")?, tool.sim.memory().object("sock")?);
    let mut seen = Vec::new();
    for sock in [&first, &second, &first] {
        assert_eq!(tool.sim.fire(RawTracepoint::new("tcp_destroy_sock").arg(sock))?.ok()?.len(), 1);
        seen.push(sock.get(cookie)?);
    }
    assert!(seen[0] > 0 && seen[1] > seen[0] && seen[2] == seen[0], "{seen:?}");
    Ok(())
}

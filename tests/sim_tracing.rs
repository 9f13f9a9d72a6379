//! Tracing programs on the simulated kernel: opened, fitted to its BTF, loaded, attached, and run by events whose kernel
//! structures a test describes by the names of their fields.

mod iter_conformance;

use std::os::fd::AsFd;
use std::path::Path;

use skep::asm::{Reg, Size};
use skep::btf::{BtfBuilder, IntEncoding, Linkage};
use skep::map::{Array, HashMap, PerCpuHashMap, PlainData, StackFrame, StackTraces};
use skep::program::ProgramBuilder;
use skep::ring::RingBuffer;
use skep::sim::{
    AttachPoint, Effect, FunctionCall, Lsm, PerfSample, RawTracepoint, SimKernel, Socket, Syscall, TableCall,
    Task, Tracepoint, Uprobe,
};
use skep::sys::abi::{AttachType, Errno, ProgType};
use skep::sys::request::{LinkCreate, LinkTarget, Uprobes};
use skep::{Kernel, Loader, Object, Spec};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;

/// A kernel with the types of a real one.
fn sim(version: &str) -> Result<(SimKernel, Kernel)> {
    let btf = std::fs::read(format!("testdata/btf/{version}.btf"))?;
    let sim = SimKernel::builder().btf(btf).build()?;
    let kernel = Kernel::new(sim.clone());
    Ok((sim, kernel))
}

fn load(kernel: &Kernel, path: &str) -> Result<Object> {
    Ok(Loader::new(kernel).load(&Spec::parse(path, &std::fs::read(path)?)?)?)
}

/// `struct execution` of `exec_watch.bpf.c`.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, PlainData)]
#[repr(C)]
struct Execution {
    at_ns: u64,
    pid: i32,
    tgid: i32,
    parent_tgid: i32,
    uid: u32,
    comm: [u8; 16],
    filename: [u8; 128],
}

fn text(bytes: &[u8]) -> &str {
    let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
    std::str::from_utf8(&bytes[..end]).unwrap_or("not UTF-8")
}

/// An execution of a program by a process.
fn execute(sim: &SimKernel, pid: u32, filename: &str) -> Result {
    let binary = sim.memory().object("linux_binprm")?;
    binary.set("filename", filename)?;
    let task = sim.task_object(pid)?;
    let event = RawTracepoint::new("sched_process_exec").arg(&task).arg(pid).arg(&binary).task(pid);
    assert!(sim.fire(event)?.ok()?.len() <= 1);
    Ok(())
}

/// One object, kernels whose `task_struct` and `linux_binprm` differ.
#[test]
fn exec_watch_sees_what_is_executed() -> Result {
    for version in ["5.10", "6.1", "6.12", "6.18", "7.2"] {
        let (sim, kernel) = sim(version)?;
        let object = load(&kernel, "examples/exec_watch.bpf.o")?;
        let link = object.program("watch_exec")?.attach()?;

        sim.add_task(Task::new(699).comm("bash").uid(33));
        sim.add_task(Task::new(701).thread_of(700).comm("make").uid(1000).parent(699));
        execute(&sim, 701, "/usr/bin/make")?;
        execute(&sim, 699, "/usr/bin/make")?;
        execute(&sim, 701, "/bin/sh")?;

        assert_eq!(object.global::<u64>("executions")?, 3, "{version}");
        let recent: Array<Execution> = object.map("recent")?.typed()?;
        let first = recent.get(0)?.ok_or("the ring has a first element")?;
        assert_eq!((first.pid, first.tgid, first.parent_tgid, first.uid), (701, 700, 699, 1000), "{version}");
        assert_eq!((text(&first.comm), text(&first.filename)), ("make", "/usr/bin/make"), "{version}");
        assert_eq!(first.at_ns, 1_000_000_000);
        let third = recent.get(2)?.ok_or("the ring has a third element")?;
        assert_eq!(text(&third.filename), "/bin/sh");
        let by_name: HashMap<[u8; 16], u64> = object.map("by_name")?.typed()?;
        let mut totals = by_name.iter().collect::<std::result::Result<Vec<_>, _>>()?;
        totals.sort();
        assert_eq!(
            totals.iter().map(|(name, times)| (text(name), *times)).collect::<Vec<_>>(),
            [("bash", 1), ("make", 2)]
        );

        // Detached, it sees nothing.
        drop(link);
        execute(&sim, 701, "/bin/sh")?;
        assert_eq!(object.global::<u64>("executions")?, 3, "{version}");
    }
    Ok(())
}

/// Every program of an object by the name of its section.
fn attach_all(sim: &SimKernel, object: &Object) -> Result<Vec<std::os::fd::OwnedFd>> {
    let mut links = Vec::new();
    for program in object.programs() {
        if let Some(point) = sim.place_of_section(program.section()) {
            links.push(sim.attach(program, point)?);
        }
    }
    Ok(links)
}

/// How often each of the probes of `kprobe.c` ran, by its slot.
fn hits(object: &Object) -> Result<Vec<(u32, u64)>> {
    let hits: HashMap<u32, u64> = object.map("hits")?.typed()?;
    let mut all = hits.iter().collect::<std::result::Result<Vec<_>, _>>()?;
    all.sort();
    Ok(all)
}

const SYMBOLS: &str = "\
ffffffff81000000 T vfs_read
ffffffff81000100 T vfs_write
ffffffff81000200 T __x64_sys_unlinkat
ffffffff82000000 D skep_variable
";

#[test]
fn probes_run_at_starts_ends_and_inside_of_functions() -> Result {
    let btf = std::fs::read("testdata/btf/6.18.btf")?;
    let sim = SimKernel::builder().btf(btf).symbols(SYMBOLS).build()?;
    let kernel = Kernel::new(sim.clone());
    let object = load(&kernel, "testdata/kprobe.o")?;
    let _links = attach_all(&sim, &object)?;

    let read = || FunctionCall::new("vfs_read").args([0u64; 4]).returns(5);
    let call = sim.fire(read())?;
    assert_eq!(
        call.runs.programs(),
        ["probe_session", "probe_multi", "probe", "probe_return", "probe_session"]
    );
    assert_eq!((call.returned, call.skipped), (5, false));
    assert_eq!(hits(&object)?, [(0, 1), (1, 1), (4, 1), (6, 2)]);
    // Inside of it, too.
    let call = sim.fire(read().through(4))?;
    assert!(call.runs.programs().contains(&"probe_offset"));
    // Another function that the pattern of one names.
    let call = sim.fire(FunctionCall::new("vfs_write"))?;
    assert_eq!(call.runs.programs(), ["probe_multi"]);

    let call = sim.fire(Syscall::new("unlinkat").args([0u64; 3]).returns(-2))?;
    assert_eq!(call.runs.programs(), ["probe_syscall", "probe_syscall_r"]);
    let call = sim.fire(Uprobe::new("/proc/self/exe", "main").arg(1))?;
    assert_eq!(call.runs.programs(), ["user_probe"]);
    let call = sim.fire(Uprobe::new("libc.so.6", "malloc").arg(16).returns(0x5000))?;
    assert_eq!(call.runs.programs(), ["user_return"]);
    let call = sim.fire(Uprobe::usdt("libc.so.6", "libc", "setjmp"))?;
    assert_eq!(call.runs.programs(), ["user_static"]);
    Ok(())
}

/// Places in a file, as a kernel links them: by offsets, each with a cookie, in one process or all.
#[test]
fn one_link_leads_to_many_places_of_a_file() -> Result {
    let sim = SimKernel::builder().symbols(SYMBOLS).build()?;
    let kernel = Kernel::new(sim.clone());
    let object = load(&kernel, "testdata/kprobe.o")?;
    let program = object.program("user_multi")?;
    let link = |change: &dyn Fn(&mut Uprobes<'_>)| {
        let mut places = Uprobes::new(Path::new("/usr/bin/true"), &[0x10, 0x20]);
        change(&mut places);
        let target = LinkTarget::Uprobes(places);
        kernel.link_create(&LinkCreate::new(program.as_fd(), target, AttachType::TRACE_UPROBE_MULTI))
    };
    let refused = |change: &dyn Fn(&mut Uprobes<'_>)| link(change).err();
    assert_eq!(refused(&|places| places.offsets = &[]), Some(Errno::EINVAL));
    assert_eq!(refused(&|places| places.cookies = &[1]), Some(Errno::EINVAL));
    assert_eq!(refused(&|places| places.path = Path::new("/usr/")), Some(Errno::EBADF));
    assert_eq!(refused(&|places| places.pid = 4242), Some(Errno::ESRCH));
    assert_eq!(refused(&|places| places.pid = u32::MAX), Some(Errno::EINVAL));

    sim.add_task(Task::new(77));
    let at = |offset, pid| sim.fire(Uprobe::at("/usr/bin/true", "", offset).task(pid).returns(0));
    let all = link(&|_| ())?;
    assert_eq!(at(0x10, 1)?.runs.len(), 1);
    assert_eq!(at(0x20, 77)?.runs.len(), 1);
    assert_eq!(at(0x30, 1)?.runs.len(), 0);
    drop(all);
    let one = link(&|places| (places.pid, places.returns) = (77, true))?;
    assert_eq!((at(0x10, 1)?.runs.len(), at(0x10, 77)?.runs.len()), (0, 1));
    drop(one);
    assert_eq!(at(0x10, 77)?.runs.len(), 0);
    Ok(())
}

#[test]
fn functions_are_watched_and_kept_from_running() -> Result {
    let (sim, kernel) = sim("6.18")?;
    let object = load(&kernel, "testdata/fentry.o")?;
    let mut links = Vec::new();
    for program in ["on_enter", "on_leave", "on_modify"] {
        links.push(object.program(program)?.attach()?);
    }
    let file = sim.memory().object("file")?;
    file.set("f_path.dentry.d_name.name", "passwd")?.set("f_path.dentry.d_name.len", 6)?;
    for returned in [100, 28, -5] {
        let call =
            sim.fire(FunctionCall::new("vfs_read").arg(&file).arg(0x5000).arg(128).returns(returned))?;
        assert_eq!(call.runs.ok()?.programs(), ["on_enter", "on_leave"]);
    }
    assert_eq!(object.global::<u64>("reads")?, 3);
    assert_eq!(object.global::<u64>("bytes")?, 128);
    assert_eq!(object.global::<u64>("failures")?, 1);

    let open = || FunctionCall::new("security_file_open").arg(&file);
    let call = sim.fire(open())?;
    assert_eq!((call.returned, call.skipped), (0, false));
    file.set("f_path.dentry.d_name.len", 201)?;
    let call = sim.fire(open())?;
    assert_eq!((call.returned, call.skipped), (-13, true));
    Ok(())
}

#[test]
fn security_hooks_give_a_verdict() -> Result {
    let (sim, kernel) = sim("6.18")?;
    let mut spec = Spec::parse("lsm", &std::fs::read("testdata/lsm.o")?)?;
    spec.set_global("verdict", &-13i32)?;
    let object = Loader::new(&kernel).load(&spec)?;
    let _link = object.program("check_open")?.attach()?;

    sim.add_task(Task::new(70).uid(12345));
    let file = sim.memory().object("file")?;
    file.set("f_inode.i_mode", 0o104755)?;
    assert_eq!(sim.fire(Lsm::new("file_open").arg(&file))?.verdict, 0);
    assert_eq!(sim.fire(Lsm::new("file_open").arg(&file).task(70))?.verdict, -13);
    file.set("f_inode.i_mode", 0o100755)?;
    assert_eq!(sim.fire(Lsm::new("file_open").arg(&file).task(70))?.verdict, 0);
    assert_eq!(object.global::<u64>("asked")?, 3);

    // A group refuses some sockets to those in it.
    sim.add_cgroup("/web")?;
    let program = object.program("check_socket")?;
    let link = sim.attach(program, AttachPoint::cgroup("/web"))?;
    let create = |family: u64, group: &str| sim.fire(Lsm::new("socket_create").arg(family).cgroup(group));
    assert_eq!((create(40, "/web")?.verdict, create(2, "/web")?.verdict), (-1, 0));
    let elsewhere = create(40, "/")?;
    assert_eq!((elsewhere.verdict, elsewhere.runs.len()), (0, 0));
    drop(link);
    assert_eq!(create(40, "/web")?.verdict, 0);
    Ok(())
}

#[test]
fn tracepoints_have_fields() -> Result {
    let (sim, kernel) = sim("6.18")?;
    let object = load(&kernel, "testdata/raw_tp.o")?;
    let _links = [object.program("on_enter")?.attach()?, object.program("on_switch")?.attach()?];
    let call = sim.fire(Syscall::new("openat").arg(-100).arg(0x5000).returns(3))?;
    assert_eq!(call.runs.programs(), ["on_enter"]);
    let calls: HashMap<u64, u64> = object.map("calls")?.typed()?;
    assert_eq!(calls.get(&257)?, Some(1));
    assert!(sim.fire(RawTracepoint::new("sched_switch").arg(true))?.ok()?.value("on_switch") == Some(1));

    let object = load(&kernel, "testdata/tracepoint.o")?;
    let _links = attach_all(&sim, &object)?;
    let format = "field:__data_loc char[] filename;\toffset:8;\tsize:4;\tsigned:0;\n\
        field:pid_t pid;\toffset:12;\tsize:4;\tsigned:1;\n\
        field:pid_t old_pid;\toffset:16;\tsize:4;\tsigned:1;\n";
    let exec = Tracepoint::new("sched", "sched_process_exec").format(format);
    let exec = exec.field("filename", "/bin/sh").field("pid", 7).field("old_pid", 7);
    assert_eq!(sim.fire(exec)?.ok()?.programs(), ["on_exec"]);
    assert_eq!(sim.fire(Syscall::new("getpid").returns(1))?.runs.ok()?.programs(), ["on_enter", "on_getpid"]);
    Ok(())
}

#[test]
fn samples_have_stacks() -> Result {
    let (sim, kernel) = sim("6.18")?;
    let object = load(&kernel, "testdata/perf_event.o")?;
    let _links = attach_all(&sim, &object)?;
    let here = [0xffff_ffff_8100_0010u64, 0xffff_ffff_8100_2000];
    let there = [0xffff_ffff_8100_0020u64, 0xffff_ffff_8100_2000, 0xffff_ffff_8100_3000];
    for stack in [&here[..], &there[..], &here[..]] {
        let sample = PerfSample::new(stack[0]).kernel_stack(stack.iter().copied());
        assert_eq!(sim.fire(sample)?.ok()?.len(), 1);
    }
    let samples: PerCpuHashMap<u32, u64> = object.map("samples")?.typed()?;
    let mut found = Vec::new();
    for entry in samples.iter() {
        let (id, counts) = entry?;
        let count: u64 = counts.iter().sum();
        let stacks: StackTraces = object.map("stacks")?.typed()?;
        let stack = stacks.get(id)?.ok_or("the stack was kept")?;
        let frames = stack.frames().map(|frame| match frame {
            StackFrame::Address(address) => Ok(address),
            _ => Err("an address was wanted"),
        });
        found.push((count, frames.collect::<std::result::Result<Vec<_>, _>>()?));
    }
    found.sort();
    assert_eq!(found, [(1, there.to_vec()), (2, here.to_vec())]);
    Ok(())
}

#[test]
fn variables_of_the_kernel_are_read() -> Result {
    let btf = std::fs::read("testdata/btf/6.18.btf")?;
    let sim = SimKernel::builder().btf(btf).symbols(SYMBOLS).build()?;
    let kernel = Kernel::new(sim.clone());
    let queue = sim.memory().variable_of("runqueues", 0)?;
    queue.set("nr_running", 3)?;
    sim.memory().variable_of("runqueues", 1)?.set("nr_running", 9)?;
    let object = load(&kernel, "testdata/ksyms.o")?;
    let _links = attach_all(&sim, &object)?;
    let runs = sim.fire(RawTracepoint::new("sys_enter"))?.ok()?;
    assert_eq!(runs.programs(), ["typed", "typeless"]);
    assert_eq!(object.global::<u64>("running")?, 3);
    assert_eq!(object.global::<u64>("address")?, 0xffff_ffff_8100_0000);
    assert_eq!(object.global::<u64>("absent_typed")?, 2);
    Ok(())
}

#[test]
fn sockets_are_read_through_nested_members_and_bit_fields() -> Result {
    let (sim, kernel) = sim("6.12")?;
    let object = load(&kernel, "testdata/tp_btf_sock.o")?;
    let _links = attach_all(&sim, &object)?;
    let sock = sim.memory().object("sock")?;
    sock.set("__sk_common.skc_rcv_saddr", 0x0100_007f)?
        .set("__sk_common.skc_daddr", 0x0200_007f)?
        .set("__sk_common.skc_num", 80)?
        .set("__sk_common.skc_dport", 0x901f)?
        .set("__sk_common.skc_family", 2)?
        .set("__sk_common.skc_reuseport", 1)?
        .set("sk_protocol", 6)?;
    assert_eq!(sock.get("__sk_common.skc_reuse")?, 0);
    let runs = sim.fire(RawTracepoint::new("inet_sock_set_state").arg(&sock).arg(7).arg(1))?.ok()?;
    assert_eq!(runs.values(), [0]);
    let mut reader: RingBuffer = object.map("changes")?.typed()?;
    let mut records = Vec::new();
    reader.for_each(|record| records.push(record.to_vec()))?;
    let record = records.first().ok_or("a record was sent")?;
    let word = |at: usize| u32::from_ne_bytes(record[at..at + 4].try_into().unwrap_or_default());
    assert_eq!([word(8), word(12), word(16), word(20)], [7, 1, 0x0100_007f, 0x0200_007f]);
    assert_eq!([word(24), word(28), word(32)], [80 | 0x901f << 16, 2 | 6 << 16, 1]);
    Ok(())
}

/// A whole tracing tool: what its four programs send, in order.
#[test]
fn a_tracer_follows_a_process() -> Result {
    let (sim, kernel) = sim("6.1")?;
    let object = load(&kernel, "testdata/tracer.o")?;
    let _links = attach_all(&sim, &object)?;
    sim.add_task(Task::new(50).comm("curl").uid(1000).parent(1).start_time(500_000_000));
    let task = sim.task_object(50)?;
    task.set("exit_code", 256)?;
    let sock = sim.memory().object("sock")?;
    sock.set("sk_protocol", 6)?.set("__sk_common.skc_family", 10)?;
    sim.run_as(50, || -> Result {
        for event in [
            RawTracepoint::new("task_newtask").arg(&task),
            RawTracepoint::new("sched_process_exec").arg(&task),
            RawTracepoint::new("inet_sock_set_state").arg(&sock).arg(7).arg(2),
            RawTracepoint::new("sched_process_exit").arg(&task),
        ] {
            sim.advance(std::time::Duration::from_millis(1));
            assert_eq!(sim.fire(event)?.ok()?.len(), 1);
        }
        Ok(())
    })?;
    assert_eq!(object.global::<u64>("sent")?, 3);
    let mut kinds = Vec::new();
    let mut events: RingBuffer = object.map("events")?.typed()?;
    events.for_each(|event| {
        let word = |at: usize| u32::from_ne_bytes(event[at..at + 4].try_into().unwrap_or_default());
        kinds.push((word(8), word(12), text(&event[40..]).to_owned()));
    })?;
    let curl = |kind| (kind, 50, "curl".to_owned());
    assert_eq!(kinds, [curl(1), curl(3), curl(2)]);
    Ok(())
}

/// A process is read as it is described; what is not there is told as Linux tells it.
#[test]
fn memory_of_a_process() -> Result {
    let (sim, kernel) = sim("6.18")?;
    let object = load(&kernel, "testdata/memory.o")?;
    let _links = attach_all(&sim, &object)?;
    sim.process_memory(1000).write(0x5000, b"passwd\0\0")?;
    assert_eq!(sim.fire(RawTracepoint::new("sys_enter").arg(0x5000))?.ok()?.values(), [0]);
    let got: [u64; 4] = object.global("got")?;
    let word = u64::from_ne_bytes(*b"passwd\0\0");
    assert_eq!(got, [0, word, 0, word]);
    let address = sim.memory().put(b"kernel\0");
    assert_eq!(sim.fire(RawTracepoint::new("sys_enter").arg(address))?.ok()?.values(), [0]);
    let word = u64::from_ne_bytes(*b"kernel\0\0");
    assert_eq!(object.global::<[u64; 4]>("got")?, [word, 0, word, 0]);
    Ok(())
}

#[test]
fn kernel_functions_about_tasks() -> Result {
    let (sim, kernel) = sim("6.18")?;
    let object = load(&kernel, "testdata/kfunc.o")?;
    let _links = attach_all(&sim, &object)?;
    let task = sim.task_object(1000)?;
    let runs = sim.fire(RawTracepoint::new("task_newtask").arg(&task))?.ok()?;
    assert_eq!(runs.len(), 2);
    assert_eq!(object.global::<u64>("pid")?, 1000);
    assert_eq!(object.global::<u64>("missing")?, 99);
    Ok(())
}

/// Iterators are read through a descriptor, as on Linux.
#[test]
fn iterators_go_through_tasks() -> Result {
    let (sim, kernel) = sim("6.18")?;
    sim.add_task(Task::new(70).thread_of(60).comm("worker"));
    let row = |pid, tgid, comm: &str| (pid, tgid, comm.to_owned());
    let wanted = [row(1, 1, "init"), row(70, 60, "worker"), row(1000, 1000, "test")];
    assert_eq!(iter_conformance::tasks(&kernel)?, wanted);
    Ok(())
}

/// Sockets are ended by iterators, and whoever asks sees it.
#[test]
fn iterators_end_sockets() -> Result {
    // The types of the object, with the places that its programs are for.
    let object = Spec::open(Path::new("testdata/run/sock_destroy.o"))?;
    let mut btf = BtfBuilder::from_btf(object.btf.as_ref().expect("it has types"));
    let int = btf.add_int("int", 4, IntEncoding::SIGNED)?;
    let proto = btf.add_func_proto(int)?;
    for place in ["bpf_iter_tcp", "bpf_iter_udp"] {
        btf.add_func(place, Linkage::STATIC, proto)?;
    }
    let sim = SimKernel::builder().btf(btf.finish()?.bytes().to_vec()).build()?;
    let kernel = Kernel::new(sim.clone());
    let address = |port| std::net::SocketAddr::from(([10, 0, 0, 1], port));
    let web = sim.add_socket(Socket::tcp(address(80)).listening());
    let dns = sim.add_socket(Socket::udp(address(53)).connected(address(5353)));
    let ended = |program, port| iter_conformance::end_sockets(&kernel, program, port);
    assert_eq!(ended("end_tcp", 81)?, (0, 0));
    assert_eq!(ended("end_tcp", 80)?, (1, 0));
    assert_eq!(sim.socket(web).map(|web| web.state), Some(7));
    assert_eq!(ended("end_udp", 53)?, (1, 0));
    assert_eq!(sim.socket(dns).and_then(|dns| dns.remote), None);
    let both = [Effect::SocketDestroyed { socket: web }, Effect::SocketDestroyed { socket: dns }];
    assert_eq!(sim.take_effects(), both);
    Ok(())
}

/// A congestion control is called as the kernel does it.
#[test]
fn tables_are_called() -> Result {
    let (sim, kernel) = sim("6.18")?;
    let object = load(&kernel, "testdata/struct_ops.o")?;
    let _registered = object.attach_struct_ops("skep_linked")?;
    let sock = sim.memory().object("sock")?;
    let call = |member: &str| TableCall::new("tcp_congestion_ops", "skep_linked", member).arg(&sock);
    assert_eq!(sim.fire(call("ssthresh"))?.result, Ok(2));
    assert_eq!(sim.fire(call("undo_cwnd"))?.result, Ok(10));
    assert!(sim.fire(call("init")).is_err());
    Ok(())
}

/// A hook makes an execution a secure one.
#[test]
fn executions_get_options() -> Result {
    let (sim, kernel) = sim("6.18")?;
    let mut builder = ProgramBuilder::new(ProgType::LSM, "GPL");
    builder.expected_attach_type(AttachType::LSM_MAC).attach_to("bprm_committed_creds");
    let asm = builder.asm();
    asm.ldx(Size::DW, Reg::R6, Reg::R1, 0).mov64_reg(Reg::R1, Reg::R6).mov64_imm(Reg::R2, 1).call_helper(159);
    asm.mov64_reg(Reg::R7, Reg::R0).mov64_reg(Reg::R1, Reg::R6).mov64_imm(Reg::R2, 2).call_helper(159);
    asm.add64_reg(Reg::R0, Reg::R7).exit();
    let program = builder.load(&kernel)?;
    let _link = program.attach()?;
    let binary = sim.memory().object("linux_binprm")?;
    let outcome = sim.fire(Lsm::new("bprm_committed_creds").arg(&binary))?;
    let said = outcome.runs.ok()?.iter().map(|run| run.result.as_ref().ok().copied()).collect::<Vec<_>>();
    assert_eq!(said, [Some(i64::from(-Errno::EINVAL.0).cast_unsigned())]);
    assert_eq!(binary.get("secureexec")?, 1);
    Ok(())
}

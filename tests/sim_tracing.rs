//! Tracing programs on the simulated kernel: opened, fitted to its BTF, loaded, attached, and run by events whose kernel
//! structures a test describes by the names of their fields.

use skep::map::{Array, HashMap, PlainData};
use skep::sim::{RawTracepoint, SimKernel, Task};
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

        sim.task(Task::new(699).comm("bash").uid(33));
        sim.task(Task::new(701).thread_of(700).comm("make").uid(1000).parent(699));
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

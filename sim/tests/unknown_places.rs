//! Events at places that nothing knows: a name with a letter too many is an error, which lists what is similar.

#![allow(missing_docs)]

use skep_asm::{Assembler, Reg};
use skep_sim::{
    AttachPoint, EventError, FunctionCall, Lsm, RawTracepoint, Receive, SimKernel, Socket, SocketCall,
    SocketCreate, Syscall, Sysctl, Tracepoint, Uprobe,
};
use skep_sys::abi::{Errno, ProgType};
use skep_sys::request::ProgLoad;
use skep_sys::{Kernel, LoadedProgram};

fn typed() -> SimKernel {
    let btf = std::fs::read("../testdata/btf/6.18.btf").unwrap();
    SimKernel::builder().btf(btf).build().unwrap()
}

fn load(sim: &SimKernel, kind: ProgType) -> LoadedProgram {
    let insns = Assembler::new().mov64_imm(Reg::R0, 0).exit().finish().unwrap();
    Kernel::new(sim.clone()).prog_load(&ProgLoad::new(kind, &insns, "GPL"), None).unwrap()
}

/// What an unknown place is told to be near to.
fn near<T: std::fmt::Debug>(result: Result<T, EventError>) -> Vec<String> {
    match result.unwrap_err() {
        EventError::Unknown { near, .. } => near,
        other => panic!("{other}"),
    }
}

#[test]
fn types_know_names() {
    let sim = typed();
    assert!(sim.fire(RawTracepoint::new("sched_process_exec")).unwrap().is_empty());
    assert_eq!(near(sim.fire(RawTracepoint::new("sched_proces_exec")))[0], "sched_process_exec");
    assert!(sim.fire(Tracepoint::new("sched", "sched_process_exec")).unwrap().is_empty());
    let wrong = sim.fire(Tracepoint::new("sched", "sched_proces_exec").field("pid", 1));
    assert_eq!(near(wrong)[0], "sched/sched_process_exec");
    assert!(sim.fire(FunctionCall::new("do_unlinkat")).unwrap().runs.is_empty());
    assert_eq!(near(sim.fire(FunctionCall::new("do_unlinkatt")))[0], "do_unlinkat");
    assert!(sim.fire(Lsm::new("file_open")).unwrap().runs.is_empty());
    assert_eq!(near(sim.fire(Lsm::new("file_opne")))[0], "file_open");
    assert_eq!(near(sim.fire(Lsm::new("bpf_lsm_file_open"))), [""; 0]);
}

#[test]
fn symbols_and_descriptions_make_names_known() {
    let sim = SimKernel::builder().symbols("ffffffff81000000 T mine\n").build().unwrap();
    assert!(sim.fire(FunctionCall::new("mine")).unwrap().runs.is_empty());
    assert!(sim.fire(FunctionCall::new("__x64_sys_openat")).unwrap().runs.is_empty());
    assert_eq!(near(sim.fire(FunctionCall::new("__x64_sys_opnat"))), ["__x64_sys_openat"]);
    let format = "field:int pid; offset:8; size:4; signed:1;";
    assert!(sim.fire(Tracepoint::new("mine", "event").format(format).field("pid", 1)).unwrap().is_empty());
    assert!(sim.fire(Tracepoint::new("mine", "event").bytes([0; 16])).unwrap().is_empty());
    assert!(sim.fire(Tracepoint::new("raw_syscalls", "sys_enter")).unwrap().is_empty());
    assert_eq!(
        near(sim.fire(Tracepoint::new("syscalls", "sys_enter_opnat")))[0],
        "syscalls/sys_enter_openat"
    );
}

#[test]
fn what_was_attached_to_is_known() {
    let sim = SimKernel::new();
    let prog = load(&sim, ProgType::KPROBE);
    let error = sim.fire(FunctionCall::new("do_unlinkat")).unwrap_err();
    assert_eq!(
        error.to_string(),
        "no function of the kernel `do_unlinkat` is known: neither do the kernel's types have it, nor was a program \
         attached to it; if the name is right, name it with `Builder::symbols`"
    );
    assert_eq!(error.errno(), Some(Errno::ENOENT));
    let link = sim.attach(&prog, AttachPoint::kprobe("do_unlinkat")).unwrap();
    assert_eq!(sim.fire(FunctionCall::new("do_unlinkat")).unwrap().runs.len(), 1);
    assert_eq!(near(sim.fire(FunctionCall::new("do_unlinkatt"))), ["do_unlinkat"]);
    let other = sim.fire(FunctionCall::new("vfs_read")).unwrap_err().to_string();
    assert!(other.contains("; programs were attached to do_unlinkat;"), "{other}");
    drop(link);
    assert!(sim.fire(FunctionCall::new("do_unlinkat")).unwrap().runs.is_empty());

    let _link = sim.attach(&prog, AttachPoint::uprobe("/bin/bash", "readline")).unwrap();
    assert_eq!(sim.fire(Uprobe::new("/bin/bash", "readline")).unwrap().runs.len(), 1);
    assert_eq!(near(sim.fire(Uprobe::new("/bin/sh", "readline"))), ["/bin/bash:readline"]);
    assert_eq!(near(sim.fire(Uprobe::new("/bin/bash", "read_line"))), ["/bin/bash:readline"]);
    assert_eq!(near(sim.fire(Uprobe::usdt("/bin/bash", "readline", "start"))), [""; 0]);

    let prog = load(&sim, ProgType::TRACEPOINT);
    let _link = sim.attach(&prog, AttachPoint::tracepoint("sched", "sched_switch")).unwrap();
    assert_eq!(sim.fire(Tracepoint::new("sched", "sched_switch")).unwrap().len(), 1);
    // The kernel knows the name, but tracepoints have one category.
    assert_eq!(near(sim.fire(Tracepoint::new("shed", "sched_switch"))), ["sched/sched_switch"]);
}

#[test]
fn other_names_are_told_too() {
    let sim = SimKernel::builder().interface("eth0", 2).build().unwrap();
    let told = |error: EventError| error.to_string();
    assert_eq!(
        told(sim.fire(Receive::new("eth1", [])).unwrap_err()),
        "there is no network device `eth1`, only lo, eth0; add it with `SimKernel::add_interface`: ENODEV: no such device"
    );
    let error = sim.fire(Syscall::new("opennat")).unwrap_err();
    assert_eq!(error.errno(), Some(Errno::ENOSYS));
    let error = told(error);
    assert!(error.starts_with("there is no system call `opennat`; similar: openat;"), "{error}");
    let error = told(sim.fire(Sysctl::read("kernel/none")).unwrap_err());
    assert!(error.contains("`SimKernel::set_sysctl`"), "{error}");
    let address = "10.0.0.1:0".parse().unwrap();
    let socket = sim.add_socket(Socket::tcp(address));
    assert!(sim.remove_socket(socket).is_some());
    let error = sim.fire(SocketCall::bind(socket, address)).unwrap_err();
    assert!(told(error).contains("`SimKernel::add_socket`"));
    let error = sim.fire(RawTracepoint::new("sched_switch").cpu(9)).unwrap_err();
    assert_eq!(
        (error.errno(), told(error)),
        (Some(Errno::ENXIO), "there is no CPU 9; the kernel has 2".to_owned())
    );
}

#[test]
fn what_cannot_be_attached_is_told() {
    let sim = SimKernel::builder().interface("eth0", 2).build().unwrap();
    let xdp = load(&sim, ProgType::XDP);
    let raw = load(&sim, ProgType::RAW_TRACEPOINT);
    let told = |prog: &LoadedProgram, point| {
        let error = sim.attach(prog, point).unwrap_err();
        (error.errno(), error.to_string())
    };
    let wrong = |text: &str| (Errno::EINVAL, format!("{text}: EINVAL: invalid argument"));
    assert_eq!(
        told(&xdp, AttachPoint::kprobe("do_unlinkat")),
        wrong("program `` is of type xdp, and this place takes kprobe")
    );
    assert_eq!(
        told(&xdp, AttachPoint::loaded()),
        wrong("program `` named no place when it was loaded: say where to attach it")
    );
    let (errno, text) = told(&xdp, AttachPoint::xdp("eth1"));
    assert_eq!(errno, Errno::ENODEV);
    assert!(text.contains("network device `eth1`; there are lo, eth0"), "{text}");
    let (errno, text) = told(&raw, AttachPoint::raw_tracepoint("nothing"));
    assert_eq!(errno, Errno::ENOENT);
    assert!(text.contains("raw tracepoint `nothing`") && text.contains("`Builder::tracepoint`"), "{text}");
    let (errno, text) = told(&xdp, AttachPoint::cgroup("/none"));
    assert_eq!(errno, Errno::ENOENT);
    assert!(text.contains("control group `/none`"), "{text}");
}

#[test]
fn groups_and_types_of_other_names() {
    let sim = typed();
    let error = sim.memory().object("task_struc").unwrap_err().to_string();
    assert!(error.starts_with("the kernel's BTF has no type `task_struc`; similar: task_struct"), "{error}");
    let address = "10.0.0.1:0".parse().unwrap();
    let error = sim.fire(SocketCreate::new(Socket::tcp(address).cgroup("/web"))).unwrap_err();
    assert_eq!(error.errno(), Some(Errno::ENOENT));
    assert!(error.to_string().contains("no control group `/web`"), "{error}");
    let socket = sim.add_socket(Socket::tcp(address).cgroup("/web"));
    assert_eq!(sim.fire(SocketCall::bind(socket, address)).unwrap_err().errno(), Some(Errno::ENOENT));
    assert!(sim.add_cgroup("/web").is_ok());
    assert_eq!(sim.fire(SocketCall::bind(socket, address)).unwrap().result, Ok(()));
    let event = Tracepoint::new("sched", "sched_switch").format("nothing").field("pid", 1);
    let error = sim.fire(event).unwrap_err().to_string();
    assert!(error.ends_with("has no field `pid`; it has none"), "{error}");
}

//! Events that a test tells the simulated kernel of, as programs of every kind see them.

#![allow(missing_docs)]

mod event_conformance;

use std::any::Any;

use event_conformance::{PATH, Place, SIGNAL, Stage, executable};
use skep::Kernel;
use skep::btf::{BtfBuilder, IntEncoding, Linkage, TypeId};
use skep::program::Program;
use skep::sim::{
    AttachPoint, FunctionCall, Lsm, RawTracepoint, SimKernel, Syscall, Task, Tracepoint, Uprobe,
};

const LIBRARY: &str = "/lib/libc.so.6";
const PROCESS: u32 = 700;
const THREAD: u32 = 701;
const GROUP: u32 = 690;
/// Where the process has the path.
const ADDRESS: u64 = 0x5000;
const AT_FDCWD: i64 = -100;

/// The `format` files of two tracepoints.
const SIGNAL_GENERATE: &str = "\
name: signal_generate
ID: 261
format:
\tfield:int sig;\toffset:8;\tsize:4;\tsigned:1;
\tfield:int errno;\toffset:12;\tsize:4;\tsigned:1;
\tfield:int code;\toffset:16;\tsize:4;\tsigned:1;
\tfield:char comm[16];\toffset:20;\tsize:16;\tsigned:0;
\tfield:pid_t pid;\toffset:36;\tsize:4;\tsigned:1;
\tfield:int group;\toffset:40;\tsize:4;\tsigned:1;
\tfield:int result;\toffset:44;\tsize:4;\tsigned:1;
";
const SCHED_PROCESS_EXEC: &str = "\
name: sched_process_exec
ID: 300
format:
\tfield:__data_loc char[] filename;\toffset:8;\tsize:4;\tsigned:0;
\tfield:pid_t pid;\toffset:12;\tsize:4;\tsigned:1;
\tfield:pid_t old_pid;\toffset:16;\tsize:4;\tsigned:1;
";

struct Simulated {
    sim: SimKernel,
    kernel: Kernel,
}

/// Types of the functions, tracepoints and hooks that programs name.
fn types() -> Vec<u8> {
    let mut btf = BtfBuilder::new();
    let int = btf.add_int("int", 4, IntEncoding::SIGNED).unwrap();
    let long = btf.add_int("unsigned long", 8, IntEncoding(0)).unwrap();
    let nothing = btf.add_ptr(TypeId(0)).unwrap();
    let regs = btf.add_struct("pt_regs", 168).unwrap();
    let names =
        ["r15", "r14", "r13", "r12", "bp", "bx", "r11", "r10", "r9", "r8", "ax", "cx", "dx", "si", "di"];
    for (name, at) in names.iter().chain(&["orig_ax", "ip", "cs", "flags", "sp", "ss"]).zip(0..) {
        btf.add_member(name, long, at * 64, 0).unwrap();
    }
    let regs = btf.add_ptr(regs).unwrap();
    let mut function = |names: &[&str], returns, params: &[TypeId]| {
        let proto = btf.add_func_proto(returns).unwrap();
        for param in params {
            btf.add_param("", *param).unwrap();
        }
        for name in names {
            btf.add_func(*name, Linkage::STATIC, proto).unwrap();
        }
        proto
    };
    function(&["do_sys_openat2"], int, &[int, nothing, nothing]);
    function(&["security_task_kill", "bpf_lsm_task_kill"], int, &[nothing, nothing, int, nothing]);
    let enter = function(&[], TypeId(0), &[nothing, regs, long]);
    let signal = function(&[], TypeId(0), &[nothing, int, nothing, nothing, int, int]);
    for (name, proto) in [("btf_trace_sys_enter", enter), ("btf_trace_signal_generate", signal)] {
        let pointer = btf.add_ptr(proto).unwrap();
        btf.add_typedef(name, pointer).unwrap();
    }
    btf.finish().unwrap().bytes().to_vec()
}

impl Simulated {
    fn new() -> Simulated {
        let sim = SimKernel::builder().btf(types()).build().unwrap();
        sim.add_task(Task::new(THREAD).thread_of(PROCESS));
        sim.set_current(THREAD);
        let path = [PATH.as_bytes(), b"\0"].concat();
        sim.process_memory(PROCESS).write(ADDRESS, &path).unwrap();
        Simulated { kernel: Kernel::new(sim.clone()), sim }
    }
}

impl Stage for Simulated {
    fn kernel(&self) -> &Kernel {
        &self.kernel
    }

    fn thread(&self) -> u32 {
        THREAD
    }

    fn attach(&self, program: &Program, place: Place) -> Result<Box<dyn Any>, String> {
        let point = match place {
            Place::Section => return Ok(Box::new(program.attach().unwrap())),
            Place::Kprobe(name) => AttachPoint::kprobe(name),
            Place::Kretprobe(name) => AttachPoint::kretprobe(name),
            Place::Tracepoint(category, name) => AttachPoint::tracepoint(category, name),
            Place::Uprobe(name) => AttachPoint::uprobe(LIBRARY, name),
            Place::Uretprobe(name) => AttachPoint::uretprobe(LIBRARY, name),
        };
        Ok(Box::new(self.sim.attach(program, point).unwrap()))
    }

    fn open(&self) {
        let call = Syscall::new("openat").arg(AT_FDCWD).arg(ADDRESS).arg(0).returns(-2);
        assert!(self.sim.fire(call).unwrap().runs.ok().is_ok());
        let function = FunctionCall::new("do_sys_openat2").arg(AT_FDCWD).arg(ADDRESS).arg(0).returns(-2);
        assert!(self.sim.fire(function).unwrap().runs.ok().is_ok());
    }

    fn signal(&self) -> i32 {
        let args = || [0, 0, SIGNAL, 0];
        let function = self.sim.fire(FunctionCall::new("security_task_kill").args(args())).unwrap();
        let hook = self.sim.fire(Lsm::new("task_kill").args(args())).unwrap();
        let refused = function.returned.min(hook.verdict.into());
        if refused < 0 {
            return -(refused as i32);
        }
        let raw = RawTracepoint::new("signal_generate").args([SIGNAL, 0, 0, 1, 1]);
        assert!(self.sim.fire(raw).unwrap().ok().is_ok());
        let event = Tracepoint::new("signal", "signal_generate").format(SIGNAL_GENERATE);
        let event = event.field("sig", SIGNAL).field("code", 0).field("group", 1).field("result", 1);
        assert!(self.sim.fire(event).unwrap().ok().is_ok());
        0
    }

    fn call(&self) -> [i64; 2] {
        let call = Uprobe::new(LIBRARY, "getpgid").arg(PROCESS).returns(GROUP);
        let _ = self.sim.fire(call).unwrap();
        [PROCESS.into(), GROUP.into()]
    }

    fn execute(&self) {
        let event = Tracepoint::new("sched", "sched_process_exec").format(SCHED_PROCESS_EXEC);
        let event = event.field("filename", executable()).field("pid", 702).field("old_pid", 702);
        assert!(self.sim.fire(event.task(702)).unwrap().ok().is_ok());
    }
}

#[test]
fn programs_note_what_tests_tell() {
    assert_eq!(event_conformance::run(&Simulated::new()), Vec::<String>::new());
}

#[test]
fn two_programs_run_in_order() {
    assert_eq!(event_conformance::order(&Simulated::new()), Vec::<String>::new());
}

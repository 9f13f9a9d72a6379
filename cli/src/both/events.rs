//! Programs that no test run reaches, on events of the simulated kernel with arguments that are made up.

mod groups;

use std::any::Any;
use std::os::fd::{AsFd, OwnedFd};

use serde::Serialize;
use skep::btf::{Btf, Kind, Type, TypeId};
use skep::program::Program;
use skep::sim::{
    EventError, FunctionCall, KernelObject, Lsm, PerfSample, RawTracepoint, Receive, Registers, Run,
    SimKernel, Socket, Syscall, Tracepoint, Transmit, Uprobe,
};
use skep::sys::abi::{AttachType, Errno, ProgType};
use skep::sys::request::{LinkCreate, LinkTarget};
use skep::{Kernel, Loader, Spec};

use crate::out;

/// What became of a program.
#[derive(Serialize, Default)]
pub(super) struct Fired {
    /// Whether the simulated kernel loads it.
    loaded: bool,
    /// How often it ran to its end.
    ended: usize,
    /// Whether it was stopped by a fault.
    faulted: bool,
    /// Why it ran no further, or not at all.
    why: Option<String>,
}

/// Loads a program, attaches it to the place that its section names, and lets happen there what it waits for.
pub(super) fn fire(sim: &SimKernel, whole: &Spec, spec: &Spec, at: usize) -> Fired {
    let mut fired = Fired::default();
    let kernel = Kernel::new(sim.clone());
    let object = match Loader::new(&kernel).load(spec) {
        Ok(object) => object,
        Err(error) => {
            fired.why = Some(super::first_line(&out::chain(&error)));
            return fired;
        }
    };
    fired.loaded = true;
    let (Some(program), Some(declared)) = (object.programs().next(), whole.programs.get(at)) else {
        return fired;
    };
    let place = Place {
        sim,
        kernel: &kernel,
        program,
        section: &declared.section,
        target: declared.attach_to.as_deref(),
    };
    match place.happen() {
        Err(why) => fired.why = Some(why),
        Ok(results) => {
            let ran = results.len();
            let fault = results.into_iter().find_map(Result::err);
            fired.faulted = fault.is_some();
            fired.ended = ran - usize::from(fault.is_some());
            fired.why = fault.or_else(|| (ran == 0).then(|| "no event comes to it".to_owned()));
        }
    }
    fired
}

/// A program, and where it belongs.
struct Place<'a> {
    sim: &'a SimKernel,
    kernel: &'a Kernel,
    program: &'a Program,
    section: &'a str,
    target: Option<&'a str>,
}

/// What each run came to.
type Results = Vec<Result<(), String>>;

/// Values for arguments that are numbers, one after the other.
const NUMBERS: [u64; 3] = [0, 1, 4096];

impl Place<'_> {
    fn happen(&self) -> Result<Results, String> {
        match self.program.prog_type() {
            ProgType::KPROBE
            | ProgType::TRACEPOINT
            | ProgType::PERF_EVENT
            | ProgType::RAW_TRACEPOINT_WRITABLE => self.by_section(),
            ProgType::RAW_TRACEPOINT => self.by_section(),
            ProgType::TRACING | ProgType::LSM => self.by_type(),
            ProgType::CGROUP_SOCK_ADDR => self.sockets(),
            ProgType::SOCK_OPS => self.connections(),
            ProgType::CGROUP_SOCK => self.lives(),
            ProgType::CGROUP_SOCKOPT => self.options(),
            ProgType::CGROUP_SYSCTL => self.settings(),
            ProgType::CGROUP_DEVICE => self.devices(),
            ProgType::CGROUP_SKB | ProgType::SCHED_CLS | ProgType::XDP | ProgType::NETFILTER => {
                self.packets()
            }
            other => Err(format!("no event for programs of type {other}")),
        }
    }

    /// What a section names.
    fn by_section(&self) -> Result<Results, String> {
        let (kind, rest) = self.section.split_once('/').unwrap_or((self.section, ""));
        let kind = kind.trim_end_matches(".s");
        // Programs whose loader says where: somewhere.
        let section = match (kind, rest, self.program.prog_type()) {
            (
                "uprobe" | "uretprobe" | "usdt" | "uprobe.multi" | "uretprobe.multi" | "uprobe.session",
                "",
                _,
            )
            | ("uprobe.multi" | "uretprobe.multi" | "uprobe.session", _, _) => {
                let probe = if kind.starts_with("uret") { "uretprobe" } else { "uprobe" };
                format!("{probe}//bin/program:function")
            }
            ("ksyscall" | "kretsyscall", "", _) => format!("{kind}/openat"),
            ("kprobe.multi" | "kretprobe.multi" | "kprobe.session", "", _) => format!("{kind}/do_unlinkat"),
            (_, "", ProgType::KPROBE) => {
                format!("{}/do_unlinkat", if kind.contains("ret") { "kretprobe" } else { "kprobe" })
            }
            (_, "", ProgType::TRACEPOINT) => "tracepoint/sched/sched_switch".to_owned(),
            (_, "", ProgType::RAW_TRACEPOINT) => "raw_tp/sched_switch".to_owned(),
            (_, "", ProgType::RAW_TRACEPOINT_WRITABLE) => "raw_tp.w/sched_switch".to_owned(),
            (_, _, ProgType::PERF_EVENT) => "perf_event".to_owned(),
            _ => self.section.to_owned(),
        };
        // Names with a pattern stand for what matches; one place is enough.
        let section = section.replace('*', "");
        let place = self
            .sim
            .place_of_section(&section)
            .ok_or_else(|| format!("no place is known for section `{}`", self.section))?;
        let _link = self.sim.attach(self.program, place).map_err(|errno| format!("attach: {errno}"))?;
        let (kind, rest) = section.split_once('/').unwrap_or((&section, ""));
        let kind = kind.trim_end_matches(".s");
        let mut results = Results::new();
        for (round, number) in NUMBERS.into_iter().enumerate() {
            let runs = match kind {
                "tp" | "tracepoint" => {
                    let (category, name) = rest.split_once('/').unwrap_or(("", rest));
                    let mut event = Tracepoint::new(category, name);
                    if let Some(text) = format_of(category, name) {
                        event = event.format(text);
                    }
                    if round == 2 {
                        event = event.bytes([1; 512]);
                    }
                    self.sim.fire(event)
                }
                "perf_event" => self.sim.fire(PerfSample::new(0xffff_ffff_8100_0000 + number)),
                "raw_tp" | "raw_tracepoint" | "raw_tp.w" | "raw_tracepoint.w" => {
                    let args = self.typed(&format!("btf_trace_{rest}"), 1, number);
                    self.sim.fire(RawTracepoint::new(rest).args(args))
                }
                "uprobe" | "uretprobe" => {
                    let (path, function) = rest.rsplit_once(':').unwrap_or((rest, ""));
                    let (function, offset) = function.split_once('+').unwrap_or((function, "0"));
                    let text = self.process_text();
                    let offset = match offset.strip_prefix("0x") {
                        Some(hex) => u64::from_str_radix(hex, 16),
                        None => offset.parse(),
                    };
                    let event = Uprobe::at(path, function, offset.unwrap_or_default());
                    let event = event.args([text, text, number, number, text, number]).returns(text);
                    self.sim.fire(event).map(|outcome| outcome.runs)
                }
                "usdt" => {
                    let mut parts = rest.rsplitn(3, ':');
                    let (name, provider) = (parts.next().unwrap_or(""), parts.next().unwrap_or(""));
                    let event = Uprobe::usdt(parts.next().unwrap_or(""), provider, name);
                    self.sim.fire(event.registers(Registers::default())).map(|outcome| outcome.runs)
                }
                "ksyscall" | "kretsyscall" => {
                    let text = self.process_text();
                    let event = Syscall::new(rest).args([number, text, number, text, number, text]);
                    self.sim.fire(event.returns(number)).map(|outcome| outcome.runs)
                }
                _ => {
                    let function = rest.split_once('+').map_or(rest, |(function, _)| function);
                    let mut event = FunctionCall::new(function).returns(number);
                    if let Some((_, offset)) = rest.split_once('+') {
                        let offset = match offset.strip_prefix("0x") {
                            Some(hex) => u64::from_str_radix(hex, 16),
                            None => offset.parse(),
                        };
                        event = event.through(offset.unwrap_or_default());
                    }
                    let event = event.args(self.typed(function, 0, number));
                    self.sim.fire(event).map(|outcome| outcome.runs)
                }
            };
            collect(runs.map(|runs| runs.iter().map(result_of).collect()), &mut results)?;
        }
        Ok(results)
    }

    /// What a program named when it was loaded.
    fn by_type(&self) -> Result<Results, String> {
        let attach_type = self.program.attach_type();
        if attach_type == AttachType::TRACE_ITER {
            return self.read();
        }
        let name = self.target.ok_or("it names no place")?;
        let attach = || self.program.attach().map_err(|error| super::first_line(&out::chain(&error)));
        let in_group = attach_type == AttachType::LSM_CGROUP;
        let _link: Box<dyn Any> = if in_group { Box::new(self.on_cgroup()?) } else { Box::new(attach()?) };
        let mut results = Results::new();
        for number in NUMBERS {
            let runs = match attach_type {
                AttachType::TRACE_RAW_TP => {
                    let args = self.typed(&format!("btf_trace_{name}"), 1, number);
                    self.sim.fire(RawTracepoint::new(name).args(args))
                }
                AttachType::LSM_MAC | AttachType::LSM_CGROUP => {
                    let args = self.typed(&format!("bpf_lsm_{name}"), 0, number);
                    self.sim.fire(Lsm::new(name).args(args)).map(|outcome| outcome.runs)
                }
                _ => {
                    let event = FunctionCall::new(name).args(self.typed(name, 0, number)).returns(number);
                    self.sim.fire(event).map(|outcome| outcome.runs)
                }
            };
            collect(runs.map(|runs| runs.iter().map(result_of).collect()), &mut results)?;
        }
        Ok(results)
    }

    /// Reads what an iterator writes.
    fn read(&self) -> Result<Results, String> {
        let request = LinkCreate::new(self.program.as_fd(), LinkTarget::Loaded, AttachType::TRACE_ITER);
        let link = self.kernel.link_create(&request).map_err(|errno| format!("attach: {errno}"))?;
        let mut rows = link.iterate().map_err(|errno| format!("iterate: {errno}"))?;
        let mut buffer = vec![0; 1 << 16];
        // Some never end.
        for _ in 0..16 {
            match rows.read_some(&mut buffer) {
                Ok(0) => break,
                Ok(_) => {}
                Err(Errno::EFAULT) => {
                    let fault = self.sim.last_fault().map(|fault| fault.to_string().replace('\n', " "));
                    return Ok(vec![Err(fault.unwrap_or_default())]);
                }
                Err(errno) => return Err(format!("iterate: {errno}")),
            }
        }
        Ok(vec![Ok(())])
    }

    /// Packets in and out.
    fn packets(&self) -> Result<Results, String> {
        let mut results = Results::new();
        let attach_type = self.program.attach_type();
        let target = match self.program.prog_type() {
            ProgType::CGROUP_SKB => None,
            ProgType::NETFILTER => return Err("netfilter programs are told a hook".to_owned()),
            _ => Some(LinkTarget::Ifindex(1)),
        };
        let _link = match target {
            None => self.on_cgroup()?,
            Some(target) => {
                let attach_type = match attach_type {
                    AttachType(0) if self.program.prog_type() == ProgType::SCHED_CLS => {
                        AttachType::TCX_INGRESS
                    }
                    AttachType(0) => AttachType::XDP,
                    other => other,
                };
                self.link(target, attach_type)?
            }
        };
        for (_, input) in super::inputs::packets() {
            let received = self.sim.fire(Receive::new("lo", input.clone()));
            collect(received.map(|passage| passage.verdicts.iter().map(|_| Ok(())).collect()), &mut results)?;
            let sent = self.sim.fire(Transmit::new("lo", input));
            collect(sent.map(|passage| passage.verdicts.iter().map(|_| Ok(())).collect()), &mut results)?;
        }
        Ok(results)
    }

    fn on_cgroup(&self) -> Result<OwnedFd, String> {
        let group = self.sim.open_cgroup("/").map_err(|errno| format!("open the root cgroup: {errno}"))?;
        self.link(LinkTarget::Fd(group.as_fd()), self.program.attach_type())
    }

    fn link(&self, target: LinkTarget<'_>, attach_type: AttachType) -> Result<OwnedFd, String> {
        let request = LinkCreate::new(self.program.as_fd(), target, attach_type);
        let link = self.kernel.link_create(&request).map_err(|errno| format!("attach: {errno}"))?;
        link.as_fd().try_clone_to_owned().map_err(|error| error.to_string())
    }

    /// A text in the memory of the process.
    fn process_text(&self) -> u64 {
        const AT: u64 = 0x7f00_0000;
        let mut page = vec![0; 4096];
        page.iter_mut().zip(b"/tmp/a file of text\0").for_each(|(to, from)| *to = *from);
        let _ = self.sim.process_memory(std::process::id()).write(AT, &page); // it is an address of user space
        AT
    }

    /// Arguments for a function by its type: objects for pointers to structures, and a number for what is one.
    fn typed(&self, name: &str, skip: usize, number: u64) -> Vec<u64> {
        let found = types_of(self.kernel).and_then(|btf| {
            let ty =
                btf.find(name.as_bytes(), Kind::FUNC).or_else(|| btf.find(name.as_bytes(), Kind::TYPEDEF))?;
            let mut ty = btf.ty(ty).ok()?;
            for _ in 0..4 {
                if ty.kind() == Kind::FUNC_PROTO {
                    let params = ty.params().skip(skip);
                    return Some(params.map(|param| self.argument(&btf, param.type_id, number)).collect());
                }
                ty = btf.ty(ty.type_id()).ok()?;
            }
            None
        });
        found.unwrap_or_else(|| vec![self.sim.memory().put(&[0; 4096]); 6])
    }

    fn argument(&self, btf: &Btf, ty: TypeId, number: u64) -> u64 {
        let Some(ty) = plain(btf, ty).filter(|ty| ty.kind() == Kind::PTR) else { return number };
        let memory = self.sim.memory();
        let to = plain(btf, ty.type_id()).filter(|ty| matches!(ty.kind(), Kind::STRUCT | Kind::UNION));
        let object = to.and_then(|to| match &*to.name() {
            "task_struct" => self.sim.task_object(std::process::id()).ok(),
            "sock" => self.socket().or_else(|| memory.object("sock").ok()),
            name => memory.object(name).ok(),
        });
        match object {
            Some(object) => object.address(),
            None => {
                let mut page = vec![0; 4096];
                page.iter_mut().zip(b"a text\0").for_each(|(to, from)| *to = *from);
                memory.put(&page)
            }
        }
    }

    /// The structure of a socket that helpers know.
    fn socket(&self) -> Option<KernelObject> {
        let socket = self.sim.add_socket(Socket::tcp("10.0.0.1:80".parse().ok()?));
        self.sim.socket_object(socket).ok()
    }
}

/// A type without typedefs and qualifiers.
fn plain(btf: &Btf, id: TypeId) -> Option<Type<'_>> {
    let mut ty = btf.ty(id).ok()?;
    for _ in 0..32 {
        if !ty.kind().is_modifier() && ty.kind() != Kind::TYPEDEF {
            return Some(ty);
        }
        ty = btf.ty(ty.type_id()).ok()?;
    }
    None
}

fn types_of(kernel: &Kernel) -> Option<Btf> {
    Btf::parse(kernel.backend().kernel_btf().ok()?).ok()
}

/// The `format` file of a tracepoint.
fn format_of(category: &str, name: &str) -> Option<String> {
    let path = |root: &str| format!("{root}/events/{category}/{name}/format");
    ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"]
        .iter()
        .find_map(|root| std::fs::read_to_string(path(root)).ok())
}

fn result_of(run: &Run) -> Result<(), String> {
    match &run.result {
        Ok(_) => Ok(()),
        Err(fault) => Err(fault.to_string().replace('\n', " ")),
    }
}

/// Takes over what programs came to. An event that cannot happen is an error.
fn collect(runs: Result<Results, EventError>, results: &mut Results) -> Result<(), String> {
    match runs {
        Ok(runs) => results.extend(runs),
        Err(EventError::Fault(fault)) => results.push(Err(fault.to_string().replace('\n', " "))),
        Err(error) => return Err(error.to_string().replace('\n', " ")),
    }
    Ok(())
}

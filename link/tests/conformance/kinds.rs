//! One case per way to attach.

use std::net::UdpSocket;
use std::time::Duration;

use skep_btf::Kind;
use skep_link::{Hook, LinkError, raw_tracepoint, tracing, xdp};
use skep_sys::abi::{AttachType, Errno, ProgType};
use skep_sys::request::{AttachTarget, LinkPlace, TestRun};

use super::{Bench, Case, Counter};

const XDP_PASS: i32 = 2;
/// Index of the loopback device, the first of every network namespace.
const LO: u32 = 1;
const TRACEPOINT: &str = "sched_process_exec";
/// What is said where a program can be attached to a tracepoint once only.
const ONCE: &str = "the program is attached there already, which before Linux 6.10 it can be once only";
/// Functions that the kernel has for tests, and that nothing else calls.
const FUNCTIONS: &[&str] = &["bpf_fentry_test1", "bpf_modify_return_test"];

pub(crate) const CASES: &[Case] = &[
    Case {
        name: "xdp",
        hook: Hook::Xdp,
        load: |bench| {
            Ok(Counter::load(bench.kernel, ProgType::XDP, AttachType::XDP, AttachTarget::None, XDP_PASS))
        },
        attach: |prog| xdp::attach(prog, "lo"),
        place: |place| *place == LinkPlace::Xdp { ifindex: LO },
        trigger: loop_back,
        more: xdp_more,
    },
    Case {
        name: "raw_tracepoint",
        hook: Hook::RawTracepoint,
        load: |bench| {
            let none = AttachTarget::None;
            Ok(Counter::load(bench.kernel, ProgType::RAW_TRACEPOINT, AttachType(0), none, 0))
        },
        attach: |prog| raw_tracepoint::attach(prog, TRACEPOINT),
        place: |place| *place == LinkPlace::RawTracepoint { name: TRACEPOINT.to_owned() },
        trigger: execute,
        more: raw_tracepoint_more,
    },
    Case {
        name: "btf_tracepoint",
        hook: Hook::Tracing,
        load: |bench| {
            let type_id = type_id(bench, &format!("btf_trace_{TRACEPOINT}"), Kind::TYPEDEF)?;
            let target = AttachTarget::KernelType { type_id, module: None };
            Ok(Counter::load(bench.kernel, ProgType::TRACING, AttachType::TRACE_RAW_TP, target, 0))
        },
        attach: |prog| tracing::attach(prog, ()),
        place: |place| *place == LinkPlace::RawTracepoint { name: TRACEPOINT.to_owned() },
        trigger: execute,
        more: tracing_more,
    },
    Case {
        name: "fentry",
        hook: Hook::Tracing,
        load: |bench| {
            let type_id = type_id(bench, FUNCTIONS[0], Kind::FUNC)?;
            let target = AttachTarget::KernelType { type_id, module: None };
            let attach_type = AttachType::TRACE_FENTRY;
            match Counter::try_load(bench.kernel, ProgType::TRACING, attach_type, target, 0) {
                Ok(counter) => attaches_again(counter),
                // Refused without a word of the verifier: it is not for what the program does.
                Err((errno @ (Errno::EPERM | Errno::ENOTSUPP | Errno::EOPNOTSUPP), log))
                    if log.is_empty() =>
                {
                    Err(format!("no fentry programs on this kernel: {errno}"))
                }
                Err((errno, log)) => panic!(
                    "cannot load: {errno}
{log}"
                ),
            }
        },
        attach: |prog| tracing::attach(prog, ()),
        place: |place| matches!(place, LinkPlace::Tracing { attach_type: AttachType::TRACE_FENTRY, .. }),
        trigger: test_run,
        more: |bench, counter| {
            let link = tracing::attach(&counter.prog, ()).unwrap();
            let wanted = type_id(bench, FUNCTIONS[0], Kind::FUNC).unwrap();
            let LinkPlace::Tracing { target_btf_id, .. } = link.info().unwrap().place else {
                panic!("another place")
            };
            assert_eq!(target_btf_id, wanted);
        },
    },
];

/// The program, if it can be attached more than once.
fn attaches_again(counter: Counter) -> Result<Counter, String> {
    drop(tracing::attach(&counter.prog, ()).unwrap());
    match tracing::attach(&counter.prog, ()) {
        Ok(link) => drop(link),
        Err(error) => {
            assert_eq!(error.errno(), Some(Errno::ENOENT), "{error}");
            return Err(error.to_string());
        }
    }
    Ok(counter)
}

fn type_id(bench: &Bench<'_>, name: &str, kind: Kind) -> Result<u32, String> {
    let btf = bench.kernel.btf().map_err(|error| format!("no kernel BTF: {error}"))?;
    let found = btf.find(name.as_bytes(), kind);
    found.map(|id| id.0).ok_or_else(|| format!("no {name} in the kernel's BTF"))
}

/// Sends a packet over the loopback device.
fn loop_back(_: &Counter) -> Result<(), String> {
    let exchange = || {
        let to = UdpSocket::bind("127.0.0.1:0")?;
        to.set_read_timeout(Some(Duration::from_secs(60)))?;
        UdpSocket::bind("127.0.0.1:0")?.send_to(b"x", to.local_addr()?)?;
        to.recv(&mut [0; 8])
    };
    exchange().map(drop).map_err(|error| format!("no packets over the loopback device: {error}"))
}

/// Starts a process.
fn execute(_: &Counter) -> Result<(), String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let status =
        std::process::Command::new(program).arg("--help").stdout(std::process::Stdio::null()).status();
    status.map(drop).map_err(|error| format!("no process can be started: {error}"))
}

/// Has the kernel call its test functions, as it does for a test run of a tracing program.
fn test_run(counter: &Counter) -> Result<(), String> {
    let result = counter.prog.test_run(&mut TestRun::default());
    result.map(drop).map_err(|(errno, _)| format!("no test run: {errno}"))
}

fn xdp_more(bench: &Bench<'_>, counter: &Counter) {
    let prog = &counter.prog;
    for interface in [xdp::Interface::from(LO), "lo".into(), "lo".to_owned().into()] {
        for mode in [xdp::Mode::AUTO, xdp::Mode::SKB] {
            let link = xdp::attach(prog, xdp::Options::new(interface.clone()).mode(mode)).unwrap();
            assert_eq!(link.info().unwrap().place, LinkPlace::Xdp { ifindex: LO });
        }
    }

    let error = xdp::attach(prog, "no-such").unwrap_err();
    assert!(matches!(error, LinkError::NoTarget { errno: Errno::ENODEV, .. }), "{error:?}");
    assert_eq!(
        error.to_string(),
        "no network device no-such: it is not in this network namespace (`ip link` lists those that are)"
    );
    let error = xdp::attach(prog, 0x7fff_fff0).unwrap_err();
    assert!(matches!(error, LinkError::Attach { errno: Errno::EINVAL, .. }), "{error:?}");
    let error = xdp::attach(prog, xdp::Options::new(LO).mode(xdp::Mode(1 << 30))).unwrap_err();
    assert_eq!(error.errno(), Some(Errno::EINVAL));

    let link = xdp::attach(prog, LO).unwrap();
    let error = xdp::attach(prog, "lo").unwrap_err();
    assert_eq!(error.errno(), Some(Errno::EBUSY));
    assert!(
        error.to_string().starts_with(
            "cannot attach xdp program `counter` to network device lo: the device runs an XDP program already"
        ),
        "{error}"
    );
    drop(link);
    drop(xdp::attach(prog, "lo").unwrap());

    if bench.live {
        let error = xdp::attach(prog, xdp::Options::new(LO).mode(xdp::Mode::DRIVER)).unwrap_err();
        assert_eq!(error.errno(), Some(Errno::EOPNOTSUPP));
        assert!(error.hint().is_some_and(|hint| hint.contains("`Mode::SKB`")), "{error}");
    }

    let target = AttachTarget::None;
    let devmap = Counter::load(bench.kernel, ProgType::XDP, AttachType::XDP_DEVMAP, target, XDP_PASS);
    let error = xdp::attach(&devmap.prog, "lo").unwrap_err();
    assert_eq!(
        error.to_string(),
        "program `counter` of type xdp and attach type xdp_devmap cannot be attached to xdp"
    );
}

fn raw_tracepoint_more(_: &Bench<'_>, counter: &Counter) {
    let prog = &counter.prog;
    let first = raw_tracepoint::attach(prog, TRACEPOINT).unwrap();
    let other = raw_tracepoint::attach(prog, "sched_switch").unwrap();
    assert_ne!(first.id().unwrap(), other.id().unwrap());

    let error = raw_tracepoint::attach(prog, "no_such_tracepoint").unwrap_err();
    assert_eq!(error.errno(), Some(Errno::ENOENT));
    assert!(
        error.to_string().starts_with(
            "cannot attach raw tracepoint program `counter` to tracepoint no_such_tracepoint: there is no such \
             tracepoint"
        ),
        "{error}"
    );
    let error = raw_tracepoint::attach(prog, "sched/sched_process_exec").unwrap_err();
    assert_eq!(error.hint(), Some("raw tracepoints are named without their category"));

    match raw_tracepoint::attach(prog, raw_tracepoint::Options::new("sched_wakeup").cookie(7)) {
        Ok(link) => drop(link),
        Err(error) => {
            assert!(error.to_string().contains("cookies of raw tracepoints need Linux 6.10"), "{error}")
        }
    }
    match raw_tracepoint::attach(prog, TRACEPOINT) {
        Ok(again) => assert_ne!(again.id().unwrap(), first.id().unwrap()),
        Err(error) => assert_eq!((error.errno(), error.hint()), (Some(Errno::EEXIST), Some(ONCE))),
    }
}

fn tracing_more(bench: &Bench<'_>, counter: &Counter) {
    match tracing::attach(&counter.prog, tracing::Options::new().cookie(7)) {
        Ok(link) => assert_eq!(link.info().unwrap().link_type, link.link_type()),
        Err(error) => assert!(error.hint().is_some_and(|hint| hint.contains("too old")), "{error}"),
    }

    // Kernels do not tell the attach type of a program that was opened.
    let opened = bench.kernel.prog_by_id(counter.prog.info().unwrap().id).unwrap();
    let link = tracing::attach(&opened, ()).unwrap();
    assert_eq!(link.info().unwrap().link_type, link.link_type());
    let error = tracing::attach(&opened, tracing::Options::new().cookie(7)).unwrap_err();
    assert!(matches!(&error, LinkError::UnknownAttachType { program } if program == "counter"), "{error:?}");
    let known = opened.with_attach_type(AttachType::TRACE_RAW_TP);
    match tracing::attach(&known, ()) {
        Ok(again) => assert_ne!(again.id().unwrap(), link.id().unwrap()),
        Err(error) => assert_eq!((error.errno(), error.hint()), (Some(Errno::EEXIST), Some(ONCE))),
    }
}

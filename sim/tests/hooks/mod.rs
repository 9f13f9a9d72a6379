//! Links to places of the network, cgroups and events, on any kernel: each is attached, seen to run its program, exchanged and
//! detached, and asked what it refuses. What comes of it are rows, that were recorded on Linux 6.18.

#![allow(dead_code, reason = "each test target uses a part")]

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use skep_asm::{Assembler, AtomicOp, Reg, Size};
use skep_sys::abi::{AttachFlags, AttachType, Errno, LinkType, MapType, ProgId, ProgType, UpdateFlags};
use skep_sys::request::{
    LinkAnchor, LinkCreate, LinkPlace, LinkTarget, LinkUpdate, MapCreate, NetfilterHook, ProgLoad,
};
use skep_sys::{Kernel, LinkFd, LoadedProgram, MapFd};

const GOLDEN: &str = include_str!("../../../testdata/golden/links_6.18.txt");
const OTHERS: &str = include_str!("../../../testdata/golden/links_others.txt");
/// Flags that no kind of link has.
const NO_FLAG: u32 = 1 << 20;
/// A device that there is not.
const NO_DEVICE: u32 = 0x7fff_ff00;

/// Where something happens for programs to see.
pub(crate) trait World {
    /// A process in the cgroup sends a datagram to another one of it, over the loopback device.
    fn datagram(&self);
    /// A process in the cgroup connects a socket of UDP to an address of IPv4.
    fn connect(&self);
    /// Something that a perf event of the CPU clock takes samples of.
    fn work(&self, event: &OwnedFd);
    fn cgroup(&self) -> Result<OwnedFd, String>;
    fn netns(&self) -> Result<OwnedFd, String>;
    /// One device of a pair of the kind netkit, that datagrams come through by [`World::netkit_datagram`].
    fn netkit(&self) -> Result<u32, String>;
    fn netkit_datagram(&self);
    /// An event of the CPU clock.
    fn clock(&self) -> Result<OwnedFd, String>;
}

/// Something that a program is attached to.
enum At {
    Device(u32),
    Fd(OwnedFd),
    /// A map of sockets.
    Map(MapFd),
    /// A hook of netfilter.
    Rules(NetfilterHook),
}

impl At {
    fn target(&self) -> LinkTarget<'_> {
        match self {
            At::Device(index) => LinkTarget::Ifindex(*index),
            At::Fd(fd) => LinkTarget::Fd(fd.as_fd()),
            At::Map(map) => LinkTarget::Fd(map.as_fd()),
            At::Rules(_) => LinkTarget::Loaded,
        }
    }
}

type Trigger = fn(&dyn World, &At);

/// A kind of link.
struct Case {
    name: &'static str,
    prog_type: ProgType,
    expected: AttachType,
    attach_type: AttachType,
    /// Another attach type, that the program does not fit.
    other: AttachType,
    /// What the program returns, so that what happens goes on.
    verdict: i32,
    at: fn(&Kernel, &dyn World) -> Result<At, String>,
    /// Makes it run, where that is possible.
    trigger: Option<Trigger>,
    /// Whether programs there have an order.
    ordered: bool,
}

const NO: AttachType = AttachType(0);

fn loopback(kernel: &Kernel, _: &dyn World) -> Result<At, String> {
    kernel.backend().ifindex("lo".as_ref()).map(At::Device).map_err(|errno| errno.to_string())
}

fn cgroup(_: &Kernel, world: &dyn World) -> Result<At, String> {
    world.cgroup().map(At::Fd)
}

fn netns(_: &Kernel, world: &dyn World) -> Result<At, String> {
    world.netns().map(At::Fd)
}

fn netkit(_: &Kernel, world: &dyn World) -> Result<At, String> {
    world.netkit().map(At::Device)
}

/// Another device, where there are such ones.
fn beside_netkit(kernel: &Kernel, world: &dyn World) -> Result<At, String> {
    world.netkit().and_then(|_| loopback(kernel, world))
}

fn rules(_: &Kernel, _: &dyn World) -> Result<At, String> {
    Ok(At::Rules(NetfilterHook::new(2, 1, -50)))
}

fn sockets(kernel: &Kernel, _: &dyn World) -> Result<At, String> {
    let map = kernel.map_create(&MapCreate::new(MapType::SOCKMAP, 4, 8, 2));
    map.map(At::Map).map_err(|errno| errno.to_string())
}

fn clock(_: &Kernel, world: &dyn World) -> Result<At, String> {
    world.clock().map(At::Fd)
}

const DATAGRAM: Option<Trigger> = Some(|world, _| world.datagram());

const CASES: &[Case] = &[
    Case {
        name: "xdp",
        prog_type: ProgType::XDP,
        expected: AttachType::XDP,
        attach_type: AttachType::XDP,
        other: AttachType::TCX_INGRESS,
        verdict: 2,
        at: loopback,
        trigger: DATAGRAM,
        ordered: false,
    },
    Case {
        name: "tcx ingress",
        prog_type: ProgType::SCHED_CLS,
        expected: NO,
        attach_type: AttachType::TCX_INGRESS,
        other: AttachType::CGROUP_INET_INGRESS,
        verdict: -1,
        at: loopback,
        trigger: DATAGRAM,
        ordered: true,
    },
    Case {
        name: "tcx egress",
        prog_type: ProgType::SCHED_CLS,
        expected: NO,
        attach_type: AttachType::TCX_EGRESS,
        other: AttachType::XDP,
        verdict: -1,
        at: loopback,
        trigger: DATAGRAM,
        ordered: true,
    },
    Case {
        name: "netkit primary",
        prog_type: ProgType::SCHED_CLS,
        expected: NO,
        attach_type: AttachType::NETKIT_PRIMARY,
        other: AttachType::XDP,
        verdict: -1,
        at: netkit,
        trigger: Some(|world, _| world.netkit_datagram()),
        ordered: true,
    },
    Case {
        name: "netkit on another device",
        prog_type: ProgType::SCHED_CLS,
        expected: NO,
        attach_type: AttachType::NETKIT_PRIMARY,
        other: AttachType::XDP,
        verdict: -1,
        at: beside_netkit,
        trigger: None,
        ordered: true,
    },
    Case {
        name: "cgroup ingress",
        prog_type: ProgType::CGROUP_SKB,
        expected: AttachType::CGROUP_INET_INGRESS,
        attach_type: AttachType::CGROUP_INET_INGRESS,
        other: AttachType::CGROUP_INET_EGRESS,
        verdict: 1,
        at: cgroup,
        trigger: DATAGRAM,
        ordered: true,
    },
    Case {
        name: "cgroup egress",
        prog_type: ProgType::CGROUP_SKB,
        expected: AttachType::CGROUP_INET_EGRESS,
        attach_type: AttachType::CGROUP_INET_EGRESS,
        other: AttachType::CGROUP_DEVICE,
        verdict: 1,
        at: cgroup,
        trigger: DATAGRAM,
        ordered: true,
    },
    Case {
        name: "cgroup connect4",
        prog_type: ProgType::CGROUP_SOCK_ADDR,
        expected: AttachType::CGROUP_INET4_CONNECT,
        attach_type: AttachType::CGROUP_INET4_CONNECT,
        other: AttachType::CGROUP_INET6_CONNECT,
        verdict: 1,
        at: cgroup,
        trigger: Some(|world, _| world.connect()),
        ordered: true,
    },
    Case {
        name: "cgroup sock_ops",
        prog_type: ProgType::SOCK_OPS,
        expected: AttachType::CGROUP_SOCK_OPS,
        attach_type: AttachType::CGROUP_SOCK_OPS,
        other: AttachType::CGROUP_DEVICE,
        verdict: 1,
        at: cgroup,
        trigger: None,
        ordered: true,
    },
    Case {
        name: "cgroup device",
        prog_type: ProgType::CGROUP_DEVICE,
        expected: AttachType::CGROUP_DEVICE,
        attach_type: AttachType::CGROUP_DEVICE,
        other: AttachType::CGROUP_SYSCTL,
        verdict: 1,
        at: cgroup,
        trigger: None,
        ordered: true,
    },
    Case {
        name: "sk_lookup",
        prog_type: ProgType::SK_LOOKUP,
        expected: AttachType::SK_LOOKUP,
        attach_type: AttachType::SK_LOOKUP,
        other: AttachType::FLOW_DISSECTOR,
        verdict: 1,
        at: netns,
        trigger: DATAGRAM,
        ordered: false,
    },
    Case {
        name: "flow_dissector",
        prog_type: ProgType::FLOW_DISSECTOR,
        expected: AttachType::FLOW_DISSECTOR,
        attach_type: AttachType::FLOW_DISSECTOR,
        other: AttachType::SK_LOOKUP,
        verdict: 0,
        at: netns,
        trigger: None,
        ordered: false,
    },
    Case {
        name: "netfilter",
        prog_type: ProgType::NETFILTER,
        expected: AttachType::NETFILTER,
        attach_type: AttachType::NETFILTER,
        other: AttachType::XDP,
        verdict: 1,
        at: rules,
        trigger: DATAGRAM,
        ordered: false,
    },
    Case {
        name: "sockmap verdict",
        prog_type: ProgType::SK_SKB,
        expected: AttachType::SK_SKB_VERDICT,
        attach_type: AttachType::SK_SKB_VERDICT,
        other: AttachType::SK_MSG_VERDICT,
        verdict: 1,
        at: sockets,
        trigger: None,
        ordered: false,
    },
    Case {
        name: "sockmap messages",
        prog_type: ProgType::SK_MSG,
        expected: AttachType::SK_MSG_VERDICT,
        attach_type: AttachType::SK_MSG_VERDICT,
        other: AttachType::SK_SKB_VERDICT,
        verdict: 1,
        at: sockets,
        trigger: None,
        ordered: false,
    },
    Case {
        name: "perf event",
        prog_type: ProgType::PERF_EVENT,
        expected: NO,
        attach_type: AttachType::PERF_EVENT,
        other: AttachType::XDP,
        verdict: 0,
        at: clock,
        trigger: Some(|world, at| {
            if let At::Fd(event) = at {
                world.work(event);
            }
        }),
        ordered: false,
    },
];

/// A program that counts how often it runs.
struct Counter {
    prog: LoadedProgram,
    counts: MapFd,
}

impl Counter {
    fn load(kernel: &Kernel, case: &Case) -> Result<Counter, Errno> {
        let counts = kernel.map_create(&MapCreate::new(MapType::ARRAY, 4, 8, 1))?;
        let mut code = Assembler::new();
        code.ld_map_value(Reg::R2, counts.as_fd().as_raw_fd(), 0).mov64_imm(Reg::R3, 1);
        code.atomic(AtomicOp::Add, Size::DW, Reg::R2, 0, Reg::R3).mov64_imm(Reg::R0, case.verdict).exit();
        let insns = code.finish().unwrap();
        let mut request = ProgLoad::new(case.prog_type, &insns, "GPL");
        request.expected_attach_type = case.expected;
        Ok(Counter { prog: kernel.prog_load(&request, None)?, counts })
    }

    fn take(&self) -> u64 {
        let mut value = [0; 8];
        self.counts.lookup(&[0; 4], &mut value, Default::default()).unwrap();
        self.counts.update(&[0; 4], &[0; 8], UpdateFlags::empty()).unwrap();
        u64::from_ne_bytes(value)
    }

    fn id(&self) -> ProgId {
        self.prog.info().unwrap().id
    }
}

fn text<T>(result: Result<T, Errno>) -> String {
    result.map_or_else(
        |errno| errno.name().map_or_else(|| errno.to_string(), str::to_owned),
        |_| "ok".to_owned(),
    )
}

/// Plays all kinds. Answers rows, and what could not be tried with the reason.
pub(crate) fn play(kernel: &Kernel, world: &dyn World) -> (Vec<String>, Vec<String>) {
    let (mut rows, mut skipped) = (Vec::new(), Vec::new());
    for case in CASES {
        let at = match (case.at)(kernel, world) {
            Ok(at) => at,
            Err(reason) => {
                skipped.push(format!("{}: {reason}", case.name));
                continue;
            }
        };
        let counters = [Counter::load(kernel, case), Counter::load(kernel, case)];
        let [Ok(first), Ok(second)] = counters else {
            skipped.push(format!("{}: this kernel does not load such programs", case.name));
            continue;
        };
        let mut lines = Lines { name: case.name, rows: &mut rows };
        let map = OwnedFd::from(kernel.map_create(&MapCreate::new(MapType::ARRAY, 4, 8, 1)).unwrap());
        let file = OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
        refusals(kernel, case, &at, &first, [&map, &file], &mut lines);
        let lived = life(kernel, world, case, &at, [first, second], &mut lines);
        // Which is as it should be where it was recorded.
        if let Err(errno) = lived
            && GOLDEN.contains(&format!("\n{} | attach | ok\n", case.name))
        {
            skipped.push(format!("{}: cannot be attached: {errno}", case.name));
        }
    }
    (rows, skipped)
}

struct Lines<'a> {
    name: &'static str,
    rows: &'a mut Vec<String>,
}

impl Lines<'_> {
    fn row(&mut self, tried: &str, result: impl Into<String>) {
        self.rows.push(format!("{} | {tried} | {}", self.name, result.into()));
    }
}

fn request<'a>(case: &Case, at: &'a At, prog: &'a LoadedProgram) -> LinkCreate<'a> {
    let mut request = LinkCreate::new(prog.as_fd(), at.target(), case.attach_type);
    if let At::Rules(hook) = at {
        request.netfilter = Some(*hook);
    }
    request
}

/// What is refused, with nothing attached.
fn refusals<'a>(
    kernel: &Kernel,
    case: &Case,
    at: &'a At,
    counter: &'a Counter,
    [map, file]: [&'a OwnedFd; 2],
    lines: &mut Lines<'_>,
) {
    let attempt = |change: &dyn Fn(&mut LinkCreate<'a>)| {
        let mut request = request(case, at, &counter.prog);
        change(&mut request);
        text(kernel.link_create(&request))
    };
    lines.row("another attach type", attempt(&|r| r.attach_type = case.other));
    lines.row("an attach type that there is not", attempt(&|r| r.attach_type = AttachType(999)));
    lines.row("flags that there are not", attempt(&|r| r.flags = NO_FLAG));
    lines.row("a cookie", attempt(&|r| r.cookie = 7));
    match at {
        At::Device(_) => {
            lines.row("a device that there is not", attempt(&|r| r.target = LinkTarget::Ifindex(NO_DEVICE)));
            lines.row("device 0", attempt(&|r| r.target = LinkTarget::Ifindex(0)));
        }
        At::Fd(_) | At::Map(_) => {
            lines.row("a descriptor of an array", attempt(&|r| r.target = LinkTarget::Fd(map.as_fd())));
            lines.row("a descriptor of a file", attempt(&|r| r.target = LinkTarget::Fd(file.as_fd())));
            lines.row(
                "a descriptor of a program",
                attempt(&|r| r.target = LinkTarget::Fd(counter.prog.as_fd())),
            );
        }
        At::Rules(hook) => {
            let rule = |change: &dyn Fn(&mut NetfilterHook)| {
                let mut hook = *hook;
                change(&mut hook);
                attempt(&|r| r.netfilter = Some(hook))
            };
            lines.row("another family", rule(&|hook| hook.family = 7));
            lines.row("a hook that there is not", rule(&|hook| hook.hook = 5));
            lines.row("the first priority", rule(&|hook| hook.priority = i32::MIN));
            lines.row("the last priority", rule(&|hook| hook.priority = i32::MAX));
            lines.row("flags of the hook", rule(&|hook| hook.flags = 2));
        }
    }
    lines.row("first of all", attempt(&|r| r.anchor = LinkAnchor::First));
    if case.ordered {
        lines.row("before itself", attempt(&|r| r.anchor = LinkAnchor::BeforeProg(counter.prog.as_fd())));
        lines.row("after no program", attempt(&|r| r.anchor = LinkAnchor::AfterProgId(ProgId(0x7fff_0000))));
        lines.row("revision 99", attempt(&|r| r.expected_revision = 99));
    }
}

/// What a link says of its place.
fn place(link: &LinkFd, prog: ProgId) -> String {
    let info = match link.info() {
        Ok(info) => info,
        Err(errno) => return text::<()>(Err(errno)),
    };
    let there = |number: u64| if number == 0 { "nowhere" } else { "somewhere" };
    let place = match info.place {
        LinkPlace::Xdp { ifindex } => there(ifindex.into()).to_owned(),
        LinkPlace::Tcx { ifindex, attach_type } | LinkPlace::Netkit { ifindex, attach_type } => {
            format!("{} {attach_type}", there(ifindex.into()))
        }
        LinkPlace::Cgroup { id, attach_type } => format!("{} {attach_type}", there(id)),
        LinkPlace::Netns { inode, attach_type } => format!("{} {attach_type}", there(inode.into())),
        LinkPlace::Sockmap { map_id, attach_type } => format!("{} {attach_type}", there(map_id.0.into())),
        LinkPlace::Netfilter { family, hook, priority, flags } => {
            format!("{family} {hook} {priority} {flags}")
        }
        _ => "unknown".to_owned(),
    };
    let runs = if info.prog_id == prog { "its program" } else { "another program" };
    let link_type =
        if info.link_type == LinkType(0) { "no type".to_owned() } else { info.link_type.to_string() };
    format!("{link_type} {place}, {runs}")
}

/// A link from its making to its end.
fn life(
    kernel: &Kernel,
    world: &dyn World,
    case: &Case,
    at: &At,
    [first, second]: [Counter; 2],
    lines: &mut Lines<'_>,
) -> Result<(), Errno> {
    let backend = kernel.backend();
    let happens = |lines: &mut Lines<'_>, when: &str, counters: &[(&str, &Counter)]| {
        let Some(trigger) = case.trigger else { return };
        for (_, counter) in counters {
            counter.take();
        }
        trigger(world, at);
        let ran: Vec<&str> =
            counters.iter().filter(|(_, counter)| counter.take() > 0).map(|(name, _)| *name).collect();
        lines.row(&format!("runs {when}"), if ran.is_empty() { "none".to_owned() } else { ran.join(", ") });
    };
    let made = kernel.link_create(&request(case, at, &first.prog));
    lines.row("attach", text(made.as_ref().map_err(|errno| *errno)));
    let link = made?;
    let both = [("first", &first), ("second", &second)];
    lines.row("info", place(&link, first.id()));
    happens(lines, "when attached", &both);
    lines.row("the same program again", text(kernel.link_create(&request(case, at, &first.prog))));
    let other = kernel.link_create(&request(case, at, &second.prog));
    lines.row("another program", text(other.as_ref().map_err(|errno| *errno)));
    happens(lines, "after another", &both);
    drop(other);

    let update = |new: &LoadedProgram, old: Option<&LoadedProgram>| {
        let mut request = LinkUpdate::new(link.as_fd(), new.as_fd());
        request.old_prog = old.map(AsFd::as_fd);
        request.flags = if old.is_some() { AttachFlags::REPLACE } else { AttachFlags::empty() };
        text(backend.link_update(&request))
    };
    lines.row("update", update(&second.prog, None));
    lines.row("info after update", place(&link, second.id()));
    happens(lines, "after update", &both);
    lines.row("update of another program than it runs", update(&first.prog, Some(&first.prog)));
    lines.row("update of the program that it runs", update(&first.prog, Some(&second.prog)));
    let insns = Assembler::new().mov64_imm(Reg::R0, 0).exit().finish().unwrap();
    let kind =
        if case.prog_type == ProgType::SOCKET_FILTER { ProgType::XDP } else { ProgType::SOCKET_FILTER };
    let stranger = kernel.prog_load(&ProgLoad::new(kind, &insns, "GPL"), None).unwrap();
    lines.row("update to another kind of program", update(&stranger, None));

    // The link holds its program.
    let Counter { prog, counts } = first;
    drop(prog);
    let kept = Counter { prog: stranger, counts };
    happens(lines, "after its program was closed", &[("first", &kept)]);
    let detached = backend.link_detach(link.as_fd());
    lines.row("detach", text(detached));
    if detached.is_ok() {
        happens(lines, "after detach", &[("first", &kept)]);
        lines.row("info after detach", place(&link, ProgId(0)).split(',').next().unwrap_or_default());
        lines.row("detach again", text(backend.link_detach(link.as_fd())));
        let request = LinkUpdate::new(link.as_fd(), second.prog.as_fd());
        lines.row("update after detach", text(backend.link_update(&request)));
    }
    // The place is free again.
    let again = kernel.link_create(&request(case, at, &second.prog));
    if detached.is_ok() {
        lines.row("attach after detach", text(again.as_ref().map_err(|errno| *errno)));
    }
    drop((again, link));
    happens(lines, "after the last handle was closed", &[("first", &kept), ("second", &second)]);
    Ok(())
}

/// The place of a row: the kind of link, and what was tried.
fn label(row: &str) -> &str {
    row.rsplit_once(" | ").map_or(row, |(label, _)| label)
}

/// What a kernel of a version is to answer: an old one what was seen on one of its age.
fn expected(version: (u32, u32)) -> Vec<&'static str> {
    let number = |name: &str| {
        let (major, minor) = name.split_once('.').expect("two numbers");
        (major.parse::<u32>().expect("a number"), minor.parse::<u32>().expect("a number"))
    };
    let sections = OTHERS.split("\n== ").skip(1).filter_map(|section| section.split_once('\n'));
    let other = sections.filter(|(name, _)| version <= number(name)).min_by_key(|(name, _)| number(name));
    let other: Vec<&str> = other.map_or_else(Vec::new, |(_, rows)| rows.lines().collect());
    let rows = GOLDEN.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    rows.map(|row| *other.iter().find(|other| label(other) == label(row)).unwrap_or(&row)).collect()
}

/// What differs between rows that were found and those that were recorded.
pub(crate) fn differences(found: &[String], skipped: &[String], version: (u32, u32)) -> Vec<String> {
    let recorded = expected(version);
    let is_skipped = |row: &str| {
        let name = row.split(" | ").next().unwrap_or_default();
        skipped.iter().any(|line| line.starts_with(&format!("{name}: ")))
    };
    let mut differences = Vec::new();
    for row in &recorded {
        match found.iter().find(|line| label(line) == label(row)) {
            Some(line) if line == row => {}
            Some(line) => differences.push(format!("{line}\n    and Linux: {row}")),
            None if is_skipped(row) => {}
            None => differences.push(format!("nothing\n    and Linux: {row}")),
        }
    }
    let new = found.iter().filter(|line| !recorded.iter().any(|row| label(row) == label(line)));
    let new = new.filter(|line| !is_skipped(line));
    differences.extend(new.map(|line| format!("{line}\n    and Linux: nothing")));
    differences
}

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use skep::sys::abi::Errno;
use skep::sys::request::TestRun;
use skep::{Loader, Object, Spec};

use super::{World, has_functions};

/// What programs are asked to do with a connection.
const TIMEOUT: u32 = 1;
const STATUS: u32 = 2;
const MARK: u32 = 4;
const NAT: u32 = 8;

/// What is known of a connection (`IPS_…`).
const SEEN_REPLY: u32 = 1 << 1;
const ASSURED: u32 = 1 << 2;
const CONFIRMED: u32 = 1 << 3;
const SRC_NAT: u32 = 1 << 4;
const DST_NAT: u32 = 1 << 5;
const SRC_NAT_DONE: u32 = 1 << 7;
const DST_NAT_DONE: u32 = 1 << 8;
const FIXED_TIMEOUT: u32 = 1 << 10;

/// The connection was not inserted.
const IN_THE_WAY: u32 = 3;

/// `struct bpf_ct_opts` without what the kernel writes into it.
#[derive(Clone, Copy)]
struct Options {
    netns: i32,
    protocol: u8,
    zone: u16,
    zone_dir: u8,
    reserved: u8,
    len: u32,
}

const TCP: Options = Options { netns: -1, protocol: 6, zone: 0, zone_dir: 0, reserved: 0, len: 16 };
const UDP: Options = Options { protocol: 17, ..TCP };

/// What a program is asked to do.
#[derive(Clone, Copy, Default)]
struct Ask {
    set: u32,
    timeout: u32,
    status: u32,
    mark: u32,
    /// 0 to translate the source, 1 the destination.
    nat: u32,
    port: u32,
    to: Option<IpAddr>,
}

/// What a program saw of a connection.
#[derive(PartialEq, Eq, Debug)]
struct Seen {
    left: u64,
    status: u32,
    mark: u32,
    zone: (u16, u8),
    protocol: u8,
    family: u16,
    /// Source and destination, then those of replies.
    ends: [SocketAddr; 4],
}

/// The programs of `run/conntrack.c` of one kind.
struct Tracker<'a> {
    object: &'a Object,
    kind: &'a str,
}

fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(four) => four.octets().to_vec(),
        IpAddr::V6(six) => six.octets().to_vec(),
    }
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes(bytes[at..at + 4].try_into().unwrap())
}

impl Tracker<'_> {
    fn tuple(&self, source: SocketAddr, destination: SocketAddr) {
        let mut bytes = [octets(source.ip()), octets(destination.ip())].concat();
        bytes.extend([source.port().to_be_bytes(), destination.port().to_be_bytes()].concat());
        self.object.set_global("tuple_len", &u32::try_from(bytes.len()).unwrap()).unwrap();
        bytes.resize(36, 0);
        self.object.set_global::<[u8; 36]>("tuple", &bytes.try_into().unwrap()).unwrap();
    }

    fn options(&self, options: Options) {
        let [n0, n1, n2, n3] = options.netns.to_ne_bytes();
        let [z0, z1] = options.zone.to_ne_bytes();
        let Options { protocol, zone_dir, reserved, .. } = options;
        let bytes = [n0, n1, n2, n3, 0, 0, 0, 0, protocol, 9, z0, z1, zone_dir, 0, reserved, 0];
        self.object.set_global("opts", &bytes).unwrap();
        self.object.set_global("opts_len", &options.len).unwrap();
    }

    fn ask(&self, ask: Ask) {
        let words = [ask.set, ask.timeout, ask.status, ask.mark, ask.nat, ask.port];
        let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        bytes.extend(ask.to.map(octets).unwrap_or_default());
        bytes.resize(40, 0);
        self.object.set_global::<[u8; 40]>("ask", &bytes.try_into().unwrap()).unwrap();
    }

    /// Runs a program, and answers what it returned and the error that the kernel wrote.
    fn run(&self, what: &str) -> (u32, i32) {
        let mut run = TestRun::default();
        run.data_in = &[0; 64];
        let program = self.object.program(&format!("{}_{what}", self.kind)).unwrap();
        let returned = program.test_run(&mut run).unwrap().retval;
        (returned, word(&self.object.global_bytes("opts").unwrap(), 4).cast_signed())
    }

    /// What functions answered that changed the timeout and the status, and that set an address.
    fn answered(&self) -> [i32; 3] {
        self.object.global("answered").unwrap()
    }

    fn seen(&self) -> Option<Seen> {
        if self.object.global::<u32>("found").unwrap() == 0 {
            return None;
        }
        let bytes = self.object.global_bytes("seen").unwrap();
        let half = |at: usize| u16::from_ne_bytes(bytes[at..at + 2].try_into().unwrap());
        let family = half(20);
        let end = |n: usize| {
            let ip = &bytes[32 + n * 16..][..16];
            let ip = match family {
                2 => IpAddr::from(<[u8; 4]>::try_from(&ip[..4]).unwrap()),
                _ => IpAddr::from(<[u8; 16]>::try_from(ip).unwrap()),
            };
            SocketAddr::new(ip, u16::from_be(half(22 + n * 2)))
        };
        Some(Seen {
            left: u64::from_ne_bytes(bytes[..8].try_into().unwrap()),
            status: word(&bytes, 8),
            mark: word(&bytes, 12),
            zone: (half(16), bytes[18]),
            protocol: bytes[19],
            family,
            ends: [end(0), end(1), end(2), end(3)],
        })
    }

    /// Makes a connection.
    fn make(&self, ends: [SocketAddr; 2], options: Options, ask: Ask) -> u32 {
        self.tuple(ends[0], ends[1]);
        self.options(options);
        self.ask(ask);
        self.run("make").0
    }

    /// Looks a connection up and does something with it. Answers it, whether the packet is a reply, and the error.
    fn look(&self, ends: [SocketAddr; 2], options: Options, ask: Ask) -> (Option<Seen>, u8, i32) {
        self.tuple(ends[0], ends[1]);
        self.options(options);
        self.ask(ask);
        let (returned, error) = self.run("look");
        assert_eq!(returned, 0);
        (self.seen(), self.object.global_bytes("opts").unwrap()[9], error)
    }

    /// Lets a connection expire, which the next one to look for it takes out of the table.
    fn forget(&self, ends: [SocketAddr; 2], options: Options) {
        let none = Ask { set: TIMEOUT, timeout: 0, ..Ask::default() };
        assert!(self.look(ends, options, none).0.is_some());
        assert_eq!(self.answered()[0], 0);
        assert_eq!(self.look(ends, options, Ask::default()), (None, 9, -Errno::ENOENT.0));
    }
}

/// How many tests there are at most.
const TESTS: u16 = 4;
/// The next of them to ask for ports.
static NEXT: AtomicU16 = AtomicU16::new(0);

/// Does something with programs of both kinds, and with ports that no other test has: neither of this process nor of another.
fn with_trackers(world: &World<'_>, test: &str, with: impl Fn(&Tracker<'_>, u16)) {
    let names = ["bpf_xdp_ct_lookup", "bpf_skb_ct_alloc", "bpf_ct_insert_entry", "bpf_ct_set_nat_info"];
    if !has_functions(world, test, &names) {
        return;
    }
    let spec = Spec::open(Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/run/conntrack.o")).unwrap();
    let object = Loader::new(world.kernel).load(&spec).unwrap_or_else(|error| {
        panic!("{error:?}: {}", error.verifier_log().unwrap_or("no log"));
    });
    let process = u16::try_from(std::process::id() % 4500).unwrap();
    let own = process * TESTS + NEXT.fetch_add(1, Ordering::Relaxed) % TESTS;
    for (kind, base) in [("xdp", 20_000), ("skb", 40_000)] {
        let port = base + own;
        with(&Tracker { object: &object, kind }, port);
    }
}

fn ends(port: u16) -> [SocketAddr; 2] {
    [SocketAddr::new([192, 0, 2, 1].into(), port), SocketAddr::new([192, 0, 2, 2].into(), 443)]
}

fn replies([source, destination]: [SocketAddr; 2]) -> [SocketAddr; 2] {
    [destination, source]
}

/// Some ticks may pass while a program runs, and many where the machine stops; a hundredth of the time is more than it does.
#[track_caller]
fn assert_near(is: u64, expected: u64) {
    assert!(is <= expected + 8 && is >= expected - expected / 100, "{is} and not {expected}");
}

/// Two times that are so long that a hundredth of them is minutes, in milliseconds.
const LONG: u32 = 100_000_000;
const LONGER: u32 = 4 * LONG;
/// After which a connection goes for which no time was set.
const DEFAULT: Duration = Duration::from_secs(10);

pub(super) fn connections(world: &World<'_>) {
    with_trackers(world, "connections", |tracker, port| {
        let ends = ends(port);
        assert_eq!(tracker.look(ends, TCP, Ask::default()), (None, 9, -Errno::ENOENT.0));

        let ask = Ask {
            set: TIMEOUT | STATUS | MARK,
            timeout: LONGER,
            status: SEEN_REPLY | SRC_NAT | 1 << 20,
            mark: 7,
            ..Ask::default()
        };
        assert_eq!(tracker.make(ends, TCP, ask), 0);
        assert_eq!(tracker.answered()[1], 0);
        let made = tracker.seen().unwrap();
        assert_eq!(made.ends, [ends[0], ends[1], ends[1], ends[0]]);
        assert_eq!((made.protocol, made.family, made.zone), (6, 2, (0, 3)));
        assert_eq!((made.status, made.mark), (CONFIRMED | SEEN_REPLY, 7));
        assert_eq!(tracker.make(ends, TCP, ask), IN_THE_WAY);
        assert_eq!(tracker.make(replies(ends), TCP, ask), IN_THE_WAY);

        // The same from both ends, and of no other protocol.
        let (found, dir, _) = tracker.look(ends, TCP, Ask::default());
        let found = found.unwrap();
        assert!(found.left <= made.left && found.left > made.left * 3 / 4, "{} {}", found.left, made.left);
        assert_eq!((Seen { left: made.left, ..found }, dir), (Seen { ..made }, 0));
        let (found, dir, _) = tracker.look(replies(ends), TCP, Ask::default());
        assert_eq!((found.map(|found| found.ends), dir), (Some([ends[0], ends[1], ends[1], ends[0]]), 1));
        assert_eq!(tracker.look(ends, UDP, Ask::default()).2, -Errno::ENOENT.0);

        // What is known of it only grows, and a part of it is the kernel's.
        let status = |status: u32| Ask { set: STATUS, status, ..Ask::default() };
        for (asked, answer, is) in [
            (SEEN_REPLY, -Errno::EBUSY.0, CONFIRMED | SEEN_REPLY),
            (CONFIRMED, -Errno::EBUSY.0, CONFIRMED | SEEN_REPLY),
            (CONFIRMED | SEEN_REPLY | 1, -Errno::EBUSY.0, CONFIRMED | SEEN_REPLY),
            (CONFIRMED | SEEN_REPLY | ASSURED | DST_NAT, 0, CONFIRMED | SEEN_REPLY | ASSURED),
            (CONFIRMED | SEEN_REPLY, -Errno::EBUSY.0, CONFIRMED | SEEN_REPLY | ASSURED),
        ] {
            let (found, ..) = tracker.look(ends, TCP, status(asked));
            assert_eq!((tracker.answered()[1], found.unwrap().status), (answer, is), "{asked:#x}");
        }
        // A mark is written by who sees it.
        let (found, ..) = tracker.look(ends, TCP, Ask { set: MARK, mark: 0xffff_0001, ..Ask::default() });
        assert_eq!(found.unwrap().mark, 0xffff_0001);
        assert_eq!(tracker.look(ends, TCP, Ask::default()).0.unwrap().mark, 0xffff_0001);
        // Times are in ticks, of which nobody says how long they are.
        let time = |timeout| Ask { set: TIMEOUT, timeout, ..Ask::default() };
        let (short, ..) = tracker.look(ends, TCP, time(LONG));
        assert_eq!(tracker.answered()[0], 0);
        assert_near(short.unwrap().left, made.left / 4);
        let (longest, ..) = tracker.look(ends, TCP, time(u32::MAX));
        assert_near(longest.unwrap().left, i32::MAX as u64);
        let fixed = CONFIRMED | SEEN_REPLY | ASSURED | FIXED_TIMEOUT;
        tracker.forget(ends, TCP);

        // A new one begins without what the old one had. Its timeout is ten seconds, if no other one is set; who is as late
        // as that begins again.
        world.eventually(
            || {
                let start = Instant::now();
                assert_eq!(tracker.make(ends, TCP, Ask::default()), 0);
                let made_again = tracker.seen().unwrap();
                assert_eq!((made_again.status, made_again.mark), (CONFIRMED, 0));
                let ticks = made.left * DEFAULT.as_secs() * 1000 / u64::from(LONGER);
                assert!(made_again.left <= ticks + 8, "{} and not {ticks}", made_again.left);
                let there = tracker.look(ends, TCP, time(LONG)).0.is_some();
                let in_time = start.elapsed() < DEFAULT * 3 / 4;
                assert!(there || !in_time, "it went before its time");
                if there {
                    tracker.forget(ends, TCP);
                }
                assert!(made_again.left >= ticks / 4 || !in_time, "{} and not {ticks}", made_again.left);
                in_time
            },
            || "never in time",
        );
        assert_eq!(tracker.make(ends, TCP, time(1)), 0);
        let gone = (None, 9, -Errno::ENOENT.0);
        world.eventually(|| tracker.look(ends, TCP, Ask::default()) == gone, || "it stays");

        // Nobody changes a time that is fixed. That one goes by itself.
        assert_eq!(tracker.make(ends, TCP, time(60_000)), 0);
        assert_eq!(tracker.look(ends, TCP, status(fixed)).0.unwrap().status, fixed);
        tracker.look(ends, TCP, time(0));
        assert_eq!(tracker.answered()[0], -Errno::EPERM.0);
        assert!(tracker.look(ends, TCP, Ask::default()).0.is_some());
    });
}

/// Zones, IPv6, and translated addresses.
pub(super) fn translated_connections(world: &World<'_>) {
    with_trackers(world, "translated_connections", |tracker, port| {
        let four = ends(port);
        let six = ["2001:db8::1", "2001:db8::2"].map(|ip| SocketAddr::new(ip.parse().unwrap(), port));
        assert_eq!(tracker.make(six, UDP, Ask::default()), 0);
        let made = tracker.seen().unwrap();
        assert_eq!((made.family, made.protocol, made.ends), (10, 17, [six[0], six[1], six[1], six[0]]));
        tracker.forget(six, UDP);

        // A zone that counts for one direction leaves the other one in zone 0.
        let zone = Options { zone: 5, ..TCP };
        assert_eq!(tracker.make(four, zone, Ask::default()), 0);
        assert_eq!(tracker.seen().unwrap().zone, (5, 3));
        assert_eq!(tracker.object.global_bytes("opts").unwrap()[12], 3);
        assert_eq!(tracker.look(four, TCP, Ask::default()).2, -Errno::ENOENT.0);
        assert_eq!(tracker.make(four, TCP, Ask::default()), 0);
        tracker.forget(four, TCP);
        tracker.forget(four, zone);
        let zone = Options { zone_dir: 1, ..zone };
        assert_eq!(tracker.make(four, zone, Ask::default()), 0);
        assert_eq!(tracker.look(four, TCP, Ask::default()).2, -Errno::ENOENT.0);
        assert_eq!(tracker.look(replies(four), TCP, Ask::default()).1, 1);
        tracker.forget(four, zone);

        let to: IpAddr = [198, 51, 100, 9].into();
        for (nat, port, new, status) in [
            (0, 8080, [four[1], SocketAddr::new(to, 8080)], SRC_NAT | SRC_NAT_DONE),
            (0, 0, [four[1], SocketAddr::new(to, four[0].port())], SRC_NAT | SRC_NAT_DONE),
            (1, 8443, [SocketAddr::new(to, 8443), four[0]], DST_NAT | DST_NAT_DONE),
            (1, 0, [SocketAddr::new(to, 443), four[0]], DST_NAT | DST_NAT_DONE),
        ] {
            let ask = Ask { set: NAT, nat, port, to: Some(to), ..Ask::default() };
            assert_eq!(tracker.make(four, TCP, ask), 0);
            let made = tracker.seen().unwrap();
            assert_eq!((made.ends, tracker.answered()[2]), ([four[0], four[1], new[0], new[1]], 0));
            assert_eq!(made.status, CONFIRMED | status);
            assert_eq!(tracker.look(new, TCP, Ask::default()).1, 1);
            assert_eq!(tracker.look(replies(four), TCP, Ask::default()).2, -Errno::ENOENT.0);
            tracker.forget(four, TCP);
        }
        // To where it is anyway.
        let ask = Ask { set: NAT, to: Some(four[0].ip()), ..Ask::default() };
        assert_eq!(tracker.make(four, TCP, ask), 0);
        assert_eq!(tracker.seen().unwrap().status, CONFIRMED | SRC_NAT_DONE);
        tracker.forget(four, TCP);
    });
}

pub(super) fn connection_errors(world: &World<'_>) {
    with_trackers(world, "connection_errors", |tracker, port| {
        for (options, errno) in [
            (Options { len: 0, ..TCP }, Errno::EINVAL),
            (Options { len: 15, ..TCP }, Errno::EINVAL),
            (Options { len: 12, zone: 1, ..TCP }, Errno::EINVAL),
            (Options { reserved: 1, ..TCP }, Errno::EINVAL),
            (Options { netns: -2, ..TCP }, Errno::EINVAL),
            (Options { netns: 0xf00f, ..TCP }, Errno::ENONET),
            (Options { protocol: 1, ..TCP }, Errno::EPROTO),
            (Options { protocol: 1, netns: 0xf00f, ..TCP }, Errno::EPROTO),
        ] {
            let case = (options.netns, options.protocol, options.len);
            assert_eq!(tracker.look(ends(port), options, Ask::default()), (None, 9, -errno.0), "{case:?}");
            assert_eq!((tracker.run("make"), tracker.seen()), ((2, -errno.0), None), "{case:?}");
        }
        for len in [0u32, 4, 13, 35] {
            tracker.tuple(ends(port)[0], ends(port)[1]);
            tracker.object.set_global("tuple_len", &len).unwrap();
            tracker.options(TCP);
            assert_eq!(tracker.run("look"), (0, -Errno::EAFNOSUPPORT.0), "{len}");
            assert_eq!(tracker.run("make"), (2, -Errno::EAFNOSUPPORT.0), "{len}");
        }
        // The options of before there were zones.
        let old = Options { len: 12, zone_dir: 1, ..TCP };
        assert_eq!(tracker.look(ends(port), old, Ask::default()), (None, 9, -Errno::ENOENT.0));
        assert_eq!(tracker.object.global_bytes("opts").unwrap()[12], 1);
    });
}

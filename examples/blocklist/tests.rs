//! The service without a kernel: on maps in memory, on mocks, and on the real object in a simulated kernel.

use std::net::Ipv4Addr;
use std::ops::ControlFlow;
use std::time::Duration;

use mockall::mock;
use skep::map::traits::{MapDrain, MapIter, MapRead, MapRemove, MapTable, MapWrite};
use skep::map::{Ipv4Prefix, LpmTrie, MapError, MapOperation, PerCpuHashMap, PerCpuValues, memory};
use skep::program::RunInput;
use skep::sim::SimKernel;
use skep::sys::abi::{Errno, RingFlags, UpdateFlags};
use skep::{Kernel, Loader, Spec};

use super::service::{Blocklist, Config, Count, Dropped, Round};

const ANY: UpdateFlags = UpdateFlags::empty();
const CPUS: u32 = 4;
const QUIET: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const LOUD: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
const LOUDER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 3);

fn config() -> Config {
    Config { packets_per_round: 100, rounds_blocked: 2, report_one_in: 1 }
}

/// That many packets, spread over the CPUs.
fn packets(cpus: u32, packets: u64) -> PerCpuValues<Count> {
    let share = |cpu| packets / u64::from(cpus) + u64::from(u64::from(cpu) < packets % u64::from(cpus));
    PerCpuValues::from_fn(cpus, |cpu| Count { packets: share(cpu), bytes: 60 * share(cpu) })
}

/// The service on maps in memory.
type InMemory = Blocklist<
    memory::Array<Config>,
    memory::PerCpuHashMap<[u8; 4], Count>,
    memory::LpmTrie<Ipv4Prefix, u64>,
    memory::Events,
>;

/// A service, and what the program has of its maps.
struct Memory {
    service: InMemory,
    config: memory::Array<Config>,
    seen: memory::PerCpuHashMap<[u8; 4], Count>,
    blocked: memory::LpmTrie<Ipv4Prefix, u64>,
    drops: memory::EventSender,
}

impl Memory {
    fn new(room: u32) -> Memory {
        let config = memory::Array::new(1).unwrap();
        config.insert(&0, &self::config(), ANY).unwrap();
        let seen = memory::PerCpuHashMap::lru(64, CPUS).unwrap();
        let blocked = memory::LpmTrie::new(room).unwrap().named("blocked");
        let events = memory::Events::new(4096).unwrap();
        let drops = events.sender();
        let service = Blocklist::new(config.clone(), seen.clone(), blocked.clone(), events);
        Memory { service, config, seen, blocked, drops }
    }

    fn send(&self, source: Ipv4Addr, count: u64) {
        self.seen.insert(&source.octets(), &packets(CPUS, count), ANY).unwrap();
    }
}

#[test]
fn who_sends_too_much_is_blocked_for_a_while() {
    let mut memory = Memory::new(16);
    memory.send(QUIET, 100);
    memory.send(LOUD, 101);
    memory.send(LOUDER, 5000);
    let round = memory.service.end_round().unwrap();
    assert_eq!(round, Round { blocked: vec![(LOUDER, 5000), (LOUD, 101)], ..Round::default() });
    assert!(
        memory.blocked.contains(&LOUD.into()).unwrap() && !memory.blocked.contains(&QUIET.into()).unwrap()
    );
    // What was counted is gone: the next round begins at zero.
    assert_eq!(memory.seen.to_vec().unwrap(), []);

    assert_eq!(memory.service.end_round().unwrap(), Round::default());
    let round = memory.service.end_round().unwrap();
    assert_eq!(round, Round { released: vec![LOUD, LOUDER], ..Round::default() });
    assert_eq!(memory.blocked.to_vec().unwrap(), []);
}

#[test]
fn the_configuration_can_change_between_rounds() {
    let mut memory = Memory::new(16);
    let stricter = Config { packets_per_round: 10, rounds_blocked: 1, ..config() };
    memory.config.insert(&0, &stricter, ANY).unwrap();
    memory.send(QUIET, 11);
    assert_eq!(memory.service.end_round().unwrap().blocked, [(QUIET, 11)]);
    assert_eq!(memory.service.end_round().unwrap().released, [QUIET]);
}

#[test]
fn some_are_spared() {
    let memory = Memory::new(16);
    let mut service = memory.service.spare(["10.0.0.2/31".parse().unwrap()]);
    memory.seen.insert(&LOUD.octets(), &packets(CPUS, 1000), ANY).unwrap();
    assert_eq!(service.end_round().unwrap(), Round::default());
}

#[test]
fn a_full_list_stops_nobody_else() {
    let mut memory = Memory::new(1);
    memory.send(LOUD, 200);
    memory.send(LOUDER, 300);
    let round = memory.service.end_round().unwrap();
    assert_eq!((round.blocked, round.no_room), (vec![(LOUDER, 300)], vec![LOUD]));
    // Who is blocked already needs no room.
    memory.send(LOUDER, 400);
    assert_eq!(memory.service.end_round().unwrap().blocked, [(LOUDER, 400)]);
}

#[test]
fn what_a_kernel_refuses_is_said() {
    let mut memory = Memory::new(16);
    memory.send(LOUD, 200);
    memory.blocked.refuse_next(MapOperation::Update, Errno::ENOMEM);
    let error = memory.service.end_round().unwrap_err();
    assert_eq!(
        format!("{error:#}"),
        "block 10.0.0.2: cannot update an element of map `blocked`: map update: ENOMEM: out of memory"
    );
    memory.blocked.freeze().unwrap();
    memory.send(LOUD, 200);
    assert!(format!("{:#}", memory.service.end_round().unwrap_err()).contains("it is frozen"));
}

#[test]
fn drops_are_added_up() {
    let mut memory = Memory::new(16);
    assert!(memory.service.wait_for_drops(Duration::ZERO).unwrap().is_empty());
    for length in [60, 40, 100] {
        memory.drops.send(&Dropped { source: LOUD.octets(), length }).unwrap();
    }
    memory.drops.send(&Dropped { source: LOUDER.octets(), length: 7 }).unwrap();
    let dropped = memory.service.wait_for_drops(Duration::from_secs(10)).unwrap();
    assert_eq!(Vec::from_iter(dropped), [(LOUD, 200), (LOUDER, 7)]);

    memory.drops.send(b"short").unwrap();
    assert!(memory.service.wait_for_drops(Duration::ZERO).is_err());
}

mock! {
    Config {}
    impl MapRead<u32, Config> for Config {
        fn get(&self, key: &u32) -> Result<Option<Config>, MapError>;
    }
}

mock! {
    Seen {}
    impl MapDrain<[u8; 4], PerCpuValues<Count>> for Seen {
        fn drain_all(&self, each: &mut dyn FnMut([u8; 4], PerCpuValues<Count>)) -> Result<(), MapError>;
    }
}

mock! {
    Blocked {}
    impl MapRead<Ipv4Prefix, u64> for Blocked {
        fn get(&self, key: &Ipv4Prefix) -> Result<Option<u64>, MapError>;
    }
    impl MapWrite<Ipv4Prefix, u64> for Blocked {
        fn insert(&self, key: &Ipv4Prefix, value: &u64, flags: UpdateFlags) -> Result<(), MapError>;
    }
    impl MapRemove<Ipv4Prefix> for Blocked {
        fn remove(&self, key: &Ipv4Prefix) -> Result<bool, MapError>;
    }
    impl MapIter<Ipv4Prefix, u64> for Blocked {
        fn visit(&self, each: &mut dyn FnMut(Ipv4Prefix, u64) -> ControlFlow<()>) -> Result<(), MapError>;
    }
}

#[test]
fn nothing_is_touched_before_the_configuration_is_read() {
    let mut config = MockConfig::new();
    config.expect_get().returning(|_| Err(MapError::refused("config", MapOperation::Lookup, Errno::EPERM)));
    // Any call of these would fail the test.
    let (seen, blocked) = (MockSeen::new(), MockBlocked::new());
    let mut service = Blocklist::new(config, seen, blocked, memory::Events::new(4096).unwrap());
    assert!(service.end_round().is_err());
}

#[test]
fn each_source_is_written_once() {
    let mut config = MockConfig::new();
    config.expect_get().withf(|index| *index == 0).once().return_const(Ok(Some(self::config())));
    let mut seen = MockSeen::new();
    seen.expect_drain_all().once().returning(|each| {
        each(LOUD.octets(), packets(2, 200));
        each(QUIET.octets(), packets(2, 2));
        Ok(())
    });
    let mut blocked = MockBlocked::new();
    blocked.expect_visit().once().returning(|_| Ok(()));
    blocked
        .expect_insert()
        .withf(|network, until, flags| *network == Ipv4Prefix::from(LOUD) && *until == 2 && flags.is_empty())
        .once()
        .return_const(Ok(()));
    // A service that is generic over maps takes them behind pointers, too.
    let blocked: Box<dyn MapTable<Ipv4Prefix, u64>> = Box::new(blocked);
    let mut service = Blocklist::new(&config, seen, blocked, memory::Events::new(4096).unwrap());
    assert_eq!(service.end_round().unwrap().blocked, [(LOUD, 200)]);
}

/// The maps of the object have the names, kinds, sizes and types that the service expects, and it works on them.
#[test]
fn the_object_fits() {
    let sim = SimKernel::new();
    let spec = Spec::parse("blocklist", super::OBJECT).unwrap();
    let object = Loader::new(&Kernel::new(sim.clone())).load(&spec).unwrap();
    let mut service = super::service_of(&object, config()).unwrap();

    // What the program writes.
    let seen: PerCpuHashMap<[u8; 4], Count> = object.map("seen").unwrap().typed().unwrap();
    let cpus = seen.as_map().values_per_element();
    seen.insert(&LOUD.octets(), &packets(cpus, 150), ANY).unwrap();
    seen.insert(&QUIET.octets(), &packets(cpus, 50), ANY).unwrap();
    let dropped = [10, 0, 0, 2, 60, 0, 0, 0];
    let drops = object.map("drops").unwrap();
    sim.ring_output(drops.as_map_fd(), &dropped, RingFlags::empty()).unwrap();

    assert_eq!(service.end_round().unwrap().blocked, [(LOUD, 150)]);
    assert_eq!(Vec::from_iter(service.wait_for_drops(Duration::ZERO).unwrap()), [(LOUD, 60)]);
    // What the program finds.
    let blocked: LpmTrie<Ipv4Prefix, u64> = object.map("blocked").unwrap().typed().unwrap();
    assert_eq!(blocked.longest_match(&LOUD.into()).unwrap(), Some(2));
    assert_eq!(blocked.longest_match(&QUIET.into()).unwrap(), None);
    assert_eq!(seen.keys().count(), 0);
}

/// A packet of 60 bytes from there.
fn from(source: Ipv4Addr) -> [u8; 60] {
    let mut packet = [0; 60];
    packet[12..14].copy_from_slice(&[0x08, 0x00]); // IPv4
    packet[26..30].copy_from_slice(&source.octets());
    packet
}

#[test]
#[expect(clippy::print_stdout, reason = "tells how long such a test takes")]
fn the_real_program_drops_what_the_service_blocks() {
    const DROP: u32 = 1;
    const PASS: u32 = 2;

    let started = std::time::Instant::now();
    let spec = Spec::parse("blocklist", super::OBJECT).unwrap();
    // A kernel of its own, so that tests run side by side.
    let object = Loader::new(&skep::sim::kernel()).load(&spec).unwrap();
    let mut service = super::service_of(&object, config()).unwrap();
    let guard = object.program("guard").unwrap();
    let send = |source, times| {
        let output = guard.run(&RunInput::packet(&from(source)).repeat(times)).unwrap();
        output.retval
    };

    assert_eq!((send(LOUD, 150), send(QUIET, 50)), (PASS, PASS));
    let seen: PerCpuHashMap<[u8; 4], Count> = object.map("seen").unwrap().typed().unwrap();
    let counted = seen.get(&QUIET.octets()).unwrap().unwrap();
    assert_eq!(counted.iter().map(|count| (count.packets, count.bytes)).max(), Some((50, 50 * 60)));

    assert_eq!(service.end_round().unwrap().blocked, [(LOUD, 150)]);
    assert_eq!((send(LOUD, 1), send(QUIET, 1)), (DROP, PASS));
    assert_eq!(Vec::from_iter(service.wait_for_drops(Duration::ZERO).unwrap()), [(LOUD, 60)]);
    // Until its time is over.
    let released = (0..4).find(|_| service.end_round().is_ok() && send(LOUD, 1) == PASS);
    assert!(released.is_some());
    println!("loaded, and some 200 packets sent, in {:?}", started.elapsed());
}

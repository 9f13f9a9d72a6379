//! Which CPUs are read, what maps take, and counters.

use skep::map::{Map, MapErrorKind, PerfEventArray};
use skep::perf::{PerfBuffer, PerfCounters, PerfError};
use skep::sys::abi::{Errno, MapType, PerfEventKind, PerfEventType};
use skep::sys::request::{MapCreate, PerfEventOpen};

use super::{World, consume, map, map_of, numbered, numbers, options};

pub(super) fn two_buffers(world: &dyn World) {
    let map = map(world);
    let producer = world.producer(&map);
    let mut first = PerfBuffer::new(&map, options()).unwrap();
    producer.write(0, &numbered(1)).unwrap();
    let mut second = PerfBuffer::new(&map, options()).unwrap();
    producer.write(0, &numbered(2)).unwrap();
    assert_eq!(numbers(&consume(&mut first), 0), [1]);
    assert_eq!(numbers(&consume(&mut second), 0), [2]);
    drop(first);
    producer.write(0, &numbered(3)).unwrap();
    assert_eq!(numbers(&consume(&mut second), 0), [3]);
    drop(second);
    assert_eq!(producer.write(0, &numbered(4)), Err(Errno::ENOENT));
}

pub(super) fn chosen(world: &dyn World) {
    let online = world.kernel().online_cpus().unwrap();
    // A map with fewer places than CPUs.
    let small = map_of(world, 1);
    let buffer = PerfBuffer::new(&small, options()).unwrap();
    assert_eq!(buffer.cpus().iter().map(|cpu| cpu.cpu()).collect::<Vec<_>>(), [0]);
    assert_eq!(buffer.left_out(), &online[1..]);
    drop(buffer);

    let map = map(world);
    let last = *online.last().unwrap();
    let buffer = PerfBuffer::new(&map, options().cpus([last, 100_000])).unwrap();
    assert_eq!(buffer.cpus().iter().map(|cpu| cpu.cpu()).collect::<Vec<_>>(), [last]);
    assert_eq!(buffer.left_out(), []);
    drop(buffer);
    let error = PerfBuffer::new(&map, options().cpus([100_000])).unwrap_err();
    assert_eq!(error, PerfError::NoCpus { entries: map.max_entries() });
}

pub(super) fn come_and_go(world: &dyn World) {
    let online = world.kernel().online_cpus().unwrap();
    let Some(&last) = online.last().filter(|&&cpu| cpu > 0) else {
        println!("skip: cpus_come_and_go: there is only one CPU");
        return;
    };
    let map = map(world);
    let producer = world.producer(&map);
    let mut buffer = PerfBuffer::new(&map, options()).unwrap();
    assert!(buffer.refresh().unwrap().is_empty(), "all are there and live");
    producer.write(last, &numbered(1)).unwrap();
    if let Err(reason) = world.set_online(last, false) {
        println!("skip: cpus_come_and_go: {reason}");
        return;
    }
    let changes = buffer.refresh().unwrap();
    assert_eq!((changes.closed, changes.opened), (vec![last], vec![]));
    assert!(buffer.refresh().unwrap().is_empty());
    // What it had written is still given.
    assert_eq!(numbers(&consume(&mut buffer), last), [1]);
    assert_eq!(buffer.cpus().len(), online.len() - 1);
    let without = PerfBuffer::new(&map_of(world, map.max_entries()), options()).unwrap();
    assert_eq!(without.cpus().len(), online.len() - 1, "one that is offline at the start is left out");

    world.set_online(last, true).unwrap();
    assert_eq!(producer.write(last, &numbered(2)), Err(Errno::ENOENT));
    let changes = buffer.refresh().unwrap();
    assert_eq!((changes.closed, changes.opened), (vec![], vec![last]));
    producer.write(last, &numbered(3)).unwrap();
    assert_eq!(numbers(&consume(&mut buffer), last), [3]);

    // Gone and back before anyone looked.
    world.set_online(last, false).unwrap();
    world.set_online(last, true).unwrap();
    assert_eq!(producer.write(last, &numbered(4)), Err(Errno::EOPNOTSUPP));
    let changes = buffer.refresh().unwrap();
    assert_eq!((changes.closed, changes.opened), (vec![last], vec![last]));
    producer.write(last, &numbered(5)).unwrap();
    assert_eq!(numbers(&consume(&mut buffer), last), [5]);
    assert!(buffer.refresh().unwrap().is_empty());
}

pub(super) fn refused(world: &dyn World) {
    let kernel = world.kernel();
    let array = Map::create(kernel, &MapCreate::new(MapType::ARRAY, 4, 4, 1)).unwrap();
    assert!(matches!(PerfBuffer::new(&array, options()), Err(PerfError::Map(error))
        if error.kind() == MapErrorKind::Mismatch));
    let map = map(world);
    let error = PerfBuffer::new(&map, options().pages(1).watermark(4096)).unwrap_err();
    assert_eq!(error, PerfError::Watermark { bytes: 4096, size: 4096 });

    let array: PerfEventArray = map.typed().unwrap();
    let event = kernel.perf_event_open(&PerfEventOpen::bpf_output(0)).unwrap();
    let error = array.set(array.len(), &event).unwrap_err();
    assert_eq!((error.kind(), error.errno()), (MapErrorKind::Full, Some(Errno::E2BIG)));
    assert_eq!(array.remove(array.len()).unwrap_err().errno(), Some(Errno::E2BIG));
    array.set(0, &event).unwrap();
    assert!(array.as_map().lookup(&[0; 4]).is_err(), "what is in cannot be asked");
    assert!(array.remove_event(0, &event).unwrap() && !array.remove_event(0, &event).unwrap());
    assert!(!array.remove(0).unwrap());
    assert!(array.as_map().update(&[0; 4], &u32::MAX.to_ne_bytes(), Default::default()).is_err());

    // A ring has one reader.
    let second = event.try_clone().unwrap();
    assert_eq!(event.try_clone().unwrap().into_ring(3).unwrap_err(), Errno::EINVAL);
    let ring = event.into_ring(1).unwrap();
    assert_eq!(second.try_clone().unwrap().into_ring(1).unwrap_err(), Errno::EBUSY);
    drop(ring);
    second.into_ring(1).unwrap();

    let open = |cpu| kernel.perf_event_open(&PerfEventOpen::bpf_output(cpu)).err();
    assert_eq!(open(100_000), Some(Errno::EINVAL));
    let unknown = PerfEventKind { event_type: PerfEventType(77), config: 0 };
    assert_eq!(
        PerfCounters::new(&map, unknown).unwrap_err().errno(),
        Some(Errno::ENOENT),
        "nobody counts that"
    );
}

pub(super) fn counters(world: &dyn World) {
    let map = map(world);
    let counters = PerfCounters::new(&map, PerfEventKind::CPU_CLOCK).unwrap();
    let online = world.kernel().online_cpus().unwrap();
    assert_eq!(counters.iter().map(|(cpu, _)| cpu).collect::<Vec<_>>(), online);
    for (cpu, first) in counters.iter() {
        let first = first.unwrap();
        std::thread::sleep(std::time::Duration::from_millis(1));
        let second = counters.read(cpu).unwrap();
        assert!(second.value > first.value && second.time_enabled > first.time_enabled);
        assert_eq!(second.scaled(), Some(second.value));

        let counter = counters.counter(cpu).unwrap();
        counter.disable().unwrap();
        let stopped = counters.read(cpu).unwrap();
        assert_eq!(counters.read(cpu).unwrap(), stopped);
        counter.reset().unwrap();
        assert_eq!(counters.read(cpu).unwrap().value, 0);
        counter.enable().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(1));
        assert!(counters.read(cpu).unwrap().value > 0);
    }
    assert_eq!(counters.read(100_000), Err(PerfError::NoCounter { cpu: 100_000 }));
    // Programs cannot write to a counter.
    assert_eq!(world.producer(&map).write(0, &numbered(0)), Err(Errno::EINVAL));
}

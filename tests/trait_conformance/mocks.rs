//! Mocks of the traits, made with `mockall` outside of the crate.

use std::ops::ControlFlow;
use std::time::Duration;

use mockall::{Sequence, mock};
use skep::map::traits::{
    EventSource, MapDrain, MapIter, MapRead, MapRemove, MapTable, MapTake, MapWrite, Pop, Push,
};
use skep::map::{MapError, MapErrorKind, MapOperation, PerCpuValues};
use skep::sys::abi::{Errno, UpdateFlags};

mock! {
    Reader {}
    impl MapRead<u32, u64> for Reader {
        fn get(&self, key: &u32) -> Result<Option<u64>, MapError>;
    }
}

mock! {
    Table {}
    impl MapRead<u32, PerCpuValues<u64>> for Table {
        fn get(&self, key: &u32) -> Result<Option<PerCpuValues<u64>>, MapError>;
        fn contains(&self, key: &u32) -> Result<bool, MapError>;
    }
    impl MapWrite<u32, PerCpuValues<u64>> for Table {
        fn insert(&self, key: &u32, value: &PerCpuValues<u64>, flags: UpdateFlags) -> Result<(), MapError>;
    }
    impl MapRemove<u32> for Table {
        fn remove(&self, key: &u32) -> Result<bool, MapError>;
    }
    impl MapIter<u32, PerCpuValues<u64>> for Table {
        fn visit(&self, each: &mut dyn FnMut(u32, PerCpuValues<u64>) -> ControlFlow<()>) -> Result<(), MapError>;
    }
    impl MapTake<u32, PerCpuValues<u64>> for Table {
        fn take(&self, key: &u32) -> Result<Option<PerCpuValues<u64>>, MapError>;
    }
    impl MapDrain<u32, PerCpuValues<u64>> for Table {
        fn drain_all(&self, each: &mut dyn FnMut(u32, PerCpuValues<u64>)) -> Result<(), MapError>;
    }
}

mock! {
    Jobs {}
    impl Push<u32> for Jobs {
        fn push(&self, value: &u32, flags: UpdateFlags) -> Result<(), MapError>;
    }
    impl Pop<u32> for Jobs {
        fn pop(&self) -> Result<Option<u32>, MapError>;
        fn peek(&self) -> Result<Option<u32>, MapError>;
    }
}

mock! {
    Ring {}
    impl EventSource for Ring {
        fn poll_events(
            &mut self,
            timeout: Option<Duration>,
            each: &mut dyn FnMut(&[u8]) -> ControlFlow<()>,
        ) -> Result<usize, MapError>;
    }
}

#[test]
fn a_mock_answers_what_it_is_told() {
    let mut reader = MockReader::new();
    reader.expect_get().withf(|key| *key == 1).times(2).return_const(Ok(Some(10)));
    reader.expect_get().returning(|_| Err(MapError::refused("reader", MapOperation::Lookup, Errno::EPERM)));
    let map: Box<dyn MapRead<u32, u64>> = Box::new(reader);
    assert_eq!(map.get(&1), Ok(Some(10)));
    // What is not mocked is made of what is.
    assert_eq!(map.contains(&1), Ok(true));
    let error = map.contains(&2).unwrap_err();
    assert_eq!((error.kind(), error.map()), (MapErrorKind::Denied, "reader"));
}

#[test]
fn a_mock_sees_how_it_is_asked() {
    let mut order = Sequence::new();
    let mut table = MockTable::new();
    let values = |n| PerCpuValues::from_fn(2, move |cpu| n + u64::from(cpu));
    table.expect_contains().once().in_sequence(&mut order).return_const(Ok(false));
    table
        .expect_insert()
        .withf(move |key, value, flags| (*key, *flags) == (7, UpdateFlags::NOEXIST) && *value == values(5))
        .once()
        .in_sequence(&mut order)
        .return_const(Ok(()));
    table.expect_visit().once().in_sequence(&mut order).returning(move |each| {
        let _ = each(7, values(5));
        Ok(())
    });
    table.expect_remove().once().in_sequence(&mut order).return_const(Ok(true));
    table.expect_take().once().return_const(Ok(None));
    table.expect_drain_all().once().returning(|_| Ok(()));

    fn service(map: &dyn MapTable<u32, PerCpuValues<u64>>) -> Result<u64, MapError> {
        if !map.contains(&7)? {
            map.insert(&7, &PerCpuValues::from_fn(2, |cpu| 5 + u64::from(cpu)), UpdateFlags::NOEXIST)?;
        }
        let sum = map.to_vec()?.iter().flat_map(|(_, values)| values).sum();
        map.remove(&7)?;
        Ok(sum)
    }
    assert_eq!(service(&table), Ok(11));
    assert_eq!(table.take(&7), Ok(None));
    table.drain_all(&mut |_, _| ()).unwrap();
}

#[test]
fn queues_and_rings_are_mocked_alike() {
    let mut jobs = MockJobs::new();
    jobs.expect_push().returning(|_, _| Err(MapError::refused("jobs", MapOperation::Update, Errno::E2BIG)));
    jobs.expect_pop().return_const(Ok(Some(1)));
    jobs.expect_peek().return_const(Ok(None));
    assert_eq!(jobs.push(&1, UpdateFlags::empty()).unwrap_err().kind(), MapErrorKind::Full);
    assert_eq!((jobs.pop(), jobs.peek()), (Ok(Some(1)), Ok(None)));

    let mut ring = MockRing::new();
    ring.expect_poll_events().times(2).returning(|timeout, each| {
        assert_eq!(timeout, Some(Duration::from_secs(1)));
        let _ = each(&7u32.to_ne_bytes());
        Ok(1)
    });
    let second = Some(Duration::from_secs(1));
    assert_eq!(ring.next_event_as::<u32>(second), Ok(Some(7)));
    let error = ring.next_event_as::<u64>(second).unwrap_err();
    assert_eq!(error.to_string(), "event of map `events` has 4 bytes, and the event type has 8");
    assert_eq!((ring.lost(), ring.name(), ring.readiness().is_none()), (0, "events", true));
}

//! Batches that a kernel ends in the middle, as Linux does where the lock of a bucket is long in coming.

#![allow(missing_docs)]

use std::fs::File;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering};

use skep::map::{HashMap, Map, MapErrorKind};
use skep::sys::abi::{Errno, MapType};
use skep::sys::request::{BatchRead, MapCreate, MapInfo};
use skep::sys::{Backend, Kernel, MapRef};

/// Takes three elements out of a map and fails, then fails at once.
#[derive(Debug, Default)]
struct Ends(AtomicU32);

impl Backend for Ends {
    fn name(&self) -> &str {
        "ends"
    }

    fn map_create(&self, _: &MapCreate<'_>) -> Result<OwnedFd, Errno> {
        Ok(File::open("/dev/null").unwrap().into())
    }

    fn map_info(&self, _: BorrowedFd<'_>) -> Result<MapInfo, Errno> {
        Err(Errno::EINVAL)
    }

    fn map_lookup_and_delete_batch(
        &self,
        _: MapRef<'_>,
        batch: &mut BatchRead<'_>,
    ) -> Result<u32, (Errno, u32)> {
        if self.0.fetch_add(1, Ordering::Relaxed) > 0 {
            return Err((Errno::ETIMEDOUT, 0));
        }
        batch.keys[..12].copy_from_slice(&[1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0]);
        batch.values[..12].copy_from_slice(&[7; 12]);
        Err((Errno::ETIMEDOUT, 3))
    }
}

fn map() -> Map {
    let request = MapCreate::new(MapType::HASH, 4, 4, 100);
    Map::create(&Kernel::new(Ends::default()), &request).unwrap()
}

/// What was taken out is in the map no more, and is given out before the error.
#[test]
fn what_was_taken_is_given_out() {
    let number = |key: u32| (u32::from_le(key), 0x0707_0707);
    let hash: HashMap<u32, u32> = map().typed().unwrap();
    let mut elements = hash.drain(10);
    for key in 1..4 {
        assert_eq!(elements.next().unwrap().unwrap(), number(key));
    }
    let error = elements.next().unwrap().unwrap_err();
    assert_eq!((error.kind(), error.errno()), (MapErrorKind::Busy, Some(Errno::ETIMEDOUT)));
    assert!(elements.next().is_none());

    let map = map();
    let mut batches = map.drain_batches(10);
    assert_eq!(batches.next_batch().unwrap().unwrap().len(), 3);
    assert_eq!(batches.next_batch().unwrap_err().kind(), MapErrorKind::Busy);
    assert!(batches.next_batch().unwrap().is_none());
    // Where nothing was taken there is the error alone.
    assert_eq!(map.drain_batches(10).next_batch().unwrap_err().kind(), MapErrorKind::Busy);
}

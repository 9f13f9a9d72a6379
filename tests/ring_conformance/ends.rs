use std::os::fd::AsFd;

use skep::map::{Map, MapError, MapErrorKind};
use skep::ring::{RingBuffer, UserRingBuffer};
use skep::sys::abi::{Errno, MapType, OpenFlags};
use skep::sys::request::MapCreate;
use skep::sys::{Kernel, MapFd};

use crate::support::pin_path;

use super::{Lab, NONE, rig};

fn refused(map: &Map) {
    let error: MapError = map.typed::<RingBuffer>().unwrap_err();
    assert_eq!((error.kind(), error.errno()), (MapErrorKind::Busy, Some(Errno::EBUSY)));
    let text = error.to_string();
    let why = "it is used in this process already, and one end of a ring has one user";
    assert!(text.starts_with("cannot map the memory of map `") && text.ends_with(why), "{text}");
}

pub(super) fn one_consumer(lab: &dyn Lab) {
    let rig = rig!(lab, 4096);
    let mut ring = rig.open();
    refused(&rig.map);
    // The map is what counts, not the descriptor or the handle of the kernel.
    let kernel = lab.kernel();
    let by_id = Map::by_id(kernel, rig.map.id().unwrap(), OpenFlags::empty()).unwrap();
    refused(&by_id);
    let another = Kernel::from_arc(kernel.backend_arc());
    refused(&Map::from_fd(&another, rig.map.as_map_fd().as_fd().try_clone_to_owned().unwrap()).unwrap());

    rig.output(b"one");
    rig.output(b"two");
    assert!(ring.skip().unwrap());
    drop(ring);
    let mut ring: RingBuffer = by_id.typed().unwrap();
    refused(&rig.map);
    assert_eq!(&*ring.next().unwrap().unwrap(), b"two", "the next reader goes on where the last one stopped");
    let other = rig!(lab, 4096);
    assert!(other.map.typed::<RingBuffer>().is_ok(), "other maps are free");

    // The memory outlives every handle but the reader.
    let producer = rig.producer.clone();
    producer.output(b"three", NONE).unwrap();
    drop((rig, by_id));
    assert_eq!(&*ring.next().unwrap().unwrap(), b"three");
}

pub(super) fn opened(lab: &dyn Lab) {
    let rig = rig!(lab, 4096);
    let kernel = lab.kernel();
    let path = pin_path(kernel, "ring");
    rig.map.pin(&path).unwrap();
    let pinned = Map::open_pinned(kernel, &path, OpenFlags::empty());
    kernel.backend().unpin(&path).unwrap();
    let pinned = pinned.unwrap();
    rig.output(b"pinned");
    {
        let mut ring: RingBuffer = pinned.typed().unwrap();
        assert_eq!(ring.as_map().name(), "ring");
        assert_eq!(&*ring.next().unwrap().unwrap(), b"pinned");
    }
    let read_only = Map::by_id(kernel, rig.map.id().unwrap(), OpenFlags::RDONLY).unwrap();
    let error = read_only.typed::<RingBuffer>().unwrap_err();
    assert_eq!(error.kind(), MapErrorKind::Denied, "{error}");
    assert_eq!(rig.open().next().unwrap().map(|record| record.len()), None);

    let hash = Map::create(kernel, &MapCreate::new(MapType::HASH, 4, 4, 1)).unwrap();
    let error = hash.typed::<RingBuffer>().unwrap_err();
    let id = hash.id().unwrap();
    let text = format!("map with id {id} is of type hash, and RingBuffer takes ringbuf");
    assert_eq!(error.to_string(), text, "it has no name");
    assert_eq!(hash.typed::<UserRingBuffer>().unwrap_err().kind(), MapErrorKind::Mismatch);
    assert_eq!(hash.as_map_fd().ring().unwrap_err().errno(), Some(Errno::EINVAL));
}

pub(super) fn other_mappings(lab: &dyn Lab) {
    let rig = rig!(lab, 4096);
    let map = rig.map.as_map_fd();
    let page = lab.kernel().page_size() as usize;
    let all = (page as u64, page + 2 * 4096);
    let errno = |map: &MapFd, (offset, len), writable| {
        map.mmap(offset, len, writable).map(drop).map_err(|error| error.errno())
    };
    let mut ring = rig.open();
    // Whoever could move the consumer's position could let the kernel write over what is lent.
    assert_eq!(errno(map, (0, page), true), Err(Some(Errno::EBUSY)));
    assert!(errno(map, all, true).is_err());
    rig.output(b"one");
    assert_eq!(map.mmap(all.0, all.1, false).unwrap().load_u64(0), Ok(16));
    assert!(ring.skip().unwrap());
    assert_eq!(map.mmap(0, page, false).unwrap().load_u64(0), Ok(16));
    drop(ring);
    assert_eq!(errno(map, all, true), Err(Some(Errno::EPERM)), "programs write there");
    if let Some(rig) = lab.user_ring(4096) {
        let map = rig.map.as_map_fd();
        let ring = rig.open();
        assert_eq!(errno(map, all, true), Err(Some(Errno::EBUSY)));
        assert_eq!(errno(map, all, false), Err(Some(Errno::EBUSY)));
        assert_eq!(map.mmap(0, page, false).unwrap().load_u64(0), Ok(0));
        drop(ring);
        assert_eq!(errno(map, (0, page), true), Err(Some(Errno::EPERM)), "programs write there");
    }
}

use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use skep::map::{Array, HashMap, KINDS, Map, MapErrorKind, MapOperation, PerCpuArray, PerCpuHashMap};
use skep::sys::Kernel;
use skep::sys::abi::{Errno, MapId, MapType, OpenFlags};

use crate::support::pin_path;
use crate::support::time::eventually;

use super::{ANY, Triple, assert_error, map};

/// A view is refused for every map of another kind, another key size or another value size.
pub(super) fn shapes(kernel: &Kernel) {
    type Check = (&'static str, fn(&Map) -> Option<MapErrorKind>);
    macro_rules! check {
        ($name:literal, $view:ty) => {
            ($name, |map: &Map| map.typed::<$view>().err().map(|error| error.kind()))
        };
    }
    let checks: [Check; 4] = [
        check!("HashMap", HashMap<u32, Triple>),
        check!("Array", Array<Triple>),
        check!("PerCpuHashMap", PerCpuHashMap<u32, Triple>),
        check!("PerCpuArray", PerCpuArray<Triple>),
    ];
    assert!(KINDS.iter().all(|row| row.map_types.len() == row.since.len()));
    for row in KINDS.iter().filter(|row| checks.iter().any(|(view, _)| *view == row.view)) {
        for &map_type in row.map_types {
            let fits = map(kernel, map_type, 4, 12, 8);
            for (view, check) in checks {
                let want = (view != row.view).then_some(MapErrorKind::Mismatch);
                assert_eq!(check(&fits), want, "{view} of {map_type}");
            }
            let other_value = map(kernel, map_type, 4, 16, 8);
            assert!(checks.iter().all(|(_, check)| check(&other_value) == Some(MapErrorKind::Mismatch)));
        }
    }
    let other_key = map(kernel, MapType::HASH, 8, 12, 8);
    let error = other_key.typed::<HashMap<u32, Triple>>().unwrap_err();
    assert_eq!(error.to_string(), "map `under_test` has keys of 8 bytes, and the key type has 4");
    // The padded size of a CPU's value is not its size.
    let error = map(kernel, MapType::PERCPU_ARRAY, 4, 12, 8).typed::<PerCpuArray<[u8; 16]>>().unwrap_err();
    assert_eq!(error.to_string(), "map `under_test` has values of 12 bytes, and the value type has 16");
}

pub(super) fn handles(kernel: &Kernel) {
    let map = map(kernel, MapType::HASH, 4, 8, 16);
    let info = map.info().unwrap();
    assert_eq!((info.key_size, info.value_size, info.max_entries), (4, 8, 16));
    assert_eq!(info.name, "under_test");
    assert_eq!(map.id().unwrap(), info.id);
    assert_eq!((map.key_len(), map.value_len(), map.max_entries()), (4, 8, 16));

    let hash: HashMap<u32, u64> = map.typed().unwrap();
    hash.insert(&1, &5, ANY).unwrap();
    // Views and clones are of one map.
    let owned: HashMap<u32, u64> = map.clone().try_into().unwrap();
    drop(hash);
    assert_eq!(owned.get(&1).unwrap(), Some(5));
    assert_eq!(Map::from(owned).id().unwrap(), info.id);

    let path = pin_path(kernel, "maps");
    map.pin(&path).unwrap();
    let error = map.pin(&path).unwrap_err();
    assert_eq!((error.kind(), error.errno()), (MapErrorKind::Exists, Some(Errno::EEXIST)));
    let text = format!("cannot pin map `under_test` at {} (the path is taken)", path.display());
    assert_eq!(error.to_string(), text);
    let pinned = Map::open_pinned(kernel, &path, OpenFlags::empty()).unwrap();
    let read_only = Map::open_pinned(kernel, &path, OpenFlags::RDONLY).unwrap();
    kernel.backend().unpin(&path).unwrap();
    for other in [
        &pinned,
        &read_only,
        &Map::by_id(kernel, info.id, OpenFlags::empty()).unwrap(),
        &Map::from_fd(kernel, map.as_fd().try_clone_to_owned().unwrap()).unwrap(),
    ] {
        assert_eq!((other.name(), other.id().unwrap(), other.shape()), ("under_test", info.id, map.shape()));
        assert_eq!(other.typed::<HashMap<u32, u64>>().unwrap().get(&1).unwrap(), Some(5));
    }
    let refused = read_only.update(&[0; 4], &[0; 8], ANY);
    assert_error(refused, MapErrorKind::Denied, Some(Errno::EPERM));

    let error = Map::open_pinned(kernel, &path, OpenFlags::empty()).unwrap_err();
    assert_eq!(
        (error.kind(), error.map()),
        (MapErrorKind::NotFound, format!("at {}", path.display()).as_str())
    );
    let error = Map::by_id(kernel, MapId(u32::MAX - 1), OpenFlags::empty()).unwrap_err();
    assert_eq!(error.to_string(), "cannot open map with id 4294967294: there is none");
    let pipe: OwnedFd = std::io::pipe().unwrap().0.into();
    assert_eq!(Map::from_fd(kernel, pipe).unwrap_err().kind(), MapErrorKind::Invalid);

    // The last handle closes the map.
    let id = info.id;
    drop((map, pinned, read_only));
    // Old kernels let go of what a removed pin held only after a grace period of RCU; and a process that another test starts
    // meanwhile has all descriptors until it executes its program.
    let gone =
        || Map::by_id(kernel, id, OpenFlags::empty()).is_err_and(|e| e.kind() == MapErrorKind::NotFound);
    eventually(gone, || "the map outlives its handles and pins");
}

/// What is opened for one thing only can do only that.
pub(super) fn rights(kernel: &Kernel) {
    let map = map(kernel, MapType::HASH, 4, 8, 16);
    map.update(&[1; 4], &[1; 8], ANY).unwrap();
    let path = pin_path(kernel, "map_rights");
    map.pin(&path).unwrap();
    let open = |flags| Map::open_pinned(kernel, &path, flags);
    let (reader, writer) = (open(OpenFlags::RDONLY).unwrap(), open(OpenFlags::WRONLY).unwrap());
    let both = open(OpenFlags::RDONLY | OpenFlags::WRONLY);
    let unknown = open(OpenFlags::from_bits_retain(1 << 30));
    kernel.backend().unpin(&path).unwrap();
    let by_id = |flags| Map::by_id(kernel, map.id().unwrap(), flags);
    for opened in [both, unknown, by_id(OpenFlags::RDONLY | OpenFlags::WRONLY)] {
        assert_eq!(opened.unwrap_err().errno(), Some(Errno::EINVAL));
    }
    for (reader, writer) in
        [(reader, writer), (by_id(OpenFlags::RDONLY).unwrap(), by_id(OpenFlags::WRONLY).unwrap())]
    {
        let denied = |result| assert_error(result, MapErrorKind::Denied, Some(Errno::EPERM));
        assert_eq!(reader.lookup(&[1; 4]).unwrap(), Some(vec![1; 8]));
        assert_eq!(reader.keys().count(), 1);
        denied(reader.update(&[1; 4], &[2; 8], ANY));
        denied(reader.delete(&[1; 4]).map(drop));
        denied(writer.lookup(&[1; 4]).map(drop));
        denied(writer.next_key(None, &mut [0; 4]).map(drop));
        writer.update(&[1; 4], &[1; 8], ANY).unwrap();
        assert!(!writer.delete(&[2; 4]).unwrap());
    }
}

/// A map can be pinned at several places and again, and only where a bpffs is.
pub(super) fn pins(kernel: &Kernel) {
    let map = map(kernel, MapType::ARRAY, 4, 8, 1);
    let root = PathBuf::from("/sys/fs/bpf");
    let paths = ["map_pins_a", "map_pins_b"].map(|name| pin_path(kernel, name));
    let id = map.id().unwrap();
    for _ in 0..2 {
        for path in &paths {
            map.pin(path).unwrap();
        }
        for path in &paths {
            assert_error(map.pin(path), MapErrorKind::Exists, Some(Errno::EEXIST));
            assert_eq!(Map::open_pinned(kernel, path, OpenFlags::empty()).unwrap().id().unwrap(), id);
            kernel.backend().unpin(path).unwrap();
            assert_eq!(kernel.backend().unpin(path), Err(Errno::ENOENT));
        }
    }
    let errno = |path: PathBuf| map.pin(path).unwrap_err().errno();
    assert_eq!(errno(PathBuf::new()), Some(Errno::ENOENT));
    assert_eq!(errno(root.join("skep_no_such_directory").join("map")), Some(Errno::ENOENT));
    assert_eq!(errno(root.join("skep.dot")), Some(Errno::EPERM));
    let elsewhere = std::env::temp_dir().join(format!("skep_map_pins_{}", std::process::id()));
    let error = map.pin(&elsewhere).unwrap_err();
    assert!(error.to_string().contains("no bpffs") && !elsewhere.exists(), "{error}");
}

pub(super) fn frozen(kernel: &Kernel) {
    let map = map(kernel, MapType::ARRAY, 4, 8, 2);
    let array: Array<u64> = map.typed().unwrap();
    array.set(0, &3, ANY).unwrap();
    map.freeze().unwrap();
    assert_eq!(array.get(0).unwrap(), Some(3));
    let error = array.set(0, &4, ANY).unwrap_err();
    assert_eq!((error.kind(), error.errno()), (MapErrorKind::Denied, Some(Errno::EPERM)));
    assert_eq!(
        error.to_string(),
        "cannot update an element of map `under_test`: it is frozen or opened for reading, or the process lacks \
         the right"
    );
    // Linux 6.1 says that it is busy, 6.18 that it may not be written.
    let again = map.freeze().unwrap_err();
    assert!(matches!(again.kind(), MapErrorKind::Denied | MapErrorKind::Busy), "{again}");
    assert!(again.hint().is_some_and(|hint| hint.starts_with("it is frozen already")), "{again}");
}

/// Queues have values and no keys.
pub(super) fn without_keys(kernel: &Kernel) {
    let queue = map(kernel, MapType::QUEUE, 0, 4, 2);
    let mut value = [0; 4];
    assert!(!queue.lookup_and_delete(&[], &mut value, ANY).unwrap());
    queue.update(&[], &[1, 2, 3, 4], ANY).unwrap();
    queue.update(&[], &[5, 6, 7, 8], ANY).unwrap();
    assert_error(queue.update(&[], &[9; 4], ANY), MapErrorKind::Full, Some(Errno::E2BIG));
    assert!(queue.lookup_into(&[], &mut value, ANY).unwrap());
    assert_eq!(value, [1, 2, 3, 4]);
    assert!(queue.lookup_and_delete(&[], &mut value, ANY).unwrap());
    assert!(queue.lookup_and_delete(&[], &mut value, ANY).unwrap());
    assert_eq!(value, [5, 6, 7, 8]);
    let mut keys = queue.keys();
    let error = keys.next().unwrap().unwrap_err();
    assert!(
        matches!(error, skep::map::MapError::Failed { operation: MapOperation::NextKey, .. }),
        "{error:?}"
    );
    assert!(keys.next().is_none());
}

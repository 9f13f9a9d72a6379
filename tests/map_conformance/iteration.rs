use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use skep::map::{HashMap, MapErrorKind};
use skep::sys::Kernel;
use skep::sys::abi::MapType;

use super::{ANY, map, patiently, roomy};

/// All elements come, once each.
pub(super) fn complete(kernel: &Kernel) {
    let hash: HashMap<u8, u32> = map(kernel, MapType::HASH, 1, 4, 256).typed().unwrap();
    assert!(hash.keys().next().is_none());
    assert!(hash.iter().next().is_none());
    for key in 0..=255 {
        hash.insert(&key, &(u32::from(key) * 3), ANY).unwrap();
    }
    let keys: Vec<u8> = hash.keys().collect::<Result<_, _>>().unwrap();
    assert_eq!(keys.len(), 256);
    assert_eq!(BTreeSet::from_iter(keys).len(), 256);
    let elements: BTreeSet<(u8, u32)> = hash.iter().collect::<Result<_, _>>().unwrap();
    assert_eq!(elements, (0..=255).map(|key| (key, u32::from(key) * 3)).collect());
    let sum: u32 = hash.values().map(Result::unwrap).sum();
    assert_eq!(sum, 3 * (0..=255).sum::<u32>());

    let mut keys = hash.as_map().keys();
    assert_eq!(keys.by_ref().map(Result::unwrap).collect::<BTreeSet<_>>().len(), 256);
    assert!(keys.next().is_none());
}

/// A loop may remove each key that it is given.
pub(super) fn emptying(kernel: &Kernel) {
    for map_type in [MapType::HASH, MapType::LRU_HASH, MapType::PERCPU_HASH] {
        let map = map(kernel, map_type, 4, 8, roomy(kernel, 300) as u32);
        let value = vec![7; map.value_len()];
        for key in 0..300u32 {
            map.update(&key.to_ne_bytes(), &value, ANY).unwrap();
        }
        let mut seen = 0;
        for key in map.keys() {
            assert!(map.delete(&key.unwrap()).unwrap());
            seen += 1;
        }
        assert_eq!(seen, 300);
        assert!(map.keys().next().is_none());
    }
}

/// Whatever is removed and added, iteration ends after as many keys as the map can hold.
pub(super) fn ends(kernel: &Kernel) {
    let mut aborted = 0;
    for _ in 0..16 {
        let hash: HashMap<u32, u32> = map(kernel, MapType::HASH, 4, 4, 32).typed().unwrap();
        hash.insert(&1, &1, ANY).unwrap();
        hash.insert(&2, &2, ANY).unwrap();
        let mut keys = hash.keys();
        let mut given = Vec::new();
        let end = loop {
            // The key ahead is one of these: gone when the one after it is looked for, and there again later.
            let other = if given.last() == Some(&1) { 2 } else { 1 };
            if !given.is_empty() {
                hash.remove(&other).unwrap();
            }
            match keys.next() {
                Some(Ok(key)) => given.push(key),
                end => break end,
            }
            hash.insert(&other, &other, ANY).unwrap();
        };
        assert!(given.len() <= 32, "{given:?}");
        assert!(keys.next().is_none());
        if let Some(Err(error)) = end {
            assert_eq!(error.kind(), MapErrorKind::IterationAborted);
            assert_eq!(
                error.to_string(),
                "keys of map `under_test` were removed while it was iterated: it began anew after 32 keys"
            );
            aborted += 1;
        }
    }
    // Where both keys are in one bucket, the new element of the kernel comes first and iteration just ends.
    assert!(aborted > 0);
}

/// Iterating beside a thread that adds and removes ends, and gives nothing that is not there. The keys that stay come too,
/// but not in every pass: Linux misses some when the element that it stands on is used again elsewhere meanwhile.
pub(super) fn among_threads(kernel: &Kernel) {
    let hash: HashMap<u32, u32> = map(kernel, MapType::HASH, 4, 4, 512).typed().unwrap();
    for key in 0..50 {
        hash.insert(&key, &key, ANY).unwrap();
    }
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let hash = &hash;
        let done = &done;
        let _stop = Stop(done);
        scope.spawn(move || {
            while !done.load(Ordering::Relaxed) {
                for key in 1000..1100 {
                    patiently(|| hash.insert(&key, &key, ANY)).unwrap();
                }
                for key in 1000..1100 {
                    patiently(|| hash.remove(&key)).unwrap();
                }
            }
        });
        let begin = Instant::now();
        let mut complete = 0;
        for pass in 0.. {
            if pass >= 200 && complete > 0 {
                break;
            }
            assert!(
                begin.elapsed() < Duration::from_secs(60),
                "{pass} passes, none of which gave all that stay"
            );
            let mut seen = BTreeSet::new();
            let mut given = 0;
            let mut aborted = false;
            for element in hash {
                match element {
                    Ok((key, value)) => {
                        // Of a key that was removed meanwhile the value can be another's.
                        assert!(key == value || key >= 1000, "{key}: {value}");
                        seen.insert(key);
                        given += 1;
                    }
                    Err(error) => {
                        assert_eq!(error.kind(), MapErrorKind::IterationAborted, "{error}");
                        aborted = true;
                    }
                }
            }
            assert!(given <= 512);
            if !aborted && (0..50).all(|key| seen.contains(&key)) {
                complete += 1;
            }
        }
    });
}

/// Ends the other thread, also when this one panics.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

//! Calls with many elements of a map.

use skep_sys::abi::{Errno, MapFlags, MapType, UpdateFlags};
use skep_sys::{BatchCursor, BatchError, Kernel, MapFd};

use super::{Outcome, Script, create};

const NONE: MapFlags = MapFlags::empty();

pub(super) fn all(kernel: &Kernel, lines: &mut Vec<String>) {
    hash(Script::new(kernel, "batches of hash", lines), MapType::HASH, NONE);
    hash(Script::new(kernel, "batches of hash(NO_PREALLOC)", lines), MapType::HASH, MapFlags::NO_PREALLOC);
    hash(Script::new(kernel, "batches of percpu_hash", lines), MapType::PERCPU_HASH, NONE);
    hash(Script::new(kernel, "batches of lru_hash", lines), MapType::LRU_HASH, NONE);
    array(Script::new(kernel, "batches of array", lines), MapType::ARRAY, NONE);
    array(Script::new(kernel, "batches of array(MMAPABLE)", lines), MapType::ARRAY, MapFlags::MMAPABLE);
    array(Script::new(kernel, "batches of percpu_array", lines), MapType::PERCPU_ARRAY, NONE);
    trie(Script::new(kernel, "batches of lpm_trie", lines));
    access(Script::new(kernel, "batches of hash(RDONLY)", lines), MapFlags::RDONLY);
    access(Script::new(kernel, "batches of hash(WRONLY)", lines), MapFlags::WRONLY);
    without(Script::new(kernel, "batches of queue", lines), MapType::QUEUE, [0, 4, 4]);
    without(Script::new(kernel, "batches of bloom_filter", lines), MapType::BLOOM_FILTER, [0, 4, 4]);
    without(Script::new(kernel, "batches of prog_array", lines), MapType::PROG_ARRAY, [4, 4, 4]);
    without(Script::new(kernel, "batches of devmap", lines), MapType::DEVMAP, [4, 4, 4]);
    without(Script::new(kernel, "batches of cpumap", lines), MapType::CPUMAP, [4, 4, 4]);
    without(Script::new(kernel, "batches of stack_trace", lines), MapType::STACK_TRACE, [4, 8, 4]);
}

struct Count(Result<u32, BatchError>);

impl Outcome for Count {
    fn text(self) -> String {
        match self.0 {
            Ok(count) => format!("ok:{count}"),
            Err(error) => format!("{}:{}", error.error.text(), error.done),
        }
    }
}

/// Batches of elements whose keys and values are numbers.
struct Many<'a>(&'a MapFd);

impl Many<'_> {
    fn update(&self, keys: &[u32], flags: u64) -> Count {
        let value = |key: &u32| {
            let mut value = key.to_ne_bytes().to_vec();
            value.resize(self.0.value_len(), 0);
            value
        };
        let values: Vec<u8> = keys.iter().flat_map(value).collect();
        Count(self.0.update_batch(&self.keys(keys), &values, UpdateFlags::from_bits_retain(flags)))
    }

    fn delete(&self, keys: &[u32]) -> Count {
        Count(self.0.delete_batch(&self.keys(keys)))
    }

    /// Keys have the number in their last four bytes.
    fn keys(&self, keys: &[u32]) -> Vec<u8> {
        let key = |key: &u32| {
            let mut bytes = vec![0; self.0.key_len().saturating_sub(4)];
            bytes.extend(key.to_ne_bytes());
            bytes.truncate(self.0.key_len());
            bytes
        };
        keys.iter().flat_map(key).collect()
    }

    fn read(&self, cursor: &mut BatchCursor, count: usize, flags: u64, take: bool) -> (Count, Vec<u8>) {
        let mut keys = vec![0; count * self.0.key_len()];
        let mut values = vec![0; count * self.0.value_len()];
        let flags = UpdateFlags::from_bits_retain(flags);
        let answer = match take {
            false => self.0.lookup_batch(cursor, &mut keys, &mut values, flags),
            true => self.0.lookup_and_delete_batch(cursor, &mut keys, &mut values, flags),
        };
        let done = *answer.as_ref().unwrap_or_else(|error| &error.done) as usize;
        keys.truncate(done * self.0.key_len());
        (Count(answer), keys)
    }

    fn first(&self, count: usize, flags: u64, take: bool) -> Count {
        self.read(&mut BatchCursor::new(self.0), count, flags, take).0
    }
}

fn hash(mut s: Script<'_>, map_type: MapType, flags: MapFlags) {
    let map = create(s.kernel, map_type, [4, 8, 512], flags);
    let m = Many(&map);
    s.row("lookup of none there", m.first(4, 0, false));
    s.row("lookup_and_delete of none there", m.first(4, 0, true));
    s.row("update 3", m.update(&[1, 2, 3], 0));
    s.row("update no elements", m.update(&[], 0));
    for flags in [1, 2, 3, 4, 8, 1 << 32] {
        s.row(&format!("update elem_flags={flags:#x}"), m.update(&[1, 4], flags));
    }
    s.row("lookup 512", m.first(512, 0, false));
    s.row("lookup no elements", m.first(0, 0, false));
    for flags in [1, 2, 4, 1 << 32] {
        s.row(&format!("lookup elem_flags={flags:#x}"), m.first(512, flags, false));
    }
    s.row("delete present and missing", m.delete(&[1, 99, 2]));
    s.row("lookup what is left", m.first(512, 0, false));
    s.row("lookup_and_delete elem_flags=1", m.first(512, 1, true));
    s.row("lookup_and_delete", m.first(512, 0, true));
    s.row("lookup after it", m.first(512, 0, false));
    if map_type != MapType::LRU_HASH {
        let many: Vec<u32> = (0..600).collect();
        s.row("update more than fit", m.update(&many, 0));
        let mut cursor = BatchCursor::new(&map);
        let mut seen = std::collections::BTreeSet::new();
        let mut rounds = 0;
        let end = loop {
            let (answer, keys) = m.read(&mut cursor, 64, 0, false);
            seen.extend(keys.chunks_exact(4).map(<[u8]>::to_vec));
            rounds += 1;
            match answer.0 {
                Ok(count) if count > 0 && count <= 64 && rounds < 600 => {}
                Ok(count) => break format!("ok:{count}"),
                Err(error) => break error.error.text(),
            }
        };
        s.row("lookup by 64 ends with", end);
        s.row("and has given", seen.len());
        // Room for one element is too little for buckets with more of them, of which there are some.
        let mut cursor = BatchCursor::new(&map);
        let end = loop {
            match m.read(&mut cursor, 1, 0, false).0.0 {
                Ok(1) => {}
                Ok(count) => break format!("ok:{count}"),
                Err(error) => break format!("{}:{}", error.error.text(), error.done),
            }
        };
        s.row("lookup by 1 ends with", end);
    }
    s.row("freeze", map.freeze());
    s.row("update after freeze", m.update(&[1], 0));
    s.row("delete after freeze", m.delete(&[1]));
    s.row("lookup_and_delete after freeze", m.first(512, 0, true));
}

fn array(mut s: Script<'_>, map_type: MapType, flags: MapFlags) {
    let map = create(s.kernel, map_type, [4, 8, 4], flags);
    let m = Many(&map);
    s.row("update 2", m.update(&[1, 3], 0));
    s.row("update past the end", m.update(&[0, 9, 1], 0));
    s.row("update elem_flags=1", m.update(&[0], 1));
    let mut cursor = BatchCursor::new(&map);
    for _ in 0..4 {
        let (answer, keys) = m.read(&mut cursor, 2, 0, false);
        s.row("lookup by 2", answer);
        s.row("keys", keys);
    }
    s.row("lookup all", m.first(4, 0, false));
    s.row("lookup more", m.first(5, 0, false));
    s.row("lookup no elements", m.first(0, 0, false));
    cursor.set_position(&99u32.to_ne_bytes());
    s.row("lookup from past the end", m.read(&mut cursor, 4, 0, false).0);
    s.row("lookup elem_flags=4", m.first(4, 4, false));
    s.row("lookup_and_delete", m.first(4, 0, true));
    s.row("delete", m.delete(&[1]));
}

fn trie(mut s: Script<'_>) {
    let map = create(s.kernel, MapType::LPM_TRIE, [8, 8, 4], MapFlags::NO_PREALLOC);
    let key = |bits: u32, net: u8| [bits.to_ne_bytes(), [net, 0, 0, 0]].concat();
    let keys = [key(8, 10), key(16, 10), key(33, 1), key(0, 0)].concat();
    let any = UpdateFlags::empty();
    s.row("update 3 of which one is wrong", Count(map.update_batch(&keys[..24], &[7; 24], any)));
    s.row("lookup", Many(&map).first(4, 0, false));
    s.row("lookup_and_delete", Many(&map).first(4, 0, true));
    s.row("delete", Count(map.delete_batch(&keys[..8])));
    s.row("delete again", Count(map.delete_batch(&keys[..8])));
}

fn access(mut s: Script<'_>, flags: MapFlags) {
    let map = create(s.kernel, MapType::HASH, [4, 8, 4], flags);
    let m = Many(&map);
    s.row("update", m.update(&[1], 0));
    s.row("lookup", m.first(4, 0, false));
    s.row("lookup_and_delete", m.first(4, 0, true));
    s.row("delete", m.delete(&[1]));
}

/// Kinds that have none.
fn without(mut s: Script<'_>, map_type: MapType, shape: [u32; 3]) {
    if super::lacks(s.kernel, map_type.name().unwrap_or_default()) {
        return;
    }
    let map = create(s.kernel, map_type, shape, NONE);
    let m = Many(&map);
    let count = usize::from(map.key_len() > 0);
    let values = vec![0; count * map.value_len()];
    s.row("lookup", m.first(count, 0, false));
    s.row("lookup_and_delete", m.first(count, 0, true));
    let update = map.update_batch(&m.keys(&vec![0; count]), &values, UpdateFlags::empty());
    s.row("update", Count(update));
    s.row("delete", m.delete(&vec![0; count]));
    s.row("a cursor of another length", {
        let other = create(s.kernel, MapType::LPM_TRIE, [8, 8, 4], MapFlags::NO_PREALLOC);
        let mut cursor = BatchCursor::new(&other);
        let answer = m.read(&mut cursor, count, 0, false).0;
        answer.0.err().and_then(|error| error.errno()).unwrap_or(Errno(0)).0.to_string()
    });
}

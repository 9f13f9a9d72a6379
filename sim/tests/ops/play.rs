//! Operations on one map of a kernel, and their results as text.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::os::fd::AsFd;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use skep_asm::Endian;
use skep_btf::{BtfBuilder, BtfError, IntEncoding};
use skep_sys::abi::{Errno, MapType, OpenFlags, UpdateFlags};
use skep_sys::request::{MapBtf, MapCreate};
use skep_sys::{BatchCursor, BatchError, BtfFd, Kernel, MapError, MapFd, SharedMemory};

use super::objects::Objects;
use super::{Key, Op, Spec, Types, Value};

/// The result of an operation that cannot be tried here.
pub(crate) const NOT_HERE: &str = "not here";
/// The result of one of which more than one is right.
pub(crate) const EITHER: &str = "either";

/// A map and what belongs to it.
pub(crate) struct World {
    kernel: Kernel,
    spec: Spec,
    pub(crate) objects: Objects,
    map: MapFd,
    memory: Option<SharedMemory>,
    /// The values that a filter was given.
    pushed: BTreeSet<Vec<u8>>,
}

fn errno(errno: Errno) -> String {
    errno.name().map_or_else(|| errno.0.to_string(), str::to_owned)
}

fn error(error: MapError) -> String {
    error.errno().map_or_else(|| error.to_string(), errno)
}

/// Bytes that follow from a number.
pub(crate) fn pattern(number: u32, len: usize) -> Vec<u8> {
    let mut state = u64::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0xd1b5_4a32_d192_ed03;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 24) as u8
    };
    (0..len).map(|_| next()).collect()
}

/// Bytes, or what stands for them where there are many.
fn show(bytes: &[u8]) -> String {
    let mut text = String::new();
    if bytes.len() <= 40 {
        for byte in bytes {
            write!(text, "{byte:02x}").expect("a string");
        }
        return text;
    }
    let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("~{hash:016x}")
}

fn types(kernel: &Kernel, spec: &Spec) -> Result<Option<(BtfFd, u32, u32)>, BtfError> {
    if spec.types == Types::None {
        return Ok(None);
    }
    let mut builder = BtfBuilder::new();
    let int = builder.add_int("int", 4, IntEncoding::SIGNED)?;
    let byte = builder.add_int("char", 1, IntEncoding::SIGNED)?;
    let key = if spec.key == 4 {
        int
    } else {
        let bytes = builder.add_array(byte, int, spec.key)?;
        let key = builder.add_struct("key", spec.key)?;
        builder.add_member("bytes", bytes, 0, 0)?;
        key
    };
    let value = if spec.types == Types::Plain && spec.value == 4 {
        int
    } else if spec.types == Types::Plain {
        let bytes = builder.add_array(byte, int, spec.value)?;
        let value = builder.add_struct("value", spec.value)?;
        builder.add_member("bytes", bytes, 0, 0)?;
        value
    } else {
        let lock = builder.add_struct("bpf_spin_lock", 4)?;
        builder.add_member("val", int, 0, 0)?;
        let bytes = builder.add_array(byte, int, spec.value.saturating_sub(4))?;
        let value = builder.add_struct("value", spec.value)?;
        builder.add_member("lock", lock, 0, 0)?;
        builder.add_member("bytes", bytes, 32, 0)?;
        value
    };
    let btf = kernel.btf_load(&builder.encode(Endian::NATIVE, false), None);
    Ok(btf.ok().map(|btf| (btf, key.0, value.0)))
}

/// Makes a map: the world in which it is, or why there is none.
pub(crate) fn make(kernel: &Kernel, spec: &Spec) -> (String, Option<World>) {
    let mut objects = Objects::new(kernel);
    let mut request = MapCreate::new(spec.kind, spec.key, spec.value, spec.max);
    request.flags = spec.flags;
    request.map_extra = spec.extra;
    let types = types(kernel, spec).expect("types");
    request.btf = types.as_ref().map(|(btf, key, value)| MapBtf {
        btf: btf.as_fd(),
        key_type: *key,
        value_type: *value,
    });
    if spec.types != Types::None && types.is_none() {
        return (NOT_HERE.to_owned(), None);
    }
    if let Some(inner) = spec.inner {
        request.inner_map = objects.fd(inner);
        if request.inner_map.is_none() {
            return (NOT_HERE.to_owned(), None);
        }
    }
    match kernel.map_create(&request) {
        Err(failed) => (errno(failed), None),
        Ok(map) => {
            let (kernel, spec) = (kernel.clone(), spec.clone());
            let world = World { kernel, spec, objects, map, memory: None, pushed: BTreeSet::new() };
            ("ok".to_owned(), Some(world))
        }
    }
}

impl World {
    fn key(&mut self, key: &Key) -> Vec<u8> {
        match key {
            Key::None => Vec::new(),
            Key::Bytes(bytes) => bytes.clone(),
            Key::Object(name) => self.objects.number(name).to_ne_bytes().to_vec(),
        }
    }

    fn value(&mut self, value: &Value, flags: UpdateFlags) -> Vec<u8> {
        let len = self.map.value_len_with(flags);
        match value {
            Value::Bytes(number) => pattern(*number, len),
            Value::Object(name) => {
                let number = self.objects.number(name);
                let mut bytes = if len == 8 && Objects::is_outside(name) {
                    i64::from(number).to_ne_bytes().to_vec()
                } else {
                    number.to_ne_bytes().to_vec()
                };
                bytes.resize(len, 0);
                bytes
            }
            Value::Word(number, prog) => {
                let prog = prog.map_or(0, |name| self.objects.number(name));
                let mut bytes = [number.to_ne_bytes(), prog.to_ne_bytes()].concat();
                bytes.resize(len, 0);
                bytes
            }
        }
    }

    /// A value that was read, with names in place of ids.
    fn show(&self, value: &[u8]) -> String {
        let word = |at: usize| value.get(at..at + 4).and_then(|b| b.try_into().ok()).map(u32::from_ne_bytes);
        let of_maps = matches!(self.spec.kind, MapType::ARRAY_OF_MAPS | MapType::HASH_OF_MAPS);
        let named = |id: Option<u32>| match id {
            Some(0) | None => String::new(),
            Some(id) if of_maps => format!("@{}", self.objects.map_with_id(id).unwrap_or("?")),
            Some(id) => format!("@{}", self.objects.program_with_id(id).unwrap_or("?")),
        };
        match self.spec.kind {
            MapType::PROG_ARRAY | MapType::ARRAY_OF_MAPS | MapType::HASH_OF_MAPS => named(word(0)),
            MapType::DEVMAP | MapType::DEVMAP_HASH | MapType::CPUMAP => {
                format!("{}{}", word(0).unwrap_or_default(), named(word(4)))
            }
            MapType::SOCKMAP | MapType::SOCKHASH | MapType::REUSEPORT_SOCKARRAY => {
                let cookie = value.try_into().map_or(0, u64::from_ne_bytes);
                format!("@{}", self.objects.with_cookie(cookie).unwrap_or("?"))
            }
            _ => show(value),
        }
    }

    fn found(&self, value: &[u8]) -> String {
        format!("ok:{}", self.show(value))
    }

    /// Plays an operation.
    pub(crate) fn play(&mut self, op: &Op) -> String {
        let bits = UpdateFlags::from_bits_retain;
        let done = |result: Result<(), MapError>| result.map_or_else(error, |()| "ok".to_owned());
        match op {
            Op::Lookup(key, flags) => self.lookup(key, bits(*flags)),
            Op::Update(key, value, flags) => self.update(key, value, bits(*flags)),
            Op::Delete(key) => {
                if !self.has(key) {
                    return NOT_HERE.to_owned();
                }
                let key = self.key(key);
                done(self.map.delete(&key))
            }
            Op::Next(key) => self.next(key),
            Op::Take(key, flags) => {
                let key = self.key(key);
                let mut value = vec![0xee; self.map.value_len_with(bits(*flags))];
                match self.map.lookup_and_delete(&key, &mut value, bits(*flags)) {
                    Ok(()) => self.found(&value),
                    Err(failed) => error(failed),
                }
            }
            Op::Keys => self.keys(),
            Op::LookupAll(count, flags) => self.all(*count, bits(*flags), false),
            Op::TakeAll(count, flags) => self.all(*count, bits(*flags), true),
            Op::LookupBatch(count, flags) => {
                let mut cursor = BatchCursor::new(&self.map);
                self.batch(&mut cursor, *count, bits(*flags), false).0
            }
            Op::UpdateBatch(elements, flags) => self.update_batch(elements, bits(*flags)),
            Op::DeleteBatch(keys) => {
                let keys: Vec<u8> = keys.iter().flat_map(|key| self.key(key)).collect();
                counted(self.map.delete_batch(&keys))
            }
            Op::Freeze => done(self.map.freeze()),
            Op::Info => match self.map.info() {
                Err(failed) => error(failed),
                Ok(info) => format!(
                    "ok:{} {} {} {} {:#x} {}",
                    info.map_type,
                    info.key_size,
                    info.value_size,
                    info.max_entries,
                    info.flags.bits(),
                    info.map_extra
                ),
            },
            Op::Poll => {
                let mut fds = [PollFd::new(self.map.as_fd(), PollFlags::POLLIN | PollFlags::POLLOUT)];
                match poll(&mut fds, PollTimeout::ZERO) {
                    Ok(0) => "none".to_owned(),
                    Ok(_) => format!("{:#x}", fds[0].revents().map_or(0, |events| events.bits())),
                    Err(failed) => format!("{failed:?}"),
                }
            }
            Op::Map(offset, len, write) => done(self.map.mmap(*offset, *len as usize, *write).map(drop)),
            Op::Hold(len, write) => match self.map.mmap(0, *len as usize, *write) {
                Ok(memory) => {
                    self.memory = Some(memory);
                    "ok".to_owned()
                }
                Err(failed) => error(failed),
            },
            Op::Poke(offset, byte) => match &self.memory {
                None => "no memory".to_owned(),
                Some(memory) => match memory.write(*offset as usize, &[*byte]) {
                    Ok(()) => "ok".to_owned(),
                    Err(_) => "refused".to_owned(),
                },
            },
            Op::Peek(offset, len) => match &self.memory {
                None => "no memory".to_owned(),
                Some(memory) => {
                    let mut bytes = vec![0; *len as usize];
                    match memory.read(*offset as usize, &mut bytes) {
                        Ok(()) => format!("ok:{}", show(&bytes)),
                        Err(_) => "refused".to_owned(),
                    }
                }
            },
            Op::Drop => {
                self.memory = None;
                "ok".to_owned()
            }
            Op::Reopen(flags) => {
                let id = self.map.info().map(|info| info.id);
                let opened = id.map_err(error).and_then(|id| {
                    self.kernel.map_by_id(id, OpenFlags::from_bits_retain(*flags)).map_err(errno)
                });
                match opened {
                    Ok(map) => {
                        self.map = map;
                        "ok".to_owned()
                    }
                    Err(failed) => failed,
                }
            }
        }
    }

    /// Whether what a key stands for can be had here.
    fn has(&mut self, key: &Key) -> bool {
        match key {
            Key::Object(name) => *name == "bad" || self.objects.fd(name).is_some(),
            _ => true,
        }
    }

    fn has_value(&mut self, value: &Value) -> bool {
        match value {
            Value::Object(name) | Value::Word(_, Some(name)) => self.has(&Key::Object(name)),
            _ => true,
        }
    }

    fn lookup(&mut self, key: &Key, flags: UpdateFlags) -> String {
        if !self.has(key) {
            return NOT_HERE.to_owned();
        }
        let bloom = self.spec.kind == MapType::BLOOM_FILTER;
        // A filter is asked with the value, which stands in place of the key.
        let mut value = match key {
            Key::Bytes(bytes) if bloom => bytes.clone(),
            _ => vec![0xee; self.map.value_len_with(flags)],
        };
        let key = if bloom { Vec::new() } else { self.key(key) };
        // It may claim to hold what it does not.
        let unsure = bloom && !self.pushed.is_empty() && !self.pushed.contains(&value);
        match self.map.lookup(&key, &mut value, flags) {
            Ok(()) if unsure => EITHER.to_owned(),
            Err(MapError::Kernel { errno: Errno::ENOENT, .. }) if unsure => EITHER.to_owned(),
            Ok(()) => self.found(&value),
            Err(failed) => error(failed),
        }
    }

    fn update(&mut self, key: &Key, value: &Value, flags: UpdateFlags) -> String {
        if !self.has(key) || !self.has_value(value) {
            return NOT_HERE.to_owned();
        }
        let key = self.key(key);
        let bytes = self.value(value, flags);
        let map = &self.map;
        let result = match value {
            Value::Object(name) if Objects::is_outside(name) => {
                let fd = self.objects.fd(name).expect("it was made");
                map.update_fd(&key, fd, flags)
            }
            _ => map.update(&key, &bytes, flags),
        };
        if result.is_ok() && self.spec.kind == MapType::BLOOM_FILTER {
            self.pushed.insert(bytes);
        }
        result.map_or_else(error, |()| "ok".to_owned())
    }

    fn next(&mut self, key: &Key) -> String {
        let bytes = match key {
            Key::None => None,
            key => Some(self.key(key)),
        };
        let mut next = vec![0; self.map.key_len()];
        let result = self.map.next_key(bytes.as_deref(), &mut next);
        if !self.spec.is_unordered() {
            return result.map_or_else(error, |()| format!("ok:{}", show(&next)));
        }
        // Which one it is depends on the order, and for one that is there, also whether there is one.
        let mut found = vec![0; self.map.value_len()];
        let is_there = bytes.is_some_and(|bytes| {
            self.map.lookup(&bytes, &mut found, UpdateFlags::empty()).is_ok()
                || self.spec.kind == MapType::SOCKHASH
        });
        match result {
            Ok(()) if !is_there => "ok".to_owned(),
            Ok(()) => EITHER.to_owned(),
            Err(failed) if is_there && failed.errno() == Some(Errno::ENOENT) => EITHER.to_owned(),
            Err(failed) => error(failed),
        }
    }

    fn keys(&mut self) -> String {
        let mut keys: Vec<Vec<u8>> = Vec::new();
        let end = loop {
            let mut next = vec![0; self.map.key_len()];
            match self.map.next_key(keys.last().map(Vec::as_slice), &mut next) {
                Ok(()) if keys.len() < 5000 => keys.push(next),
                Ok(()) => break "no end".to_owned(),
                Err(failed) => break error(failed),
            }
        };
        if self.spec.is_unordered() {
            keys.sort();
        }
        let keys: Vec<String> = keys.iter().map(|key| show(key)).collect();
        format!("{} {end}", keys.join(",")).trim_start().to_owned()
    }

    /// One call: the result, whether to go on, and the elements.
    fn batch(
        &mut self,
        cursor: &mut BatchCursor,
        count: u32,
        flags: UpdateFlags,
        take: bool,
    ) -> (String, Result<u32, BatchError>, Vec<String>) {
        let key_len = self.map.key_len();
        let value_len = self.map.value_len_with(flags);
        let room = if key_len == 0 { 0 } else { count as usize };
        let (mut keys, mut values) = (vec![0; key_len * room], vec![0; value_len * room]);
        let result = if take {
            self.map.lookup_and_delete_batch(cursor, &mut keys, &mut values, flags)
        } else {
            self.map.lookup_batch(cursor, &mut keys, &mut values, flags)
        };
        let done = match &result {
            Ok(done) => *done,
            // What the kernel refuses as a whole says nothing of how much was done.
            Err(failed) if failed.errno() == Some(Errno::ENOENT) => failed.done,
            Err(_) => 0,
        };
        let pairs = keys.chunks(key_len.max(1)).zip(values.chunks(value_len.max(1))).take(done as usize);
        let elements: Vec<String> =
            pairs.map(|(key, value)| format!("{}={}", show(key), self.show(value))).collect();
        let end = match &result {
            Ok(_) => "ok".to_owned(),
            Err(failed) => failed.errno().map_or_else(|| failed.to_string(), errno),
        };
        (format!("{end} {}", elements.join(",")).trim_end().to_owned(), result, elements)
    }

    fn all(&mut self, count: u32, flags: UpdateFlags, take: bool) -> String {
        let mut cursor = BatchCursor::new(&self.map);
        let mut all = Vec::new();
        let mut count = count;
        let end = loop {
            let (_, result, elements) = self.batch(&mut cursor, count, flags, take);
            all.extend(elements);
            match result {
                // Some kinds end with a call that finds nothing.
                Ok(done) if done > 0 && all.len() < 5000 => {}
                Ok(_) => break "ok".to_owned(),
                Err(failed) if failed.errno() == Some(Errno::ENOSPC) && count < 4096 => count *= 2,
                Err(failed) => break failed.errno().map_or_else(|| failed.to_string(), errno),
            }
            if cursor.position().is_none() {
                break "ok".to_owned();
            }
        };
        if self.spec.is_unordered() {
            all.sort();
        }
        format!("{} {end}", all.join(",")).trim_start().to_owned()
    }

    fn update_batch(&mut self, elements: &[(Key, Value)], flags: UpdateFlags) -> String {
        if elements.iter().any(|(key, value)| !self.has(key) || !self.has_value(value)) {
            return NOT_HERE.to_owned();
        }
        let (mut keys, mut values) = (Vec::new(), Vec::new());
        for (key, value) in elements {
            keys.extend(self.key(key));
            values.extend(self.value(value, flags));
        }
        counted(self.map.update_batch(&keys, &values, flags))
    }

    /// Whether the map is one of those that keep what is used.
    pub(crate) fn is_lru(&self) -> bool {
        matches!(self.spec.kind, MapType::LRU_HASH | MapType::LRU_PERCPU_HASH)
    }
}

/// How many elements there were and how it ended. Where the kernel refuses the call as such, there is no number.
fn counted(result: Result<u32, BatchError>) -> String {
    match result {
        Ok(done) => format!("ok {done}"),
        Err(failed) => {
            let name = failed.errno().map_or_else(|| failed.to_string(), errno);
            if ["ENOTSUPP", "EINVAL", "EPERM"].contains(&&*name) {
                name
            } else {
                format!("{name} {}", failed.done)
            }
        }
    }
}

/// All operations in turn, in a world of their own; those that cannot be tried come out as [`NOT_HERE`].
pub(crate) fn play(kernel: &Kernel, spec: &Spec, ops: &[Op]) -> (String, Vec<String>) {
    match make(kernel, spec) {
        (created, None) => (created, Vec::new()),
        (created, Some(mut world)) => (created, ops.iter().map(|op| world.play(op)).collect()),
    }
}

//! Maps and operations from a seed.

// The simulated kernel has the same.
#[path = "../../src/world/random.rs"]
mod random;

use skep_sys::abi::{MapFlags, MapType};

use super::objects::{MAPS, SOCKETS};
use super::play::pattern;
use super::{Key, Op, Spec, Types, Value};
pub(crate) use random::Random;

impl Random {
    /// A number below `end`.
    pub(crate) fn below(&mut self, end: u32) -> u32 {
        (self.next() % u64::from(end.max(1))) as u32
    }

    fn one_in(&mut self, count: u32) -> bool {
        self.below(count) == 0
    }

    pub(crate) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u32) as usize]
    }
}

/// The kinds that are tried, each with its name in tables.
pub(crate) const KINDS: [MapType; 32] = {
    use MapType as M;
    [
        M::HASH,
        M::ARRAY,
        M::PROG_ARRAY,
        M::PERF_EVENT_ARRAY,
        M::PERCPU_HASH,
        M::PERCPU_ARRAY,
        M::STACK_TRACE,
        M::CGROUP_ARRAY,
        M::LRU_HASH,
        M::LRU_PERCPU_HASH,
        M::LPM_TRIE,
        M::ARRAY_OF_MAPS,
        M::HASH_OF_MAPS,
        M::DEVMAP,
        M::SOCKMAP,
        M::CPUMAP,
        M::XSKMAP,
        M::SOCKHASH,
        M::CGROUP_STORAGE,
        M::PERCPU_CGROUP_STORAGE,
        M::REUSEPORT_SOCKARRAY,
        M::QUEUE,
        M::STACK,
        M::SK_STORAGE,
        M::DEVMAP_HASH,
        M::RINGBUF,
        M::INODE_STORAGE,
        M::TASK_STORAGE,
        M::BLOOM_FILTER,
        M::USER_RINGBUF,
        M::CGRP_STORAGE,
        M::ARENA,
    ]
};

fn is_storage(kind: MapType) -> bool {
    matches!(
        kind,
        MapType::SK_STORAGE | MapType::INODE_STORAGE | MapType::TASK_STORAGE | MapType::CGRP_STORAGE
    )
}

fn is_lru(kind: MapType) -> bool {
    matches!(kind, MapType::LRU_HASH | MapType::LRU_PERCPU_HASH)
}

/// A map that can be made.
pub(crate) fn spec(kind: MapType, random: &mut Random) -> Spec {
    use MapType as M;

    let small = [1, 2, 3, 4, 5, 8, 13];
    let values = [1, 2, 3, 4, 5, 7, 8, 12, 16, 24, 40, 100];
    let mut spec = match kind {
        M::HASH | M::PERCPU_HASH => Spec::new(
            kind,
            random.pick(&[1, 2, 3, 4, 6, 8, 16, 20]),
            random.pick(&values),
            random.pick(&small),
        ),
        // So large that nothing is dropped that this writes.
        M::LRU_HASH | M::LRU_PERCPU_HASH => Spec::new(
            kind,
            random.pick(&[1, 2, 4, 8, 16]),
            random.pick(&values),
            random.pick(&[2000, 4096, 5000]),
        ),
        M::ARRAY | M::PERCPU_ARRAY => Spec::new(kind, 4, random.pick(&values), random.pick(&small)),
        M::LPM_TRIE => {
            Spec::new(kind, random.pick(&[5, 6, 8, 12, 20]), random.pick(&values), random.pick(&small))
        }
        M::QUEUE | M::STACK => Spec::new(kind, 0, random.pick(&values), random.pick(&small)),
        M::BLOOM_FILTER => Spec::new(kind, 0, random.pick(&[1, 4, 5, 8, 16]), random.pick(&[10, 100, 1000])),
        M::PROG_ARRAY | M::PERF_EVENT_ARRAY | M::CGROUP_ARRAY | M::XSKMAP => {
            Spec::new(kind, 4, 4, random.pick(&small))
        }
        M::ARRAY_OF_MAPS => Spec::new(kind, 4, 4, random.pick(&small)),
        M::HASH_OF_MAPS => Spec::new(kind, random.pick(&[1, 4, 8]), 4, random.pick(&small)),
        M::DEVMAP | M::DEVMAP_HASH | M::SOCKMAP | M::REUSEPORT_SOCKARRAY => {
            Spec::new(kind, 4, random.pick(&[4, 8]), random.pick(&small))
        }
        M::CPUMAP => Spec::new(kind, 4, random.pick(&[4, 8]), random.pick(&[1, 2, 3, 8])),
        M::SOCKHASH => {
            Spec::new(kind, random.pick(&[1, 4, 8, 512]), random.pick(&[4, 8]), random.pick(&small))
        }
        M::STACK_TRACE => Spec::new(kind, 4, random.pick(&[8, 80, 1016]), random.pick(&small)),
        M::RINGBUF | M::USER_RINGBUF => Spec::new(kind, 0, 0, random.pick(&[4096, 8192, 16384])),
        M::ARENA => Spec::new(kind, 0, 0, random.pick(&[1, 2, 3])),
        M::CGROUP_STORAGE | M::PERCPU_CGROUP_STORAGE => {
            Spec::new(kind, random.pick(&[8, 16]), random.pick(&values), 0)
        }
        _ => Spec::new(kind, 4, random.pick(&values), 0),
    };
    if is_storage(kind) || kind == M::LPM_TRIE {
        spec.flags |= MapFlags::NO_PREALLOC;
    }
    if is_storage(kind) {
        spec.types = Types::Plain;
    }
    if matches!(kind, M::HASH | M::PERCPU_HASH | M::HASH_OF_MAPS) && random.one_in(3) {
        spec.flags |= MapFlags::NO_PREALLOC;
    }
    if is_lru(kind) && random.one_in(3) {
        spec.flags |= MapFlags::NO_COMMON_LRU;
    }
    if kind == M::ARRAY && random.one_in(3) {
        spec.flags |= MapFlags::MMAPABLE;
    }
    if kind == M::ARENA {
        spec.flags |= MapFlags::MMAPABLE;
    }
    if kind == M::BLOOM_FILTER {
        spec.extra = random.below(8).into();
    }
    if matches!(kind, M::HASH | M::ARRAY | M::TASK_STORAGE | M::SK_STORAGE) && random.one_in(4) {
        spec.types = Types::Locked;
        spec.value = random.pick(&[8, 12, 16, 40]);
    }
    if matches!(kind, M::ARRAY_OF_MAPS | M::HASH_OF_MAPS) {
        spec.inner = Some(random.pick(&MAPS));
    }
    if !is_storage(kind) && !matches!(kind, M::CPUMAP | M::RINGBUF | M::USER_RINGBUF | M::ARENA) {
        match random.below(12) {
            0 => spec.flags |= MapFlags::RDONLY,
            1 => spec.flags |= MapFlags::WRONLY,
            _ => {}
        }
    }
    let by_programs = matches!(
        kind,
        M::HASH
            | M::ARRAY
            | M::PERCPU_HASH
            | M::PERCPU_ARRAY
            | M::LPM_TRIE
            | M::QUEUE
            | M::STACK
            | M::LRU_HASH
    );
    if by_programs && spec.types != Types::Locked {
        match random.below(10) {
            0 => spec.flags |= MapFlags::RDONLY_PROG,
            1 => spec.flags |= MapFlags::WRONLY_PROG,
            _ => {}
        }
    }
    spec
}

/// A map of which something may be wrong.
pub(crate) fn doubtful(kind: MapType, random: &mut Random) -> Spec {
    let mut spec = spec(kind, random);
    for _ in 0..=random.below(2) {
        match random.below(5) {
            0 => spec.key = random.pick(&[0, 1, 3, 4, 5, 8, 12, 16, 255, 260, 261, 512, 513]),
            1 => spec.value = random.pick(&[0, 1, 4, 5, 8, 16, 32, 80, 1016, 1024, 32768, 32769, 65536]),
            2 => spec.max = random.pick(&[0, 1, 2, 3, 7, 64, 512, 513, 4095, 4096, 8192, 12288]),
            3 => spec.flags ^= MapFlags::from_bits_retain(1 << random.below(22)),
            _ => spec.extra = random.pick(&[0, 1, 15, 16]),
        }
    }
    // A part of the types' sizes follows from the map's, and the rest is not what this is about.
    if spec.types == Types::Locked && spec.value < 8 || spec.value == 0 || spec.key == 0 {
        spec.types = Types::None;
    }
    // How many CPUs a kernel is built for is its own affair.
    if kind == MapType::CPUMAP && (64..8193).contains(&spec.max) {
        spec.max = 16384;
    }
    // What a token would stand for, and a module's types.
    spec.flags -= MapFlags::from_bits_retain(1 << 14 | 1 << 15 | 1 << 16);
    spec
}

/// Operations, and the map that they are for.
pub(crate) struct Maker<'a> {
    spec: &'a Spec,
    random: &'a mut Random,
    /// How many different keys there are.
    keys: u32,
    pages: bool,
}

const FLAGS: [u64; 16] = [0, 0, 0, 0, 0, 0, 1, 1, 2, 2, 3, 4, 5, 6, 0x40, 1 << 32];

impl<'a> Maker<'a> {
    pub(crate) fn new(spec: &'a Spec, random: &'a mut Random) -> Maker<'a> {
        let keys = if is_lru(spec.kind) { 12 } else { spec.max.saturating_add(3).clamp(4, 12) };
        let pages = spec.flags.contains(MapFlags::MMAPABLE);
        Maker { spec, random, keys, pages }
    }

    pub(crate) fn ops(&mut self, count: usize) -> Vec<Op> {
        (0..count).map(|_| self.op()).collect()
    }

    fn flags(&mut self) -> u64 {
        let plain = self.random.one_in(2);
        if plain { 0 } else { self.random.pick(&FLAGS) }
    }

    fn key(&mut self) -> Key {
        use MapType as M;

        let number = self.random.below(self.keys);
        match self.spec.kind {
            M::QUEUE | M::STACK | M::RINGBUF | M::USER_RINGBUF | M::ARENA => Key::None,
            M::SK_STORAGE | M::INODE_STORAGE | M::TASK_STORAGE | M::CGRP_STORAGE => {
                Key::Object(self.random.pick(&[
                    "udp_bound",
                    "tcp_client",
                    "file",
                    "file2",
                    "process",
                    "cgroup",
                    "bad",
                ]))
            }
            M::LPM_TRIE => {
                let most = (self.spec.key.saturating_sub(4)) * 8;
                let bits = if self.random.one_in(12) { most + 1 } else { self.random.below(most + 1) };
                // Few addresses, so that prefixes contain each other.
                let mut address = vec![0; self.spec.key as usize - 4];
                for byte in &mut address {
                    *byte = self.random.pick(&[0, 0x80, 0xff]);
                }
                Key::Bytes([bits.to_ne_bytes().to_vec(), address].concat())
            }
            M::HASH
            | M::PERCPU_HASH
            | M::LRU_HASH
            | M::LRU_PERCPU_HASH
            | M::HASH_OF_MAPS
            | M::SOCKHASH
            | M::CGROUP_STORAGE
            | M::PERCPU_CGROUP_STORAGE => {
                let mut bytes = pattern(number, self.spec.key as usize);
                if let Some(first) = bytes.first_mut() {
                    *first = number as u8;
                }
                Key::Bytes(bytes)
            }
            _ => {
                let far = self.random.one_in(20);
                Key::Bytes(if far { u32::MAX } else { number }.to_ne_bytes().to_vec())
            }
        }
    }

    fn value(&mut self) -> Value {
        use MapType as M;

        match self.spec.kind {
            M::PROG_ARRAY => {
                Value::Object(self.random.pick(&["socket", "socket2", "socket", "xdp", "array_4_8_4", "bad"]))
            }
            M::PERF_EVENT_ARRAY => Value::Object(self.random.pick(&["perf", "perf", "xdp", "file", "bad"])),
            M::CGROUP_ARRAY => {
                Value::Object(self.random.pick(&["cgroup", "cgroup", "file", "array_4_8_4", "bad"]))
            }
            M::ARRAY_OF_MAPS | M::HASH_OF_MAPS => {
                let fitting = self.spec.inner.filter(|_| !self.random.one_in(3));
                let other = self.random.pick(&MAPS);
                let wrong = self.random.pick(&["xdp", "bad", other, other]);
                Value::Object(fitting.unwrap_or(wrong))
            }
            M::DEVMAP | M::DEVMAP_HASH => {
                let device = self.random.pick(&[1, 1, 1, 0, 9999]);
                let prog = self
                    .random
                    .one_in(3)
                    .then(|| self.random.pick(&["xdp_devmap", "xdp_devmap", "xdp", "socket"]));
                Value::Word(device, prog.filter(|_| self.spec.value == 8))
            }
            M::CPUMAP => {
                let size = self.random.pick(&[192, 1, 0, 16384, 16385]);
                let prog =
                    self.random.one_in(3).then(|| self.random.pick(&["xdp_cpumap", "xdp_cpumap", "xdp"]));
                Value::Word(size, prog.filter(|_| self.spec.value == 8))
            }
            M::SOCKMAP | M::SOCKHASH | M::REUSEPORT_SOCKARRAY | M::XSKMAP => {
                Value::Object(if self.random.one_in(8) {
                    self.random.pick(&["bad", "file"])
                } else {
                    self.random.pick(&SOCKETS)
                })
            }
            _ => Value::Bytes(self.random.below(1000)),
        }
    }

    fn op(&mut self) -> Op {
        use MapType as M;

        match self.spec.kind {
            M::RINGBUF | M::USER_RINGBUF | M::ARENA => return self.op_of_memory(),
            M::BLOOM_FILTER => return self.op_of_filter(),
            _ => {}
        }
        let keyless = self.spec.key == 0;
        match self.random.below(if self.pages { 44 } else { 38 }) {
            0..8 => Op::Lookup(self.key(), self.flags()),
            8..19 => Op::Update(self.key(), self.value(), self.flags()),
            19..22 => Op::Delete(self.key()),
            22 | 23 => {
                let first = self.random.one_in(4) || keyless;
                Op::Next(if first { Key::None } else { self.key() })
            }
            24 | 25 => Op::Take(self.key(), self.flags()),
            26 | 27 => Op::Keys,
            28 => Op::LookupAll(self.random.pick(&[1, 2, 3, 8, 64]), self.flags()),
            29 if !self.spec.is_unordered() => {
                Op::LookupBatch(self.random.pick(&[0, 1, 2, 3, 64]), self.flags())
            }
            29 => Op::TakeAll(self.random.pick(&[1, 2, 8, 64]), self.flags()),
            30 if self.random.one_in(3) => Op::TakeAll(self.random.pick(&[1, 2, 8, 64]), self.flags()),
            30..33 => {
                let count = self.random.below(5) as usize;
                let elements = (0..count).map(|_| (self.key(), self.value())).collect();
                Op::UpdateBatch(elements, self.flags())
            }
            33 => {
                let count = self.random.below(4) as usize;
                Op::DeleteBatch((0..count).map(|_| self.key()).collect())
            }
            34 => Op::Info,
            35 if self.random.one_in(5) => Op::Freeze,
            35 if self.random.one_in(3) && self.spec.kind != M::PERF_EVENT_ARRAY => {
                Op::Reopen(self.random.pick(&[8, 16, 24, 0, 0, 1]))
            }
            36 if self.random.one_in(3) => self.map(),
            38 => self.map(),
            39 => Op::Hold(self.random.pick(&[4096, 4096, 8, 8192]), self.random.one_in(2)),
            40 | 41 => Op::Poke(self.random.below(120), self.random.below(256) as u8),
            42 => Op::Peek(self.random.below(100), 1 + self.random.below(24)),
            43 => Op::Drop,
            _ => Op::Lookup(self.key(), 0),
        }
    }

    fn map(&mut self) -> Op {
        let offset = self.random.pick(&[0, 0, 0, 4096, 8192]);
        let len = self.random.pick(&[1, 4096, 8192, 12288, 16384, 20480, 40960]);
        Op::Map(offset, len, self.random.one_in(2))
    }

    fn op_of_memory(&mut self) -> Op {
        match self.random.below(12) {
            0 => Op::Lookup(Key::None, self.flags()),
            1 => Op::Update(Key::None, Value::Bytes(1), self.flags()),
            2 => Op::Delete(Key::None),
            3 => Op::Next(Key::None),
            4 => Op::Take(Key::None, self.flags()),
            5 => Op::LookupAll(1, 0),
            6 => Op::Info,
            7 if self.random.one_in(4) => Op::Freeze,
            8 if self.random.one_in(3) => Op::Reopen(self.random.pick(&[8, 16, 0])),
            _ => self.map(),
        }
    }

    fn op_of_filter(&mut self) -> Op {
        let number = self.random.below(40);
        match self.random.below(12) {
            0..5 => Op::Update(Key::None, Value::Bytes(number), self.flags()),
            5..9 => {
                let flags = self.flags();
                Op::Lookup(Key::Bytes(pattern(number, self.spec.value as usize)), flags)
            }
            9 => Op::Delete(Key::None),
            10 => match self.random.below(3) {
                0 => Op::Next(Key::None),
                1 => Op::Info,
                _ => Op::LookupAll(1, 0),
            },
            _ => Op::Take(Key::None, self.flags()),
        }
    }
}

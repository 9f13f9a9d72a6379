//! Stacks by their numbers (`BPF_MAP_TYPE_STACK_TRACE`).

use std::collections::BTreeMap;

use skep_sys::abi::Errno;

use super::elements::{Elements, Resolve, StackFlags, copy, index};

/// Size of `struct bpf_stack_build_id`.
const BUILD_ID_FRAME: usize = 32;
/// What such a frame is when it holds an address (`BPF_STACK_BUILD_ID_IP`).
const IS_ADDRESS: u32 = 2;

/// Stacks that programs put in. User space reads and removes them.
#[derive(Clone, Debug)]
pub(super) struct Stacks {
    /// Numbers of stacks are below it: the capacity, rounded up to a power of two.
    buckets: u32,
    value_size: usize,
    build_ids: bool,
    stacks: BTreeMap<u32, Stack>,
}

#[derive(Clone, Debug)]
struct Stack {
    hash: u32,
    /// As long as the value.
    bytes: Box<[u8]>,
}

impl Stacks {
    pub(super) fn new(buckets: u32, value_size: u32, build_ids: bool) -> Self {
        Stacks { buckets, value_size: value_size as usize, build_ids, stacks: BTreeMap::new() }
    }
}

impl Elements for Stacks {
    fn lookup(&mut self, key: &[u8], value: &mut [u8]) -> Result<(), Errno> {
        copy(value, &self.stacks.get(&index(key)?).ok_or(Errno::ENOENT)?.bytes)
    }

    fn update(&mut self, _: &[u8], _: &[u8], _: u64, _: Resolve<'_>) -> Result<(), Errno> {
        Err(Errno::EINVAL)
    }

    fn delete(&mut self, key: &[u8]) -> Result<(), Errno> {
        let id = index(key)?;
        if id >= self.buckets {
            return Err(Errno::E2BIG);
        }
        self.stacks.remove(&id).map(drop).ok_or(Errno::ENOENT)
    }

    fn next_key(&self, key: Option<&[u8]>, next: &mut [u8]) -> Result<(), Errno> {
        // One past the end begins anew.
        let first = match key.map(index).transpose()? {
            Some(id) if id < self.buckets => id.saturating_add(1),
            _ => 0,
        };
        let (id, _) = self.stacks.range(first..).next().ok_or(Errno::ENOENT)?;
        copy(next, &id.to_ne_bytes())
    }

    fn take(&mut self, key: &[u8], value: &mut [u8]) -> Result<(), Errno> {
        let stack = self.stacks.remove(&index(key)?).ok_or(Errno::ENOENT)?;
        copy(value, &stack.bytes)
    }

    fn put_stack(&mut self, id: u32, addresses: &[u64]) -> Result<(), Errno> {
        if id >= self.buckets {
            return Err(Errno::E2BIG);
        }
        let mut bytes = Vec::with_capacity(self.value_size);
        for address in addresses {
            if self.build_ids {
                bytes.extend(IS_ADDRESS.to_ne_bytes());
                bytes.resize(bytes.len().next_multiple_of(BUILD_ID_FRAME) - size_of::<u64>(), 0); // 4 bytes of 32 are there
            }
            bytes.extend(address.to_ne_bytes());
        }
        bytes.resize(self.value_size, 0);
        self.stacks.insert(id, Stack { hash: hash(addresses), bytes: bytes.into() });
        Ok(())
    }

    fn count(&self) -> usize {
        self.stacks.len()
    }

    fn boxed(&self) -> Box<dyn Elements> {
        Box::new(self.clone())
    }

    /// `__bpf_get_stackid`.
    fn add_stack(&mut self, addresses: &[u64], frames: Vec<u8>, flags: StackFlags) -> Result<u32, Errno> {
        let hash = hash(addresses);
        let id = hash & self.buckets.saturating_sub(1); // a power of two
        let mut bytes = frames;
        bytes.resize(self.value_size, 0);
        if let Some(there) = self.stacks.get(&id) {
            let same = there.hash == hash;
            if same && (flags.fast || *there.bytes == *bytes) {
                return Ok(id);
            }
            if !flags.reuse {
                return Err(Errno::EEXIST);
            }
        }
        self.stacks.insert(id, Stack { hash, bytes: bytes.into() });
        Ok(id)
    }
}

/// The hash that a stack's number follows from: `jhash2` of the addresses' halves, as Linux has it.
fn hash(addresses: &[u64]) -> u32 {
    let words: Vec<u32> = addresses
        .iter()
        .flat_map(|address| {
            let bytes = address.to_ne_bytes();
            let (words, _) = bytes.as_chunks::<4>();
            [words.first(), words.last()].map(|word| word.map_or(0, |word| u32::from_ne_bytes(*word)))
        })
        .collect();
    let start = 0xdead_beef_u32.wrapping_add((words.len() as u32) << 2); // there are at most 254
    let (mut a, mut b, mut c) = (start, start, start);
    let mut rest = words.as_slice();
    while let [x, y, z, more @ ..] = rest
        && !more.is_empty()
    {
        a = a.wrapping_add(*x);
        b = b.wrapping_add(*y);
        c = c.wrapping_add(*z);
        a = a.wrapping_sub(c) ^ c.rotate_left(4);
        c = c.wrapping_add(b);
        b = b.wrapping_sub(a) ^ a.rotate_left(6);
        a = a.wrapping_add(c);
        c = c.wrapping_sub(b) ^ b.rotate_left(8);
        b = b.wrapping_add(a);
        a = a.wrapping_sub(c) ^ c.rotate_left(16);
        c = c.wrapping_add(b);
        b = b.wrapping_sub(a) ^ a.rotate_left(19);
        a = a.wrapping_add(c);
        c = c.wrapping_sub(b) ^ b.rotate_left(4);
        b = b.wrapping_add(a);
        rest = more;
    }
    let [x, y, z] = std::array::from_fn(|i| rest.get(i).copied().unwrap_or_default());
    if rest.is_empty() {
        return c;
    }
    (a, b, c) = (a.wrapping_add(x), b.wrapping_add(y), c.wrapping_add(z));
    c = (c ^ b).wrapping_sub(b.rotate_left(14));
    a = (a ^ c).wrapping_sub(c.rotate_left(11));
    b = (b ^ a).wrapping_sub(a.rotate_left(25));
    c = (c ^ b).wrapping_sub(b.rotate_left(16));
    a = (a ^ c).wrapping_sub(c.rotate_left(4));
    b = (b ^ a).wrapping_sub(a.rotate_left(14));
    (c ^ b).wrapping_sub(b.rotate_left(24))
}

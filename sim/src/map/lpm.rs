//! Longest-prefix-match tries (`BPF_MAP_TYPE_LPM_TRIE`).

use std::collections::BTreeMap;

use skep_sys::abi::Errno;

use super::elements::{Batches, Elements, Resolve, Words, copy};
use super::value::{Form, Value};
use super::{EXIST, NOEXIST};

/// A prefix as its masked bytes and its length in bits. Its order puts a prefix right before those it contains.
type Prefix = (Box<[u8]>, u32);

/// Values by prefix. A key is the prefix length as a native `u32`, then the address bytes.
#[derive(Clone, Debug)]
pub(super) struct Lpm {
    max_entries: usize,
    max_prefix: u32,
    entries: BTreeMap<Prefix, Entry>,
    /// How many entries there are of each length, so that a search tries no others.
    lengths: BTreeMap<u32, u32>,
    form: Form,
}

/// A key as it was last written, host bits included, and its value.
#[derive(Clone, Debug)]
struct Entry {
    key: Box<[u8]>,
    value: Value,
}

impl Lpm {
    pub(super) fn new(max_entries: u32, key_size: u32, form: Form) -> Self {
        let max_prefix = key_size.saturating_sub(4).saturating_mul(8);
        let (entries, lengths) = (BTreeMap::new(), BTreeMap::new());
        Lpm { max_entries: max_entries as usize, max_prefix, entries, lengths, form }
    }

    /// Splits a key; `None` when its prefix is longer than the address.
    fn split<'a>(&self, key: &'a [u8]) -> Option<(u32, &'a [u8])> {
        let (bits, address) = key.split_first_chunk()?;
        let bits = u32::from_ne_bytes(*bits);
        (bits <= self.max_prefix).then_some((bits, address))
    }

    /// The entry of the longest prefix of a key.
    fn longest(&self, key: &[u8]) -> Option<&Entry> {
        let (bits, address) = self.split(key)?;
        let mut prefix: Prefix = (address.into(), bits);
        self.lengths.range(..=bits).rev().find_map(|(&length, _)| {
            cut(&mut prefix.0, length);
            prefix.1 = length;
            self.entries.get(&prefix)
        })
    }

    /// The entries in the kernel's order: what is inside of a prefix before the prefix.
    fn in_order(&self) -> Vec<&Prefix> {
        let mut order = Vec::with_capacity(self.entries.len());
        let mut open: Vec<&Prefix> = Vec::new();
        for prefix in self.entries.keys() {
            while let Some(outer) = open.pop_if(|outer| !contains(outer, prefix)) {
                order.push(outer);
            }
            open.push(prefix);
        }
        order.extend(open.into_iter().rev());
        order
    }
}

fn contains(outer: &Prefix, inner: &Prefix) -> bool {
    outer.1 <= inner.1 && *mask(&inner.0, outer.1) == *outer.0
}

/// The address with everything after its first `bits` bits cleared.
fn mask(address: &[u8], bits: u32) -> Box<[u8]> {
    let mut masked: Box<[u8]> = address.into();
    cut(&mut masked, bits);
    masked
}

/// Clears everything after the first `bits` bits.
fn cut(address: &mut [u8], bits: u32) {
    let mut rest = address.iter_mut().skip(bits as usize / 8);
    if let Some(byte) = rest.next() {
        *byte &= !(0xff >> (bits % 8));
    }
    rest.for_each(|byte| *byte = 0);
}

impl Elements for Lpm {
    fn lookup(&mut self, key: &[u8], value: &mut [u8]) -> Result<(), Errno> {
        self.longest(key).ok_or(Errno::ENOENT)?.value.read(0, value)
    }

    fn update(&mut self, key: &[u8], value: &[u8], flags: u64, _: Resolve<'_>) -> Result<(), Errno> {
        if flags > EXIST {
            return Err(Errno::EINVAL);
        }
        let (bits, address) = self.split(key).ok_or(Errno::EINVAL)?;
        let prefix = (mask(address, bits), bits);
        let exists = self.entries.contains_key(&prefix);
        match flags {
            NOEXIST if exists => return Err(Errno::EEXIST),
            EXIST if !exists => return Err(Errno::ENOENT),
            _ if !exists && self.entries.len() >= self.max_entries => return Err(Errno::ENOSPC),
            _ => {}
        }
        if !exists {
            *self.lengths.entry(bits).or_default() += 1; // at most as many as elements
        }
        self.entries.insert(prefix, Entry { key: key.into(), value: self.form.element(value) });
        Ok(())
    }

    fn delete(&mut self, key: &[u8]) -> Result<(), Errno> {
        let (bits, address) = self.split(key).ok_or(Errno::EINVAL)?;
        self.entries.remove(&(mask(address, bits), bits)).ok_or(Errno::ENOENT)?;
        if let Some(count) = self.lengths.get_mut(&bits) {
            *count = count.saturating_sub(1);
        }
        self.lengths.retain(|_, count| *count > 0);
        Ok(())
    }

    fn batches(&self) -> Batches {
        Batches::LOOKUP | Batches::UPDATE | Batches::DELETE
    }

    fn next_key(&self, key: Option<&[u8]>, next: &mut [u8]) -> Result<(), Errno> {
        let order = self.in_order();
        let place = key.and_then(|key| self.split(key)).and_then(|(bits, address)| {
            let prefix = (mask(address, bits), bits);
            order.iter().position(|p| **p == prefix)
        });
        let prefix = order.get(place.map_or(0, |p| p + 1)).ok_or(Errno::ENOENT)?; // below the length
        copy(next, &self.entries.get(*prefix).ok_or(Errno::ENOENT)?.key)
    }

    fn value(&mut self, key: &[u8], cpu: u32) -> Result<Option<Value>, Errno> {
        Ok(self.longest(key).and_then(|found| self.form.of(&found.value, cpu)))
    }

    fn count(&self) -> usize {
        self.entries.len()
    }

    fn steps(&self) -> usize {
        self.lengths.len()
    }

    fn boxed(&self) -> Box<dyn Elements> {
        Box::new(self.clone())
    }

    fn shared_words(&self) -> Vec<Words> {
        self.entries.values().map(|entry| entry.value.words().clone()).collect()
    }
}

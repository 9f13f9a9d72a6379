//! Objects that programs allocate, and the lists and trees that they keep them in.

use std::collections::{BTreeMap, VecDeque};

use crate::map::{FieldKind, Fields};

/// Where they lie: among addresses of the kernel, away from what tests describe.
const FIRST: u64 = 0xffff_8c00_0000_0000;
/// Bytes of all objects together.
const BYTES_MAX: usize = 64 << 20;

/// All objects, by their addresses.
#[derive(Clone, Debug, Default)]
pub(crate) struct Objects {
    all: BTreeMap<u64, Object>,
    allocated: u64,
    bytes: usize,
    /// Lists and trees by their marks, which stand where their heads and roots are: the nodes in their order.
    graphs: BTreeMap<u64, VecDeque<u64>>,
    last_mark: u64,
    /// Which list or tree a node is in.
    owners: BTreeMap<u64, u64>,
}

/// An object.
#[derive(Clone, Debug)]
struct Object {
    bytes: Vec<u8>,
    references: u32,
    /// Its locks, lists, trees and pointers.
    fields: Fields,
    /// How many bytes behind the first one another CPU's is, where each has its own.
    stride: Option<usize>,
}

impl Objects {
    /// Makes an object of zeros with one reference. None when there is no memory.
    pub(crate) fn allocate(&mut self, len: usize) -> Option<u64> {
        self.add(len, 0, Fields::default(), None)
    }

    /// An object with special fields, of which only those are set: every other byte is `fill`.
    pub(crate) fn allocate_structure(&mut self, len: usize, fill: u8, fields: Fields) -> Option<u64> {
        self.add(len, fill, fields, None)
    }

    /// One for each CPU, which lie behind each other. Every byte is `fill`.
    pub(crate) fn allocate_per_cpu(&mut self, len: usize, fill: u8, cpus: u32) -> Option<u64> {
        let stride = len.checked_next_multiple_of(8)?;
        self.add(stride.checked_mul(cpus as usize)?, fill, Fields::default(), Some(stride))
    }

    /// The address of a CPU's own, if there is one for each at an address.
    pub(crate) fn of_cpu(&self, address: u64, cpu: u32) -> Option<u64> {
        let object = self.all.get(&address)?;
        let at = object.stride?.checked_mul(cpu as usize).filter(|at| *at < object.bytes.len())?;
        Some(address + at as u64) // inside
    }

    fn add(&mut self, len: usize, fill: u8, fields: Fields, stride: Option<usize>) -> Option<u64> {
        if self.bytes.saturating_add(len) > BYTES_MAX {
            return None;
        }
        // No address is used twice, so that what was freed is never there again.
        let address = FIRST.checked_add(self.allocated)?;
        self.allocated += len.next_multiple_of(64) as u64 + 64; // of at most 64 MiB
        self.bytes += len; // below the limit
        let mut bytes = vec![fill; len];
        fields.hide(&mut bytes, len);
        self.all.insert(address, Object { bytes, references: 1, fields, stride });
        Some(address)
    }

    /// The object that an address lies in, and where in it.
    fn find(&self, address: u64) -> Option<(u64, usize)> {
        let (start, object) = self.all.range(..=address).next_back()?;
        let at = usize::try_from(address - start).ok()?; // the range ends at the address
        (at < object.bytes.len()).then_some((*start, at))
    }

    /// The start of the object that an address lies in.
    pub(crate) fn start(&self, address: u64) -> Option<u64> {
        self.find(address).map(|(start, _)| start)
    }

    pub(crate) fn read(&self, address: u64, to: &mut [u8]) -> Option<()> {
        let (start, at) = self.find(address)?;
        to.copy_from_slice(self.all.get(&start)?.bytes.get(at..)?.get(..to.len())?);
        Some(())
    }

    pub(crate) fn write(&mut self, address: u64, from: &[u8]) -> Option<()> {
        let (start, at) = self.find(address)?;
        self.all.get_mut(&start)?.bytes.get_mut(at..)?.get_mut(..from.len())?.copy_from_slice(from);
        Some(())
    }

    /// Whether so many bytes are there.
    pub(crate) fn has(&self, address: u64, len: usize) -> bool {
        let found = self.find(address).and_then(|(start, at)| Some((self.all.get(&start)?.bytes.len(), at)));
        found.is_some_and(|(size, at)| len <= size - at) // it was found inside
    }

    /// Takes another reference to an object.
    pub(crate) fn hold(&mut self, start: u64) -> bool {
        let object = self.all.get_mut(&start);
        object.map(|object| object.references = object.references.saturating_add(1)).is_some()
    }

    /// Whether an object has a field of a kind at an address; none where there is no object.
    pub(crate) fn has_field(&self, address: u64, kind: FieldKind) -> Option<bool> {
        let (start, at) = self.find(address)?;
        let object = self.all.get(&start)?;
        Some(object.fields.iter().any(|field| field.kind == kind && field.offset == at))
    }

    /// Lets go of a reference, and with the last one of the object and of what it holds.
    pub(crate) fn let_go(&mut self, start: u64) {
        let mut going = vec![start];
        while let Some(start) = going.pop() {
            let Some(object) = self.all.get_mut(&start) else { continue };
            object.references = object.references.saturating_sub(1);
            if object.references > 0 {
                continue;
            }
            let Some(object) = self.all.remove(&start) else { continue };
            self.bytes -= object.bytes.len(); // it was counted
            for field in object.fields.iter() {
                let bytes = object.bytes.get(field.offset..).and_then(|bytes| bytes.first_chunk());
                let word = bytes.map_or(0, |bytes| u64::from_ne_bytes(*bytes));
                match field.kind {
                    FieldKind::ListHead | FieldKind::RbRoot => {
                        for node in self.graphs.remove(&word).unwrap_or_default() {
                            self.owners.remove(&node);
                            going.extend(self.start(node));
                        }
                    }
                    FieldKind::Kptr | FieldKind::KptrPerCpu => going.push(word),
                    _ => {}
                }
            }
        }
    }

    /// A mark for a new list or tree.
    pub(crate) fn new_graph(&mut self) -> u64 {
        self.last_mark += 1; // a u64 counter does not overflow
        self.graphs.insert(self.last_mark, VecDeque::new());
        self.last_mark
    }

    /// The nodes of a list or tree, in order.
    pub(crate) fn nodes(&self, mark: u64) -> impl DoubleEndedIterator<Item = u64> + '_ {
        self.graphs.get(&mark).into_iter().flatten().copied()
    }

    /// How many nodes a list or tree has.
    pub(crate) fn node_count(&self, mark: u64) -> usize {
        self.graphs.get(&mark).map_or(0, VecDeque::len)
    }

    /// The node at the root of a tree, which lies balanced here: in the middle of what is below it.
    pub(crate) fn root(&self, mark: u64) -> Option<u64> {
        let nodes = self.graphs.get(&mark)?;
        nodes.get(nodes.len() / 2).copied()
    }

    /// The node below another one of a tree, to its left or right.
    pub(crate) fn child(&self, mark: u64, node: u64, right: bool) -> Option<u64> {
        let nodes = self.graphs.get(&mark)?;
        let place = nodes.iter().position(|there| *there == node)?;
        let (mut low, mut high) = (0_usize, nodes.len());
        loop {
            let middle = low.midpoint(high);
            if middle == place {
                break;
            }
            if place < middle { high = middle } else { low = middle + 1 } // inside
        }
        let (low, high) = if right { (place + 1, high) } else { (low, place) }; // inside
        if low < high { nodes.get(low.midpoint(high)).copied() } else { None }
    }

    /// The list or tree that a node is in.
    pub(crate) fn graph_of(&self, node: u64) -> Option<u64> {
        self.owners.get(&node).copied()
    }

    /// Puts a node in before the one at a place.
    pub(crate) fn insert(&mut self, mark: u64, place: usize, node: u64) {
        if let Some(nodes) = self.graphs.get_mut(&mark) {
            nodes.insert(place.min(nodes.len()), node);
            self.owners.insert(node, mark);
        }
    }

    /// Takes a node out. Answers whether it was there.
    pub(crate) fn remove(&mut self, mark: u64, node: u64) -> bool {
        if self.owners.get(&node) != Some(&mark) {
            return false;
        }
        self.owners.remove(&node);
        if let Some(nodes) = self.graphs.get_mut(&mark) {
            // Most are at an end.
            if nodes.back() == Some(&node) {
                nodes.pop_back();
            } else if let Some(place) = nodes.iter().position(|there| *there == node) {
                nodes.remove(place);
            }
        }
        true
    }
}

//! Iterators: programs that run for one object of the kernel after another when somebody reads.

mod items;

use std::sync::{Arc, Mutex, PoisonError};

use skep_sys::abi::{Errno, LinkId};

use crate::event::{Scene, run_prog};
use crate::fd::Access;
use crate::helper::SeqFile;
use crate::kernel::SimKernel;
use crate::link::{Link, Place};
use crate::map::{Map, Owner};
use crate::vm::{Handle, Region, Trap, Vm, What};

/// Bytes that a program may write for one object: eight pages.
const BUFFER: usize = 8 * 4096;

/// A run of an iterator.
#[derive(Debug)]
pub(crate) struct Iter {
    link: Arc<Link>,
    state: Mutex<State>,
}

/// What is left to be read.
#[derive(Debug, Default)]
struct State {
    /// The objects that come next, the last first; none when the run has not begun.
    left: Option<Vec<Item>>,
    number: u64,
    bytes: Vec<u8>,
    /// How many of the bytes were read.
    read: usize,
}

/// What a program is given beside `struct bpf_iter_meta`.
#[derive(Clone, Debug)]
enum Item {
    Words(Vec<u64>),
    Map(Arc<Map>),
    /// An element by its key.
    Element(Arc<Map>, Vec<u8>),
    /// What is in a map of sockets at a key: the address of the socket, if there is one.
    Socket(Arc<Map>, Vec<u8>, u64),
    /// The value of a socket.
    OfSocket(Arc<Map>, Owner, u64),
    /// The end of a map.
    End(Arc<Map>),
    /// A structure that is the run's own, by its bytes.
    Bytes(&'static str, Vec<u8>),
}

impl Iter {
    /// `EINVAL` when the link is none of an iterator.
    pub(crate) fn new(link: &Arc<Link>) -> Result<Iter, Errno> {
        match link.place {
            Place::Iter { .. } => Ok(Iter { link: link.clone(), state: Mutex::default() }),
            _ => Err(Errno::EINVAL),
        }
    }

    pub(crate) fn link(&self) -> &Arc<Link> {
        &self.link
    }

    /// Reads what comes next (`bpf_seq_read`).
    pub(crate) fn read(&self, kernel: &SimKernel, to: &mut [u8]) -> Result<usize, Errno> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.left.is_none() {
            let mut items = items::of(&self.link, kernel)?;
            items.reverse();
            state.left = Some(items);
        }
        while state.read == state.bytes.len() {
            let Some(item) = state.left.as_mut().and_then(Vec::pop) else { return Ok(0) };
            let number = state.number;
            state.number += 1;
            state.bytes = self.run(kernel, item, number)?;
            state.read = 0;
        }
        let rest = state.bytes.get(state.read..).unwrap_or_default();
        let count = rest.len().min(to.len());
        if let (Some(to), Some(from)) = (to.get_mut(..count), rest.get(..count)) {
            to.copy_from_slice(from);
        }
        state.read += count;
        Ok(count)
    }

    /// Runs the program for an object. Answers what it wrote.
    fn run(&self, kernel: &SimKernel, item: Item, number: u64) -> Result<Vec<u8>, Errno> {
        let seq = Arc::new(SeqFile::new(BUFFER));
        let site = Scene::default().site(kernel, None);
        let handle = seq.clone();
        let context = |vm: &mut Vm| -> Result<u64, Trap> {
            let seq = vm.memory.add(Region::Handle(Handle::Other("seq_file", handle)))?;
            let mut words = vec![vm.own(What::Context, words(&[seq, 0, number]), false)?];
            match item {
                Item::Words(more) => words.extend(more),
                Item::Map(map) => words.push(vm.map_handle(&map)?),
                Item::Bytes(what, bytes) => words.push(vm.own(What::Other(what), bytes, false)?),
                Item::End(map) => words.extend([vm.map_handle(&map)?, 0, 0]),
                Item::Socket(map, key, socket) => {
                    words.push(vm.map_handle(&map)?);
                    words.push(vm.own(What::Other("a key"), key, false)?);
                    words.push(socket);
                }
                Item::OfSocket(map, owner, socket) => {
                    words.push(vm.map_handle(&map)?);
                    words.push(socket);
                    words.push(match map.storage(owner, None) {
                        Ok(Some(value)) => vm.value_address(&map, &value)?,
                        _ => 0,
                    });
                }
                Item::Element(map, key) => {
                    words.push(vm.map_handle(&map)?);
                    let value = match map.value(&key, vm.cpu) {
                        Ok(Some(value)) if !map.shape.kind.is_per_cpu() => vm.value_address(&map, &value)?,
                        _ => {
                            // The values of all CPUs, one after the other.
                            let mut bytes = vec![0; map.shape.value_len()];
                            let _ = map.lookup(Access::ALL, &key, &mut bytes, 0);
                            vm.own(What::Other("the values of all CPUs"), bytes, true)?
                        }
                    };
                    words.push(vm.own(What::Other("a key"), key, false)?);
                    words.push(value);
                }
            }
            vm.own(What::Context, self::words(&words), false)
        };
        let prog = self.link.prog();
        let (run, _) = run_prog(kernel, &prog, LinkId(self.link.id), 0, site, context);
        let (bytes, overflowed) = seq.take();
        match run.result {
            Err(_) => Err(Errno::EFAULT),
            Ok(0) if overflowed => Err(Errno::E2BIG),
            Ok(0) => Ok(bytes),
            // It is to be run again, for which it has to be read again.
            Ok(_) => Err(Errno::EAGAIN),
        }
    }
}

fn words(values: &[u64]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_ne_bytes()).collect()
}

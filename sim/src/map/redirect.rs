//! Maps of devices and CPUs that packets are redirected to (`BPF_MAP_TYPE_DEVMAP`, `BPF_MAP_TYPE_DEVMAP_HASH`,
//! `BPF_MAP_TYPE_CPUMAP`).
//!
//! A value is a target and, where it has eight bytes, a program that runs there: written as a descriptor, read back
//! as an id.

use std::collections::BTreeMap;
use std::sync::Arc;

use skep_sys::abi::{AttachType, Errno, ProgType};

use super::elements::{Elements, Resolve, copy, index, next_index};
use super::hash::Table;
use super::value::Value;
use super::{EXIST, NOEXIST};
use crate::object::Object;
use crate::prog::Prog;

/// Longest queue of a CPU.
const QUEUE_MAX: u32 = 16384;

/// What a packet is redirected to.
#[derive(Clone, Debug)]
struct Entry {
    /// Index of the device, or length of the CPU's queue.
    target: u32,
    prog: Option<Arc<Prog>>,
}

impl Entry {
    fn write(&self, value: &mut [u8]) -> Result<(), Errno> {
        copy(value, self.bytes().get(..value.len()).ok_or(Errno::EFAULT)?)
    }

    fn bytes(&self) -> [u8; 8] {
        let id = self.prog.as_ref().map_or(0, |prog| prog.id);
        let ([a, b, c, d], [e, f, g, h]) = (self.target.to_ne_bytes(), id.to_ne_bytes());
        [a, b, c, d, e, f, g, h]
    }

    /// A copy for programs, which cannot write it.
    fn value(&self) -> Value {
        Value::from_bytes(&self.bytes())
    }

    fn target(&self) -> (u32, Option<Arc<Prog>>) {
        (self.target, self.prog.clone())
    }
}

/// The two words of a value: the target, and the descriptor of the program or 0.
fn words(value: &[u8]) -> Result<(u32, i32), Errno> {
    let (target, rest) = value.split_first_chunk().ok_or(Errno::EFAULT)?;
    let fd = rest.first_chunk().map_or(0, |fd| i32::from_ne_bytes(*fd));
    Ok((u32::from_ne_bytes(*target), fd))
}

/// The program with a descriptor, none for one that is not above zero.
fn program(fd: i32, attach_type: AttachType, resolve: Resolve<'_>) -> Result<Option<Arc<Prog>>, Errno> {
    if fd <= 0 {
        return Ok(None);
    }
    let prog = resolve(fd)?.prog()?.clone();
    if prog.prog_type != ProgType::XDP || prog.expected_attach_type != attach_type {
        return Err(Errno::EINVAL);
    }
    Ok(Some(prog))
}

fn device(value: &[u8], devices: &[u32], resolve: Resolve<'_>) -> Result<Entry, Errno> {
    let (target, fd) = words(value)?;
    if !devices.contains(&target) {
        return Err(Errno::EINVAL);
    }
    Ok(Entry { target, prog: program(fd, AttachType::XDP_DEVMAP, resolve)? })
}

/// Devices or CPUs by index.
#[derive(Clone, Debug)]
pub(super) struct Targets {
    max_entries: u32,
    slots: BTreeMap<u32, Entry>,
    kind: Kind,
}

#[derive(Clone, Debug)]
enum Kind {
    /// The devices that there are.
    Devices(Box<[u32]>),
    /// The number of CPUs.
    Cpus(u32),
}

impl Targets {
    pub(super) fn devices(max_entries: u32, devices: &[u32]) -> Self {
        Targets { max_entries, slots: BTreeMap::new(), kind: Kind::Devices(devices.into()) }
    }

    pub(super) fn cpus(max_entries: u32, cpus: u32) -> Self {
        Targets { max_entries, slots: BTreeMap::new(), kind: Kind::Cpus(cpus) }
    }
}

impl Elements for Targets {
    fn lookup(&mut self, key: &[u8], value: &mut [u8]) -> Result<(), Errno> {
        self.slots.get(&index(key)?).ok_or(Errno::ENOENT)?.write(value)
    }

    fn update(&mut self, key: &[u8], value: &[u8], flags: u64, resolve: Resolve<'_>) -> Result<(), Errno> {
        if flags > EXIST {
            return Err(Errno::EINVAL);
        }
        let index = index(key)?;
        if index >= self.max_entries {
            return Err(Errno::E2BIG);
        }
        if flags == NOEXIST {
            return Err(Errno::EEXIST);
        }
        let (target, fd) = words(value)?;
        let entry = match &self.kind {
            Kind::Devices(_) if target == 0 && fd > 0 => return Err(Errno::EINVAL),
            Kind::Cpus(_) if target > QUEUE_MAX => return Err(Errno::EOVERFLOW),
            Kind::Cpus(cpus) if index >= *cpus => return Err(Errno::ENODEV),
            _ if target == 0 => {
                self.slots.remove(&index);
                return Ok(());
            }
            Kind::Devices(devices) => device(value, devices, resolve)?,
            // Whatever is wrong with the program, the kernel says that it has no memory for the queue.
            Kind::Cpus(_) => {
                let prog = program(fd, AttachType::XDP_CPUMAP, resolve).map_err(|_| Errno::ENOMEM)?;
                Entry { target, prog }
            }
        };
        self.slots.insert(index, entry);
        Ok(())
    }

    fn delete(&mut self, key: &[u8]) -> Result<(), Errno> {
        let index = index(key)?;
        if index >= self.max_entries {
            return Err(Errno::EINVAL);
        }
        self.slots.remove(&index);
        Ok(())
    }

    fn next_key(&self, key: Option<&[u8]>, next: &mut [u8]) -> Result<(), Errno> {
        next_index(key, self.max_entries, next)
    }

    fn value(&mut self, key: &[u8], _: u32) -> Result<Option<Value>, Errno> {
        Ok(self.slots.get(&index(key)?).map(Entry::value))
    }

    fn target(&self, key: &[u8]) -> Option<(u32, Option<Arc<Prog>>)> {
        self.slots.get(&index(key).ok()?).map(Entry::target)
    }

    fn boxed(&self) -> Box<dyn Elements> {
        Box::new(self.clone())
    }

    fn held(&self) -> Vec<Object> {
        self.slots.values().filter_map(|entry| entry.prog.clone()).map(Object::Prog).collect()
    }
}

/// Devices by any number.
#[derive(Clone, Debug)]
pub(super) struct DeviceHash {
    table: Table<Entry>,
    devices: Box<[u32]>,
}

impl DeviceHash {
    pub(super) fn new(max_entries: u32, devices: &[u32]) -> Self {
        DeviceHash { table: Table::new(max_entries), devices: devices.into() }
    }
}

impl Elements for DeviceHash {
    fn lookup(&mut self, key: &[u8], value: &mut [u8]) -> Result<(), Errno> {
        self.table.get(key).ok_or(Errno::ENOENT)?.write(value)
    }

    fn update(&mut self, key: &[u8], value: &[u8], flags: u64, resolve: Resolve<'_>) -> Result<(), Errno> {
        if flags > EXIST {
            return Err(Errno::EINVAL);
        }
        if words(value)?.0 == 0 {
            return Err(Errno::EINVAL);
        }
        // `BPF_EXIST` does not ask for anything here.
        self.table.check_flags(key, flags & NOEXIST)?;
        let entry = device(value, &self.devices, resolve)?;
        self.table.set(key, entry)
    }

    fn delete(&mut self, key: &[u8]) -> Result<(), Errno> {
        self.table.remove(key).map(drop)
    }

    fn next_key(&self, key: Option<&[u8]>, next: &mut [u8]) -> Result<(), Errno> {
        // By bucket, and there the one that was put in last first.
        let buckets = self.table.buckets();
        let mut all: Vec<(u32, &[u8])> = self
            .table
            .iter()
            .filter_map(|(key, _)| Some((index(key).ok()? & (buckets - 1), &**key))) // there is at least one
            .collect();
        all.reverse();
        all.sort_by_key(|(bucket, _)| *bucket);
        let place = key.and_then(|key| all.iter().position(|(_, there)| *there == key));
        let (_, found) = all.get(place.map_or(0, |place| place + 1)).ok_or(Errno::ENOENT)?; // below the length
        copy(next, found)
    }

    fn value(&mut self, key: &[u8], _: u32) -> Result<Option<Value>, Errno> {
        Ok(self.table.get(key).map(Entry::value))
    }

    fn target(&self, key: &[u8]) -> Option<(u32, Option<Arc<Prog>>)> {
        self.table.get(key).map(Entry::target)
    }

    fn boxed(&self) -> Box<dyn Elements> {
        Box::new(self.clone())
    }

    fn held(&self) -> Vec<Object> {
        self.table.iter().filter_map(|(_, entry)| entry.prog.clone()).map(Object::Prog).collect()
    }
}

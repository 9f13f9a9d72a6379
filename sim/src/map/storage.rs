//! Local storage: values that belong to sockets, processes, files and cgroups (`BPF_MAP_TYPE_SK_STORAGE`,
//! `_TASK_STORAGE`, `_INODE_STORAGE`, `_CGRP_STORAGE`).
//!
//! What they belong to exists outside of the simulated kernel, and is found by the descriptor that a key is. A value
//! outlives a closed socket or file here, where no key finds it any more.

use std::collections::BTreeMap;

use skep_sys::abi::{Errno, MapType};

use super::elements::{Elements, Resolve, Words};
use super::value::{Form, Value};
use super::{EXIST, NOEXIST};
use crate::fd::Inode;
use crate::outside;

/// What a value belongs to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Owner {
    /// A socket, file or cgroup.
    Inode(Inode),
    /// A process.
    Process(i32),
    /// Something that only the simulated kernel knows, by a number of its own.
    Simulated(u64),
}

#[derive(Clone, Debug)]
pub(super) struct Storage {
    kind: MapType,
    form: Form,
    values: BTreeMap<Owner, Value>,
}

impl Storage {
    pub(super) fn new(kind: MapType, form: Form) -> Self {
        Storage { kind, form, values: BTreeMap::new() }
    }

    fn owner(&self, key: &[u8]) -> Result<Owner, Errno> {
        let number = key.try_into().map(i32::from_ne_bytes).map_err(|_| Errno::EFAULT)?;
        Ok(match self.kind {
            MapType::SK_STORAGE => Owner::Inode(outside::socket_inode(number)?),
            MapType::TASK_STORAGE => Owner::Process(outside::process(number)?),
            MapType::CGRP_STORAGE => Owner::Inode(outside::cgroup(number, true)?),
            _ => Owner::Inode(outside::inode(number)?),
        })
    }
}

impl Elements for Storage {
    fn lookup(&mut self, key: &[u8], value: &mut [u8]) -> Result<(), Errno> {
        self.values.get(&self.owner(key)?).ok_or(Errno::ENOENT)?.read(0, value)
    }

    fn update(&mut self, key: &[u8], value: &[u8], flags: u64, _: Resolve<'_>) -> Result<(), Errno> {
        let owner = self.owner(key)?;
        match (flags, self.values.contains_key(&owner)) {
            (NOEXIST, true) => return Err(Errno::EEXIST),
            (EXIST, false) => return Err(Errno::ENOENT),
            (0..=EXIST, _) => {}
            _ => return Err(Errno::EINVAL),
        }
        if let Some(old) = self.values.insert(owner, self.form.element(value)) {
            self.form.release(&old);
        }
        Ok(())
    }

    fn delete(&mut self, key: &[u8]) -> Result<(), Errno> {
        let owner = self.owner(key)?;
        self.remove_owned(owner)
    }

    fn next_key(&self, _: Option<&[u8]>, _: &mut [u8]) -> Result<(), Errno> {
        Err(Errno::ENOTSUPP)
    }

    fn value(&mut self, key: &[u8], _: u32) -> Result<Option<Value>, Errno> {
        let owner = self.owner(key)?;
        Ok(self.values.get(&owner).cloned())
    }

    fn owned(&mut self, owner: Owner, initial: Option<&[u8]>) -> Result<Option<Value>, Errno> {
        if let Some(there) = self.values.get(&owner) {
            return Ok(Some(there.clone()));
        }
        let Some(initial) = initial else { return Ok(None) };
        let value = self.form.element(initial);
        self.values.insert(owner, value.clone());
        Ok(Some(value))
    }

    fn remove_owned(&mut self, owner: Owner) -> Result<(), Errno> {
        self.form.release(&self.values.remove(&owner).ok_or(Errno::ENOENT)?);
        Ok(())
    }

    fn count(&self) -> usize {
        self.values.len()
    }

    fn boxed(&self) -> Box<dyn Elements> {
        Box::new(self.clone())
    }

    fn shared_words(&self) -> Vec<Words> {
        self.values.values().map(|value| value.words().clone()).collect()
    }
}

//! Local storage: values that belong to sockets, processes, files and cgroups (`BPF_MAP_TYPE_SK_STORAGE`,
//! `_TASK_STORAGE`, `_INODE_STORAGE`, `_CGRP_STORAGE`).
//!
//! What they belong to exists outside of the simulated kernel, and is found by the descriptor that a key is. A value
//! outlives a closed socket or file here, where no key finds it any more.

use std::collections::BTreeMap;

use skep_sys::abi::{Errno, MapType};

use super::elements::{Elements, Resolve, copy};
use super::{EXIST, NOEXIST};
use crate::fd::Inode;
use crate::outside;

/// What a value belongs to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Owner {
    /// A socket, file or cgroup.
    Inode(Inode),
    /// A process.
    Process(i32),
}

#[derive(Debug)]
pub(super) struct Storage {
    kind: MapType,
    values: BTreeMap<Owner, Box<[u8]>>,
}

impl Storage {
    pub(super) fn new(kind: MapType) -> Self {
        Storage { kind, values: BTreeMap::new() }
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
        copy(value, self.values.get(&self.owner(key)?).ok_or(Errno::ENOENT)?)
    }

    fn update(&mut self, key: &[u8], value: &[u8], flags: u64, _: Resolve<'_>) -> Result<(), Errno> {
        let owner = self.owner(key)?;
        match (flags, self.values.contains_key(&owner)) {
            (NOEXIST, true) => return Err(Errno::EEXIST),
            (EXIST, false) => return Err(Errno::ENOENT),
            (0..=EXIST, _) => {}
            _ => return Err(Errno::EINVAL),
        }
        self.values.insert(owner, value.into());
        Ok(())
    }

    fn delete(&mut self, key: &[u8]) -> Result<(), Errno> {
        let owner = self.owner(key)?;
        self.values.remove(&owner).map(drop).ok_or(Errno::ENOENT)
    }

    fn next_key(&self, _: Option<&[u8]>, _: &mut [u8]) -> Result<(), Errno> {
        Err(Errno::ENOTSUPP)
    }
}

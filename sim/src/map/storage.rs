//! Local storage: values that belong to sockets, processes, files and cgroups (`BPF_MAP_TYPE_SK_STORAGE`,
//! `_TASK_STORAGE`, `_INODE_STORAGE`, `_CGRP_STORAGE`).
//!
//! What they belong to exists outside of the simulated kernel, and is found by the descriptor that a key is. A value
//! outlives a closed socket or file here, where no key finds it any more.

use std::collections::BTreeMap;

use skep_sys::abi::{Errno, MapType};

use super::elements::{Elements, Resolve, Words};
use super::value::{Form, Value};
use super::{EXIST, LOCK, Map, NOEXIST};
use crate::fd::{Access, Inode};
use crate::outside;

/// What a value belongs to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Owner {
    /// A socket or file.
    Inode(Inode),
    /// A process.
    Process(i32),
    /// A control group, by its id.
    Cgroup(u64),
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
            // The number of its inode is the id of a group, as tasks have it that are in the group.
            MapType::CGRP_STORAGE => Owner::Cgroup(outside::cgroup(number, true)?.number()),
            _ => Owner::Inode(outside::inode(number)?),
        })
    }
}

impl Elements for Storage {
    fn lookup(&mut self, key: &[u8], value: &mut [u8]) -> Result<(), Errno> {
        self.values.get(&self.owner(key)?).ok_or(Errno::ENOENT)?.read(0, value)
    }

    fn update(&mut self, key: &[u8], value: &[u8], flags: u64, _: Resolve<'_>) -> Result<(), Errno> {
        self.set_owned(self.owner(key)?, value, flags)
    }

    fn set_owned(&mut self, owner: Owner, value: &[u8], flags: u64) -> Result<(), Errno> {
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

    fn owners(&self) -> Vec<Owner> {
        self.values.keys().copied().collect()
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

/// Values of what the simulated kernel has itself.
impl Map {
    /// Whether it is local storage.
    pub(crate) fn is_storage(&self) -> bool {
        use MapType as M;

        matches!(self.shape.kind, M::SK_STORAGE | M::TASK_STORAGE | M::INODE_STORAGE | M::CGRP_STORAGE)
    }

    /// Those that have values now.
    pub(crate) fn owners(&self) -> Vec<Owner> {
        self.state().elements.owners()
    }

    /// As [`lookup`](Map::lookup), by the owner.
    pub(crate) fn lookup_owned(
        &self,
        access: Access,
        owner: Owner,
        value: &mut [u8],
        flags: u64,
    ) -> Result<(), Errno> {
        if !access.read {
            return Err(Errno::EPERM);
        }
        self.check_flags(flags, LOCK)?;
        self.check_value(value, flags)?;
        let found = self.state().elements.owned(owner, None)?.ok_or(Errno::ENOENT)?;
        let form = self.shape.form();
        if flags & LOCK != 0 {
            form.read_locked(&found, value)?
        } else {
            found.read(0, value)?
        }
        self.shape.fields.hide(value, form.stride());
        Ok(())
    }

    /// As [`update`](Map::update), by the owner.
    pub(crate) fn update_owned(
        &self,
        access: Access,
        owner: Owner,
        value: &[u8],
        flags: u64,
    ) -> Result<(), Errno> {
        let mut state = self.state();
        self.check_writable(&state, access)?;
        if flags & LOCK != 0 && self.shape.fields.spin_lock().is_none() {
            return Err(Errno::EINVAL);
        }
        self.check_value(value, flags)?;
        self.room(&state, &[])?;
        let done = state.elements.set_owned(owner, value, flags & !LOCK);
        self.settle(&state);
        done
    }

    /// As [`delete`](Map::delete), by the owner.
    pub(crate) fn delete_owned(&self, access: Access, owner: Owner) -> Result<(), Errno> {
        self.check_writable(&self.state(), access)?;
        self.storage_delete(owner)
    }
}

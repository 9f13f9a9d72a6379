//! Storage that belongs to a cgroup and the kind of program that is attached there (`BPF_MAP_TYPE_CGROUP_STORAGE`,
//! `BPF_MAP_TYPE_PERCPU_CGROUP_STORAGE`).

use std::collections::BTreeMap;

use skep_sys::abi::Errno;

use super::elements::{Elements, Resolve, Words, copy};
use super::value::{Form, Value};
use super::{EXIST, LOCK};

/// A key is `struct bpf_cgroup_storage_key`, or only the id of the cgroup. The kernel makes the values when a program is
/// attached; here they are there once a program has asked for its own.
#[derive(Clone, Debug)]
pub(super) struct CgroupStorage {
    form: Form,
    /// In the order in which they were made.
    values: BTreeMap<u64, (Box<[u8]>, Value)>,
    made: u64,
}

impl CgroupStorage {
    pub(super) fn new(form: Form) -> Self {
        CgroupStorage { form, values: BTreeMap::new(), made: 0 }
    }

    /// A key without its padding.
    fn significant(key: &[u8]) -> &[u8] {
        key.get(..12).unwrap_or(key)
    }

    fn find(&self, key: &[u8]) -> Option<(u64, &Value)> {
        let key = Self::significant(key);
        let mut all = self.values.iter();
        all.find_map(|(made, (there, value))| (Self::significant(there) == key).then_some((*made, value)))
    }
}

impl Elements for CgroupStorage {
    fn lookup(&mut self, key: &[u8], value: &mut [u8]) -> Result<(), Errno> {
        self.find(key).ok_or(Errno::ENOENT)?.1.read(0, value)
    }

    fn update(&mut self, key: &[u8], value: &[u8], flags: u64, _: Resolve<'_>) -> Result<(), Errno> {
        if flags & !(LOCK | EXIST) != 0 {
            return Err(Errno::EINVAL);
        }
        let (made, there) = self.find(key).ok_or(Errno::ENOENT)?;
        if self.form.is_per_cpu() {
            self.form.overwrite(there, value);
            return Ok(());
        }
        let new = self.form.element(value);
        if let Some((_, there)) = self.values.get_mut(&made) {
            self.form.release(&std::mem::replace(there, new));
        }
        Ok(())
    }

    fn delete(&mut self, _: &[u8]) -> Result<(), Errno> {
        Err(Errno::EINVAL)
    }

    fn next_key(&self, key: Option<&[u8]>, next: &mut [u8]) -> Result<(), Errno> {
        let first = match key {
            None => 0,
            Some(key) => self.find(key).ok_or(Errno::ENOENT)?.0 + 1, // a counter that does not overflow
        };
        let (_, (key, _)) = self.values.range(first..).next().ok_or(Errno::ENOENT)?;
        copy(next, key)
    }

    fn value(&mut self, key: &[u8], cpu: u32) -> Result<Option<Value>, Errno> {
        if let Some((_, there)) = self.find(key) {
            return Ok(self.form.of(there, cpu));
        }
        let value = self.form.element(&vec![0; self.form.len()]);
        let own = self.form.of(&value, cpu);
        self.values.insert(self.made, (key.into(), value));
        self.made += 1; // a u64 counter does not overflow
        Ok(own)
    }

    fn count(&self) -> usize {
        self.values.len()
    }

    fn boxed(&self) -> Box<dyn Elements> {
        Box::new(self.clone())
    }

    fn shared_words(&self) -> Vec<Words> {
        self.values.values().map(|(_, value)| value.words().clone()).collect()
    }
}

//! Flags that choose whose value of a per-CPU element is meant (`BPF_F_CPU`, `BPF_F_ALL_CPUS`), and how long values are.

use skep_sys::abi::{Errno, MapType};

use super::elements::Resolve;
use super::{ALL_CPUS, CPU, EXIST, LOCK, Map, NOEXIST, State};

impl Map {
    /// Whether the flags choose CPUs, and the kernel knows that they do.
    fn chooses(&self, flags: u64) -> bool {
        self.shape.cpu_flags && self.shape.kind.is_per_cpu() && flags & (CPU | ALL_CPUS) != 0
    }

    /// Length of a value as user space passes it with these flags.
    pub(super) fn value_len(&self, flags: u64) -> usize {
        if self.chooses(flags) { self.shape.value_size as usize } else { self.shape.value_len() }
    }

    /// Refuses flags that are not among those allowed or mean nothing for this map.
    pub(super) fn check_flags(&self, flags: u64, allowed: u64) -> Result<(), Errno> {
        let low = flags & u64::from(u32::MAX);
        let cpu = flags >> 32;
        if low & !allowed != 0
            || flags & LOCK != 0 && self.shape.fields.spin_lock().is_none()
            || flags & CPU == 0 && cpu != 0
            || flags & (CPU | ALL_CPUS) != 0 && !self.chooses(flags)
            || flags & CPU != 0 && flags & ALL_CPUS != 0
        {
            return Err(Errno::EINVAL);
        }
        if flags & CPU != 0 && cpu >= u64::from(self.shape.cpus) { Err(Errno::ERANGE) } else { Ok(()) }
    }

    /// Where the value of the chosen CPU is in an element.
    fn place(&self, flags: u64) -> std::ops::Range<usize> {
        let size = self.shape.value_size as usize;
        let start = size.next_multiple_of(8).saturating_mul((flags >> 32) as usize);
        start..start.saturating_add(size)
    }

    /// Reads an element, or one CPU's value of it.
    pub(super) fn read(
        &self,
        state: &mut State,
        key: &[u8],
        value: &mut [u8],
        flags: u64,
    ) -> Result<(), Errno> {
        if flags & CPU == 0 {
            let form = self.shape.form();
            match (flags & LOCK != 0).then(|| state.elements.value(key, 0)).transpose()?.flatten() {
                Some(found) => form.read_locked(&found, value)?,
                None => state.elements.lookup(key, value)?,
            }
            self.shape.fields.hide(value, form.stride());
            return Ok(());
        }
        let mut all = vec![0; self.shape.value_len()];
        state.elements.lookup(key, &mut all)?;
        value.copy_from_slice(
            all.get(self.place(flags)).filter(|v| v.len() == value.len()).ok_or(Errno::EFAULT)?,
        );
        self.shape.fields.hide(value, value.len());
        Ok(())
    }

    /// Writes an element, or one CPU's value of it, or one value for all CPUs.
    pub(super) fn write(
        &self,
        state: &mut State,
        key: &[u8],
        value: &[u8],
        flags: u64,
        resolve: Resolve<'_>,
    ) -> Result<(), Errno> {
        self.room(state, key)?;
        let done = self.put_in(state, key, value, flags, resolve);
        self.settle(state);
        done
    }

    fn put_in(
        &self,
        state: &mut State,
        key: &[u8],
        value: &[u8],
        flags: u64,
        resolve: Resolve<'_>,
    ) -> Result<(), Errno> {
        if self.chooses(flags) {
            let mut all = vec![0; self.shape.value_len()];
            if flags & ALL_CPUS != 0 {
                for one in all.chunks_exact_mut(value.len().next_multiple_of(8)) {
                    one.get_mut(..value.len()).ok_or(Errno::EFAULT)?.copy_from_slice(value);
                }
            } else {
                match state.elements.lookup(key, &mut all) {
                    Ok(()) | Err(Errno::ENOENT) => {}
                    Err(errno) => return Err(errno),
                }
                let place = all.get_mut(self.place(flags)).filter(|place| place.len() == value.len());
                place.ok_or(Errno::EFAULT)?.copy_from_slice(value);
            }
            // Linux 7.2 does not look at the others for hashes.
            let flags = if self.is_hash() { 0 } else { flags & (NOEXIST | EXIST) };
            return state.elements.update(key, &all, flags, resolve);
        }
        if self.shape.cpu_flags && self.shape.kind.is_per_cpu() {
            let size = self.shape.value_size as usize;
            let mut all = value.to_vec();
            for one in all.chunks_exact_mut(size.next_multiple_of(8)) {
                one.get_mut(size..).unwrap_or_default().fill(0);
            }
            let is_storage = self.shape.kind == MapType::PERCPU_CGROUP_STORAGE;
            let flags = if flags == NOEXIST | EXIST && !is_storage { 0 } else { flags & !LOCK };
            return state.elements.update(key, &all, flags, resolve);
        }
        // Whoever asks for the lock writes in place what is there.
        if flags & LOCK != 0
            && flags & NOEXIST == 0
            && let Some(found) = state.elements.value(key, 0)?
        {
            if flags & !LOCK > EXIST {
                return Err(Errno::EINVAL);
            }
            self.shape.form().overwrite_locked(&found, value);
            return Ok(());
        }
        state.elements.update(key, value, flags & !LOCK, resolve)
    }
}

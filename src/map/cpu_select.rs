//! The value of one CPU alone, and one value for all of them (`BPF_F_CPU`, `BPF_F_ALL_CPUS`, Linux 7.0).

use skep_sys::Feature;
use skep_sys::abi::{MapType, UpdateFlags};

use super::error::{MapError, MapOperation};
use super::handle::Map;
use super::per_cpu_array::PerCpuArray;
use super::per_cpu_hash::PerCpuHashMap;
use super::plain::PlainData;

/// What Linux 7.2 does not look at for hashes when CPUs are chosen, and writes regardless.
const CONDITIONS: UpdateFlags = UpdateFlags::EXIST.union(UpdateFlags::NOEXIST);

/// Values of all CPUs up to this many bytes are put on the stack.
const ON_STACK: usize = 2048;

impl<K: PlainData, V: PlainData> PerCpuHashMap<K, V> {
    /// The value of one CPU at `key`, if there is such an element.
    ///
    /// On kernels before Linux 7.0, which give out only the values of all CPUs, these are read and the others left out.
    ///
    /// ```
    /// # use skep::map::{Map, PerCpuHashMap, PerCpuValues};
    /// # use skep::sys::abi::{MapType, UpdateFlags};
    /// # use skep::sys::request::MapCreate;
    /// let map = Map::create(&skep::sim::kernel(), &MapCreate::new(MapType::PERCPU_HASH, 4, 8, 16))?;
    /// let drops: PerCpuHashMap<u32, u64> = map.typed()?;
    /// drops.insert_on_all_cpus(&443, &5, UpdateFlags::empty())?;
    /// assert_eq!(drops.get_on_cpu(&443, 1)?, Some(5));
    /// assert_eq!(drops.get_on_cpu(&80, 1)?, None);
    /// # Ok::<(), skep::map::MapError>(())
    /// ```
    ///
    /// # Errors
    /// [`MapError::NoSuchCpu`], [`MapError::Failed`].
    pub fn get_on_cpu(&self, key: &K, cpu: u32) -> Result<Option<V>, MapError> {
        let mut value = V::new_zeroed();
        let found = self.as_map().lookup_on_cpu(key.as_bytes(), cpu, value.as_mut_bytes())?;
        Ok(found.then_some(value))
    }

    /// Writes the value of one CPU at `key`, and leaves those of others as they are; in a new element they are zero
    /// (`BPF_F_CPU`, Linux 7.0).
    ///
    /// # Errors
    /// [`MapError::NoSuchCpu`]; [`MapError::Unsupported`] on older kernels: to write all values back would undo what programs
    /// on other CPUs count meanwhile; the same with [`UpdateFlags::EXIST`] or [`UpdateFlags::NOEXIST`], which kernels do not look
    /// at here; [`MapError::Failed`] as of [`insert`](PerCpuHashMap::insert).
    pub fn insert_on_cpu(&self, key: &K, cpu: u32, value: &V, flags: UpdateFlags) -> Result<(), MapError> {
        self.as_map().update_on_cpu(key.as_bytes(), cpu, value.as_bytes(), flags)
    }

    /// Writes one value for all CPUs at `key` (`BPF_F_ALL_CPUS`, Linux 7.0; on older kernels, and with
    /// [`UpdateFlags::EXIST`] or [`UpdateFlags::NOEXIST`], it is passed once for each CPU in one call, which does the same).
    ///
    /// # Errors
    /// [`MapError::Failed`] as of [`insert`](PerCpuHashMap::insert).
    pub fn insert_on_all_cpus(&self, key: &K, value: &V, flags: UpdateFlags) -> Result<(), MapError> {
        self.as_map().update_on_all_cpus(key.as_bytes(), value.as_bytes(), flags)
    }
}

impl<V: PlainData> PerCpuArray<V> {
    /// The value of one CPU at `index`; none outside of the array. On older kernels as of
    /// [`PerCpuHashMap::get_on_cpu`].
    ///
    /// # Errors
    /// [`MapError::NoSuchCpu`], [`MapError::Failed`].
    pub fn get_on_cpu(&self, index: u32, cpu: u32) -> Result<Option<V>, MapError> {
        let mut value = V::new_zeroed();
        let found = self.as_map().lookup_on_cpu(&index.to_ne_bytes(), cpu, value.as_mut_bytes())?;
        Ok(found.then_some(value))
    }

    /// Writes the value of one CPU at `index`, and leaves those of others as they are (`BPF_F_CPU`, Linux 7.0).
    ///
    /// # Errors
    /// As of [`PerCpuHashMap::insert_on_cpu`] and [`set`](PerCpuArray::set).
    pub fn set_on_cpu(&self, index: u32, cpu: u32, value: &V, flags: UpdateFlags) -> Result<(), MapError> {
        self.as_map().update_on_cpu(&index.to_ne_bytes(), cpu, value.as_bytes(), flags)
    }

    /// Writes one value for all CPUs at `index`, on any kernel; see [`PerCpuHashMap::insert_on_all_cpus`].
    ///
    /// # Errors
    /// [`MapError::Failed`] as of [`set`](PerCpuArray::set).
    pub fn set_on_all_cpus(&self, index: u32, value: &V, flags: UpdateFlags) -> Result<(), MapError> {
        self.as_map().update_on_all_cpus(&index.to_ne_bytes(), value.as_bytes(), flags)
    }
}

impl Map {
    fn lookup_on_cpu(&self, key: &[u8], cpu: u32, value: &mut [u8]) -> Result<bool, MapError> {
        self.check_cpu(cpu)?;
        if self.kernel().has(Feature::CpuFlags).is_supported() {
            return self.lookup_into(key, value, UpdateFlags::on_cpu(cpu));
        }
        scratch(self.value_len(), |all| {
            let found = self.lookup_into(key, all, UpdateFlags::empty())?;
            let size = all.len() / (self.values_per_element() as usize).max(1);
            for (to, from) in value.iter_mut().zip(all.iter().skip(size.saturating_mul(cpu as usize))) {
                *to = *from;
            }
            Ok(found)
        })
    }

    fn update_on_cpu(&self, key: &[u8], cpu: u32, value: &[u8], flags: UpdateFlags) -> Result<(), MapError> {
        self.check_cpu(cpu)?;
        if self.kernel().has(Feature::CpuFlags).is_unsupported() {
            let why = "this kernel cannot write the value of one CPU alone, which Linux can since 7.0";
            return Err(self.unsupported(MapOperation::Update, why));
        }
        if flags.intersects(CONDITIONS) && self.map_type() != MapType::PERCPU_ARRAY {
            let why = "kernels do not look at EXIST and NOEXIST when one CPU of a hash's element is written";
            return Err(self.unsupported(MapOperation::Update, why));
        }
        self.update(key, value, flags | UpdateFlags::on_cpu(cpu))
    }

    fn update_on_all_cpus(&self, key: &[u8], value: &[u8], flags: UpdateFlags) -> Result<(), MapError> {
        if !flags.intersects(CONDITIONS) && self.kernel().has(Feature::CpuFlags).is_supported() {
            return self.update(key, value, flags | UpdateFlags::ALL_CPUS);
        }
        scratch(self.value_len(), |all| {
            let size = all.len() / (self.values_per_element() as usize).max(1);
            for one in all.chunks_exact_mut(size.max(1)) {
                for (to, from) in one.iter_mut().zip(value) {
                    *to = *from;
                }
            }
            self.update(key, all, flags)
        })
    }

    fn check_cpu(&self, cpu: u32) -> Result<(), MapError> {
        let there = self.values_per_element();
        if cpu < there { Ok(()) } else { Err(MapError::NoSuchCpu { map: self.label(), cpu, there }) }
    }
}

/// Lends zeroed memory: on the stack unless it is much.
fn scratch<T>(len: usize, work: impl FnOnce(&mut [u8]) -> T) -> T {
    match [0; ON_STACK].get_mut(..len) {
        Some(memory) => work(memory),
        None => work(&mut vec![0; len]),
    }
}

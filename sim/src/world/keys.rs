//! Keys of users (`add_key(2)`).

use std::collections::BTreeMap;

use crate::kernel::SimKernel;

/// Serial number of the first key.
const FIRST: i32 = 0x1000_0000;

/// The keys that there are, and the structures of those that programs looked up.
#[derive(Clone, Debug, Default)]
pub(crate) struct Keys {
    keys: BTreeMap<i32, u64>,
    made: i32,
}

impl Keys {
    pub(crate) fn has(&self, serial: i32) -> bool {
        self.keys.contains_key(&serial)
    }

    /// Where the structure of a key is, if it was asked for: 0 if not.
    pub(crate) fn object(&self, serial: i32) -> u64 {
        self.keys.get(&serial).copied().unwrap_or_default()
    }

    pub(crate) fn set_object(&mut self, serial: i32, address: u64) {
        self.keys.insert(serial, address);
    }
}

impl SimKernel {
    /// Makes a key, which programs find by its serial number with `bpf_lookup_user_key`. Answers that number.
    ///
    /// ```
    /// let sim = skep_sim::SimKernel::new();
    /// let key = sim.add_key();
    /// assert!(key > 0 && sim.remove_key(key) && !sim.remove_key(key));
    /// ```
    pub fn add_key(&self) -> i32 {
        let mut world = self.0.world();
        let serial = FIRST.saturating_add(world.keys.made);
        world.keys.made = world.keys.made.saturating_add(1);
        world.keys.keys.insert(serial, 0);
        serial
    }

    /// Removes a key. Answers whether it was there.
    pub fn remove_key(&self, serial: i32) -> bool {
        self.0.world().keys.keys.remove(&serial).is_some()
    }
}

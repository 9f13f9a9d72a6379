//! Registers `struct_ops` tables.

use std::os::fd::{AsFd, AsRawFd};

use skep_link::struct_ops::{self, Registration};

use super::Object;
use crate::error::Error;
use crate::map::Map;
use crate::reloc::{MapPlan, StructOpsPlan, StructOpsProgram};

/// What a table's map is to hold: bytes, and the programs in it by name.
#[derive(Clone, Debug)]
pub(super) struct Table {
    value: Vec<u8>,
    programs: Vec<StructOpsProgram>,
}

impl Table {
    pub(super) fn new(map: &MapPlan, plan: &StructOpsPlan) -> Table {
        Table { value: map.spec.contents.clone(), programs: plan.programs.clone() }
    }
}

impl Object {
    /// The `struct_ops` tables that were created, in the order of the object.
    pub fn struct_ops(&self) -> impl Iterator<Item = (&str, &Map)> {
        let tables = self.maps.iter().filter(|map| map.table.is_some());
        tables.filter_map(|map| Some((map.name.as_str(), map.map.as_ref()?)))
    }

    /// Registers a `struct_ops` table (Linux 5.6; in section `.struct_ops.link` 6.4): from now on the kernel calls the
    /// programs in it, until what this answers is dropped.
    ///
    /// ```no_run
    /// use skep::{Kernel, Loader, Spec};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let object = Loader::new(&Kernel::linux()).load(&Spec::open("my_congestion_control.bpf.o")?)?;
    /// let registered = object.attach_struct_ops("my_cc")?;
    /// // Sockets can choose it now: setsockopt(TCP_CONGESTION).
    /// drop(registered);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::NoSuch`] when the object has no such table, [`Error::Register`] when the kernel refuses.
    pub fn attach_struct_ops(&self, name: &str) -> Result<Registration, Error> {
        let found = self.maps.iter().find(|map| map.name == name && map.table.is_some());
        let Some((table, map)) = found.and_then(|map| map.table.as_ref().zip(map.map.as_ref())) else {
            return Err(self.missing("struct_ops table", name, self.struct_ops().map(|(name, _)| name)));
        };
        let mut value = table.value.clone();
        for place in &table.programs {
            let held = self.programs.iter().find(|program| program.index() == Some(place.program));
            let Some(held) = held else {
                return Err(self.missing("program of the table", &place.member, std::iter::empty()));
            };
            // The kernel reads an `unsigned long` there.
            let fd = held.as_fd().as_raw_fd() as usize; // descriptors are not negative
            let start = place.offset as usize;
            if let Some(slot) = value.get_mut(start..start.saturating_add(size_of::<usize>())) {
                slot.copy_from_slice(&fd.to_ne_bytes());
            }
        }
        struct_ops::attach(map.as_map_fd(), &value).map_err(|source| Error::Register {
            object: self.name.clone(),
            map: name.to_owned(),
            source: Box::new(source),
        })
    }
}

//! Global variables before the object is loaded.

use skep_btf::{Btf, Type};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::{GlobalSpec, Spec};
use crate::error::Error;

impl Spec {
    /// The global variable of this name.
    ///
    /// # Errors
    ///
    /// When there is none. The error lists those that there are.
    pub fn find_global(&self, name: &str) -> Result<&GlobalSpec, Error> {
        self.globals.iter().find(|global| global.name == name).ok_or_else(|| Error::NoSuch {
            object: self.name.clone(),
            what: "global variable",
            name: name.to_owned(),
            there: self
                .globals
                .iter()
                .filter(|global| !global.private)
                .map(|global| global.name.clone())
                .collect(),
        })
    }

    /// Sets a global variable, constants included, for when the object is loaded.
    ///
    /// The value must have the variable's size. Its bytes are used as they are: the object must be of the machine's
    /// byte order.
    ///
    /// # Errors
    ///
    /// When there is no such variable, or its size differs.
    ///
    /// ```
    /// use skep::Spec;
    ///
    /// # fn main() -> Result<(), skep::Error> {
    /// let mut spec = Spec::parse("packet_counter", include_bytes!("../../examples/packet_counter.bpf.o"))?;
    /// spec.set_global("sample_every", &10u32)?;
    /// assert_eq!(spec.global::<u32>("sample_every")?, 10);
    /// assert!(spec.set_global("sample_every", &10u64).is_err());
    /// # Ok(())
    /// # }
    /// ```
    pub fn set_global<T: IntoBytes + Immutable + ?Sized>(
        &mut self,
        name: &str,
        value: &T,
    ) -> Result<(), Error> {
        let global = self.find_global(name)?.clone();
        let bytes = value.as_bytes();
        if bytes.len() != global.size as usize {
            return Err(Error::global_size(&self.name, &global, bytes.len()));
        }
        let wrong = Error::global_size(&self.name, &global, bytes.len());
        let Some(map) = self.maps.get_mut(global.map.0) else { return Err(wrong) };
        let (start, end) = (global.offset as usize, global.offset as usize + bytes.len());
        let size = if map.role.is_data() { map.value_size as usize } else { map.contents.len() };
        if end > size {
            return Err(wrong);
        }
        // What a section leaves out at its end is zero, and takes memory where something is written only: it can be far more
        // than the file has.
        if map.contents.len() < end {
            let mut whole = vec![0; end];
            if let Some(there) = whole.get_mut(..map.contents.len()) {
                there.copy_from_slice(&map.contents);
            }
            map.contents = whole;
        }
        map.contents.get_mut(start..end).ok_or(wrong)?.copy_from_slice(bytes);
        Ok(())
    }

    /// The value that a global variable has when the object is loaded.
    ///
    /// # Errors
    ///
    /// When there is no such variable, or its size is not that of `T`.
    pub fn global<T: FromBytes>(&self, name: &str) -> Result<T, Error> {
        let global = self.find_global(name)?;
        if size_of::<T>() != global.size as usize {
            return Err(Error::global_size(&self.name, global, size_of::<T>()));
        }
        let mut bytes = vec![0; size_of::<T>()];
        let contents = self.maps.get(global.map.0).map_or(&[][..], |map| &map.contents);
        let there = contents.get(global.offset as usize..).unwrap_or_default();
        bytes.iter_mut().zip(there).for_each(|(to, from)| *to = *from);
        T::read_from_bytes(&bytes).map_err(|_| Error::global_size(&self.name, global, size_of::<T>()))
    }

    /// The type of a global variable, when the object has types.
    pub fn global_type<'s>(&'s self, global: &GlobalSpec) -> Option<Type<'s>> {
        let btf: &Btf = self.btf.as_ref()?;
        btf.ty(global.type_id?).ok()
    }
}

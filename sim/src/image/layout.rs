//! Where a structure of the kernel has the members that are filled in, looked up once.

use super::memory::MemoryImage;
use super::object::put_bits;
use super::path::{self, Spot, Walk};
use crate::kernel::Inner;
use crate::words::narrow_any;

/// The places of some members of a type.
#[derive(Debug)]
pub(crate) struct Layout {
    size: usize,
    places: Vec<(&'static str, Place)>,
}

/// Where a member is.
#[derive(Clone, Copy, Debug)]
struct Place {
    at: usize,
    size: usize,
    /// First bit and number of bits of a bit field.
    bits: Option<(u32, u32)>,
}

/// Largest structure that is laid out, in bytes.
const SIZE_MAX: usize = 1 << 16;

impl Layout {
    /// Looks up the paths in a type of the kernel. Those that it does not have are left out: which ones these are depends
    /// on its version. `None` when it does not have the type.
    pub(crate) fn new(
        kernel: &Inner,
        name: &str,
        paths: impl IntoIterator<Item = &'static str>,
    ) -> Option<Layout> {
        let (btf, ty) = kernel.type_named(name).ok()?;
        let btf = &btf.btf;
        let size = path::size_of(btf, ty, name).ok()? as usize;
        if size > SIZE_MAX {
            return None;
        }
        // Paths do not go through pointers, so that an empty object tells all places.
        let mut memory = MemoryImage::default();
        let address = memory.allocate(size);
        let mut walk = Walk { btf, memory: &mut memory, makes: false };
        let mut find = |name: &'static str| {
            let spot = walk.find(Spot { address, ty, bits: None }, name).ok()?;
            let at = usize::try_from(spot.address.checked_sub(address)?).ok()?;
            let size = path::size_of(btf, spot.ty, name).ok()? as usize;
            Some((name, Place { at, size, bits: spot.bits }))
        };
        let places = paths.into_iter().filter_map(&mut find).collect();
        Some(Layout { size, places })
    }

    /// The size of the type.
    pub(crate) fn size(&self) -> usize {
        self.size
    }

    /// Whether the type has a member.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.place(name).is_some()
    }

    /// An object with the members that it has of these.
    pub(crate) fn object<'v>(&self, values: impl IntoIterator<Item = (&'v str, u64)>) -> Vec<u8> {
        let mut bytes = vec![0; self.size];
        for (name, value) in values {
            self.set(&mut bytes, name, value);
        }
        bytes
    }

    /// Writes a number into a member, if the type has it.
    fn set(&self, bytes: &mut [u8], name: &str, value: u64) {
        let Some(place) = self.place(name) else { return };
        match place.bits {
            Some(bits) => {
                if let Some(bytes) = bytes.get_mut(place.at..) {
                    put_bits(bytes, bits, value.into());
                }
            }
            None => {
                if let Some(to) = bytes.get_mut(place.at..place.at + place.size) {
                    narrow_any(value, to);
                }
            }
        }
    }

    /// Writes bytes into a member, as far as there is room for them.
    pub(crate) fn set_bytes(&self, bytes: &mut [u8], name: &str, from: &[u8]) {
        let Some(place) = self.place(name) else { return };
        let to = bytes.get_mut(place.at..place.at + place.size).unwrap_or_default();
        to.iter_mut().zip(from).for_each(|(to, from)| *to = *from);
    }

    fn place(&self, name: &str) -> Option<Place> {
        self.places.iter().find(|(known, _)| *known == name).map(|(_, place)| *place)
    }
}

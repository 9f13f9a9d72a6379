//! Why an access to memory is refused.

use super::fault::{FaultKind, Trap};
use super::memory::{Memory, offset};
use super::region::{Handle, Region, What};

impl Memory {
    /// Why an access is refused.
    #[cold]
    pub(crate) fn fault(&self, address: u64, len: usize, write: bool) -> Trap {
        let at = offset(address);
        let why = match self.region(address) {
            Some(Region::Own(own)) if write && !own.writable => format!("{} may only be read", own.what),
            Some(Region::Own(own)) if matches!(own.what, What::Stack) => {
                let size = own.end - own.start.min(own.end);
                format!("offset {} of a stack frame of {size} bytes", at as i64 - own.end as i64)
            }
            Some(Region::Own(own)) => {
                let size = own.end - own.start.min(own.end);
                format!("offset {} of {}, which has {size} bytes", at as i64 - own.start as i64, own.what)
            }
            Some(Region::Shared(shared)) if write && !shared.writable => {
                format!("{} may only be read", shared.what)
            }
            Some(Region::Shared(shared)) => {
                format!("offset {at} of {}, which has {} bytes", shared.what, shared.len)
            }
            Some(Region::View(view)) if write => format!("{} may only be read", view.what()),
            Some(Region::View(view)) => {
                format!("offset {at} of {}, which has {} bytes", view.what(), view.size())
            }
            Some(Region::Arena(_)) => "of an arena so much is not accessed at once".to_owned(),
            Some(Region::Context) if write => {
                format!("the context has no field that can be written at offset {at}")
            }
            Some(Region::Context) => format!("the context has no field of {len} bytes at offset {at}"),
            Some(Region::Handle(Handle::Map(map))) => {
                format!("it is map `{}`, not one of its values", map.name)
            }
            Some(Region::Handle(Handle::Code(_))) => "it is code".to_owned(),
            Some(Region::Handle(Handle::Table { map, .. })) => {
                format!("of map of instructions `{}` only whole addresses can be loaded", map.name)
            }
            Some(Region::Handle(Handle::Other(what, _))) => {
                format!("it is a {what} that only helpers look into")
            }
            Some(Region::Gone(why)) => (*why).to_owned(),
            None if address < 4096 => "it is a null pointer".to_owned(),
            None => "nothing is there".to_owned(),
        };
        FaultKind::Access { write, address, len, why }.into()
    }
}

//! Where the exceptions of a program end.

use skep_btf::{Btf, Kind, TypeId};
use skep_sys::request::Records;

use super::Prog;

/// What the tag of a function begins with that names its exception callback.
const TAG: &[u8] = b"exception_callback:";

impl Prog {
    /// The first slot of the function where its exceptions end.
    pub(crate) fn exception_callback(&self) -> Option<usize> {
        callback(&self.btf.as_ref()?.btf, self.func_info.iter())
    }
}

/// As [`Prog::exception_callback`], of a program that is being loaded.
pub(super) fn callback_of(btf: &Btf, functions: Records<'_>) -> Option<usize> {
    let size = (functions.record_size as usize).max(1);
    callback(btf, functions.bytes.chunks_exact(size))
}

/// The first slot of the function that a declaration tag of the main function names.
fn callback<'a>(btf: &Btf, functions: impl Iterator<Item = &'a [u8]> + Clone) -> Option<usize> {
    let mut functions = functions.filter_map(|record| {
        let (slot, id) = (record.first_chunk::<4>()?, record.get(4..8)?.try_into().ok()?);
        Some((u32::from_ne_bytes(*slot) as usize, TypeId(u32::from_ne_bytes(id))))
    });
    let (_, main) = functions.clone().find(|(slot, _)| *slot == 0)?;
    let mut tags = btf.types().filter(|ty| ty.kind() == Kind::DECL_TAG && ty.type_id() == main);
    let tag = tags.find(|tag| tag.name_bytes().starts_with(TAG))?;
    let name = tag.name_bytes().strip_prefix(TAG)?;
    let found = functions.find(|(_, id)| btf.ty(*id).is_ok_and(|ty| ty.name_bytes() == name));
    found.map(|(slot, _)| slot)
}

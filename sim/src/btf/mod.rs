//! BTF objects.

mod check;
mod header;
mod members;
mod meta;
mod resolve;
#[cfg(test)]
mod tests;

use bytes::Bytes;
use skep_btf::Btf;
use skep_sys::abi::{BtfObjectId, Errno};
use skep_sys::request::BtfInfo;

use crate::features::Features;
use crate::log::Log;
use crate::map::check_structures;

/// A loaded BTF object.
#[derive(Debug)]
pub(crate) struct BtfObject {
    pub(crate) id: u32,
    pub(crate) name: String,
    /// Whether it is the kernel's or a module's own.
    pub(crate) kernel: bool,
    pub(crate) btf: Btf,
}

impl BtfObject {
    pub(crate) fn info(&self, features: Features) -> BtfInfo {
        let mut info = BtfInfo::default();
        info.id = BtfObjectId(self.id);
        info.names_unknown = !features.contains(Features::MODULE_BTF);
        if !info.names_unknown {
            info.name = self.name.clone();
            info.kernel = self.kernel;
        }
        info.size = u32::try_from(self.btf.bytes().len()).unwrap_or(u32::MAX);
        info
    }
}

/// Most bytes of BTF that the kernel takes (`BTF_MAX_SIZE`).
const SIZE_MAX: usize = 16 << 20;

/// Checks BTF as `BPF_BTF_LOAD` does (`btf_parse`).
pub(crate) fn load(bytes: &[u8], features: Features, log: &mut Log<'_>) -> Result<Btf, Errno> {
    if bytes.len() > SIZE_MAX {
        return Err(Errno::E2BIG);
    }
    let checked = check::check(bytes, features, log)?;
    // What newer kernels know of layouts is told by the reader.
    let btf = Btf::parse(Bytes::copy_from_slice(bytes)).and_then(|btf| match checked {
        check::Checked::Whole => Ok(btf),
        check::Checked::Header => btf.check().map(|()| btf),
    });
    let btf = btf.map_err(|error| {
        log.line(&error.to_string());
        Errno::EINVAL
    })?;
    check_structures(&btf)?;
    Ok(btf)
}

//! BTF objects.

use bytes::Bytes;
use skep_btf::{Btf, Kind, Type};
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
/// Length of the header that every kernel knows.
const HEADER_LEN: usize = 24;

/// Checks BTF as `BPF_BTF_LOAD` does.
pub(crate) fn load(bytes: &[u8], features: Features, log: &mut Log<'_>) -> Result<Btf, Errno> {
    if bytes.len() > SIZE_MAX {
        return Err(Errno::E2BIG);
    }
    if bytes.len() < HEADER_LEN {
        log.line("btf_header not found");
        return Err(Errno::EINVAL);
    }
    let header_len = bytes.get(4..8).and_then(|b| b.try_into().ok()).map_or(0, u32::from_ne_bytes);
    if header_len as usize > HEADER_LEN && !features.contains(Features::BTF_LAYOUT) {
        let rest = bytes.get(HEADER_LEN..header_len as usize).unwrap_or_default();
        if rest.iter().any(|&b| b != 0) {
            log.line("Unsupported btf_header");
            return Err(Errno::E2BIG);
        }
    }
    if bytes.get(..2) != Some(&0xeb9f_u16.to_ne_bytes()) {
        log.line("Invalid magic");
        return Err(Errno::EINVAL);
    }
    let btf = Btf::parse(Bytes::copy_from_slice(bytes)).map_err(|error| {
        log.line(&error.to_string());
        Errno::EINVAL
    })?;
    if let Err(error) = btf.check() {
        log.line(&error.to_string());
        return Err(Errno::EINVAL);
    }
    for ty in btf.types() {
        if let Err(reason) = check_type(&ty, features) {
            log.line(&format!("[{}] {reason}", ty.id().0));
            return Err(Errno::EINVAL);
        }
    }
    check_structures(&btf)?;
    Ok(btf)
}

/// What an old kernel does not know of a type.
fn check_type(ty: &Type<'_>, features: Features) -> Result<(), String> {
    let kind = ty.kind();
    let needed = match kind {
        Kind::FUNC | Kind::FUNC_PROTO => Features::BTF_FUNC,
        Kind::VAR | Kind::DATASEC => Features::BTF_DATASEC,
        Kind::FLOAT => Features::BTF_FLOAT,
        Kind::DECL_TAG => Features::BTF_DECL_TAG,
        Kind::TYPE_TAG => Features::BTF_TYPE_TAG,
        Kind::ENUM64 => Features::BTF_ENUM64,
        kind if kind > Kind::LAST => Features::BTF_LAYOUT,
        _ => Features::empty(),
    };
    if !features.contains(needed) {
        return Err(format!("Invalid kind:{}", kind.0));
    }
    if kind == Kind::FUNC && ty.vlen() != 0 && !features.contains(Features::BTF_FUNC_GLOBAL) {
        return Err(format!("FUNC {} vlen != 0", ty.name()));
    }
    if kind == Kind::ENUM && ty.kind_flag() && !features.contains(Features::BTF_ENUM64) {
        return Err("Invalid btf_info kind_flag".to_owned());
    }
    if kind == Kind::DATASEC
        && ty.name_bytes().starts_with(b"?")
        && !features.contains(Features::BTF_QMARK_DATASEC)
    {
        return Err(format!("DATASEC {} Invalid name", ty.name()));
    }
    Ok(())
}

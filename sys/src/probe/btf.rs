//! Probes that load BTF.

use skep_asm::Endian;
use skep_btf::{BtfBuilder, BtfError, IntEncoding, Linkage, SectionVar, TypeId};

use super::{Feature, Inconclusive, Probe, attempt};
use crate::abi::Errno;
use crate::kernel::Kernel;

const LOADING: &str = "load BTF";

/// An `int`, which every blob here begins with.
fn int(builder: &mut BtfBuilder) -> Result<TypeId, BtfError> {
    builder.add_int("int", 4, IntEncoding::SIGNED)
}

/// Makes a blob. These are small and constant, and the tests make them all.
fn blob(
    fill: impl FnOnce(&mut BtfBuilder) -> Result<(), BtfError>,
    layout: bool,
) -> Result<Vec<u8>, Inconclusive> {
    let mut builder = BtfBuilder::new();
    match fill(&mut builder) {
        Ok(()) => Ok(builder.encode(Endian::NATIVE, layout)),
        Err(_) => Err(Inconclusive { trying: "build BTF", errno: Errno::EINVAL }),
    }
}

fn try_blob(kernel: &Kernel, blob: Result<Vec<u8>, Inconclusive>) -> Probe {
    match blob {
        Ok(bytes) => attempt(LOADING, kernel.btf_load(&bytes, None)),
        Err(reason) => Probe::Unknown(reason),
    }
}

pub(super) fn plain(kernel: &Kernel) -> Probe {
    try_blob(kernel, blob(|builder| int(builder).map(drop), false))
}

/// Tries a blob that has something more than an `int`.
pub(super) fn with(kernel: &Kernel, fill: fn(&mut BtfBuilder) -> Result<(), BtfError>) -> Probe {
    match kernel.has(Feature::Btf) {
        Probe::Supported => try_blob(kernel, blob(fill, false)),
        other => other,
    }
}

pub(super) fn layout(kernel: &Kernel) -> Probe {
    match kernel.has(Feature::Btf) {
        Probe::Supported => try_blob(kernel, blob(|builder| int(builder).map(drop), true)),
        other => other,
    }
}

pub(super) fn func(builder: &mut BtfBuilder) -> Result<(), BtfError> {
    function(builder, Linkage::STATIC)
}

pub(super) fn global_func(builder: &mut BtfBuilder) -> Result<(), BtfError> {
    function(builder, Linkage::GLOBAL)
}

fn function(builder: &mut BtfBuilder, linkage: Linkage) -> Result<(), BtfError> {
    let int = int(builder)?;
    let proto = builder.add_func_proto(int)?;
    builder.add_param("a", int)?;
    builder.add_func("f", linkage, proto).map(drop)
}

fn section(builder: &mut BtfBuilder, name: &str) -> Result<(), BtfError> {
    let int = int(builder)?;
    let type_id = builder.add_var("x", Linkage::STATIC, int)?;
    builder.add_datasec(name, 4)?;
    builder.add_section_var(SectionVar { type_id, offset: 0, size: 4 })
}

pub(super) fn datasec(builder: &mut BtfBuilder) -> Result<(), BtfError> {
    section(builder, ".data")
}

pub(super) fn qmark_datasec(builder: &mut BtfBuilder) -> Result<(), BtfError> {
    section(builder, "?.data")
}

pub(super) fn float(builder: &mut BtfBuilder) -> Result<(), BtfError> {
    builder.add_float("float", 4).map(drop)
}

pub(super) fn decl_tag(builder: &mut BtfBuilder) -> Result<(), BtfError> {
    let int = int(builder)?;
    let var = builder.add_var("x", Linkage::STATIC, int)?;
    builder.add_decl_tag("tag", var, None, false).map(drop)
}

pub(super) fn type_tag(builder: &mut BtfBuilder) -> Result<(), BtfError> {
    let int = int(builder)?;
    let tag = builder.add_type_tag("tag", int, false)?;
    builder.add_ptr(tag).map(drop)
}

pub(super) fn enum64(builder: &mut BtfBuilder) -> Result<(), BtfError> {
    builder.add_enum64("e", 8, false)?;
    builder.add_enumerator("big", 1 << 40)
}

pub(super) fn names(kernel: &Kernel) -> Probe {
    let bytes = match blob(|builder| int(builder).map(drop), false) {
        Ok(bytes) => bytes,
        Err(reason) => return Probe::Unknown(reason),
    };
    match kernel.btf_load(&bytes, None) {
        Ok(btf) => match btf.info() {
            Ok(info) if info.names_unknown => Probe::Unsupported,
            Ok(_) => Probe::Supported,
            Err(errno) => Probe::unknown("ask about BTF", errno),
        },
        Err(errno) => attempt::<()>(LOADING, Err(errno)),
    }
}

/// Types of a key of 4 and a value of 8 bytes, for map kinds that demand some: the blob, key and value.
pub(super) fn key_and_value() -> Result<(Vec<u8>, TypeId, TypeId), Inconclusive> {
    let (mut key, mut value) = (TypeId(0), TypeId(0));
    let bytes = blob(
        |builder| {
            key = int(builder)?;
            value = builder.add_int("long", 8, IntEncoding::SIGNED)?;
            Ok(())
        },
        false,
    )?;
    Ok((bytes, key, value))
}

/// Types of a program with a global function whose argument is tagged as the context: the blob, the program's
/// function and the other one.
pub(super) fn tagged_argument() -> Result<(Vec<u8>, TypeId, TypeId), Inconclusive> {
    let (mut main, mut sub) = (TypeId(0), TypeId(0));
    let bytes = blob(
        |builder| {
            let int = int(builder)?;
            let any = builder.add_ptr(TypeId(0))?;
            let proto = builder.add_func_proto(int)?;
            builder.add_param("ctx", any)?;
            main = builder.add_func("main", Linkage::STATIC, proto)?;
            sub = builder.add_func("sub", Linkage::GLOBAL, proto)?;
            builder.add_decl_tag("arg:ctx", sub, Some(0), false)?;
            Ok(())
        },
        false,
    )?;
    Ok((bytes, main, sub))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    #[test]
    fn all_blobs_are_well_formed() {
        let fills = [func, global_func, datasec, qmark_datasec, float, decl_tag, type_tag, enum64];
        for fill in fills {
            let bytes = blob(fill, false).unwrap();
            skep_btf::Btf::parse(bytes).unwrap().check().unwrap();
        }
        for (bytes, ..) in [key_and_value().unwrap(), tagged_argument().unwrap()] {
            skep_btf::Btf::parse(bytes).unwrap().check().unwrap();
        }
    }
}

//! The structural part of the verifier.

use std::sync::Arc;

use skep_asm::pseudo;
use skep_sys::abi::{Errno, MapType};
use skep_sys::request::ProgLoad;

use super::Target;
use crate::btf::BtfObject;
use crate::features::Features;
use crate::kernel::Inner;
use crate::log::Log;
use crate::map::Map;

/// Checks a program and finds the maps that it uses, in the order of their first use.
pub(crate) fn verify(
    kernel: &Inner,
    request: &ProgLoad<'_>,
    _btf: Option<&BtfObject>,
    _gpl_compatible: bool,
    _target: Option<&Target>,
    log: &mut Log<'_>,
) -> Result<Vec<Arc<Map>>, Errno> {
    let result = maps(kernel, request, log);
    log.stats(&format!(
        "processed {} insns (limit 1000000) max_states_per_insn 0 total_states 0 peak_states 0 mark_read 0",
        if result.is_ok() { request.insns.len() } else { 0 }
    ));
    result
}

fn maps(kernel: &Inner, request: &ProgLoad<'_>, log: &mut Log<'_>) -> Result<Vec<Arc<Map>>, Errno> {
    let mut maps: Vec<Arc<Map>> = Vec::new();
    let mut insns = request.insns.iter();
    while let Some(insn) = insns.next() {
        if !insn.is_ld_imm64() {
            continue;
        }
        let Some(high) = insns.next() else {
            log.line("invalid bpf_ld_imm64 insn");
            return Err(Errno::EINVAL);
        };
        let map = match insn.src_raw() {
            pseudo::MAP_FD | pseudo::MAP_VALUE => {
                kernel.object_number(insn.imm).and_then(|o| o.map().cloned())
            }
            _ => continue,
        };
        let map = map.inspect_err(|_| {
            log.line(&format!("fd {} is not pointing to valid bpf_map", insn.imm));
        })?;
        if insn.src_raw() == pseudo::MAP_VALUE {
            check_value(kernel, &map, high.imm as u32, log)?;
        }
        if !maps.iter().any(|m| Arc::ptr_eq(m, &map)) {
            maps.push(map);
        }
    }
    Ok(maps)
}

fn check_value(kernel: &Inner, map: &Map, offset: u32, log: &mut Log<'_>) -> Result<(), Errno> {
    if !kernel.features().contains(Features::GLOBAL_DATA) {
        log.line("unrecognized bpf_ld_imm64 insn");
        return Err(Errno::EINVAL);
    }
    if !matches!(map.shape.kind, MapType::ARRAY) {
        log.line("no direct value access support for this map type");
        return Err(Errno::EINVAL);
    }
    let errno = if map.shape.max_entries != 1 {
        Errno::ENOTSUPP
    } else if offset >= map.shape.value_size {
        Errno::EINVAL
    } else {
        return Ok(());
    };
    let size = map.shape.value_size;
    log.line(&format!("invalid access to map value pointer, value_size={size} off={offset}"));
    Err(errno)
}

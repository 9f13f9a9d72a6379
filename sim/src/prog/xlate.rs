//! The code of loaded programs as a kernel shows it.

use skep_asm::{Insn, pseudo};
use skep_sys::request::ProgLoad;

use super::layout;
use crate::kernel::Inner;

/// The instructions of a program that was accepted, as `bpf_insn_prepare_dump` shows them: maps by their ids, calls of
/// sub-programs by the distance in the offset and the number of the sub-program. Calls of helpers keep their numbers,
/// since there are no addresses here.
pub(super) fn xlated(kernel: &Inner, request: &ProgLoad<'_>) -> Vec<Insn> {
    let mut insns = request.insns.to_vec();
    let starts = layout::subprograms(request.insns).unwrap_or_default();
    let number = |target: i64| starts.iter().position(|&start| start as i64 == target).unwrap_or(0) as i32;
    let mut index = 0;
    while let Some(insn) = request.insns.get(index) {
        let object = match insn.src_raw() {
            _ if !insn.is_ld_imm64() => None,
            pseudo::MAP_FD | pseudo::MAP_VALUE => kernel.object_number(insn.imm).ok(),
            pseudo::MAP_IDX | pseudo::MAP_IDX_VALUE => {
                let fd =
                    usize::try_from(insn.imm).ok().and_then(|at| request.fd_array.get(at).copied().flatten());
                fd.and_then(|fd| kernel.object(fd).ok())
            }
            _ => None,
        };
        let map = object.as_ref().and_then(|object| object.map().ok());
        let target = insn.func_target(index);
        if let Some(shown) = insns.get_mut(index) {
            if let Some(map) = map {
                let value = matches!(insn.src_raw(), pseudo::MAP_VALUE | pseudo::MAP_IDX_VALUE);
                shown.set_src_raw(if value { pseudo::MAP_VALUE } else { pseudo::MAP_FD });
                shown.imm = map.id.cast_signed();
            }
            if let Some(target) = target.filter(|_| insn.is_pseudo_call()) {
                // The kernel cuts longer distances, too.
                shown.off = insn.imm as i16;
                shown.imm = number(target);
            }
        }
        if let (Some(target), Some(high)) =
            (target.filter(|_| insn.is_pseudo_func()), insns.get_mut(index + 1))
        {
            high.imm = number(target);
        }
        index += insn.slots();
    }
    insns
}

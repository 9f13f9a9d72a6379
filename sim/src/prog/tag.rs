//! Program tags.

use sha1::Sha1;
use sha2::{Digest, Sha256};
use skep_asm::{Endian, Insn, pseudo};

/// Hash of a program's instructions with both immediates of map loads zeroed, in the byte order of the machine.
///
/// Kernels hash with SHA-256 since 6.18 and with SHA-1 before. The tag is the first eight bytes.
pub(crate) fn tag(insns: &[Insn], sha256: bool) -> [u8; 8] {
    let endian = if cfg!(target_endian = "big") { Endian::Big } else { Endian::Little };
    let mut bytes = Vec::with_capacity(insns.len().saturating_mul(Insn::SIZE));
    let mut in_map_load = false;
    for insn in insns {
        let mut insn = *insn;
        if in_map_load {
            insn.imm = 0;
            in_map_load = false;
        } else if insn.is_ld_imm64() && matches!(insn.src_raw(), pseudo::MAP_FD | pseudo::MAP_VALUE) {
            insn.imm = 0;
            in_map_load = true;
        }
        bytes.extend_from_slice(&insn.to_bytes(endian));
    }
    if sha256 { first(&Sha256::digest(&bytes)) } else { first(&Sha1::digest(&bytes)) }
}

fn first(hash: &[u8]) -> [u8; 8] {
    hash.first_chunk().copied().unwrap_or_default()
}

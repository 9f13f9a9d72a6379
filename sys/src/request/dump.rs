use skep_asm::Insn;

use crate::abi::TAG_SIZE;

/// The code of a loaded program, and what the kernel keeps beside it.
///
/// What the kernel does not have, or does not show to this process, is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProgDump {
    /// Instructions as the verifier left them. Loads of maps have the ids of the maps where they had descriptors.
    pub xlated: Vec<Insn>,
    /// Machine code of all functions, one behind the other.
    pub jited: Vec<u8>,
    /// Address of each function's machine code in the kernel (Linux 4.18).
    pub jited_ksyms: Vec<u64>,
    /// Length of each function's machine code in bytes (Linux 4.18).
    pub jited_func_lens: Vec<u32>,
    /// Function records, `struct bpf_func_info`, offsets in instructions (Linux 5.0).
    pub func_info: OwnedRecords,
    /// Line records, `struct bpf_line_info`, offsets in instructions (Linux 5.0).
    pub line_info: OwnedRecords,
    /// Address in the kernel of the machine code of each line record (Linux 5.0).
    pub jited_line_info: Vec<u64>,
    /// Tag of each function (Linux 5.0).
    pub tags: Vec<[u8; TAG_SIZE]>,
}

/// A table of fixed-size records in the byte order of the machine, as [`Records`](super::Records) but owned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OwnedRecords {
    /// Size of one record in bytes; 0 when there are none.
    pub record_size: u32,
    /// The records, one after the other.
    pub bytes: Vec<u8>,
}

impl OwnedRecords {
    /// The records, one slice each.
    pub fn iter(&self) -> std::slice::ChunksExact<'_, u8> {
        self.bytes.chunks_exact((self.record_size as usize).max(1))
    }
}

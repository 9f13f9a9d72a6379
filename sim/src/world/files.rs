//! What tests say of files.

use std::collections::BTreeMap;

use crate::kernel::SimKernel;

/// Hashes of files and ids of builds.
#[derive(Clone, Debug, Default)]
pub(crate) struct Files {
    /// By the address of a `file` or an `inode`: the algorithm and the hash.
    hashes: BTreeMap<u64, (u32, Vec<u8>)>,
    build_ids: BTreeMap<String, [u8; 20]>,
}

impl Files {
    pub(crate) fn hash(&self, address: u64) -> Option<(u32, &[u8])> {
        self.hashes.get(&address).map(|(algorithm, hash)| (*algorithm, hash.as_slice()))
    }

    pub(crate) fn build_id(&self, path: &str) -> Option<[u8; 20]> {
        self.build_ids.get(path).copied()
    }
}

impl SimKernel {
    /// What `bpf_ima_file_hash` and `bpf_ima_inode_hash` answer for the `file` or `inode` at an address: the number of the
    /// algorithm (`HASH_ALGO_SHA256` is 4) and the hash.
    pub fn set_file_hash(&self, address: u64, algorithm: u32, hash: impl Into<Vec<u8>>) {
        self.0.world().files.hashes.insert(address, (algorithm, hash.into()));
    }

    /// The build id of a file that [processes](crate::Builder::process) have mapped, for stacks with build ids.
    pub fn set_build_id(&self, path: impl Into<String>, id: [u8; 20]) {
        self.0.world().files.build_ids.insert(path.into(), id);
    }
}

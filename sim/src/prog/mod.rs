//! Programs.

mod dump;
mod flow;
mod helpers;
mod info;
mod insn;
mod layout;
mod load;
mod refs;
mod tag;
#[cfg(test)]
mod tests;
mod verify;

use std::sync::{Arc, Mutex, PoisonError};

use skep_asm::Insn;
use skep_btf::Kind;
use skep_sys::abi::{AttachType, BtfObjectId, MapId, ProgId, ProgType};
use skep_sys::request::ProgInfo;

use crate::btf::BtfObject;
use crate::map::Map;

pub(crate) use load::load;

/// A loaded program.
#[derive(Debug)]
pub(crate) struct Prog {
    pub(crate) id: u32,
    pub(crate) prog_type: ProgType,
    pub(crate) expected_attach_type: AttachType,
    /// What it said it attaches to.
    pub(crate) target: Option<Target>,
    name: String,
    tag: [u8; 8],
    insns: Vec<Insn>,
    /// Maps that its instructions refer to, and those that were bound to it.
    maps: Mutex<Vec<Arc<Map>>>,
    btf: Option<Arc<BtfObject>>,
    gpl_compatible: bool,
    nr_func_info: u32,
    nr_line_info: u32,
    load_time: u64,
    uid: u32,
}

/// The type of a kernel's or a program's BTF that a program attaches to.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) type_id: u32,
    /// Name of the type, without the prefix that tracepoints have.
    pub(crate) name: String,
    /// Kind of the type; `VOID` when there is no such type.
    pub(crate) kind: Kind,
    /// Id of the BTF object, and of the program for an extension.
    pub(crate) obj_id: u32,
    /// The program whose function it is.
    pub(crate) prog: Option<Arc<Prog>>,
}

/// Memory that a program of so many instructions is charged with, in bytes: whole pages.
pub(crate) fn memory(insns: usize) -> usize {
    insns.saturating_mul(Insn::SIZE).next_multiple_of(4096)
}

impl Prog {
    pub(crate) fn memory(&self) -> usize {
        memory(self.insns.len())
    }

    pub(crate) fn info(&self) -> ProgInfo {
        let mut info = ProgInfo::default();
        info.prog_type = self.prog_type;
        info.id = ProgId(self.id);
        info.tag = self.tag;
        info.name = self.name.clone();
        info.xlated_len = u32::try_from(self.insns.len().saturating_mul(Insn::SIZE)).unwrap_or(u32::MAX);
        info.load_time = self.load_time;
        info.created_by_uid = self.uid;
        info.map_ids =
            self.maps.lock().unwrap_or_else(PoisonError::into_inner).iter().map(|m| MapId(m.id)).collect();
        info.btf_id = BtfObjectId(self.btf.as_ref().map_or(0, |btf| btf.id));
        info.verified_insns = u32::try_from(self.insns.len()).unwrap_or(u32::MAX);
        info.gpl_compatible = self.gpl_compatible;
        info.nr_func_info = self.nr_func_info;
        info.nr_line_info = self.nr_line_info;
        info
    }

    /// Holds a map that the instructions do not mention (`BPF_PROG_BIND_MAP`).
    pub(crate) fn bind_map(&self, map: &Arc<Map>) {
        let mut maps = self.maps.lock().unwrap_or_else(PoisonError::into_inner);
        if !maps.iter().any(|m| Arc::ptr_eq(m, map)) {
            maps.push(map.clone());
        }
    }

    /// Whether the kernel has `BPF_PROG_TEST_RUN` for this kind.
    pub(crate) fn can_be_tested(&self) -> bool {
        matches!(
            self.prog_type,
            ProgType::SOCKET_FILTER
                | ProgType::SCHED_CLS
                | ProgType::SCHED_ACT
                | ProgType::XDP
                | ProgType::CGROUP_SKB
                | ProgType::LWT_IN
                | ProgType::LWT_OUT
                | ProgType::LWT_XMIT
                | ProgType::RAW_TRACEPOINT
                | ProgType::FLOW_DISSECTOR
                | ProgType::TRACING
                | ProgType::STRUCT_OPS
                | ProgType::SK_LOOKUP
                | ProgType::SYSCALL
                | ProgType::NETFILTER
        )
    }
}

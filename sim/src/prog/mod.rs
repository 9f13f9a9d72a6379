//! Programs.

mod device;
mod entry;
mod exception;
mod flow;
mod helpers;
mod info;
mod insn;
mod kfuncs;
mod layout;
mod load;
mod refs;
mod stack;
mod tag;
#[cfg(test)]
mod tests;
mod verify;
mod xlate;

use std::sync::{Arc, Mutex, PoisonError};

use skep_asm::Insn;
use skep_btf::{Kind, TypeId};
use skep_sys::abi::{AttachType, BtfObjectId, MapId, ProgId, ProgType};
use skep_sys::request::{OwnedRecords, ProgDump, ProgInfo};

use crate::btf::BtfObject;
use crate::map::Map;
use crate::object::Object;
use crate::vm::{Code, SourceLine};

pub(crate) use helpers::Helpers as HelperNames;
use info::Lines;
pub(crate) use load::{Draft, load};

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
    /// As a dump shows them.
    insns: Vec<Insn>,
    /// Maps that its instructions refer to, and those that were bound to it.
    maps: Mutex<Vec<Arc<Map>>>,
    /// As it is executed.
    pub(crate) code: Code,
    lines: Lines,
    btf: Option<Arc<BtfObject>>,
    gpl_compatible: bool,
    func_info: OwnedRecords,
    line_info: OwnedRecords,
    has_subprograms: bool,
    /// Whether it may have pointers that the kernel gave it with a type.
    typed: bool,
    load_time: u64,
    uid: u32,
    /// The device that it is bound to.
    pub(crate) device: Option<u32>,
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

fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

impl Prog {
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The instructions as a dump shows them.
    pub(crate) fn insns(&self) -> &[Insn] {
        &self.insns
    }

    /// The BTF that the program was loaded with.
    pub(crate) fn btf(&self) -> Option<&Arc<BtfObject>> {
        self.btf.as_ref()
    }

    pub(crate) fn tag(&self) -> [u8; 8] {
        self.tag
    }

    /// Its functions by their first slots: slot and type. Only what its types tell.
    fn function_types(&self) -> impl Iterator<Item = (usize, TypeId)> {
        self.func_info.iter().filter_map(|record| {
            let (words, _) = record.as_chunks::<4>();
            let [start, type_id] = *words.first_chunk()?;
            Some((u32::from_ne_bytes(start) as usize, TypeId(u32::from_ne_bytes(type_id))))
        })
    }

    /// Its functions by their first slots: slot and name.
    pub(crate) fn functions(&self) -> Vec<(usize, String)> {
        let named =
            |(start, type_id)| Some((start, self.btf.as_ref()?.btf.ty(type_id).ok()?.name().into_owned()));
        self.function_types().filter_map(named).collect()
    }

    /// First slot of the function that a slot is in; that of the program where no types tell.
    pub(crate) fn function_start(&self, slot: usize) -> usize {
        let starts = self.function_types().map(|(start, _)| start);
        starts.take_while(|&start| start <= slot).last().unwrap_or(0)
    }

    /// Type of the function that a slot is in.
    pub(crate) fn function_type(&self, slot: usize) -> Option<TypeId> {
        self.function_types().take_while(|&(start, _)| start <= slot).last().map(|(_, type_id)| type_id)
    }

    /// Name of the function that a slot is in.
    pub(crate) fn function_name(&self, slot: usize) -> Option<String> {
        Some(self.btf.as_ref()?.btf.ty(self.function_type(slot)?).ok()?.name().into_owned())
    }

    /// Where the instruction in a slot comes from.
    pub(crate) fn source_line(&self, slot: usize) -> Option<SourceLine> {
        self.lines.source(&self.btf.as_ref()?.btf, slot)
    }

    /// Whether it may load through pointers that the kernel gave it with a type, where null reads as 0.
    pub(crate) fn has_typed_pointers(&self) -> bool {
        self.typed
    }

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
        info.nr_func_info = count(self.func_info.iter().len());
        info.nr_line_info = count(self.line_info.iter().len());
        if let Some(target) = &self.target {
            let of_program = target.prog.as_ref().and_then(|prog| prog.btf.as_ref()).map(|btf| btf.id);
            info.attach_btf_obj_id = BtfObjectId(of_program.unwrap_or(target.obj_id));
            info.attach_btf_id = target.type_id;
        }
        info
    }

    /// The code. There is none for a machine, and only the whole program has a tag.
    pub(crate) fn dump(&self) -> ProgDump {
        let mut dump = ProgDump::default();
        dump.xlated = self.insns.clone();
        dump.func_info = self.func_info.clone();
        dump.line_info = self.line_info.clone();
        if !self.has_subprograms {
            dump.tags = vec![self.tag];
        }
        dump
    }

    /// The objects that it keeps alive.
    pub(crate) fn refers_to(&self) -> Vec<Object> {
        let maps = self.save().into_iter().chain(self.code.maps().iter().cloned()).map(Object::Map);
        let btf = self.btf.iter().cloned().map(Object::Btf);
        let target = self.target.iter().filter_map(|target| target.prog.clone()).map(Object::Prog);
        maps.chain(btf).chain(target).collect()
    }

    /// What a snapshot keeps: the maps that are bound.
    pub(crate) fn save(&self) -> Vec<Arc<Map>> {
        self.maps.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn restore(&self, saved: &[Arc<Map>]) {
        *self.maps.lock().unwrap_or_else(PoisonError::into_inner) = saved.to_vec();
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

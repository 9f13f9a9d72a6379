//! What instructions of a loaded program refer to.

use std::collections::{BTreeMap, BTreeSet};
use std::io::BufReader;

use skep_asm::{Insn, pseudo};
use skep_sys::Kernel;
use skep_sys::abi::{MapId, helper_name};
use skep_sys::request::ProgDump;

use crate::reloc::{PlacedFunction, kallsyms};

/// What distances of calls are counted from.
const CALL_BASE: &str = "__bpf_call_base";

/// Names that a program's instructions need.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Names {
    /// By the immediate of a call.
    functions: BTreeMap<i32, String>,
    /// By number, how the kernel calls sub-programs.
    subprograms: Vec<String>,
    pub(super) maps: BTreeMap<MapId, String>,
}

impl Names {
    pub(super) fn of(
        kernel: &Kernel,
        dump: &ProgDump,
        functions: &[PlacedFunction],
        maps: &[MapId],
    ) -> Names {
        let called = dump.xlated.iter().filter(|insn| insn.is_call() && insn.src_raw() != pseudo::CALL);
        let called: BTreeSet<i32> = called.map(|insn| insn.imm).collect();
        let subprograms =
            functions.iter().enumerate().map(|(number, function)| match dump.tags.get(number) {
                Some(tag) => {
                    let tag: String = tag.iter().map(|byte| format!("{byte:02x}")).collect();
                    format!("bpf_prog_{tag}_{}", function.name)
                }
                None => function.name.clone(),
            });
        let name = |id: &MapId| {
            let info = kernel.map_by_id(*id, Default::default()).ok()?.info().ok()?;
            (!info.name.is_empty()).then_some((*id, info.name))
        };
        Names {
            functions: function_names(kernel, &called),
            subprograms: subprograms.collect(),
            maps: maps.iter().filter_map(name).collect(),
        }
    }

    pub(super) fn call(&self, insn: &Insn) -> String {
        if insn.src_raw() == pseudo::CALL {
            let name = usize::try_from(insn.imm).ok().and_then(|number| self.subprograms.get(number));
            let name = name.map(|name| format!("#{name}")).unwrap_or_default();
            return format!("{:+}{name}", insn.off);
        }
        let name = self.functions.get(&insn.imm).map_or("unknown", String::as_str);
        format!("{name}#{}", insn.imm)
    }

    /// The value of a 64-bit load; with the name of a map where that is wanted.
    pub(super) fn imm64(&self, low: &Insn, high: &Insn, with_names: bool) -> String {
        let id = || {
            let id = MapId(low.imm.cast_unsigned());
            match self.maps.get(&id).filter(|_| with_names) {
                Some(name) => format!("map[id:{id} {name}]"),
                None => format!("map[id:{id}]"),
            }
        };
        match low.src_raw() {
            pseudo::MAP_FD => id(),
            pseudo::MAP_VALUE => format!("{}[0]+{}", id(), high.imm.cast_unsigned()),
            pseudo::MAP_IDX_VALUE => format!("map[idx:{}]+{}", low.imm, high.imm),
            pseudo::FUNC => format!("subprog[{:+}]", low.imm),
            _ => format!("{:#x}", Insn::imm64(low, high)),
        }
    }
}

/// The functions that calls go to: distances from a symbol, or where nothing is at any address, numbers of helpers.
fn function_names(kernel: &Kernel, called: &BTreeSet<i32>) -> BTreeMap<i32, String> {
    let symbols = || kernel.backend().symbols().ok().map(BufReader::new);
    if called.is_empty() {
        return BTreeMap::new();
    }
    let base = symbols().and_then(|text| kallsyms::find(text, &[CALL_BASE]).ok()?.first().copied().flatten());
    let Some(base) = base else {
        let named = called.iter().filter(|&&number| number != 0);
        return named.filter_map(|&number| Some((number, helper_name(number)?.to_owned()))).collect();
    };
    let addresses: BTreeMap<u64, i32> =
        called.iter().map(|&imm| (base.wrapping_add_signed(imm.into()), imm)).collect();
    let found = symbols().and_then(|text| kallsyms::names(text, &addresses).ok()).unwrap_or_default();
    let number = |imm: i32| {
        // Not a distance: the kernel has no function for it.
        const TAIL_CALL: i32 = 12;
        if imm == TAIL_CALL { helper_name(imm).map(str::to_owned) } else { None }
    };
    let name = |(address, imm): (&u64, &i32)| {
        let unnamed = || number(*imm).unwrap_or_else(|| format!("{address:#x}"));
        (*imm, found.get(address).cloned().unwrap_or_else(unnamed))
    };
    addresses.iter().map(name).collect()
}

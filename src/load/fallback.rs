//! What a program can do without on kernels that lack it. Each is tried after a refusal that may come from it, and only
//! where a probe finds it missing or the kernel itself says so.

use std::cell::OnceCell;

use skep_asm::{Insn, opcode};
use skep_sys::abi::{AttachType, Errno};
use skep_sys::request::{KnownRecords, ProgLoad, Records};
use skep_sys::{Feature, Kernel};

use crate::reloc::{Placeholder, PlaceholderValue, ProgramPlan};

/// What fallbacks put in place of parts of a request.
#[derive(Default)]
pub(super) struct Spare {
    insns: OnceCell<Vec<Insn>>,
    func_info: OnceCell<Vec<u8>>,
    line_info: OnceCell<Vec<u8>>,
    /// What the kernel said at the last refusal.
    pub(super) known: KnownRecords,
}

/// A refusal that fallbacks look at.
pub(super) struct Refused<'r> {
    pub(super) kernel: &'r Kernel,
    pub(super) plan: &'r ProgramPlan,
    pub(super) errno: Errno,
}

/// Changes a request, and says what it changed; none when it does not apply.
type Fallback = for<'r> fn(&Refused<'_>, &mut ProgLoad<'r>, &'r Spare) -> Option<&'static str>;

/// All of them, in the order in which kernels look at the parts.
pub(super) const ALL: [Fallback; 6] = [
    without_attach_type,
    without_name,
    without_records,
    with_short_function_records,
    with_short_line_records,
    with_old_helpers,
];

impl Refused<'_> {
    /// How a kernel refuses what it does not know.
    fn as_unknown(&self) -> bool {
        matches!(self.errno, Errno::EINVAL | Errno::E2BIG)
    }

    fn lacks(&self, feature: Feature) -> bool {
        self.kernel.has(feature).is_unsupported()
    }
}

/// What there is no fallback for.
pub(super) const NO_GLOBAL_DATA: &str = "this kernel knows no global data (Linux 5.2): use a declared map";

/// Whether a program was refused because it uses global data.
pub(super) fn lacks_global_data(refused: &Refused<'_>) -> bool {
    let uses = |placeholder: &Placeholder| matches!(placeholder.value, PlaceholderValue::MapValue(_));
    refused.as_unknown() && refused.plan.placeholders.iter().any(uses) && refused.lacks(Feature::GlobalData)
}

fn without_attach_type<'r>(
    refused: &Refused<'_>,
    request: &mut ProgLoad<'r>,
    _: &'r Spare,
) -> Option<&'static str> {
    let old = refused.as_unknown()
        && refused.plan.attach_type_optional
        && refused.plan.attach_type.0 != 0
        && refused.lacks(Feature::ExpectedAttachType);
    old.then(|| {
        request.expected_attach_type = AttachType(0);
        "loaded without an attach type, which this kernel does not know"
    })
}

fn without_name<'r>(refused: &Refused<'_>, request: &mut ProgLoad<'r>, _: &'r Spare) -> Option<&'static str> {
    let old = refused.as_unknown() && !request.name.is_empty() && refused.lacks(Feature::ProgName);
    old.then(|| {
        request.name = "";
        "loaded without a name, which this kernel does not know"
    })
}

fn without_records<'r>(
    refused: &Refused<'_>,
    request: &mut ProgLoad<'r>,
    _: &'r Spare,
) -> Option<&'static str> {
    let old = refused.as_unknown() && request.btf.is_some() && refused.lacks(Feature::BtfFunc);
    old.then(|| {
        request.btf = None;
        request.func_info = Records::default();
        request.line_info = Records::default();
        "loaded without function and line records, which this kernel does not know"
    })
}

fn with_short_function_records<'r>(
    refused: &Refused<'_>,
    request: &mut ProgLoad<'r>,
    spare: &'r Spare,
) -> Option<&'static str> {
    let bytes = shortened(refused, request.func_info, spare.known.func_info.get())?;
    request.func_info.bytes = spare.func_info.get_or_init(|| bytes);
    Some("loaded with shorter function records: this kernel does not know all that they hold")
}

fn with_short_line_records<'r>(
    refused: &Refused<'_>,
    request: &mut ProgLoad<'r>,
    spare: &'r Spare,
) -> Option<&'static str> {
    let bytes = shortened(refused, request.line_info, spare.known.line_info.get())?;
    request.line_info.bytes = spare.line_info.get_or_init(|| bytes);
    Some("loaded with shorter line records: this kernel does not know all that they hold")
}

/// Records with zeros behind the bytes that the kernel says it knows.
fn shortened(refused: &Refused<'_>, records: Records<'_>, known: u32) -> Option<Vec<u8>> {
    if refused.errno != Errno::E2BIG || known == 0 || known >= records.record_size {
        return None;
    }
    let mut bytes = records.bytes.to_vec();
    for record in bytes.chunks_exact_mut(records.record_size as usize) {
        record.iter_mut().skip(known as usize).for_each(|byte| *byte = 0);
    }
    Some(bytes)
}

/// The one helper that read memory of the kernel and of processes before there were two of them, for each of these.
fn old_helper(insn: &Insn) -> Option<i32> {
    const PROBE_READ: i32 = 4;
    const PROBE_READ_STR: i32 = 45;
    if insn.opcode != opcode::CALL || insn.src_raw() != 0 {
        return None;
    }
    match insn.imm {
        112 | 113 => Some(PROBE_READ),
        114 | 115 => Some(PROBE_READ_STR),
        _ => None,
    }
}

fn with_old_helpers<'r>(
    refused: &Refused<'_>,
    request: &mut ProgLoad<'r>,
    spare: &'r Spare,
) -> Option<&'static str> {
    if !refused.as_unknown()
        || !request.insns.iter().any(|insn| old_helper(insn).is_some())
        || !refused.lacks(Feature::ProbeReadKernel)
    {
        return None;
    }
    let mut insns = request.insns.to_vec();
    for insn in &mut insns {
        if let Some(helper) = old_helper(insn) {
            insn.imm = helper;
        }
    }
    request.insns = spare.insns.get_or_init(|| insns);
    Some(
        "reads memory with `bpf_probe_read` and `bpf_probe_read_str`: this kernel has no helpers for one kind of memory",
    )
}

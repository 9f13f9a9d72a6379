//! Gives the kernel the object's types, in the form that it understands.

use skep_btf::{Btf, KernelBtfFeatures, sanitize};
use skep_sys::request::LogBuffer;
use skep_sys::{BtfFd, Feature, Kernel, Probe};

use super::report::{LoadReport, NoteKind};

const LOG_SIZE: usize = 1 << 20;

/// Uploads the types. Programs and maps work without them, with less to show for: when the kernel takes no form of
/// them, the report says why.
pub(super) fn load(kernel: &Kernel, btf: &Btf, report: &mut LoadReport) -> Option<BtfFd> {
    const SUBJECT: &str = ".BTF";
    if let Ok(fd) = kernel.btf_load(btf.bytes(), None) {
        return Some(fd);
    }
    let lacking = |feature| matches!(kernel.has(feature), Probe::Unsupported);
    if lacking(Feature::Btf) {
        report.add(NoteKind::Skipped, SUBJECT, "this kernel takes no BTF");
        return None;
    }
    let mut features = KernelBtfFeatures::default();
    features.func = !lacking(Feature::BtfFunc);
    features.datasec = !lacking(Feature::BtfDatasec);
    features.global_func = !lacking(Feature::BtfGlobalFunc);
    features.float = !lacking(Feature::BtfFloat);
    features.decl_tag = !lacking(Feature::BtfDeclTag);
    features.type_tag = !lacking(Feature::BtfTypeTag);
    features.enum64 = !lacking(Feature::BtfEnum64);
    features.qmark_datasec = !lacking(Feature::BtfQmarkDatasec);
    features.layout = !lacking(Feature::BtfLayout);
    let adapted = sanitize(btf, &features).ok().flatten();
    let bytes = adapted.as_deref().unwrap_or(btf.bytes());
    let mut log = LogBuffer::new(1, LOG_SIZE);
    match kernel.btf_load(bytes, Some(&mut log)) {
        Ok(fd) => {
            if adapted.is_some() {
                report.add(
                    NoteKind::Adapted,
                    SUBJECT,
                    "uploaded without kinds of types that this kernel does not know",
                );
            }
            Some(fd)
        }
        Err(errno) => {
            let text = log.text();
            let last =
                text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("no log").trim().to_owned();
            report.add(NoteKind::Skipped, SUBJECT, format!("the kernel did not take it ({errno}): {last}"));
            None
        }
    }
}

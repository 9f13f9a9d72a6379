//! One object and one kernel.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use skep::Spec;
use skep::asm::Endian;
use skep::btf::Btf;
use skep::btf::relo::Applied;
use skep::reloc::{
    BtfTarget, FailedExtern, MissingKind, Plan, Poison, Poisoned, ProgramPlan, Reach, RelocateError,
    SourceLine, Survey, Target, Unknown,
};
use skep::spec::{ExternIndex, ExternKind, ProgramSpec};

use crate::out;

/// Places that are listed of a program. A file may have any number.
const MAX_LISTED: usize = 1000;

/// What is known of an object and a kernel.
#[derive(Serialize)]
pub(super) struct Pair {
    pub(super) file: String,
    pub(super) btf: String,
    /// Nothing fails for sure.
    pub(super) ok: bool,
    pub(super) verdict: Verdict,
    pub(super) error: Option<String>,
    /// What the object needs to know of the kernel, and what describes the kernel does not say.
    pub(super) unknown: Vec<NotKnown>,
    pub(super) notes: Vec<String>,
    pub(super) programs: Vec<Program>,
}

/// Something that the object needs to know and that is not known of the kernel.
#[derive(Serialize, Debug)]
pub(super) struct NotKnown {
    /// Name of the extern.
    name: String,
    /// What the description of the kernel leaves out.
    needs: &'static str,
    reason: String,
}

/// How it comes out.
#[derive(Serialize, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "snake_case")]
pub(super) enum Verdict {
    /// Everything is there, or what is not is guarded.
    Ok,
    /// It depends on what is not known of the kernel.
    Unknown,
    /// It cannot be made ready, or the verifier comes to what is missing.
    Fails,
}

#[derive(Serialize)]
pub(super) struct Program {
    pub(super) name: String,
    pub(super) section: String,
    #[serde(rename = "type")]
    pub(super) prog_type: String,
    pub(super) ok: bool,
    pub(super) verdict: Verdict,
    pub(super) error: Option<String>,
    pub(super) missing: Vec<Missing>,
}

/// Something that the kernel lacks.
#[derive(Serialize)]
pub(super) struct Missing {
    pub(super) kind: &'static str,
    /// Its name, the same for all kernels.
    pub(super) what: String,
    /// Why it is not there, in full.
    pub(super) why: String,
    pub(super) function: Option<String>,
    pub(super) instruction: Option<u32>,
    pub(super) source: Option<Source>,
    /// Whether the verifier never comes to it; null when that depends on what is not known of the kernel.
    pub(super) guarded: Option<bool>,
}

#[derive(Serialize, Clone, PartialEq)]
pub(super) struct Source {
    pub(super) file: String,
    pub(super) line: u32,
    pub(super) column: u32,
    pub(super) text: String,
}

impl Pair {
    /// The names of what is not known, by why.
    pub(super) fn unknown_by_reason(&self) -> BTreeMap<String, Vec<&str>> {
        let mut by_reason: BTreeMap<String, Vec<&str>> = BTreeMap::new();
        for NotKnown { name, needs, reason } in &self.unknown {
            by_reason.entry(format!("{needs} {reason}")).or_default().push(name);
        }
        by_reason
    }

    /// A pair of which nothing can be said but why.
    pub(super) fn failed(file: &str, btf: &str, error: String) -> Pair {
        Pair {
            file: file.to_owned(),
            btf: btf.to_owned(),
            ok: false,
            verdict: Verdict::Fails,
            error: Some(error),
            unknown: Vec::new(),
            notes: Vec::new(),
            programs: Vec::new(),
        }
    }
}

pub(super) fn check(file: &str, spec: &Spec, btf: &str, target: &BtfTarget) -> Pair {
    // Relocation for the other byte order works, for who looks at the plan, but such a kernel loads none of it.
    if let Ok(types) = target.btf()
        && types.endian() != spec.endian
    {
        let order = |endian: Endian| if endian.is_little() { "little" } else { "big" };
        let (object, kernel) = (order(spec.endian), order(types.endian()));
        let error = format!(
            "made for {object}-endian machines, and the kernel is {kernel}-endian: build it for those"
        );
        return Pair::failed(file, btf, error);
    }
    let survey = match spec.survey(target) {
        Ok(survey) => survey,
        Err(error) => return Pair::failed(file, btf, out::chain(&error)),
    };
    let plan = &survey.plan;
    let mut programs: Vec<(usize, Program)> = Vec::with_capacity(spec.programs.len());
    for failed in &survey.failed {
        let Some(program) = spec.programs.get(failed.program.0) else { continue };
        programs.push((failed.program.0, broken(program, &failed.error)));
    }
    for planned in &plan.programs {
        let Some(program) = spec.programs.get(planned.program.0) else { continue };
        programs.push((planned.program.0, planned_program(spec, program, &survey, planned)));
    }
    programs.sort_by_key(|(index, _)| *index);
    let programs: Vec<Program> = programs.into_iter().map(|(_, program)| program).collect();
    let error = survey.externs.first().map(|failed| out::chain(&failed.error));
    let open = plan.unknown.iter().any(|unknown| may_be_missing(spec, unknown));
    let verdict = match programs.iter().map(|program| program.verdict).max() {
        _ if error.is_some() => Verdict::Fails,
        worst => worst.unwrap_or(Verdict::Ok).max(if open { Verdict::Unknown } else { Verdict::Ok }),
    };
    Pair {
        file: file.to_owned(),
        btf: btf.to_owned(),
        ok: verdict != Verdict::Fails,
        verdict,
        error,
        unknown: plan
            .unknown
            .iter()
            .map(|unknown| NotKnown {
                name: unknown.name.clone(),
                needs: unknown.error.what,
                reason: unknown.error.reason.clone(),
            })
            .collect(),
        notes: plan.notes.clone(),
        programs,
    }
}

/// Whether the object cannot be loaded should this be missing.
fn may_be_missing(spec: &Spec, unknown: &Unknown) -> bool {
    let weak = spec.externs.iter().any(|found| found.name == unknown.name && found.weak);
    // Every kernel has the values that begin with LINUX_.
    !weak && !unknown.name.starts_with("LINUX_")
}

fn blank(program: &ProgramSpec) -> Program {
    Program {
        name: program.name.clone(),
        section: program.section.clone(),
        prog_type: program.prog_type.to_string(),
        ok: true,
        verdict: Verdict::Ok,
        error: None,
        missing: Vec::new(),
    }
}

/// A program that cannot be made ready.
fn broken(program: &ProgramSpec, error: &RelocateError) -> Program {
    let unknown = matches!(error, RelocateError::Target { source, .. } if source.is_unknown());
    let verdict = if unknown { Verdict::Unknown } else { Verdict::Fails };
    let text = out::chain(error);
    let mut missing = Vec::new();
    if let (RelocateError::AttachTarget { reason, .. }, Some(to)) = (error, &program.attach_to) {
        missing.push(Missing {
            kind: "attach_target",
            what: to.clone(),
            why: reason.clone(),
            function: None,
            instruction: None,
            source: None,
            guarded: Some(false),
        });
    }
    Program { ok: !matches!(verdict, Verdict::Fails), verdict, error: Some(text), missing, ..blank(program) }
}

fn planned_program(spec: &Spec, program: &ProgramSpec, survey: &Survey, planned: &ProgramPlan) -> Program {
    let plan = &survey.plan;
    let poisoned = plan.poisoned(planned);
    let mut verdict = Verdict::Ok;
    for place in &poisoned {
        verdict = verdict.max(match place.reach {
            Reach::Guarded => Verdict::Ok,
            Reach::Reached => Verdict::Fails,
            _ => Verdict::Unknown,
        });
    }
    let mut missing: Vec<Missing> = externs(spec, survey, planned);
    missing.extend(poisoned.iter().take(MAX_LISTED).map(|place| missing_of(plan, planned, place)));
    let failed = survey.externs.first();
    if failed.is_some() {
        verdict = Verdict::Fails;
    }
    Program {
        ok: verdict != Verdict::Fails,
        verdict,
        error: failed.map(|failed| out::chain(&failed.error)),
        missing,
        ..blank(program)
    }
}

/// Where a program refers to externs that are missing and not weak.
fn externs(spec: &Spec, survey: &Survey, planned: &ProgramPlan) -> Vec<Missing> {
    let mut seen: BTreeSet<ExternIndex> = BTreeSet::new();
    let mut missing = Vec::new();
    for placed in &planned.externs {
        let failed: Option<&FailedExtern> = survey.externs.iter().find(|failed| failed.index == placed.index);
        let Some(failed) = failed.filter(|_| seen.insert(placed.index)) else { continue };
        missing.push(Missing {
            kind: match placed.kind {
                ExternKind::Kconfig { .. } => "kconfig",
                ExternKind::Function => "kfunc",
                _ => "ksym",
            },
            what: spec.externs.get(placed.index.0).map_or(String::new(), |found| found.name.clone()),
            why: out::chain(&failed.error),
            function: planned.function_at(placed.insn).map(|function| function.name.clone()),
            instruction: Some(placed.insn),
            source: source(survey.plan.btf.as_ref(), planned, placed.insn),
            guarded: Some(false),
        });
    }
    missing
}

fn missing_of(plan: &Plan, planned: &ProgramPlan, place: &Poisoned<'_>) -> Missing {
    let (kind, what, why) = match place.what {
        Poison::Core(placed) => {
            let local = &placed.decision.local;
            let kind = match placed.applied {
                Applied::PoisonedBySize => "field_size",
                _ if local.kind().is_field() => "field",
                _ if local.kind().is_enum_value() => "enum_value",
                _ => "type",
            };
            let why = match placed.decision.why() {
                Some(why) if placed.applied == Applied::Poisoned => why.to_string(),
                _ => place.what.to_string(),
            };
            (kind, local.name().to_string(), why)
        }
        Poison::Missing(missing) => {
            let kind = if missing.what == MissingKind::Map { "map" } else { "kfunc" };
            (kind, missing.name.clone(), place.what.to_string())
        }
        _ => ("other", String::new(), place.what.to_string()),
    };
    Missing {
        kind,
        what,
        why,
        function: planned.function_at(place.insn).map(|function| function.name.clone()),
        instruction: Some(place.insn),
        source: source(plan.btf.as_ref(), planned, place.insn),
        guarded: match place.reach {
            Reach::Guarded => Some(true),
            Reach::Reached => Some(false),
            _ => None,
        },
    }
}

fn source(btf: Option<&Btf>, planned: &ProgramPlan, insn: u32) -> Option<Source> {
    let SourceLine { file, line, column, text } = planned.source_line(btf?, insn)?;
    Some(Source { file, line, column, text: text.trim().to_owned() })
}

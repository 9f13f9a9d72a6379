//! What a check of relocations says of programs is what the running kernel then does with them.

#![allow(clippy::print_stdout)] // a skipped test says so

mod support;

use std::path::Path;

use skep::reloc::Reach;
use skep::spec::Pinning;
use skep::{Error, Loader, Spec};

/// The objects that are looked at: those that lack something on one kernel or another.
const OBJECTS: [&str; 12] = [
    "guards.o",
    "core_enums.o",
    "core_errors.o",
    "core_direct.o",
    "core_fields.o",
    "core_flavors.o",
    "core_types.o",
    "fentry.o",
    "kfunc.o",
    "kfunc_weak_reached.o",
    "subprogs.o",
    "tracer.o",
];

/// What the kernel said of a program that it refused for what it lacks.
fn for_what_is_missing(error: &Error) -> bool {
    let mut cause: Option<&dyn std::error::Error> = Some(error);
    while let Some(error) = cause {
        let text = error.to_string();
        if ["a CO-RE relocation found nothing", "another size in this kernel", "this kernel has no function"]
            .iter()
            .any(|said| text.contains(said))
        {
            return true;
        }
        cause = error.source();
    }
    matches!(error, Error::Relocate { .. })
}

#[test]
fn a_program_is_refused_for_what_is_missing_when_a_check_says_so() {
    let name = "a_program_is_refused_for_what_is_missing_when_a_check_says_so";
    let Some(kernel) = support::linux(name) else { return };
    let loader = Loader::new(&kernel);
    let (mut agreed, mut refused, mut wrong) = (0, 0, Vec::new());
    for object in OBJECTS {
        let mut spec = Spec::open(Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(object))
            .expect("it is an object");
        spec.maps.iter_mut().for_each(|map| map.pinning = Pinning::None);
        spec.programs.iter_mut().for_each(|program| program.autoload = true);
        let survey = match spec.survey(&loader.target()) {
            Ok(survey) => survey,
            Err(error) => {
                println!("skip: {object}: {error}");
                continue;
            }
        };
        for at in 0..spec.programs.len() {
            let mut alone = spec.clone();
            alone.programs.iter_mut().enumerate().for_each(|(other, program)| program.autoload = other == at);
            let name = &spec.programs[at].name;
            let planned = survey.plan.programs.iter().find(|planned| planned.program.0 == at);
            let lacks = !survey.externs.is_empty()
                || planned.is_none_or(|planned| {
                    survey.plan.poisoned(planned).iter().any(|place| place.reach == Reach::Reached)
                });
            match (loader.load(&alone), lacks) {
                (Ok(_), false) => agreed += 1,
                (Err(error), lacks) if for_what_is_missing(&error) == lacks => {
                    refused += usize::from(lacks);
                    agreed += 1;
                }
                // Something else stopped it first.
                (Err(error), true) => println!("{object} {name}: {error}"),
                (Ok(_), true) => wrong.push(format!("{object} {name} loads")),
                (Err(error), false) => wrong.push(format!("{object} {name}: {error}")),
            }
        }
    }
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
    assert!(agreed >= 30 && refused >= 10, "only {agreed} programs agree, {refused} are refused");
}

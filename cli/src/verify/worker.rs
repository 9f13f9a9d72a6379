//! The process that loads one object for `skep verify`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use skep::spec::{Pinning, ProgramIndex};
use skep::{Kernel, Loader, Spec};

use super::{Event, Load, Open, Program};
use crate::out;

/// Arguments of the worker.
#[derive(clap::Args)]
pub(crate) struct WorkerArgs {
    /// The step to begin with: 0 is the whole object, n the n-th program.
    #[arg(long)]
    from: usize,
    /// Send the verifier's log of programs that do not load.
    #[arg(long)]
    log: bool,
    #[command(flatten)]
    reading: out::OpenArgs,
    object: PathBuf,
}

pub(crate) fn work(args: &WorkerArgs) -> anyhow::Result<ExitCode> {
    let start = Instant::now();
    let opened = args.reading.open(&args.object);
    let us = start.elapsed().as_micros() as u64;
    let mut spec = match opened {
        Ok(spec) => spec,
        Err(error) => {
            let open = Open { ok: false, us, error: Some(out::reason(&error)) };
            out::json(&Event::Opened(open, Vec::new()))?;
            return Ok(ExitCode::SUCCESS);
        }
    };
    // Nothing may be left behind or met: what is pinned is someone else's.
    spec.maps.iter_mut().for_each(|map| map.pinning = Pinning::None);
    let programs: Vec<Program> = spec.programs.iter().map(blank).collect();
    out::json(&Event::Opened(Open { ok: true, us, error: None }, programs.clone()))?;

    let kernel = Kernel::linux();
    if args.from == 0 {
        out::json(&Event::Loaded(whole(&kernel, &spec)))?;
    }
    for (at, mut program) in programs.into_iter().enumerate().skip(args.from.saturating_sub(1)) {
        let mut only = spec.clone();
        only.load_only(ProgramIndex(at));
        alone(&kernel, &only, &mut program, args.log);
        out::json(&Event::Tried(program))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn blank(program: &skep::spec::ProgramSpec) -> Program {
    Program {
        name: program.name.clone(),
        section: program.section.clone(),
        prog_type: program.prog_type.to_string(),
        autoload: program.autoload,
        ..Program::default()
    }
}

fn whole(kernel: &Kernel, spec: &Spec) -> Load {
    let start = Instant::now();
    let loaded = Loader::new(kernel).load(spec);
    let us = start.elapsed().as_micros() as u64;
    match loaded {
        Ok(object) => {
            let notes = object.report().notes.iter().map(ToString::to_string).collect();
            Load { ok: true, us, errno: None, error: None, notes }
        }
        Err(error) => Load {
            ok: false,
            us,
            errno: error.errno().map(|errno| errno.0),
            error: Some(out::chain(&error)),
            notes: Vec::new(),
        },
    }
}

fn alone(kernel: &Kernel, spec: &Spec, program: &mut Program, log: bool) {
    let start = Instant::now();
    let loaded = Loader::new(kernel).load(spec);
    program.us = start.elapsed().as_micros() as u64;
    match loaded {
        Ok(object) => {
            let Some(loaded) = object.programs().next() else {
                program.error = Some("the object loaded without this program".into());
                return;
            };
            program.ok = true;
            program.instructions = Some(loaded.instruction_count() as u64);
            if let Ok(info) = loaded.info() {
                program.verified_instructions = Some(info.verified_insns);
                program.tag = Some(info.tag.iter().map(|byte| format!("{byte:02x}")).collect());
            }
        }
        Err(error) => {
            program.errno = error.errno().map(|errno| errno.0);
            program.error = Some(out::chain(&error));
            program.log = error.verifier_log().filter(|_| log).map(str::to_owned);
        }
    }
}

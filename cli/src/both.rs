//! `skep run-both`: what the simulated kernel makes of programs, beside what the running one makes of them.

mod inputs;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use serde::Serialize;
use skep::program::Program;
use skep::sim::SimKernel;
use skep::spec::{Pinning, ProgramIndex};
use skep::sys::abi::{MapType, helper_name};
use skep::{Kernel, Loader, Object, Spec};

use crate::{inspect, out};

/// Arguments of the command.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only this program.
    #[arg(long)]
    program: Option<String>,
    #[command(flatten)]
    reading: out::OpenArgs,
    object: PathBuf,
}

/// What was seen of one program.
#[derive(Serialize, Default)]
struct Seen {
    file: String,
    program: String,
    section: String,
    #[serde(rename = "type")]
    prog_type: String,
    /// How many inputs it was run on, on both.
    inputs: usize,
    equal: bool,
    /// The first difference, or why nothing was compared.
    why: Option<String>,
    /// Helpers that it calls whose answers are those of one moment or machine: results are not compared then.
    varies: Vec<&'static str>,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    // Values of one CPU are at the same place on both.
    let first = {
        let mut cpus = nix::sched::CpuSet::new();
        cpus.set(0)?;
        cpus
    };
    nix::sched::sched_setaffinity(nix::unistd::Pid::from_raw(0), &first)?;
    let mut spec = args.reading.open(&args.object)?;
    spec.maps.iter_mut().for_each(|map| map.pinning = Pinning::None);
    let linux = Kernel::linux();
    let simulated = like(&linux)?;
    let mut all = true;
    for (at, program) in spec.programs.iter().enumerate() {
        if args.program.as_ref().is_some_and(|name| *name != program.name) {
            continue;
        }
        let mut seen = Seen {
            file: inspect::name(&args.object),
            program: program.name.clone(),
            section: program.section.clone(),
            prog_type: program.prog_type.to_string(),
            ..Seen::default()
        };
        let mut only = spec.clone();
        only.load_only(ProgramIndex(at));
        compare(&linux, &simulated, &only, &mut seen);
        all &= seen.equal || seen.inputs == 0;
        out::json(&seen)?;
    }
    Ok(if all { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// A simulated kernel that looks like the running one.
fn like(linux: &Kernel) -> anyhow::Result<SimKernel> {
    let mut builder = SimKernel::builder().cpus(linux.possible_cpus()?).release(linux.backend().release()?);
    if let Ok(types) = linux.backend().kernel_btf() {
        builder = builder.btf(types);
    }
    let read = |mut from: Box<dyn std::io::Read + Send>| {
        let mut bytes = Vec::new();
        from.read_to_end(&mut bytes).map(|_| bytes)
    };
    if let Ok(config) = linux.backend().config() {
        builder = builder.config(read(config)?);
    }
    if let Ok(symbols) = linux.backend().symbols() {
        builder = builder.symbols(read(symbols)?);
    }
    Ok(builder.build()?)
}

fn compare(linux: &Kernel, simulated: &SimKernel, spec: &Spec, seen: &mut Seen) {
    let kernel = Kernel::new(simulated.clone());
    let real = match Loader::new(linux).load(spec) {
        Ok(object) => object,
        Err(error) => return seen.why = Some(format!("not loaded: {}", first_line(&out::chain(&error)))),
    };
    let ours = match Loader::new(&kernel).load(spec) {
        Ok(object) => object,
        Err(error) => {
            seen.inputs = 1;
            return seen.why = Some(format!("only Linux loads it: {}", first_line(&out::chain(&error))));
        }
    };
    let (Some(on_linux), Some(on_sim)) = (real.programs().next(), ours.programs().next()) else {
        return seen.why = Some("not loaded".to_owned());
    };
    seen.varies = varies(on_sim);
    match runs(simulated, on_linux, on_sim, seen) {
        Err(why) => seen.why = Some(why),
        Ok(()) if !seen.varies.is_empty() => seen.equal = true,
        Ok(()) => match maps(&real, &ours) {
            Err(why) => seen.why = Some(why),
            Ok(()) => seen.equal = true,
        },
    }
}

/// Runs the program on each input on both.
fn runs(simulated: &SimKernel, real: &Program, ours: &Program, seen: &mut Seen) -> Result<(), String> {
    for (name, input) in inputs::of(real.prog_type()) {
        let faults = simulated.faults().len();
        let (there, here) = (real.run(&input), ours.run(&input));
        if there.as_ref().is_err_and(|error| error.errno().is_some_and(|errno| errno.0 == 524)) {
            seen.why = Some("not run by kernels".to_owned());
            return Ok(());
        }
        seen.inputs += 1;
        let refused = matches!((&there, &here), (Err(there), Err(here)) if there.errno() == here.errno());
        if simulated.faults().len() > faults
            && !refused
            && let Some(fault) = simulated.last_fault()
        {
            return Err(format!("{name}: {}", fault.to_string().replace('\n', " ")));
        }
        match (there, here) {
            (Ok(there), Ok(here)) if !seen.varies.is_empty() || there.retval == here.retval => {
                if seen.varies.is_empty() && there.data != here.data {
                    return Err(format!(
                        "{name}: packet {} there, {} here",
                        hex(&there.data),
                        hex(&here.data)
                    ));
                }
                if seen.varies.is_empty() && there.ctx != here.ctx {
                    return Err(format!(
                        "{name}: context {} there, {} here",
                        hex(&there.ctx),
                        hex(&here.ctx)
                    ));
                }
            }
            (Ok(there), Ok(here)) => {
                return Err(format!("{name}: {} there, {} here", there.retval, here.retval));
            }
            (Err(there), Err(here)) if there.errno() == here.errno() => {}
            (there, here) => {
                let text = |result: Result<_, skep::Error>| match result {
                    Ok(_) => "it ran".to_owned(),
                    Err(error) => first_line(&out::chain(&error)),
                };
                return Err(format!(
                    "{name}: there {}, here {}",
                    text(there.map(|_| ())),
                    text(here.map(|_| ()))
                ));
            }
        }
    }
    Ok(())
}

/// Compares what all maps hold.
fn maps(real: &Object, ours: &Object) -> Result<(), String> {
    let ours: BTreeMap<&str, _> = ours.maps().collect();
    for (name, map) in real.maps() {
        let kinds = [
            MapType::HASH,
            MapType::ARRAY,
            MapType::PERCPU_HASH,
            MapType::PERCPU_ARRAY,
            MapType::LRU_HASH,
            MapType::LRU_PERCPU_HASH,
            MapType::LPM_TRIE,
        ];
        let Some(other) = ours.get(name).filter(|_| kinds.contains(&map.map_type())) else { continue };
        if map.max_entries() > 1 << 17 && map.map_type() == MapType::ARRAY {
            continue;
        }
        let (there, here) = (elements(map)?, elements(other)?);
        for (key, value) in &there {
            match here.get(key) {
                Some(same) if same == value => {}
                Some(differs) => {
                    let (key, there, here) = (hex(key), hex(value), hex(differs));
                    return Err(format!("map {name} at {key}: {there} there, {here} here"));
                }
                None => return Err(format!("map {name} has {} there and not here", hex(key))),
            }
        }
        if let Some(key) = here.keys().find(|key| !there.contains_key(*key)) {
            return Err(format!("map {name} has {} here and not there", hex(key)));
        }
    }
    Ok(())
}

fn elements(map: &skep::map::Map) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, String> {
    let mut elements = BTreeMap::new();
    for key in map.keys() {
        let key = key.map_err(|error| error.to_string())?;
        if let Ok(Some(value)) = map.lookup(&key) {
            elements.insert(key.into(), value);
        }
    }
    Ok(elements)
}

/// The helpers that a program calls whose answers are not the same everywhere.
fn varies(program: &Program) -> Vec<&'static str> {
    /// Time, chance, and who runs it.
    const VARYING: &[i32] = &[
        5, 7, 14, 15, 16, 27, 35, 46, 47, 55, 56, 67, 79, 80, 89, 118, 120, 122, 123, 125, 158, 160, 175,
        208, 210,
    ];

    let Ok(dump) = program.loaded().dump() else { return Vec::new() };
    let mut numbers: Vec<i32> =
        dump.xlated.iter().filter(|insn| insn.is_helper_call()).map(|insn| insn.imm).collect();
    numbers.sort_unstable();
    numbers.dedup();
    numbers.retain(|number| VARYING.contains(number));
    numbers.into_iter().filter_map(helper_name).collect()
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}

fn hex(bytes: &[u8]) -> String {
    let shown = bytes.iter().take(64).map(|byte| format!("{byte:02x}"));
    let rest = if bytes.len() > 64 { "…" } else { "" };
    format!("{}{rest} ({})", shown.collect::<String>(), bytes.len())
}

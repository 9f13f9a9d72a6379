//! `skep run-both`: what the simulated kernel makes of programs, beside what the running one makes of them.

mod events;
mod inputs;
mod kernels;
mod observed;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use serde::Serialize;
use skep::btf::{Btf, Kind, TypeId};
use skep::program::Program;
use skep::ring::RingBuffer;
use skep::sim::SimKernel;
use skep::spec::{Pinning, ProgramIndex};
use skep::sys::abi::{Errno, MapType, ProgType};
use skep::{Kernel, Loader, Object, Spec};

use self::kernels::{Cause, Kernels};
use self::observed::{Observed, Part, Varying, difference};
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
    /// Why some bytes of the answers are not the same each time, where they differ: those are left out.
    varies: Vec<&'static str>,
    /// What became of it where test runs tell nothing: on events of the simulated kernel.
    events: Option<events::Fired>,
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
    let kernels = Kernels::new()?;
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
        compare(&kernels, &only, &mut seen)?;
        if seen.inputs == 0 {
            seen.events = Some(events::fire(&kernels.plain, &spec, &only, at));
        }
        all &= seen.equal || seen.inputs == 0;
        out::json(&seen)?;
    }
    Ok(if all { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

fn compare(kernels: &Kernels, spec: &Spec, seen: &mut Seen) -> anyhow::Result<()> {
    let real = match Loader::new(&kernels.linux).load(spec) {
        Ok(object) => object,
        Err(error) => {
            seen.why = Some(format!("not loaded: {}", first_line(&out::chain(&error))));
            return Ok(());
        }
    };
    let Some(program) = real.programs().next() else {
        seen.why = Some("not loaded".to_owned());
        return Ok(());
    };
    // Test runs of tracing programs call functions of the kernel, and not the program.
    if program.prog_type() == ProgType::TRACING {
        seen.why = Some("not run by kernels".to_owned());
        return Ok(());
    }
    let observed_on = |sim: &SimKernel| -> Result<Observed, String> {
        let kernel = Kernel::new(sim.clone());
        let ours = Loader::new(&kernel).load(spec).map_err(|error| first_line(&out::chain(&error)))?;
        Ok(observe(Some(sim), &ours, spec).map(|(observed, _)| observed).unwrap_or_default())
    };
    let here = observed_on(&kernels.plain);
    // Kernels have bugs, and one that follows a null pointer does not come back from it.
    if let Some(fault) =
        here.as_ref().ok().and_then(Observed::fault).filter(|fault| fault.contains("null pointer"))
    {
        seen.inputs = 1;
        seen.why = Some(format!("not run on Linux, which it would crash: {fault}"));
        return Ok(());
    }
    let Some((there, inputs)) = observe(None, &real, spec) else {
        seen.why = Some("not run by kernels".to_owned());
        return Ok(());
    };
    seen.inputs = inputs;
    let here = match here {
        Ok(here) => here,
        Err(error) => {
            seen.why = Some(format!("only Linux loads it: {error}"));
            return Ok(());
        }
    };
    let none = Varying::default();
    let Some(first) = difference(&there, &here, &none) else {
        seen.equal = true;
        return Ok(());
    };
    // What differs may be what is not the same twice.
    let mut varying = Varying::default();
    let mut varies = Vec::new();
    let mut add = |cause: Cause, found: Varying| {
        if !found.is_empty() && !varies.contains(&cause.name()) {
            varies.push(cause.name());
        }
        varying.add(&found);
        difference(&there, &here, &varying)
    };
    let mut left = Some(first.clone());
    for cause in Cause::SIMULATED {
        if let Ok(other) = observed_on(kernels.differing(cause)?) {
            left = add(cause, Varying::between(&here, &other));
        }
    }
    // A choice of one in two comes out the same each other time.
    for round in 0..ROUNDS {
        let Ok(again) = Loader::new(&kernels.linux).load(spec) else { break };
        let Some((again, _)) = observe(None, &again, spec) else { break };
        let again = Varying::between(&there, &again);
        let is_same = again.is_empty();
        left = add(Cause::Linux, again);
        if left.is_none() || (round == 1 && is_same) {
            break;
        }
        if let Ok(other) = observed_on(&kernels.seeded(round)?) {
            left = add(Cause::TimeOrChance, Varying::between(&here, &other));
        }
    }
    seen.equal = left.is_none();
    seen.why = left.or(Some(first));
    if seen.equal {
        seen.varies = varies;
    }
    Ok(())
}

/// How often a program is run again at most, to see what of its answers is not the same each time.
const ROUNDS: u64 = 16;

/// How long a run takes, and how long is waited after the last one.
const A_RUN: Duration = Duration::from_micros(10);
const AFTERWARDS: Duration = Duration::from_millis(1);

/// Runs the program on each input, and looks at the maps then. `None` when kernels do not run programs of its type.
fn observe(sim: Option<&SimKernel>, object: &Object, spec: &Spec) -> Option<(Observed, usize)> {
    let program: &Program = object.programs().next()?;
    let mut observed = Observed::default();
    let mut rings = rings(object);
    let mut inputs = 0;
    for (name, input) in inputs::of(program.prog_type()) {
        let answer = program.run(&input);
        if answer.as_ref().is_err_and(|error| error.errno() == Some(Errno(524))) {
            return None;
        }
        inputs += 1;
        // With other errors a kernel would not have begun to run it.
        let is_fault = answer.as_ref().is_err_and(|error| error.errno() == Some(Errno::EFAULT));
        if let Some(sim) = sim
            && is_fault
            && let Some(fault) = sim.last_fault()
        {
            observed.stop(format!("{name}: returns"), fault.to_string().replace('\n', " "));
            return Some((observed, inputs));
        }
        match answer {
            Ok(answer) => {
                observed.add(format!("{name}: returns"), Part::Returned(answer.retval));
                observed.add(format!("{name}: packet"), Part::Bytes(answer.data));
                observed.add(format!("{name}: context"), Part::Bytes(answer.ctx));
            }
            Err(error) => {
                let errno = error.errno().and_then(Errno::name).unwrap_or("it does not run");
                observed.add(format!("{name}: returns"), Part::Text(errno.to_owned()));
            }
        }
        if let Some(sim) = sim {
            sim.advance(A_RUN);
        }
        for (ring, records) in &mut rings {
            let mut number = 0;
            while let Ok(Some(record)) = records.next() {
                observed.add(format!("{name}: record {number} of {ring}"), Part::Bytes(record.to_vec()));
                number += 1;
            }
        }
    }
    // Timers that programs started go off.
    match sim {
        Some(sim) => sim.advance(AFTERWARDS),
        None => std::thread::sleep(AFTERWARDS),
    }
    maps(object, spec, &mut observed);
    Some((observed, inputs))
}

/// The ring buffers that the program writes to.
fn rings(object: &Object) -> Vec<(String, RingBuffer)> {
    let rings = object.maps().filter(|(_, map)| map.map_type() == MapType::RINGBUF);
    rings.filter_map(|(name, map)| Some((name.to_owned(), map.clone().typed().ok()?))).collect()
}

/// Adds what all maps hold.
fn maps(object: &Object, spec: &Spec, observed: &mut Observed) {
    let kinds = [
        MapType::HASH,
        MapType::ARRAY,
        MapType::PERCPU_HASH,
        MapType::PERCPU_ARRAY,
        MapType::LRU_HASH,
        MapType::LRU_PERCPU_HASH,
        MapType::LPM_TRIE,
    ];
    for (name, map) in object.maps().filter(|(_, map)| kinds.contains(&map.map_type())) {
        if map.max_entries() > 1 << 17 && map.map_type() == MapType::ARRAY {
            continue;
        }
        let declared = spec.maps.iter().find(|declared| declared.name == name);
        let value_type = declared.and_then(|declared| declared.value_type);
        let heads =
            spec.btf.as_ref().zip(value_type).map(|(btf, ty)| list_heads(btf, ty, 0, 0)).unwrap_or_default();
        let mut sorted = BTreeMap::new();
        for key in map.keys() {
            let Ok(key) = key else { break };
            if let Ok(Some(mut value)) = map.lookup(&key) {
                heads.iter().for_each(|at| empty_head(&mut value, *at));
                sorted.insert(key.to_vec(), value);
            }
        }
        for (key, value) in sorted {
            let key: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
            observed.add(format!("map {name} at {key}"), Part::Bytes(value));
        }
    }
}

/// Where heads of lists are in values of a type.
fn list_heads(btf: &Btf, ty: TypeId, at: usize, depth: usize) -> Vec<usize> {
    let Some(ty) = btf.ty(ty).ok().filter(|_| depth < 16) else { return Vec::new() };
    let inside = |ty, offset: usize| list_heads(btf, ty, at + offset, depth + 1);
    match ty.kind() {
        Kind::STRUCT if ty.name_bytes() == b"bpf_list_head" => vec![at],
        Kind::STRUCT | Kind::UNION => {
            ty.members().flat_map(|member| inside(member.type_id, member.bit_offset as usize / 8)).collect()
        }
        Kind::DATASEC => ty.vars().flat_map(|var| inside(var.type_id, var.offset as usize)).collect(),
        Kind::ARRAY => {
            let Some(array) = ty.array() else { return Vec::new() };
            let size = btf.resolve_size(array.element).unwrap_or_default() as usize;
            (0..array.len.min(64) as usize).flat_map(|index| inside(array.element, index * size)).collect()
        }
        kind if kind.is_modifier() || matches!(kind, Kind::VAR | Kind::TYPEDEF) => inside(ty.type_id(), 0),
        _ => Vec::new(),
    }
}

/// Kernels show a head of a list as an empty one, which points to itself, in memory that is of the call.
fn empty_head(value: &mut [u8], at: usize) {
    if let Some(head) = value.get_mut(at..at + 16) {
        head.fill(0);
    }
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}

//! `skep run`.

mod event;
mod pcap;
mod report;
mod values;

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use serde::Serialize;
use serde_json::Value;
use skep::btf::Kind;
use skep::map::Map;
use skep::program::{Program, RunInput};
use skep::reloc::{BtfTarget, Target};
use skep::sim::SimKernel;
use skep::spec::Pinning;
use skep::sys::abi::{Errno, ProgType, UpdateFlags};
use skep::{Kernel, Loader, Object, Spec};

use crate::{inspect, load, out};

/// Arguments of `skep run`.
#[derive(clap::Args)]
#[command(after_help = event::FORMS)]
pub(crate) struct Args {
    /// The program. It can be left out when the object has only one.
    #[arg(long, value_name = "NAME")]
    prog: Option<String>,
    /// The packet, from a file.
    #[arg(long, value_name = "FILE", group = "packet")]
    data: Option<PathBuf>,
    /// The packet, in hexadecimal digits.
    #[arg(long, value_name = "DIGITS", group = "packet")]
    hex: Option<String>,
    /// Packets, one after the other, of a capture: pcap or pcapng.
    #[arg(long, value_name = "FILE", group = "packet")]
    pcap: Option<PathBuf>,
    /// Write the packets as they are afterwards into a capture.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// The context, in hexadecimal digits, or @FILE: for kinds that take one.
    #[arg(long, value_name = "DIGITS|@FILE")]
    ctx: Option<String>,
    /// The context as numbers of 64 bits: the arguments of a tracepoint.
    #[arg(long, value_name = "NUMBER", value_delimiter = ',', value_parser = number, conflicts_with = "ctx")]
    args: Vec<u64>,
    /// Attach the programs and let something happen, in place of a test run; can be given several times (simulated kernel).
    #[arg(long, value_name = "EVENT", conflicts_with_all = ["ctx", "args", "repeat"])]
    event: Vec<String>,
    /// How often to run it on each packet.
    #[arg(long, value_name = "TIMES", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    repeat: u32,
    /// Set a global integer variable before loading.
    #[arg(long, value_name = "NAME=NUMBER")]
    set: Vec<String>,
    /// Fill maps before: a JSON object with an array of [key, value] for each map, values as the map's types have them.
    #[arg(long, value_name = "FILE")]
    maps: Option<PathBuf>,
    /// The kernel to run it in.
    #[arg(long, value_enum, default_value_t = Place::Sim)]
    kernel: Place,
    /// The types of the simulated kernel, for objects with CO-RE relocations: those of /sys/kernel/btf/vmlinux or another
    /// kernel's.
    #[arg(long, value_name = "FILE")]
    btf: Option<PathBuf>,
    /// What random numbers follow from, in the simulated kernel.
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    seed: u64,
    /// Print each instruction with its source line and the registers that it changed (simulated kernel).
    #[arg(long)]
    trace: bool,
    /// Print how often each line of C was come to (simulated kernel).
    #[arg(long)]
    coverage: bool,
    /// Write which lines and branches were come to for genhtml and editors, as LCOV (simulated kernel).
    #[arg(long, value_name = "FILE")]
    lcov: Option<PathBuf>,
    /// Print one JSON object for each packet, and one at the end.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    reading: out::OpenArgs,
    /// The object file.
    pub(crate) object: PathBuf,
}

/// A kernel to run programs in.
#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Place {
    /// A simulated kernel in this process: needs no rights
    Sim,
    /// The running kernel (BPF_PROG_TEST_RUN): needs root
    Linux,
}

fn number(text: &str) -> Result<u64, String> {
    let parsed = match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    };
    parsed.map_err(|error| format!("`{text}`: {error}"))
}

/// What one run did.
#[derive(Serialize, Default)]
struct Ran {
    packet: usize,
    ok: bool,
    retval: Option<u32>,
    verdict: Option<&'static str>,
    /// Mean time of a run.
    nanoseconds: Option<u64>,
    /// The packet afterwards, where it changed.
    data: Option<String>,
    /// The context afterwards.
    ctx: Option<String>,
    effects: Vec<String>,
    printed: Vec<String>,
    error: Option<String>,
    #[serde(skip)]
    length: usize,
}

/// What was left when all was run.
#[derive(Serialize, Default)]
struct Left {
    maps: BTreeMap<String, Vec<Change>>,
    coverage: Option<String>,
}

/// An element that a program changed, or that is new or gone.
#[derive(Serialize)]
struct Change {
    key: Value,
    before: Option<Value>,
    after: Option<Value>,
    #[serde(skip)]
    text: String,
}

/// The elements of each map, as bytes.
type Elements = BTreeMap<String, BTreeMap<Vec<u8>, Vec<u8>>>;

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let sim = (args.kernel == Place::Sim).then(|| simulated(args)).transpose()?;
    let watches = args.trace || args.coverage || args.lcov.is_some();
    if sim.is_none() && (watches || args.btf.is_some() || !args.event.is_empty()) {
        let what = "--trace, --coverage, --lcov, --btf and --event are for the simulated kernel: leave them out, or `--kernel linux`";
        return Err(out::Usage(what.to_owned()).into());
    }
    let kernel = sim.clone().map_or_else(Kernel::linux, Kernel::new);
    let mut spec = args.reading.open(&args.object)?;
    for setting in &args.set {
        load::set(&mut spec, setting)?;
    }
    if let Some(sim) = sim.as_ref().filter(|_| !args.event.is_empty()) {
        return events(args, sim, &kernel, spec);
    }
    let name = choose(args, &spec)?;
    spec.maps.iter_mut().for_each(|map| map.pinning = Pinning::None);
    let capture = args.out.as_ref().map(|file| Written::new("--out", file)).transpose()?;
    let lcov = args.lcov.as_ref().map(|file| Written::new("--lcov", file)).transpose()?;
    let object = load_for(&kernel, &spec, &name).map_err(|error| without_types(args, error))?;
    if let Some(file) = &args.maps {
        fill(&object, file)?;
    }
    let program = object.program(&name)?;
    let packets = packets(args)?;
    let before = elements(&object);
    let trace = sim.as_ref().filter(|_| args.trace).map(trace);
    let (mut all, mut outputs) = (true, Vec::new());
    for (at, packet) in packets.iter().enumerate() {
        let ran = once(args, sim.as_ref(), program, at + 1, packet, &mut outputs)?;
        all &= ran.ok;
        let steps = trace
            .as_ref()
            .map(|text| std::mem::take(&mut *text.lock().unwrap_or_else(PoisonError::into_inner)));
        report::ran(args, &name, &ran, steps.as_deref().unwrap_or_default(), packets.len())?;
    }
    let mut left = Left { maps: changes(&object, &before), coverage: None };
    left.coverage = sim.as_ref().filter(|_| args.coverage).map(|sim| sim.coverage().to_string());
    report::left(args, &left)?;
    if let Some(capture) = capture {
        capture.write(&pcap::write(&outputs))?;
    }
    if let Some((lcov, sim)) = lcov.zip(sim.as_ref()) {
        lcov.write(sim.coverage().lcov().as_bytes())?;
    }
    Ok(if all { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// Attaches programs and lets events happen.
fn events(args: &Args, sim: &SimKernel, kernel: &Kernel, mut spec: Spec) -> Result<ExitCode> {
    let events = event::events(args)?;
    if let Some(event) = events.iter().find(|event| event.has_packet())
        && args.hex.is_none()
        && args.data.is_none()
        && args.pcap.is_none()
    {
        let what = format!("--event {} wants a packet: --hex, --data or --pcap", event.text());
        return Err(out::Usage(what).into());
    }
    spec.maps.iter_mut().for_each(|map| map.pinning = Pinning::None);
    let capture = args.out.as_ref().map(|file| Written::new("--out", file)).transpose()?;
    let lcov = args.lcov.as_ref().map(|file| Written::new("--lcov", file)).transpose()?;
    let object = event::load(kernel, &spec, args).map_err(|error| without_types(args, error))?;
    if let Some(file) = &args.maps {
        fill(&object, file)?;
    }
    let attached = event::Attached::new(sim, kernel, &spec, &object, &events);
    let packets = packets(args)?;
    let before = elements(&object);
    let trace = args.trace.then(|| trace(sim));
    let (mut all, mut outputs) = (true, Vec::new());
    for event in &events {
        for happened in event::fire(sim, &object, event, &packets, &mut outputs) {
            all &= happened.ok;
            if let Some(steps) = &trace {
                let steps = std::mem::take(&mut *steps.lock().unwrap_or_else(PoisonError::into_inner));
                if !args.json {
                    out::text(&steps)?;
                }
            }
            event::report(args, &attached, &happened)?;
        }
    }
    let mut left = Left { maps: changes(&object, &before), coverage: None };
    left.coverage = args.coverage.then(|| sim.coverage().to_string());
    report::left(args, &left)?;
    if let Some(capture) = capture {
        capture.write(&pcap::write(&outputs))?;
    }
    if let Some((lcov, sim)) = lcov.zip(Some(sim)) {
        lcov.write(sim.coverage().lcov().as_bytes())?;
    }
    Ok(if all { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

fn simulated(args: &Args) -> Result<SimKernel> {
    let mut builder = SimKernel::builder().seed(args.seed);
    if args.coverage || args.lcov.is_some() {
        builder = builder.coverage();
    }
    if let Some(file) = &args.btf {
        let types = BtfTarget::open(file).and_then(|target| target.btf());
        builder = builder.btf(types.context("--btf")?.bytes().clone());
    }
    builder.build().context("--btf: the types of a kernel are damaged")
}

/// A file that is written when all is run. It is made before, so that nothing runs in vain.
struct Written<'a> {
    option: &'static str,
    path: &'a Path,
    file: fs::File,
}

impl Written<'_> {
    fn new<'a>(option: &'static str, path: &'a Path) -> Result<Written<'a>> {
        let file = fs::File::create(path).with_context(|| format!("{option}: write {}", path.display()))?;
        Ok(Written { option, path, file })
    }

    fn write(mut self, bytes: &[u8]) -> Result<()> {
        let done = self.file.write_all(bytes);
        done.with_context(|| format!("{}: write {}", self.option, self.path.display()))
    }
}

/// Says what helps an object that wants a kernel's types.
fn without_types(args: &Args, error: anyhow::Error) -> anyhow::Error {
    let wants = error
        .chain()
        .any(|cause| matches!(cause.downcast_ref::<skep::Error>(), Some(skep::Error::Relocate { .. })));
    if !wants || args.btf.is_some() || args.kernel != Place::Sim {
        return error;
    }
    error.context(
        "the simulated kernel has no types unless it is given some: --btf /sys/kernel/btf/vmlinux, or a file of another kernel",
    )
}

/// The program that is meant.
fn choose(args: &Args, spec: &Spec) -> Result<String> {
    let names = || spec.programs.iter().map(|program| program.name.as_str()).collect::<Vec<_>>();
    match &args.prog {
        Some(name) if spec.programs.iter().any(|program| program.name == *name) => Ok(name.clone()),
        Some(name) => {
            Err(out::Usage(format!("the object has no program `{name}`; it has {}", names().join(", ")))
                .into())
        }
        None => match names().as_slice() {
            [only] => Ok((*only).to_owned()),
            [] => Err(out::Usage("the object has no program".to_owned()).into()),
            many => Err(out::Usage(format!("choose a program with --prog: {}", many.join(", "))).into()),
        },
    }
}

/// Loads the object, with the program also when it is not one that is loaded by default; if other programs are in the way,
/// without them.
fn load_for(kernel: &Kernel, spec: &Spec, name: &str) -> Result<Object> {
    let mut whole = spec.clone();
    if let Some(program) = whole.program_mut(name) {
        program.autoload = true;
    }
    match Loader::new(kernel).load(&whole) {
        Ok(object) => Ok(object),
        Err(error) => {
            let mut only = spec.clone();
            if let Some(at) = spec.program_index(name) {
                only.load_only(at);
            }
            Loader::new(kernel).load(&only).map_err(|_| error.into())
        }
    }
}

fn packets(args: &Args) -> Result<Vec<Vec<u8>>> {
    let read = |file: &PathBuf| -> Result<Vec<u8>> {
        if file.as_os_str() == "-" {
            let mut bytes = Vec::new();
            std::io::stdin().read_to_end(&mut bytes).context("read the standard input")?;
            return Ok(bytes);
        }
        fs::read(file).with_context(|| format!("read {}", file.display()))
    };
    if let Some(file) = &args.pcap {
        let packets = pcap::read(&read(file)?).with_context(|| format!("--pcap {}", file.display()))?;
        ensure!(!packets.is_empty(), "--pcap {}: it has no packets", file.display());
        return Ok(packets);
    }
    Ok(vec![match (&args.data, &args.hex) {
        (Some(file), _) => read(file)?,
        (_, Some(digits)) => digits_of("--hex", digits)?,
        _ => Vec::new(),
    }])
}

/// Bytes of the command line.
fn digits_of(option: &str, text: &str) -> Result<Vec<u8>> {
    values::unhex(text).map_err(|error| out::Usage(format!("{option}: {error:#}")).into())
}

fn context(args: &Args) -> Result<Vec<u8>> {
    match &args.ctx {
        Some(text) => match text.strip_prefix('@') {
            Some(file) => fs::read(file).with_context(|| format!("read {file}")),
            None => digits_of("--ctx", text),
        },
        None => Ok(args.args.iter().flat_map(|number| number.to_ne_bytes()).collect()),
    }
}

fn once(
    args: &Args,
    sim: Option<&SimKernel>,
    program: &Program,
    number: usize,
    packet: &[u8],
    outputs: &mut Vec<Vec<u8>>,
) -> Result<Ran> {
    let mut input = RunInput::packet(packet);
    let context = context(args)?;
    if !context.is_empty() {
        input = input.context(context.as_slice());
    }
    if args.repeat > 1 {
        input = input.repeat(args.repeat);
    }
    let mut ran = Ran { packet: number, length: packet.len(), ..Ran::default() };
    match program.run(&input) {
        Ok(output) => {
            ran.ok = true;
            ran.retval = Some(output.retval);
            ran.verdict = report::verdict(program.prog_type(), output.retval);
            ran.nanoseconds = u64::try_from(output.duration.as_nanos()).ok().filter(|&time| time > 0);
            ran.data = (output.data != packet && !output.data.is_empty()).then(|| values::hex(&output.data));
            ran.ctx = (!output.ctx.is_empty()).then(|| values::hex(&output.ctx));
            outputs.push(output.data);
        }
        Err(error) => ran.error = Some(told(args, program, packet, &error)),
    }
    if let Some(sim) = sim {
        ran.effects = sim.take_effects().iter().map(|effect| format!("{effect:?}")).collect();
        ran.printed = sim.take_trace().iter().map(|line| line.text.trim_end().to_owned()).collect();
    }
    Ok(ran)
}

/// Why a run failed, and which option helps.
fn told(args: &Args, program: &Program, packet: &[u8], error: &skep::Error) -> String {
    let mut text = out::chain(error);
    let nothing = packet.is_empty() && args.data.is_none() && args.pcap.is_none();
    let kind = program.prog_type();
    let takes_packets = [
        ProgType::XDP,
        ProgType::SCHED_CLS,
        ProgType::SCHED_ACT,
        ProgType::SOCKET_FILTER,
        ProgType::CGROUP_SKB,
        ProgType::LWT_IN,
        ProgType::LWT_OUT,
        ProgType::LWT_XMIT,
        ProgType::FLOW_DISSECTOR,
        ProgType::NETFILTER,
    ]
    .contains(&kind);
    if nothing && takes_packets && error.errno() == Some(Errno::EINVAL) {
        text.push_str("; give it a packet with --hex, --data or --pcap");
    } else if kind == ProgType::TRACING && args.kernel == Place::Sim {
        text.push_str("; --event makes one happen");
    }
    text
}

/// Collects the instructions that are executed.
fn trace(sim: &SimKernel) -> Arc<Mutex<String>> {
    let text = Arc::new(Mutex::new(String::new()));
    let to = text.clone();
    sim.watch_instructions(move |step| {
        let mut to = to.lock().unwrap_or_else(PoisonError::into_inner);
        to.push_str(&step.to_string());
        to.push('\n');
    });
    text
}

/// The types of a map's keys or values.
fn types(map: &Map, key: bool) -> Option<(skep::btf::Btf, skep::btf::TypeId)> {
    let types = map.types()?;
    let id = if key { types.key } else { types.value };
    Some((types.btf, id?))
}

/// Whether a value is a section of variables.
fn is_data(types: &Option<(skep::btf::Btf, skep::btf::TypeId)>) -> bool {
    let of = |(btf, id): &(skep::btf::Btf, skep::btf::TypeId)| btf.ty(*id).map(|ty| ty.kind());
    types.as_ref().is_some_and(|types| of(types) == Ok(Kind::DATASEC))
}

fn fill(object: &Object, file: &PathBuf) -> Result<()> {
    let text = fs::read(file).with_context(|| format!("read {}", file.display()))?;
    let maps: BTreeMap<String, Vec<(Value, Value)>> = serde_json::from_slice(&text)
        .with_context(|| format!("--maps {}: for each map an array of [key, value]", file.display()))?;
    for (name, elements) in &maps {
        let map = object.map(name).with_context(|| format!("--maps {}", file.display()))?;
        let (key_types, value_types) = (types(map, true), types(map, false));
        let one = map.value_len() / (map.values_per_element().max(1) as usize);
        for (key, value) in elements {
            let place = || format!("--maps {}: map `{name}`, key {key}", file.display());
            let borrowed =
                |types: &Option<(skep::btf::Btf, skep::btf::TypeId)>, value: &Value, before: Vec<u8>| {
                    values::bytes(types.as_ref().map(|(btf, id)| (btf, *id)), value, before)
                };
            let key = borrowed(&key_types, key, vec![0; map.key_len()]).with_context(place)?;
            let size = map.shape().value_size as usize;
            // Variables that are not told keep what they begin with.
            let before = is_data(&value_types).then(|| map.lookup(&key).ok().flatten()).flatten();
            let before = before.unwrap_or_else(|| vec![0; size]);
            let mut value = borrowed(&value_types, value, before).with_context(place)?;
            value.resize(one, 0);
            // The same for each CPU.
            let value = value.repeat(map.values_per_element().max(1) as usize);
            map.update(&key, &value, UpdateFlags::empty()).with_context(place)?;
        }
    }
    Ok(())
}

/// All elements of all maps that can be gone through.
fn elements(object: &Object) -> Elements {
    let mut all = Elements::new();
    for (name, map) in object.maps() {
        let of_map = all.entry(name.to_owned()).or_default();
        for key in map.keys() {
            let Ok(key) = key else { break };
            if let Ok(Some(value)) = map.lookup(&key) {
                of_map.insert(key.to_vec(), value);
            }
        }
    }
    all
}

fn changes(object: &Object, before: &Elements) -> BTreeMap<String, Vec<Change>> {
    let after = elements(object);
    let mut changed: BTreeMap<String, Vec<Change>> = BTreeMap::new();
    for (name, map) in object.maps() {
        let nothing = BTreeMap::new();
        let (old, new) = (before.get(name).unwrap_or(&nothing), after.get(name).unwrap_or(&nothing));
        let keys: std::collections::BTreeSet<_> = old.keys().chain(new.keys()).collect();
        for key in keys.into_iter().filter(|key| old.get(*key) != new.get(*key)) {
            let shown = report::Shown::new(map);
            changed.entry(name.to_owned()).or_default().push(Change {
                key: shown.key(key),
                before: old.get(key).map(|value| shown.value(value)),
                after: new.get(key).map(|value| shown.value(value)),
                text: shown.text(key, new.get(key)),
            });
        }
    }
    changed
}

/// The name of the file, for the reports.
fn title(args: &Args) -> String {
    inspect::name(&args.object)
}

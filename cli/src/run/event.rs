//! `skep run --event`: what happens in a simulated kernel, and the programs that run because of it.

mod attach;
mod parse;

use anyhow::{Context, Result};
use serde::Serialize;
use skep::sim::{
    DeviceAccess, Effect, EventError, FunctionCall, Lsm, OptionCall, Passage, PerfSample, RawTracepoint,
    Receive, Runs, SimKernel, Socket, SocketCreate, Syscall, Sysctl, Tracepoint, Transmit, Uprobe, Verdict,
};
use skep::sys::abi::Errno;
use skep::{Loader, Object, Spec};

use super::{Args, report};
use crate::out;
use parse::{Happening, Value, Words};

pub(super) use attach::Attached;
pub(super) use parse::FORMS;

/// What an event did.
#[derive(Serialize, Default)]
pub(super) struct Happened {
    event: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    packet: Option<usize>,
    /// Whether nothing knows the place of the event.
    #[serde(skip)]
    is_unknown: bool,
    pub(super) ok: bool,
    /// What became of it, in words.
    outcome: String,
    programs: Vec<ProgramRan>,
    /// The packet afterwards.
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<String>,
    effects: Vec<String>,
    printed: Vec<String>,
}

/// A program that ran because of an event.
#[derive(Serialize)]
struct ProgramRan {
    program: String,
    returned: Option<i64>,
    verdict: Option<&'static str>,
    effects: Vec<String>,
    error: Option<String>,
}

/// Loads what events need: all programs, or the one that is named.
pub(super) fn load(kernel: &skep::Kernel, spec: &Spec, args: &Args) -> Result<Object> {
    let mut spec = spec.clone();
    if args.prog.is_some() {
        let name = super::choose(args, &spec)?;
        if let Some(at) = spec.programs.iter().position(|program| program.name == name) {
            spec.load_only(skep::spec::ProgramIndex(at));
        }
    }
    Loader::new(kernel).load(&spec).with_context(|| {
        let one =
            if args.prog.is_none() && spec.programs.len() > 1 { " (--prog loads one program)" } else { "" };
        format!("load {} into the simulated kernel{one}", args.object.display())
    })
}

/// Reads the events of the command line.
pub(super) fn events(args: &Args) -> Result<Vec<Happening>> {
    let parsed = args.event.iter().map(|text| parse::parse(text).map_err(|why| out::Usage(why).into()));
    parsed.collect()
}

/// Lets an event happen, once for each packet where it has some.
pub(super) fn fire(
    sim: &SimKernel,
    object: &Object,
    event: &Happening,
    packets: &[Vec<u8>],
    outputs: &mut Vec<Vec<u8>>,
) -> Vec<Happened> {
    let many = if event.has_packet() { packets } else { &[Vec::new()] as &[Vec<u8>] };
    let mut all = Vec::new();
    for (at, packet) in many.iter().enumerate() {
        let mut happened = Happened { event: event.text.clone(), ok: true, ..Happened::default() };
        happened.packet = (event.has_packet() && many.len() > 1).then_some(at + 1);
        if let Err(error) = one(sim, object, event, packet, &mut happened, outputs) {
            happened.ok = false;
            happened.outcome = format!("FAILED: {}", out::chain(&error));
            happened.is_unknown = matches!(error, EventError::Unknown { .. });
        }
        happened.ok &= happened.programs.iter().all(|ran| ran.error.is_none());
        // What became of the packet is told already.
        let is_told = |effect: &&Effect| {
            !matches!(effect, Effect::Delivered { .. } | Effect::Transmitted { .. } | Effect::Dropped { .. })
        };
        let effects = sim.take_effects();
        happened.effects.extend(effects.iter().filter(is_told).map(|effect| format!("{effect:?}")));
        happened.printed = sim.take_trace().iter().map(|line| line.text.trim_end().to_owned()).collect();
        all.push(happened);
    }
    all
}

/// Runs of tracing, as lines.
fn runs(happened: &mut Happened, runs: &Runs) {
    for run in runs.iter() {
        happened.programs.push(ProgramRan {
            program: run.program.clone(),
            returned: run.result.as_ref().ok().map(|value| i64::from(*value as i32)),
            verdict: None,
            effects: run.effects.iter().map(|effect| format!("{effect:?}")).collect(),
            error: run.result.as_ref().err().map(ToString::to_string),
        });
    }
}

fn verdicts(happened: &mut Happened, object: &Object, verdicts: &[Verdict]) {
    for verdict in verdicts {
        let kind = object.programs().find(|program| program.name().starts_with(&verdict.program));
        happened.programs.push(ProgramRan {
            program: verdict.program.clone(),
            returned: Some(i64::from(verdict.value as i32)),
            verdict: kind.and_then(|program| report::verdict(program.prog_type(), verdict.value)),
            effects: Vec::new(),
            error: None,
        });
    }
}

fn told(result: Result<(), Errno>) -> String {
    result.map_or_else(|errno| format!("refused: {errno}"), |()| "allowed".to_owned())
}

fn passed(
    happened: &mut Happened,
    object: &Object,
    passage: Passage,
    before: &[u8],
    outputs: &mut Vec<Vec<u8>>,
) {
    happened.outcome = passage.fate.to_string();
    verdicts(happened, object, &passage.verdicts);
    happened.data = (passage.packet != before).then(|| super::values::hex(&passage.packet));
    outputs.push(passage.packet);
}

/// A number, or the address of a text in the memory of the kernel or of the process.
fn argument(sim: &SimKernel, value: &Value, user: bool, room: &mut u64) -> Result<u64, EventError> {
    match value {
        Value::Number(number) => Ok(number.cast_unsigned()),
        Value::Text(text) => {
            let mut bytes = text.clone().into_bytes();
            bytes.push(0);
            if !user {
                return Ok(sim.memory().put(&bytes));
            }
            let address = *room;
            *room += (bytes.len() as u64).next_multiple_of(0x1000);
            let process = sim.current_task().tgid();
            let failed =
                |error| EventError::new(Errno::EFAULT, format!("the memory of the process: {error}"));
            sim.process_memory(process).write(address, &bytes).map_err(failed)?;
            Ok(address)
        }
    }
}

/// Where texts of a process are put.
const ROOM: u64 = 0x7000_0000_0000;

fn one(
    sim: &SimKernel,
    object: &Object,
    event: &Happening,
    packet: &[u8],
    happened: &mut Happened,
    outputs: &mut Vec<Vec<u8>>,
) -> Result<(), EventError> {
    let mut room = ROOM;
    let mut values = |user| {
        let values = event.args.iter().map(|(_, value)| argument(sim, value, user, &mut room));
        values.collect::<Result<Vec<u64>, _>>()
    };
    let returned = |room: &mut u64, user| {
        event.returns.as_ref().map(|value| argument(sim, value, user, room)).transpose()
    };
    match &event.words {
        Words::Tracepoint(category, name) => {
            let mut fired = Tracepoint::new(category, name);
            for (field, value) in &event.args {
                fired = match value {
                    Value::Number(number) => fired.field(field, *number),
                    Value::Text(text) => fired.field(field, text.clone()),
                };
            }
            let ran = sim.fire(fired)?;
            runs(happened, &ran);
        }
        Words::RawTracepoint(name) => {
            let ran = sim.fire(RawTracepoint::new(name).args(values(false)?))?;
            runs(happened, &ran);
        }
        Words::Call(name) => {
            let mut call = FunctionCall::new(name).args(values(false)?);
            if let Some(value) = returned(&mut ROOM.clone(), false)? {
                call = call.returns(value);
            }
            let outcome = sim.fire(call)?;
            runs(happened, &outcome.runs);
            let skipped = if outcome.skipped { ", and the function did not run" } else { "" };
            happened.outcome = format!("the caller gets {}{skipped}", outcome.returned);
        }
        Words::Syscall(name) => {
            let mut call = Syscall::new(name).args(values(true)?);
            if let Some(value) = returned(&mut ROOM.clone(), true)? {
                call = call.returns(value);
            }
            let outcome = sim.fire(call)?;
            runs(happened, &outcome.runs);
            let skipped = if outcome.skipped { ", and the kernel did nothing" } else { "" };
            happened.outcome = format!("the process gets {}{skipped}", outcome.returned);
        }
        Words::Lsm(hook) => {
            let outcome = sim.fire(Lsm::new(hook).args(values(false)?))?;
            runs(happened, &outcome.runs);
            let refused = Errno(outcome.verdict.saturating_neg());
            happened.outcome = told(if outcome.verdict == 0 { Ok(()) } else { Err(refused) });
        }
        Words::Uprobe(path, function) => {
            let mut call = Uprobe::new(path, function).args(values(true)?);
            if let Some(value) = returned(&mut (ROOM + (1 << 32)), true)? {
                call = call.returns(value);
            }
            let outcome = sim.fire(call)?;
            runs(happened, &outcome.runs);
        }
        Words::Perf(ip) => {
            let ran = sim.fire(PerfSample::new(*ip))?;
            runs(happened, &ran);
        }
        Words::Receive(device) => {
            let passage = sim.fire(Receive::new(device, packet))?;
            passed(happened, object, passage, packet, outputs);
        }
        Words::Transmit(device) => {
            let socket = sim.add_socket(Socket::udp(([0, 0, 0, 0], 0).into()));
            let passage = sim.fire(Transmit::new(device, packet).socket(socket))?;
            sim.remove_socket(socket);
            passed(happened, object, passage, packet, outputs);
        }
        Words::Socket { call, datagram, address } => {
            let none = if address.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0; 16], 0).into() };
            let socket = sim.add_socket(if *datagram { Socket::udp(none) } else { Socket::tcp(none) });
            let outcome = sim.fire(call(socket, *address))?;
            verdicts(happened, object, &outcome.verdicts);
            happened.outcome = told(outcome.result);
            if outcome.address != *address {
                happened.outcome = format!("{}, with the address {}", happened.outcome, outcome.address);
            }
            sim.remove_socket(socket);
        }
        Words::Create(socket) => {
            let outcome = sim.fire(SocketCreate::new(Socket::clone(socket)))?;
            verdicts(happened, object, &outcome.verdicts);
            happened.outcome = told(outcome.result.map(drop));
            if let Ok(socket) = outcome.result {
                sim.remove_socket(socket);
            }
        }
        Words::Option { level, name } => {
            let socket = sim.add_socket(Socket::tcp(([0, 0, 0, 0], 0).into()));
            let value = event.args.first().map(|(_, value)| match value {
                Value::Number(number) => (*number as i32).to_ne_bytes().to_vec(),
                Value::Text(text) => text.clone().into_bytes(),
            });
            let call = match value {
                Some(value) => OptionCall::set(socket, *level, *name, value),
                None => OptionCall::get(socket, *level, *name),
            };
            let outcome = sim.fire(call)?;
            verdicts(happened, object, &outcome.verdicts);
            let bypassed = if outcome.bypassed { ", and the kernel did nothing" } else { "" };
            let value = super::values::hex(&outcome.value);
            happened.outcome = format!("{}: {:?} is {value}{bypassed}", told(outcome.result), outcome.option);
            sim.remove_socket(socket);
        }
        Words::Sysctl { name, new } => {
            if sim.sysctl(name).is_none() {
                sim.set_sysctl(name.clone(), "0");
            }
            let call = match new {
                Some(new) => Sysctl::write(name, new.as_str()),
                None => Sysctl::read(name),
            };
            let outcome = sim.fire(call)?;
            verdicts(happened, object, &outcome.verdicts);
            let value =
                outcome.result.as_ref().map(|value| String::from_utf8_lossy(value).trim_end().to_owned());
            happened.outcome =
                value.map_or_else(|errno| told(Err(*errno)), |value| format!("allowed: {name} is {value}"));
        }
        Words::Device { block, major, minor, access } => {
            let mut call = if *block {
                DeviceAccess::block(*major, *minor)
            } else {
                DeviceAccess::character(*major, *minor)
            };
            for letter in access.chars() {
                call = match letter {
                    'r' => call.read(),
                    'w' => call.write(),
                    _ => call.make(),
                };
            }
            let outcome = sim.fire(call)?;
            verdicts(happened, object, &outcome.verdicts);
            happened.outcome = told(outcome.result);
        }
    }
    Ok(())
}

/// Prints what an event did.
pub(super) fn report(args: &Args, attached: &Attached, happened: &Happened) -> Result<()> {
    if args.json {
        return out::json(happened);
    }
    let mut text = match happened.packet {
        Some(packet) => format!("{}, packet {packet}", happened.event),
        None => happened.event.clone(),
    };
    let outcome = if happened.outcome.is_empty() { "it happened" } else { &happened.outcome };
    text.push_str(&format!(": {outcome}\n"));
    for ran in &happened.programs {
        match (&ran.error, ran.returned, ran.verdict) {
            (Some(error), ..) => text.push_str(&format!("  {} FAILED: {error}\n", ran.program)),
            (None, Some(value), Some(verdict)) => {
                text.push_str(&format!("  {} returns {verdict} ({value})\n", ran.program));
            }
            (None, value, _) => {
                text.push_str(&format!("  {} returns {}\n", ran.program, value.unwrap_or_default()));
            }
        }
        ran.effects.iter().for_each(|effect| text.push_str(&format!("    effect: {effect}\n")));
    }
    if happened.programs.is_empty() && happened.ok {
        text.push_str("  no program ran\n");
    }
    if happened.is_unknown && args.btf.is_none() {
        text.push_str("  --btf gives the simulated kernel types, which know more names\n");
    }
    if happened.programs.is_empty() && (happened.ok || happened.is_unknown) {
        attached.lines().for_each(|line| text.push_str(&format!("    {line}\n")));
    }
    for (title, lines) in [("effect", &happened.effects), ("printed", &happened.printed)] {
        lines.iter().for_each(|line| text.push_str(&format!("  {title}: {line}\n")));
    }
    if let Some(data) = &happened.data {
        text.push_str(&format!("  the packet is now {} bytes: {data}\n", data.len() / 2));
    }
    out::text(&text)
}

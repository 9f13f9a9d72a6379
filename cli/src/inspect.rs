//! `skep inspect`.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde::Serialize;
use skep::Spec;
use skep::btf::{Kind, Type};
use skep::spec::{ExternKind, MapSpec, Pinning, ProgramSpec, Slot, SlotValue};
use skep::sys::abi::ProgType;

use crate::out;

/// Elements of a map that a page shows.
const ELEMENTS_SHOWN: usize = 8;
/// Elements of a map that are listed.
const ELEMENTS_LISTED: usize = 1000;
/// Letters of their names.
const NAME_SHOWN: usize = 128;

/// Arguments of `skep inspect`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Print one JSON object per file.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    reading: out::OpenArgs,
    /// Object files.
    #[arg(required = true)]
    objects: Vec<PathBuf>,
}

#[derive(Serialize)]
struct File {
    file: String,
    ok: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(flatten)]
    object: Option<Object>,
}

#[derive(Serialize)]
struct Object {
    endian: &'static str,
    license: String,
    programs: Vec<Program>,
    maps: Vec<Map>,
    core_relocations: usize,
    globals: Vec<Global>,
    externs: Vec<Extern>,
    btf_bytes: usize,
    notes: Vec<String>,
}

#[derive(Serialize)]
struct Program {
    name: String,
    section: String,
    #[serde(rename = "type")]
    prog_type: String,
    attach_type: Option<String>,
    instructions: usize,
    autoload: bool,
}

#[derive(Serialize)]
struct Map {
    name: String,
    #[serde(rename = "type")]
    map_type: String,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    flags: u32,
    numa_node: u32,
    map_extra: u64,
    pinning: &'static str,
    /// Whether a load creates it unless asked otherwise.
    autocreate: bool,
    /// What the maps in a map of maps look like.
    inner: Option<Box<Map>>,
    /// What its definition puts into it.
    elements: Vec<Element>,
}

/// A map or program in a map.
#[derive(Serialize)]
struct Element {
    index: u32,
    name: String,
}

#[derive(Serialize)]
struct Global {
    name: String,
    section: String,
    offset: u32,
    size: u32,
    #[serde(rename = "type")]
    type_name: Option<String>,
}

#[derive(Serialize)]
struct Extern {
    name: String,
    kind: &'static str,
    weak: bool,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let mut code = ExitCode::SUCCESS;
    for path in &args.objects {
        let opened = args.reading.open(path);
        if opened.is_err() {
            code = ExitCode::from(1);
        }
        if args.json {
            out::json(&match &opened {
                Ok(spec) => File { file: name(path), ok: true, error: None, object: Some(object(spec)) },
                Err(error) => {
                    File { file: name(path), ok: false, error: Some(out::chain(error)), object: None }
                }
            })?;
        } else {
            match &opened {
                Ok(spec) => out::text(&page(path, &object(spec)))?,
                Err(error) => out::complain(&out::chain(error)),
            }
        }
    }
    Ok(code)
}

pub(crate) fn name(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// The attach type, for kinds that have one: 0 is also the first of them.
pub(crate) fn attach_type(program: &ProgramSpec) -> Option<String> {
    let has = program.attach_type.0 != 0 || program.prog_type == ProgType::CGROUP_SKB;
    has.then(|| program.attach_type.to_string())
}

fn object(spec: &Spec) -> Object {
    Object {
        endian: if spec.endian.is_little() { "little" } else { "big" },
        license: spec.license.clone(),
        programs: spec.programs.iter().map(|program| self::program(spec, program)).collect(),
        maps: spec.maps.iter().map(|one| map(spec, one)).collect(),
        core_relocations: spec.core_relocation_count(),
        globals: spec
            .globals
            .iter()
            .filter(|global| !global.private)
            .map(|global| Global {
                name: global.name.clone(),
                section: spec.maps.get(global.map.0).map_or(String::new(), |map| map.name.clone()),
                offset: global.offset,
                size: global.size,
                type_name: spec.global_type(global).map(type_name),
            })
            .collect(),
        externs: spec
            .externs
            .iter()
            .map(|spec| Extern {
                name: spec.name.clone(),
                kind: match spec.kind {
                    ExternKind::Kconfig { .. } => "kconfig",
                    ExternKind::Function => "kfunc",
                    _ => "ksym",
                },
                weak: spec.weak,
            })
            .collect(),
        btf_bytes: spec.btf.as_ref().map_or(0, |btf| btf.bytes().len()),
        notes: spec.notes.clone(),
    }
}

/// A type's name, without `const` and `volatile`, or its kind when it has none; arrays with their lengths.
fn type_name(ty: Type<'_>) -> String {
    let mut ty = ty;
    let mut lengths = String::new();
    // The object's types are checked: chains end. This ends in any case.
    for _ in 0..32 {
        let inner = match ty.array() {
            Some(array) => {
                lengths.push_str(&format!("[{}]", array.len));
                array.element
            }
            None if ty.kind().is_modifier() && ty.kind() != Kind::TYPEDEF => ty.type_id(),
            None => break,
        };
        let Ok(next) = ty.btf().ty(inner) else { break };
        ty = next;
    }
    let name = ty.name();
    let name = if name.is_empty() { ty.kind().to_string().to_lowercase() } else { name.into_owned() };
    name + &lengths
}

fn program(spec: &Spec, program: &ProgramSpec) -> Program {
    Program {
        name: program.name.clone(),
        section: program.section.clone(),
        prog_type: program.prog_type.to_string(),
        attach_type: attach_type(program),
        instructions: spec.functions.get(program.function.0).map_or(0, |function| function.insns.len()),
        autoload: program.autoload,
    }
}

fn map(spec: &Spec, map: &MapSpec) -> Map {
    let name = |value: SlotValue| match value {
        SlotValue::Map(index) => spec.maps.get(index.0).map(|map| &map.name),
        SlotValue::Program(index) => spec.programs.get(index.0).map(|program| &program.name),
    };
    // A file may say a long name any number of times.
    let element = |slot: &Slot| {
        let name = name(slot.value).map(|name| name.chars().take(NAME_SHOWN).collect());
        Element { index: slot.index, name: name.unwrap_or_default() }
    };
    Map {
        name: map.name.clone(),
        map_type: map.map_type.to_string(),
        key_size: map.key_size,
        value_size: map.value_size,
        max_entries: map.max_entries,
        flags: map.flags.bits(),
        numa_node: map.numa_node,
        map_extra: map.map_extra,
        pinning: match map.pinning {
            Pinning::None => "none",
            Pinning::ByName => "by_name",
            Pinning::TcGlobal => "tc_globals",
            _ => "other",
        },
        autocreate: map.autocreate,
        inner: map.inner.as_deref().map(|inner| Box::new(self::map(spec, inner))),
        elements: map.slots.iter().take(ELEMENTS_LISTED).map(element).collect(),
    }
}

fn page(path: &Path, object: &Object) -> String {
    let mut page = String::new();
    let license = if object.license.is_empty() { "no license" } else { &object.license };
    // Writing to a String cannot fail.
    let _ = writeln!(
        page,
        "{}: {}-endian, {license}, {} CO-RE relocations, {} bytes of BTF",
        path.display(),
        object.endian,
        object.core_relocations,
        object.btf_bytes
    );
    let mut part = |title: &str, rows: Vec<Vec<String>>| page.push_str(&out::part(title, &rows));
    part(
        "programs",
        object
            .programs
            .iter()
            .map(|program| {
                vec![
                    program.name.clone(),
                    program.section.clone(),
                    match &program.attach_type {
                        Some(attach_type) => format!("{} ({attach_type})", program.prog_type),
                        None => program.prog_type.clone(),
                    },
                    format!(
                        "{} instructions{}",
                        program.instructions,
                        if program.autoload { "" } else { ", not loaded by default" }
                    ),
                ]
            })
            .collect(),
    );
    part(
        "maps",
        object
            .maps
            .iter()
            .map(|map| {
                let mut more = Vec::new();
                if map.flags != 0 {
                    more.push(format!("flags {:#x}", map.flags));
                }
                match map.pinning {
                    "by_name" => more.push("pinned by name".to_owned()),
                    "tc_globals" => more.push("pinned in tc/globals".to_owned()),
                    _ => {}
                }
                if map.numa_node != 0 {
                    more.push(format!("NUMA node {}", map.numa_node));
                }
                if map.map_extra != 0 {
                    more.push(format!("extra {:#x}", map.map_extra));
                }
                if let Some(inner) = &map.inner {
                    let Map { map_type, key_size, value_size, max_entries, .. } = &**inner;
                    more.push(format!(
                        "of {map_type}, key {key_size}, value {value_size}, {max_entries} entries"
                    ));
                }
                if !map.elements.is_empty() {
                    let shown = map.elements.iter().take(ELEMENTS_SHOWN);
                    let mut all: Vec<String> =
                        shown.map(|element| format!("{}: {}", element.index, element.name)).collect();
                    if map.elements.len() > ELEMENTS_SHOWN {
                        all.push("…".to_owned());
                    }
                    more.push(format!("holds {}", all.join(" ")));
                }
                if !map.autocreate {
                    more.push("not created by default".to_owned());
                }
                vec![
                    map.name.clone(),
                    map.map_type.clone(),
                    format!("key {}", map.key_size),
                    format!("value {}", map.value_size),
                    format!("{} entries", map.max_entries),
                    more.join(", "),
                ]
            })
            .collect(),
    );
    part(
        "globals",
        object
            .globals
            .iter()
            .map(|global| {
                vec![
                    global.name.clone(),
                    global.section.clone(),
                    format!("{} bytes at {}", global.size, global.offset),
                    global.type_name.clone().unwrap_or_default(),
                ]
            })
            .collect(),
    );
    part(
        "externs",
        object
            .externs
            .iter()
            .map(|spec| {
                vec![spec.name.clone(), spec.kind.to_owned(), if spec.weak { "weak" } else { "" }.to_owned()]
            })
            .collect(),
    );
    part("left out", object.notes.iter().map(|note| vec![note.clone()]).collect());
    page
}

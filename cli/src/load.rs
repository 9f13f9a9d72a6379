//! `skep load`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, ensure};
use nix::sys::signal::{SigSet, Signal};
use serde::Serialize;
use skep::link::Link;
use skep::link::struct_ops::Registration;
use skep::load::ObjectPins;
use skep::sys::abi::ProgType;
use skep::{Error, Kernel, Loader, Object, Spec};

use crate::out;

/// Arguments of `skep load`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Directory on a bpffs for the pins: programs and maps by their names, links as PROGRAM_link. It is made if it is
    /// not there. Without it everything ends with this command.
    #[arg(long, value_name = "DIR")]
    pin: Option<PathBuf>,
    /// Attach programs: all that say in their section where to, and all struct_ops tables, or these. XDP takes an
    /// interface: `count@eth0`.
    #[arg(long, value_name = "PROGRAM[@INTERFACE]|TABLE", num_args = 0..=1, require_equals = true, default_missing_value = "")]
    attach: Vec<String>,
    /// Set a global integer variable before loading.
    #[arg(long, value_name = "NAME=NUMBER")]
    set: Vec<String>,
    /// Print one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    reading: out::OpenArgs,
    /// The object file.
    pub(crate) object: PathBuf,
}

#[derive(Serialize, Default)]
struct Loaded {
    file: String,
    ok: bool,
    errno: Option<i32>,
    error: Option<String>,
    programs: Vec<LoadedProgram>,
    maps: Vec<LoadedMap>,
    links: Vec<LoadedLink>,
    notes: Vec<String>,
}

#[derive(Serialize)]
struct LoadedProgram {
    name: String,
    id: u32,
    #[serde(rename = "type")]
    prog_type: String,
    tag: String,
    pin: Option<PathBuf>,
}

#[derive(Serialize)]
struct LoadedMap {
    name: String,
    id: u32,
    #[serde(rename = "type")]
    map_type: String,
    pin: Option<PathBuf>,
}

#[derive(Serialize)]
struct LoadedLink {
    /// The program, or the `struct_ops` table.
    program: String,
    table: bool,
    /// 0 for a table that is registered without a link.
    id: u32,
    pin: Option<PathBuf>,
}

/// What stays attached as long as it is held.
enum Attached {
    Link(#[expect(dead_code, reason = "held")] Link),
    Table(#[expect(dead_code, reason = "held")] Registration),
}

/// What was pinned, to be taken back when a later step fails.
struct Pins<'k> {
    kernel: &'k Kernel,
    links: Vec<PathBuf>,
    object: Option<ObjectPins>,
}

impl Drop for Pins<'_> {
    fn drop(&mut self) {
        for path in self.links.iter().rev() {
            // A pin that someone else removed meanwhile is as good as removed.
            let _ = self.kernel.backend().unpin(path);
        }
        if let Some(pins) = self.object.take() {
            // The error that is told is why it is taken back.
            let _ = pins.undo();
        }
    }
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let kernel = Kernel::linux();
    let ends: SigSet = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP].into_iter().collect();
    if !args.attach.is_empty() && args.pin.is_none() {
        // Before anything is attached, so that nothing is left.
        ends.thread_block().context("hold back signals")?;
    }
    let mut loaded = Loaded { file: crate::inspect::name(&args.object), ..Loaded::default() };
    match load(args, &kernel, &mut loaded) {
        Ok((object, links)) => {
            loaded.ok = true;
            if args.json {
                out::json(&loaded)?;
            } else {
                out::text(&page(&loaded))?;
            }
            if !links.is_empty() && args.pin.is_none() {
                if !args.json {
                    out::text("attached; interrupt to detach\n")?;
                }
                wait_for_the_end(&ends)?;
            }
            drop((object, links));
            Ok(ExitCode::SUCCESS)
        }
        Err(error) if args.json => {
            loaded.errno = error.downcast_ref::<Error>().and_then(Error::errno).map(|errno| errno.0);
            loaded.error = Some(format!("{error:#}"));
            out::json(&loaded)?;
            Ok(ExitCode::from(if error.is::<out::Usage>() { 2 } else { 1 }))
        }
        Err(error) => Err(error),
    }
}

/// Waits until the process is asked to end. A table that is registered without a link would stay in the kernel if it just
/// ended.
fn wait_for_the_end(ends: &SigSet) -> anyhow::Result<()> {
    ends.wait().context("wait for a signal")?;
    Ok(())
}

fn load(args: &Args, kernel: &Kernel, loaded: &mut Loaded) -> anyhow::Result<(Object, Vec<Attached>)> {
    let mut spec = args.reading.open(&args.object)?;
    for setting in &args.set {
        set(&mut spec, setting)?;
    }
    let mut loader = Loader::new(kernel);
    if let Some(dir) = &args.pin {
        loader = loader.pin_root(dir);
    }
    let object = loader.load(&spec)?;
    loaded.notes = object.report().notes.iter().map(ToString::to_string).collect();
    let object_pins = args.pin.as_ref().map(|dir| object.pin_all(dir)).transpose()?;
    let mut pins = Pins { kernel, links: Vec::new(), object: object_pins };
    tell(&object, pins.object.as_ref(), loaded)?;
    let links = attach_all(args, &object, loaded, &mut pins)?;
    pins.links.clear();
    pins.object = None;
    Ok((object, links))
}

fn tell(object: &Object, pins: Option<&ObjectPins>, loaded: &mut Loaded) -> anyhow::Result<()> {
    for (name, map) in object.maps() {
        let info = map.info().with_context(|| format!("ask the kernel about map `{name}`"))?;
        loaded.maps.push(LoadedMap {
            name: name.to_owned(),
            id: info.id.0,
            map_type: info.map_type.to_string(),
            pin: pins.and_then(|pins| pins.map(name)).map(Path::to_owned),
        });
    }
    for program in object.programs() {
        let info = program.info()?;
        loaded.programs.push(LoadedProgram {
            name: program.name().to_owned(),
            id: info.id.0,
            prog_type: info.prog_type.to_string(),
            tag: info.tag.iter().map(|byte| format!("{byte:02x}")).collect(),
            pin: pins.and_then(|pins| pins.program(program.name())).map(Path::to_owned),
        });
    }
    Ok(())
}

fn attach_all(
    args: &Args,
    object: &Object,
    loaded: &mut Loaded,
    pins: &mut Pins<'_>,
) -> anyhow::Result<Vec<Attached>> {
    let mut links = Vec::new();
    let mut tables: Vec<String> = Vec::new();
    for wanted in &args.attach {
        if wanted.is_empty() {
            for program in object.programs() {
                match program.attach() {
                    Ok(link) => links.push((program, link)),
                    // What names no place is left to the caller.
                    Err(Error::NotAttachable { .. }) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            tables.extend(object.struct_ops().map(|(name, _)| name.to_owned()));
            ensure!(
                !(links.is_empty() && tables.is_empty()),
                "no program of {} says where to attach it: name one, such as --attach=PROGRAM@INTERFACE",
                args.object.display()
            );
            continue;
        }
        let (name, interface) = match wanted.split_once('@') {
            Some((name, interface)) => (name, Some(interface)),
            None => (wanted.as_str(), None),
        };
        if interface.is_none() && object.struct_ops().any(|(table, _)| table == name) {
            tables.push(name.to_owned());
            continue;
        }
        let program = object.program(name)?;
        let link = match interface {
            Some("") => {
                return Err(out::Usage(format!("--attach={wanted} names no interface behind the @")).into());
            }
            Some(interface) => program.attach_xdp(interface)?,
            None => program.attach().map_err(|error| match &error {
                Error::NotAttachable { .. } if program.prog_type() == ProgType::XDP => {
                    out::Usage(format!("name an interface for `{name}`: --attach={name}@INTERFACE")).into()
                }
                _ => anyhow::Error::from(error),
            })?,
        };
        links.push((program, link));
    }
    let mut attached = Vec::new();
    for (program, link) in links {
        attached.push(Attached::Link(record(args, program.name(), false, link, loaded, pins)?));
    }
    for table in tables {
        attached.extend(register(args, object, &table, loaded, pins)?);
    }
    Ok(attached)
}

/// Registers a table. One without a link stays in the kernel with the pin of its map.
fn register(
    args: &Args,
    object: &Object,
    table: &str,
    loaded: &mut Loaded,
    pins: &mut Pins<'_>,
) -> anyhow::Result<Option<Attached>> {
    let registered = object.attach_struct_ops(table)?;
    if let Some(link) = registered.link() {
        // The registration holds the link; this second handle of it is for its pin.
        drop(record(args, table, true, link.try_clone()?, loaded, pins)?);
        return Ok(Some(Attached::Table(registered)));
    }
    loaded.links.push(LoadedLink { program: table.to_owned(), table: true, id: 0, pin: None });
    if args.pin.is_some() {
        registered.leave();
        return Ok(None);
    }
    Ok(Some(Attached::Table(registered)))
}

fn record(
    args: &Args,
    name: &str,
    table: bool,
    link: Link,
    loaded: &mut Loaded,
    pins: &mut Pins<'_>,
) -> anyhow::Result<Link> {
    let path = args.pin.as_ref().map(|dir| dir.join(format!("{name}_link")));
    if let Some(path) = &path {
        link.pin(path)?;
        pins.links.push(path.clone());
    }
    loaded.links.push(LoadedLink {
        program: name.to_owned(),
        table,
        id: link.id().map_or(0, |id| id.0),
        pin: path,
    });
    Ok(link)
}

/// Sets an integer variable of any width from text such as `port=0x1f90`.
pub(crate) fn set(spec: &mut Spec, setting: &str) -> anyhow::Result<()> {
    set_global(spec, setting).map_err(|error| out::Usage(format!("--set {setting}: {error:#}")).into())
}

fn set_global(spec: &mut Spec, setting: &str) -> anyhow::Result<()> {
    let (name, number) = setting.split_once('=').context("it is not of the form NAME=NUMBER")?;
    let digits = number.strip_prefix("0x");
    let value = match digits {
        Some(digits) => i128::from_str_radix(digits, 16),
        None => number.parse(),
    };
    let value = value.with_context(|| format!("`{number}` is not a number"))?;
    let size = spec.find_global(name)?.size;
    ensure!(
        matches!(size, 1 | 2 | 4 | 8),
        "variable `{name}` has {size} bytes: only integers can be set here"
    );
    let bits = size * 8;
    ensure!(
        value >= -(1 << (bits - 1)) && value < 1 << bits,
        "{value} does not fit the {size} bytes of variable `{name}`"
    );
    let bytes = match size {
        1 => (value as u8).to_ne_bytes().to_vec(),
        2 => (value as u16).to_ne_bytes().to_vec(),
        4 => (value as u32).to_ne_bytes().to_vec(),
        _ => (value as u64).to_ne_bytes().to_vec(),
    };
    Ok(spec.set_global(name, bytes.as_slice())?)
}

fn page(loaded: &Loaded) -> String {
    let pin = |pin: &Option<PathBuf>| pin.as_ref().map_or(String::new(), |path| path.display().to_string());
    let mut page = String::new();
    let mut part = |title: &str, rows: Vec<Vec<String>>| page.push_str(&out::part(title, &rows));
    part(
        "programs",
        loaded
            .programs
            .iter()
            .map(|program| {
                vec![
                    program.name.clone(),
                    program.prog_type.clone(),
                    format!("id {}", program.id),
                    format!("tag {}", program.tag),
                    pin(&program.pin),
                ]
            })
            .collect(),
    );
    part(
        "maps",
        loaded
            .maps
            .iter()
            .map(|map| vec![map.name.clone(), map.map_type.clone(), format!("id {}", map.id), pin(&map.pin)])
            .collect(),
    );
    part(
        "links",
        loaded
            .links
            .iter()
            .map(|link| vec![link.program.clone(), format!("id {}", link.id), pin(&link.pin)])
            .collect(),
    );
    part("notes", loaded.notes.iter().map(|note| vec![note.clone()]).collect());
    page
}

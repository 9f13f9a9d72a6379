//! `skep check`: whether objects fit kernels that are not here, by the types of those kernels.

mod kernels;
mod pair;
mod table;

use std::collections::BTreeSet;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;

use anyhow::{Context, bail};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use skep::Spec;
use skep::spec::{MapRole, SlotValue};

use self::kernels::Kernel;
use self::pair::{Pair, Verdict};
use crate::{inspect, out};

/// Arguments of `skep check`.
#[derive(clap::Args)]
#[command(
    after_help = "What is known of a kernel beside its types may lie beside them. For KERNEL.btf (or any other name):\n  \
    KERNEL.config     its configuration, which may be compressed by gzip; it tells its version too\n  \
    KERNEL.kallsyms   its symbols\n  \
    KERNEL.modules/   the types of its modules, or the modules themselves\n\
    Exit status: 0 when nothing is missing or all that is missing is guarded, 1 otherwise, 2 for wrong usage."
)]
pub(crate) struct Args {
    /// Object files.
    #[arg(required = true)]
    objects: Vec<PathBuf>,
    /// Types of kernels: raw BTF, vmlinux files with a .BTF section, or directories to look for such files in.
    #[arg(long, required = true, num_args = 1.., value_name = "FILE_OR_DIR")]
    btf: Vec<PathBuf>,
    /// The configuration of the kernel, when there is one kernel.
    #[arg(long, value_name = "FILE")]
    kconfig: Option<PathBuf>,
    /// The version of the kernel, such as 6.12.107, when there is one kernel.
    #[arg(long, value_name = "VERSION")]
    kernel_version: Option<String>,
    /// The symbols of the kernel, as /proc/kallsyms or System.map, when there is one kernel.
    #[arg(long, value_name = "FILE")]
    kallsyms: Option<PathBuf>,
    /// Types of a module of the kernel, or the module itself, when there is one kernel.
    #[arg(long = "module", value_name = "FILE")]
    modules: Vec<PathBuf>,
    /// How many kernels to look at in parallel.
    #[arg(long, short, value_name = "N", default_value_t = 0, hide_default_value = true)]
    jobs: usize,
    /// Print one JSON object for each object and kernel.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    reading: out::OpenArgs,
    /// List also what is missing and guarded.
    #[arg(long, conflicts_with = "json")]
    guarded: bool,
}

/// An object file, opened or not.
struct Object {
    name: String,
    spec: Result<Spec, String>,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let mut kernels = kernels::find(&args.btf)?;
    match kernels.as_mut_slice() {
        [kernel] => kernel.describe(args),
        kernels => {
            let alone = args.kconfig.is_some()
                || args.kernel_version.is_some()
                || args.kallsyms.is_some()
                || !args.modules.is_empty();
            if alone {
                bail!(out::Usage(format!(
                    "--kconfig, --kernel-version, --kallsyms and --module describe one kernel, and --btf names {}: \
                     put what describes each beside its BTF (see --help)",
                    kernels.len()
                )));
            }
        }
    }
    let objects: Vec<Object> = args
        .objects
        .iter()
        .map(|path| Object { name: inspect::name(path), spec: open(args.reading, path) })
        .collect();
    let columns = look(&objects, &kernels, args.jobs)?;
    let fits = columns.iter().flatten().all(|pair| pair.verdict != Verdict::Fails);
    if args.json {
        for at in 0..objects.len() {
            for column in &columns {
                out::json(&column[at])?; // each has one for each object
            }
        }
    } else {
        out::text(&table::page(&columns, args.guarded))?;
    }
    Ok(if fits { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

fn open(reading: out::OpenArgs, path: &Path) -> Result<Spec, String> {
    let mut spec = reading.open(path).map_err(|error| out::reason(&error))?;
    // A program that is not loaded by default may be asked for.
    spec.programs.iter_mut().for_each(|program| program.autoload = true);
    // Programs in tables go with the first of their tables.
    let mut held = BTreeSet::new();
    for map in spec.maps.iter_mut().filter(|map| map.role == MapRole::StructOps) {
        for slot in &map.slots {
            if let SlotValue::Program(program) = slot.value {
                map.autocreate |= held.insert(program);
            }
        }
    }
    Ok(spec)
}

/// Checks all objects against each kernel, several kernels at once. The first dimension is the kernel.
fn look(objects: &[Object], kernels: &[Kernel], jobs: usize) -> anyhow::Result<Vec<Vec<Pair>>> {
    let jobs = match jobs {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        jobs => jobs,
    };
    let bar = progress(kernels.len() as u64);
    let next = AtomicUsize::new(0);
    let (sender, receiver) = mpsc::channel();
    std::thread::scope(|scope| {
        for _ in 0..jobs.clamp(1, kernels.len().max(1)) {
            let (sender, next) = (sender.clone(), &next);
            scope.spawn(move || {
                // A kernel's types are read once, and given up before the next one's are read.
                while let Some(kernel) = kernels.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let column = column(objects, kernel);
                    if sender.send((kernel.number, column)).is_err() {
                        break;
                    }
                }
            });
        }
        drop(sender);
        let mut columns: Vec<Option<Vec<Pair>>> = kernels.iter().map(|_| None).collect();
        for (number, column) in receiver {
            bar.inc(1);
            if let Some(slot) = columns.get_mut(number) {
                *slot = Some(column);
            }
        }
        bar.finish_and_clear();
        columns.into_iter().collect::<Option<_>>().context("a thread ended early")
    })
}

fn column(objects: &[Object], kernel: &Kernel) -> Vec<Pair> {
    let target = kernel.target();
    objects
        .iter()
        .map(|object| match (&object.spec, &target) {
            (Err(error), _) => Pair::failed(&object.name, &kernel.name, error.clone()),
            (_, Err(error)) => Pair::failed(&object.name, &kernel.name, error.clone()),
            (Ok(spec), Ok(target)) => pair::check(&object.name, spec, &kernel.name, target),
        })
        .collect()
}

/// A bar on a terminal, nothing elsewhere.
fn progress(kernels: u64) -> ProgressBar {
    if !std::io::stderr().is_terminal() || kernels < 2 {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::with_draw_target(Some(kernels), ProgressDrawTarget::stderr());
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} kernels, {eta} left");
    bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

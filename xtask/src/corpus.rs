//! `cargo xtask corpus`: real BPF objects that others wrote and built, and what libbpf and skep make of them.
//!
//! `testdata/corpus/manifest.json` names packages by version and SHA-256, and the objects in them by SHA-256; the
//! objects themselves are never committed. `fetch` brings them, `oracle` asks libbpf, `verify` asks skep, and
//! `compare` says where the two differ and whether `testdata/corpus/known.json` explains all of it. `deep` compares what
//! both ask of the kernel, `malformed` what they say of objects with something wrong in them.

mod agree;
mod archive;
mod carve;
mod compare;
mod compile;
mod deep;
mod fetch;
mod malformed;
mod manifest;
mod run;
mod runs;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Subcommand;

use self::manifest::Manifest;

/// Real BPF objects that others built, and what libbpf and skep make of them.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Where the corpus lives (default: `SKEP_CORPUS_DIR`, else `skep-corpus` in the user's cache directory).
    #[arg(long, global = true)]
    dir: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Downloads the packages of the manifest, takes the objects out of them and checks every hash.
    /// Exit 3: the archive no longer has some packages.
    Fetch {
        /// Only these sources.
        sources: Vec<String>,
    },
    /// Writes into the manifest what was found in these sources. For whoever adds a source.
    Pin {
        /// Sources to look at (default: those without objects).
        sources: Vec<String>,
    },
    /// Prints the path of every object that was fetched.
    List,
    /// Builds the libbpf oracle and asks it about every object: DIR/oracle.jsonl.
    Oracle {
        /// Seconds for each program.
        #[arg(long, default_value_t = 20)]
        timeout: u64,
    },
    /// Runs `skep verify --json` over every object: DIR/skep.jsonl.
    Verify {
        /// The command to run (default: built from this tree).
        #[arg(long)]
        skep: Option<PathBuf>,
        /// Seconds for each program.
        #[arg(long, default_value_t = 20)]
        timeout: u64,
    },
    /// Compares skep with libbpf program by program. Exit 1: a difference that no line of known.json explains, a line
    /// that explains nothing, or too few programs.
    Compare(compare::Args),
    /// Compares what `skep check` says of kernels with what `skep verify` finds on them in virtual machines, program by
    /// program. Exit 1: they disagree on one.
    Agree(agree::Args),
    /// Loads the objects with both and compares what each asked of the kernel, byte by byte: maps, elements, instructions,
    /// records. Exit 1: a difference that no line of known-deep.json explains, or a line that explains nothing.
    Deep(deep::Args),
    /// Gives both objects with something wrong in them and compares what each says. Exit 1: a difference that no line of
    /// known-malformed.json explains, or a line that explains nothing.
    Malformed(malformed::Args),
    /// Runs the programs on the running and on a simulated kernel, on packets and contexts of many kinds, and compares results,
    /// packets and maps. Exit 1: a difference that no line of known-runs.json explains, or a line that explains nothing.
    Runs(runs::Args),
    /// Tests well-known tools of the corpus on the simulated kernel: what they see of events, and what they do to packets.
    Tools,
}

/// Runs `cargo xtask corpus`.
pub(crate) fn run(args: Args) -> Result<u8> {
    let dir = match args.dir.or_else(|| std::env::var_os("SKEP_CORPUS_DIR").map(PathBuf::from)) {
        Some(dir) => std::path::absolute(dir)?,
        None => cache_dir()?.join("skep-corpus"),
    };
    let manifest = || Manifest::read(&testdata().join("manifest.json"));
    match args.command {
        Command::Fetch { sources } => fetch::fetch(&dir, &manifest()?, &sources),
        Command::Pin { sources } => fetch::pin(&dir, &testdata().join("manifest.json"), &sources),
        Command::List => run::list(&dir, &manifest()?),
        Command::Oracle { timeout } => run::oracle(&dir, &manifest()?, timeout),
        Command::Verify { skep, timeout } => run::verify(&dir, &manifest()?, skep, timeout),
        Command::Agree(args) => agree::run(&dir, &manifest()?, &args),
        Command::Compare(args) => compare::run(&dir, &testdata().join("known.json"), &args),
        Command::Deep(args) => deep::run(&dir, &manifest()?, &testdata().join("known-deep.json"), &args),
        Command::Malformed(args) => {
            malformed::run(&dir, &manifest()?, &testdata().join("known-malformed.json"), &args)
        }
        Command::Runs(args) => runs::run(&dir, &manifest()?, &testdata().join("known-runs.json"), &args),
        Command::Tools => run::tools(&dir),
    }
}

/// The root of this tree.
fn root() -> &'static Path {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    xtask.parent().unwrap_or(xtask)
}

fn testdata() -> PathBuf {
    root().join("testdata/corpus")
}

fn cache_dir() -> Result<PathBuf> {
    if let Some(dir) = std::env::var_os("XDG_CACHE_HOME").filter(|dir| !dir.is_empty()) {
        return Ok(dir.into());
    }
    let home = std::env::home_dir().context("no home directory: give --dir or set SKEP_CORPUS_DIR")?;
    Ok(home.join(".cache"))
}

//! `cargo xtask vm`: boots a distribution kernel under qemu and runs programs in it as root.

mod guest;
mod image;
mod kernel;
mod store;

use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Parser;

use guest::{Guest, Step};
use store::Store;

use crate::workspace::{self, KernelTest, KernelTests, Workspace};

/// Modules that are loaded before the programs run: what tests of network links need, and two whose functions programs call.
const MODULES: &[&str] =
    &["veth", "dummy", "tun", "sch_ingress", "cls_bpf", "act_bpf", "nf_conntrack", "fou"];
/// Variables that the programs in the guest inherit. cargo sets the first to the directory of a test's package.
const INHERITED: &[&str] = &["CARGO_MANIFEST_DIR", "RUST_BACKTRACE", "RUST_LOG", "RUST_TEST_THREADS"];
/// cargo names the programs that a test may run in variables that begin so.
const PROGRAMS: &str = "CARGO_BIN_EXE_";

/// Boot a distribution kernel under qemu and run programs in it as root.
///
/// Without a command it runs the kernel tests: every test target of the workspace whose name begins with `kernel`.
/// The exit status is the command's; 124 after a timeout; 125 when the guest died.
#[derive(Parser)]
#[command(
    after_help = "As a cargo runner, with the built xtask (`cargo xtask` would run itself through the runner):\n  \
    CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER=\"$PWD/target/debug/xtask vm 6.12 --\" cargo test --test kernel"
)]
pub(crate) struct Args {
    /// 5.10, 6.1, 6.12 or new
    #[arg(required_unless_present = "list")]
    kernel: Option<String>,
    /// List the kernels and which of them the cache has
    #[arg(long)]
    list: bool,
    /// A file or directory of the host to copy in, under the same path unless DEST is given
    #[arg(long = "file", value_name = "SRC[:DEST]")]
    files: Vec<String>,
    /// A further kernel module to load
    #[arg(long = "module", value_name = "NAME")]
    modules: Vec<String>,
    /// A variable for the programs
    #[arg(long = "env", value_name = "NAME=VALUE")]
    env: Vec<String>,
    /// Words for the kernel's command line
    #[arg(long, default_value = "", value_name = "WORDS")]
    cmdline: String,
    /// Number of CPUs
    #[arg(long, default_value_t = 2)]
    cpus: u32,
    /// Memory in MiB
    #[arg(long, default_value_t = 2048, value_name = "MIB")]
    memory: u32,
    /// Seconds until the guest is stopped
    #[arg(long, default_value_t = 1200, value_name = "SECONDS")]
    timeout: u64,
    /// Show all that the kernel said, on stderr at the end
    #[arg(long, short)]
    verbose: bool,
    /// Say on stderr how long the guest ran
    #[arg(long)]
    time: bool,
    /// A program of the host, or a busybox applet, with its arguments
    #[arg(last = true)]
    command: Vec<String>,
}

pub(crate) fn run(args: &Args) -> Result<u8> {
    if args.list {
        return list();
    }
    let mut stdout = std::io::stdout();
    run_with(args, &mut |bytes| {
        // Who closed our output does not want it; the status still counts.
        stdout.write_all(bytes).and_then(|()| stdout.flush()).ok();
    })
}

/// As `run`, with the output going to `sink`.
pub(crate) fn run_with(args: &Args, sink: &mut dyn FnMut(&[u8])) -> Result<u8> {
    let release = kernel::find(args.kernel.as_deref().context("no kernel given")?)?;
    let (steps, programs) = if args.command.is_empty() {
        test_steps(args)?
    } else {
        (vec![command_step(args)?], programs_of_test())
    };
    let store = Store::open()?;
    let tools = store.tools()?;
    let kernel = store.kernel(release, &tools)?;
    let root = workspace::root()?;
    let mut files: Vec<_> = programs.into_iter().map(|program| (program.clone(), program)).collect();
    for dir in ["testdata", "examples"] {
        let dir = root.join(dir);
        if dir.is_dir() {
            files.push((dir.clone(), dir));
        }
    }
    for file in &args.files {
        let (from, to) = file.split_once(':').unwrap_or((file, ""));
        let from = std::path::absolute(from)?;
        let to = if to.is_empty() { from.clone() } else { PathBuf::from(to) };
        files.push((from, to));
    }
    let guest = Guest {
        steps,
        files,
        modules: MODULES.iter().map(|&name| name.to_owned()).chain(args.modules.clone()).collect(),
        cpus: args.cpus,
        memory_mib: args.memory,
        timeout: Duration::from_secs(args.timeout),
        cmdline: args.cmdline.clone(),
        verbose: args.verbose,
    };
    let start = Instant::now();
    let status = guest.run(&store, &tools, &kernel, sink)?;
    if args.time {
        eprintln!("vm: {} ({}) ran for {:.2} s", release.name, kernel.version, start.elapsed().as_secs_f64());
    }
    Ok(status)
}

/// What a kernel is like, out of its package.
pub(crate) struct Described {
    /// The uncompressed image, with the kernel's types.
    pub(crate) image: PathBuf,
    /// What `uname -r` says in it.
    pub(crate) version: String,
    /// Its configuration.
    pub(crate) config: PathBuf,
    /// The modules that a guest loads and that have types, by name.
    pub(crate) modules: Vec<(String, Vec<u8>)>,
}

/// Describes a kernel, which is fetched when it is not there.
pub(crate) fn describe(name: &str) -> Result<Described> {
    let store = Store::open()?;
    let tools = store.tools()?;
    let kernel = store.kernel(kernel::find(name)?, &tools)?;
    let names: Vec<String> = MODULES.iter().map(|&name| name.to_owned()).collect();
    let modules = kernel.modules(&names, &tools)?;
    Ok(Described {
        modules: modules
            .into_iter()
            .filter(kernel::Module::has_types)
            .map(|module| (module.name, module.bytes))
            .collect(),
        image: kernel.image,
        version: kernel.version,
        config: kernel.config,
    })
}

/// Fetches a kernel and the tools that run it, unless they are there.
pub(crate) fn fetch(kernel: &str) -> Result<()> {
    let store = Store::open()?;
    store.kernel(kernel::find(kernel)?, &store.tools()?).map(drop)
}

/// Whether there is a kernel of that name.
pub(crate) fn is_known(kernel: &str) -> bool {
    kernel::find(kernel).is_ok()
}

fn list() -> Result<u8> {
    let store = Store::open()?;
    let mut stdout = std::io::stdout();
    for release in kernel::RELEASES {
        let state = store.fetched(release).map_or("not fetched yet".to_owned(), |kernel| kernel.version);
        writeln!(stdout, "{:<6} {:<10} {state}", release.name, release.suite)?;
    }
    writeln!(stdout, "in {}", store.root().display())?;
    Ok(0)
}

/// The command line's program; a name without a slash is an applet of the guest's busybox.
fn command_step(args: &Args) -> Result<Step> {
    let (program, rest) = args.command.split_first().context("no command given")?;
    let program = if program.contains('/') {
        let path = std::path::absolute(program)?;
        if !path.is_file() {
            bail!("{program} is not a file");
        }
        path.to_string_lossy().into_owned()
    } else {
        program.clone()
    };
    Ok(Step {
        title: None,
        program,
        args: rest.to_vec(),
        dir: std::env::current_dir()?,
        env: environment(args)?,
    })
}

/// Tests that hold the simulated kernel to the running one in all that it answers. It answers as Linux 6.18 does, so what
/// another kernel answers says nothing of it. What differs between kernels and matters to skep has tests of its own.
const OF_THE_SIMULATED_KERNEL: &[&str] = &[
    "kernel_fields",
    "kernel_fuzz_maps",
    "kernel_fuzzed",
    "kernel_helpers",
    "kernel_mutated_btf",
    "kernel_mutated_programs",
    "kernel_packets",
];

/// The workspace's kernel tests, and the programs that they may run.
fn test_steps(args: &Args) -> Result<(Vec<Step>, Vec<PathBuf>)> {
    let mut built = KernelTests::build(&Workspace::read()?)?;
    built.tests.retain(|test| !OF_THE_SIMULATED_KERNEL.contains(&&*test.name()));
    if built.tests.is_empty() {
        bail!("the workspace has no kernel tests: test targets whose names begin with `kernel`");
    }
    let mut steps = Vec::new();
    for test in built.tests {
        let mut env = test.environment();
        // Nobody else is in the guest, whom it could disturb that CPUs come and go.
        env.push(("SKEP_TEST_HOTPLUG".to_owned(), "1".to_owned()));
        env.extend(environment(args)?);
        steps.push(Step {
            title: Some(test.title()),
            program: test.executable.to_string_lossy().into_owned(),
            args: KernelTest::arguments(),
            dir: test.package_dir,
            env,
        });
    }
    Ok((steps, built.programs))
}

/// The programs that cargo lends to the test that it runs us for, if it does.
fn programs_of_test() -> Vec<PathBuf> {
    let programs = std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with(PROGRAMS));
    programs.map(|(_, path)| path.into()).collect()
}

fn environment(args: &Args) -> Result<Vec<(String, String)>> {
    let mut env: Vec<(String, String)> =
        INHERITED.iter().filter_map(|&name| Some((name.to_owned(), std::env::var(name).ok()?))).collect();
    for pair in &args.env {
        let (name, value) =
            pair.split_once('=').with_context(|| format!("--env {pair}: expected NAME=VALUE"))?;
        env.push((name.to_owned(), value.to_owned()));
    }
    Ok(env)
}

//! The running kernel, and simulated ones that look like it.

use std::cell::OnceCell;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use skep::Kernel;
use skep::sim::{Builder, SimKernel, Task};

/// Why results on two kernels of one kind are not the same.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Cause {
    /// The clock, and random numbers.
    TimeOrChance,
    /// What is on its stack before it writes to it.
    Stack,
    /// Where things are in memory.
    Addresses,
    /// Whatever else is different between two runs on the running kernel.
    Linux,
}

impl Cause {
    pub(super) const SIMULATED: [Cause; 3] = [Cause::TimeOrChance, Cause::Stack, Cause::Addresses];

    pub(super) fn name(self) -> &'static str {
        match self {
            Cause::TimeOrChance => "time or chance",
            Cause::Stack => "what nobody wrote to its stack",
            Cause::Addresses => "addresses",
            Cause::Linux => "the running kernel differs from itself",
        }
    }
}

/// The kernels that are compared.
pub(super) struct Kernels {
    pub(super) linux: Kernel,
    like: Builder,
    pub(super) plain: SimKernel,
    /// Those that differ from it in one thing only, made when they are wanted.
    others: [OnceCell<SimKernel>; 3],
}

impl Kernels {
    pub(super) fn new() -> Result<Kernels> {
        let linux = Kernel::linux();
        let like = like(&linux)?;
        let plain = with_us(like.clone().build()?);
        Ok(Kernels { linux, like, plain, others: Default::default() })
    }

    /// The kernel that differs from the plain one in one thing.
    pub(super) fn differing(&self, cause: Cause) -> Result<&SimKernel> {
        let at = Cause::SIMULATED.iter().position(|other| *other == cause).unwrap_or_default();
        let Some(cell) = self.others.get(at) else { return Ok(&self.plain) };
        if let Some(sim) = cell.get() {
            return Ok(sim);
        }
        let like = self.like.clone();
        let sim = with_us(match cause {
            Cause::TimeOrChance => {
                let sim = like.seed(0x5eed_0b57_ac1e_5eed).build()?;
                // Two years: no byte of a time is the same, in seconds either.
                sim.advance(Duration::from_nanos(63_218_954_321_987_654));
                sim
            }
            Cause::Stack => like.stack_fill(0xa5).build()?,
            _ => like.address_shift(13).build()?,
        });
        Ok(cell.get_or_init(|| sim))
    }
}

impl Kernels {
    /// One with other random numbers than any before.
    pub(super) fn seeded(&self, round: u64) -> Result<SimKernel> {
        Ok(with_us(self.like.clone().seed(0x1000 + round).build()?))
    }
}

/// A simulated kernel that looks like the running one.
fn like(linux: &Kernel) -> Result<Builder> {
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
    Ok(builder)
}

/// Makes this process the current one of a simulated kernel.
fn with_us(sim: SimKernel) -> SimKernel {
    let pid = std::process::id();
    let comm = fs::read_to_string("/proc/self/comm").unwrap_or_default();
    let task = Task::new(pid)
        .comm(comm.trim_end())
        .uid(nix::unistd::getuid().as_raw())
        .gid(nix::unistd::getgid().as_raw())
        .parent(nix::unistd::getppid().as_raw().cast_unsigned())
        .cgroups(cgroups());
    sim.add_task(task);
    sim.set_current(pid);
    sim
}

/// Ids of the cgroups of this process, from the root on.
fn cgroups() -> Vec<u64> {
    let inode = |path: &Path| fs::metadata(path).map(|found| found.ino()).ok();
    let all = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let path = all.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default();
    let mounts = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"].map(PathBuf::from);
    let root = mounts.into_iter().find(|mount| mount.join("cgroup.controllers").exists());
    let Some(mut at) = root else { return vec![1] };
    let mut ids: Vec<u64> = inode(&at).into_iter().collect();
    for part in path.split('/').filter(|part| !part.is_empty()) {
        at.push(part);
        ids.extend(inode(&at));
    }
    ids
}

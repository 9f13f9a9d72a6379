//! How a simulated kernel is described.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use bytes::Bytes;
use skep_btf::{Btf, BtfError};
use skep_sys::abi::{AttachType, Errno, MapType, ProgType};
use skep_sys::wrap::Command;

use crate::features::Features;
use crate::helper::{CustomFunction, HelperCall};
use crate::kernel::SimKernel;
use crate::releases;

/// Describes a simulated kernel, made by [`SimKernel::builder`].
///
/// The default has two possible CPUs, the release `6.18.0`, its [features](Features), no BTF of its own, the network
/// device `lo` with index 1, and a bpffs at `/sys/fs/bpf`.
#[derive(Clone, Debug)]
#[must_use]
pub struct Builder {
    pub(crate) cpus: u32,
    pub(crate) release: String,
    pub(crate) features: Features,
    pub(crate) btf: Option<Bytes>,
    pub(crate) modules: Vec<(String, Bytes)>,
    pub(crate) interfaces: BTreeMap<String, u32>,
    pub(crate) mounts: Vec<PathBuf>,
    pub(crate) tracepoints: BTreeSet<String>,
    pub(crate) missing_helpers: BTreeSet<i32>,
    /// The last kinds of maps and programs that there are.
    pub(crate) last_map_type: MapType,
    pub(crate) last_prog_type: ProgType,
    /// The last of the attach points that links can be made at.
    pub(crate) last_attach_type: AttachType,
    pub(crate) config: Bytes,
    pub(crate) symbols: Bytes,
    /// The mappings of processes.
    pub(crate) processes: BTreeMap<u32, Bytes>,
    /// Files of processes, by process and path.
    pub(crate) files: BTreeMap<(u32, PathBuf), Bytes>,
    pub(crate) syscall_wrapper: bool,
    pub(crate) delegating: Option<PathBuf>,
    /// What random numbers follow from.
    pub(crate) seed: u64,
    /// What stacks and objects hold before programs write to them.
    pub(crate) stack_fill: u8,
    /// How far addresses are from where they begin otherwise.
    pub(crate) address_shift: u16,
    /// Most instructions of a run.
    pub(crate) budget: u64,
    /// Helpers of the test, by number, and kernel functions by name.
    pub(crate) helpers: BTreeMap<i32, CustomFunction>,
    pub(crate) kfuncs: BTreeMap<String, CustomFunction>,
    /// Calls that fail: which one of its command, counted from 1, and with what.
    pub(crate) failing: Vec<(Command, u64, Errno)>,
    /// Bytes that maps and programs may take together.
    pub(crate) memory_limit: Option<usize>,
    /// Bytes of the process that the values of maps may take.
    pub(crate) host_memory: usize,
    /// Whether lines that programs come to are counted from the start.
    pub(crate) coverage: bool,
}

/// The configuration of a simulated kernel that is not given another.
const CONFIG: &[u8] = b"\
CONFIG_BPF=y
CONFIG_BPF_SYSCALL=y
CONFIG_BPF_JIT=y
CONFIG_BPF_EVENTS=y
CONFIG_CGROUPS=y
CONFIG_CGROUP_BPF=y
CONFIG_DEBUG_INFO_BTF=y
CONFIG_HZ=1000
CONFIG_KPROBES=y
CONFIG_NR_CPUS=512
CONFIG_UPROBES=y
CONFIG_XDP_SOCKETS=y
";

/// Tracepoints of every simulated kernel. With a BTF of its own it has those too that this one names.
const TRACEPOINTS: &[&str] = &[
    "block_rq_complete",
    "block_rq_insert",
    "block_rq_issue",
    "sched_process_exec",
    "sched_process_exit",
    "sched_process_fork",
    "sched_switch",
    "sched_wakeup",
    "sched_wakeup_new",
    "softirq_entry",
    "softirq_exit",
    "inet_sock_set_state",
    "kfree_skb",
    "netif_receive_skb",
    "sys_enter",
    "sys_exit",
    "task_newtask",
    "task_rename",
    "tcp_retransmit_skb",
    "xdp_exception",
];

/// The CPUs that the configuration speaks of.
pub(crate) const CONFIG_CPUS: u32 = 512;
/// Most CPUs that a simulated kernel has.
pub(crate) const CPUS_MAX: u32 = 1024;

/// The last helper function that there ever was: kernel functions came in their place.
const HELPER_LAST: i32 = 211;

impl Default for Builder {
    fn default() -> Self {
        Builder {
            cpus: 2,
            release: "6.18.0".to_owned(),
            features: Features::default(),
            btf: None,
            modules: Vec::new(),
            interfaces: BTreeMap::from([("lo".to_owned(), 1)]),
            mounts: vec![PathBuf::from("/sys/fs/bpf")],
            tracepoints: TRACEPOINTS.iter().map(|&name| name.to_owned()).collect(),
            missing_helpers: BTreeSet::new(),
            last_map_type: MapType(u32::MAX),
            last_prog_type: ProgType(u32::MAX),
            last_attach_type: AttachType(u32::MAX),
            config: Bytes::from_static(CONFIG),
            symbols: Bytes::new(),
            processes: BTreeMap::new(),
            files: BTreeMap::new(),
            syscall_wrapper: true,
            delegating: None,
            seed: 0,
            stack_fill: 0,
            address_shift: 0,
            budget: 100_000_000,
            helpers: BTreeMap::new(),
            kfuncs: BTreeMap::new(),
            failing: Vec::new(),
            memory_limit: None,
            host_memory: 2 << 30,
            coverage: false,
        }
    }
}

impl Builder {
    /// Number of possible CPUs, 1 to 1024; others are moved into that range.
    pub fn cpus(mut self, cpus: u32) -> Self {
        self.cpus = cpus.clamp(1, CPUS_MAX);
        self
    }

    /// The release, as `uname -r` prints it. The version code is read from its first three numbers.
    pub fn release(mut self, release: impl Into<String>) -> Self {
        self.release = release.into();
        self
    }

    /// Makes it a kernel like that release of Linux, from 4.18 on: its number, its [features](Features), its helper functions
    /// (as far as [`SimKernel`] has them at all) and its kinds of maps, programs
    /// and attach points. Answers that changed otherwise are
    /// those of 6.18.
    ///
    /// ```
    /// use skep_sys::{Feature, Kernel, Probe, abi::MapType};
    ///
    /// let old = Kernel::new(skep_sim::SimKernel::builder().linux(5, 4).build()?);
    /// assert_eq!(old.has(Feature::MapType(MapType::RINGBUF)), Probe::Unsupported);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn linux(mut self, major: u32, minor: u32) -> Self {
        let release = (major, minor);
        self.release = format!("{major}.{minor}.0");
        self.features = releases::features(release);
        self.missing_helpers = (releases::last_helper(release) + 1..=HELPER_LAST).collect();
        self.last_map_type = releases::last_map_type(release);
        self.last_prog_type = releases::last_prog_type(release);
        self.last_attach_type = releases::last_attach_type(release);
        self
    }

    /// What the kernel can do. Everything by default.
    pub fn features(mut self, features: Features) -> Self {
        self.features = features;
        self
    }

    /// Takes features away.
    pub fn without(mut self, features: Features) -> Self {
        self.features = self.features.difference(features);
        self
    }

    /// The kernel's own BTF, as `/sys/kernel/btf/vmlinux` holds it.
    pub fn btf(mut self, btf: impl Into<Bytes>) -> Self {
        self.btf = Some(btf.into());
        self
    }

    /// The split BTF of a loaded module.
    pub fn module_btf(mut self, name: impl Into<String>, btf: impl Into<Bytes>) -> Self {
        self.modules.push((name.into(), btf.into()));
        self
    }

    /// Adds a network device.
    pub fn interface(mut self, name: impl Into<String>, ifindex: u32) -> Self {
        self.interfaces.insert(name.into(), ifindex);
        self
    }

    /// Puts the bpffs at these paths instead of `/sys/fs/bpf`. They need not exist on the machine. Only who runs the process may
    /// search them, as where `systemd` mounts one: see [`SimKernel::as_user`].
    pub fn bpffs(mut self, mounts: impl IntoIterator<Item = impl Into<PathBuf>>) -> Self {
        self.mounts = mounts.into_iter().map(Into::into).collect();
        self
    }

    /// Adds a tracepoint that raw tracepoint programs can attach to.
    pub fn tracepoint(mut self, name: impl Into<String>) -> Self {
        self.tracepoints.insert(name.into());
        self
    }

    /// Takes away a helper function by its number, as a kernel from before it was added.
    pub fn without_helper(mut self, helper: i32) -> Self {
        self.missing_helpers.insert(helper);
        self
    }

    /// The kernel's configuration, as `/boot/config-RELEASE` holds it. By default it is a short one with BPF in it.
    pub fn config(mut self, config: impl Into<Bytes>) -> Self {
        self.config = config.into();
        self
    }

    /// The addresses of symbols, as `/proc/kallsyms` holds them. None by default.
    pub fn symbols(mut self, symbols: impl Into<Bytes>) -> Self {
        self.symbols = symbols.into();
        self
    }

    /// Adds a process with what is mapped into it, as `/proc/PID/maps` holds it.
    pub fn process(mut self, pid: u32, maps: impl Into<Bytes>) -> Self {
        self.processes.insert(pid, maps.into());
        self
    }

    /// Adds a file that a process sees at a path.
    pub fn process_file(mut self, pid: u32, path: impl Into<PathBuf>, contents: impl Into<Bytes>) -> Self {
        self.files.insert((pid, path.into()), contents.into());
        self
    }

    /// Whether system calls are entered through a wrapper. They are by default.
    pub fn syscall_wrapper(mut self, wrapper: bool) -> Self {
        self.syscall_wrapper = wrapper;
        self
    }

    /// Makes the process one without rights, in a user namespace, that has a bpffs at `path` through which someone
    /// delegated everything to it: maps, programs and BTF are made with a token of that bpffs only, and other calls with
    /// the rights of nobody.
    pub fn delegating_bpffs(mut self, path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        self.mounts.push(path.clone());
        self.delegating = Some(path);
        self
    }

    /// What the random numbers of programs follow from. The same seed gives the same ones, and it is 0 by default.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// What each byte of a stack holds before the program writes to it: 0 by default. A kernel lets privileged programs read
    /// what was left there. The same holds for objects that a program allocates (`bpf_obj_new`, `bpf_percpu_obj_new`), but
    /// for their locks, lists and trees. A program that does other things with another byte here reads what it did not write:
    ///
    /// ```
    /// use skep_asm::{Assembler, Reg, Size};
    /// use skep_sim::SimKernel;
    /// # use skep_sys::{Kernel, abi::ProgType, request::{ProgLoad, TestRun}};
    ///
    /// // Returns a byte of its stack that it never wrote to.
    /// let insns = Assembler::new().ldx(Size::B, Reg::R0, Reg::R10, -8).exit().finish()?;
    /// let run = |fill| -> Result<u32, Box<dyn std::error::Error>> {
    ///     let kernel = Kernel::new(SimKernel::builder().stack_fill(fill).build()?);
    ///     let prog = kernel.prog_load(&ProgLoad::new(ProgType::RAW_TRACEPOINT, &insns, "GPL"), None)?;
    ///     Ok(prog.test_run(&mut TestRun::default()).map_err(|(errno, _)| errno)?.retval)
    /// };
    /// assert_ne!(run(0)?, run(0xa5)?);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn stack_fill(mut self, byte: u8) -> Self {
        self.stack_fill = byte;
        self
    }

    /// Moves the addresses of everything that programs see: 0 by default. What a program does must not depend on it, and one
    /// that does other things with another number here lets an address out, or decides by it.
    pub fn address_shift(mut self, shift: u16) -> Self {
        self.address_shift = shift;
        self
    }

    /// How many instructions a program may execute in one run before it is stopped with
    /// [`FaultKind::Budget`](crate::FaultKind::Budget): 100 million by default.
    pub fn budget(mut self, instructions: u64) -> Self {
        self.budget = instructions;
        self
    }

    /// Gives the kernel a helper function by its number, in place of its own if it has one. What it answers goes to `r0`;
    /// an error ends the program with [`FaultKind::Helper`](crate::FaultKind::Helper).
    pub fn helper(
        mut self,
        number: i32,
        function: impl Fn(&mut HelperCall<'_>) -> Result<u64, String> + Send + Sync + 'static,
    ) -> Self {
        self.helpers.insert(number, CustomFunction::new(function));
        self
    }

    /// Gives the kernel's function of a name something to do, in place of what it does itself if it is simulated. The
    /// kernel's [BTF](Builder::btf), or that of a module, has to name the function.
    pub fn kfunc(
        mut self,
        name: impl Into<String>,
        function: impl Fn(&mut HelperCall<'_>) -> Result<u64, String> + Send + Sync + 'static,
    ) -> Self {
        self.kfuncs.insert(name.into(), CustomFunction::new(function));
        self
    }

    /// Lets the `nth` call of a command fail, counted from 1 since the kernel was made; once. More such rules can be given,
    /// and later ones through [`SimKernel::faults_of_calls`].
    ///
    /// ```
    /// use skep_sim::SimKernel;
    /// use skep_sys::abi::{Errno, MapType};
    /// use skep_sys::{Kernel, request::MapCreate, wrap::Command};
    ///
    /// // Memory runs out at the third map.
    /// let sim = SimKernel::builder().fail(Command::MAP_CREATE, 3, Errno::ENOMEM).build()?;
    /// let kernel = Kernel::new(sim);
    /// let array = MapCreate::new(MapType::ARRAY, 4, 4, 1);
    /// let maps: Vec<_> = (0..3).map(|_| kernel.map_create(&array)).collect();
    /// assert!(maps[1].is_ok());
    /// assert_eq!(maps[2].as_ref().unwrap_err(), &Errno::ENOMEM);
    /// # Ok::<(), skep_btf::BtfError>(())
    /// ```
    pub fn fail(mut self, command: Command, nth: u64, errno: Errno) -> Self {
        self.failing.push((command, nth, errno));
        self
    }

    /// The bytes that all maps and programs may take together: what would take more fails with `ENOMEM`. A map takes the
    /// memory of all its elements, in whole pages, as [`memlock`](skep_sys::Backend::memlock) tells. No limit by default.
    pub fn memory_limit(mut self, bytes: usize) -> Self {
        self.memory_limit = Some(bytes);
        self
    }

    /// The bytes of this process that the values of all maps may take: 2 GiB by default. Values take none before they are
    /// written, so that this is no limit of what maps may be declared to hold, for which there is
    /// [`memory_limit`](Builder::memory_limit). It keeps programs that nobody trusts from using up the memory of the machine: an
    /// element for which none is left is not made, with `ENOMEM`.
    ///
    /// ```
    /// use skep_sim::SimKernel;
    /// use skep_sys::abi::{MapType, UpdateFlags};
    /// use skep_sys::request::MapCreate;
    /// use skep_sys::Kernel;
    ///
    /// let kernel = Kernel::new(SimKernel::builder().host_memory(1 << 20).build()?);
    /// // Nearly four gigabytes, of which nothing is there.
    /// let map = kernel.map_create(&MapCreate::new(MapType::HASH, 4, 1000, 4_000_000)).unwrap();
    /// let fill = (0..4_000_000_u32).find_map(|key| map.update(&key.to_ne_bytes(), &[1; 1000], UpdateFlags::empty()).err());
    /// assert_eq!(fill.unwrap().errno(), Some(skep_sys::abi::Errno::ENOMEM));
    /// # Ok::<(), skep_btf::BtfError>(())
    /// ```
    pub fn host_memory(mut self, bytes: usize) -> Self {
        self.host_memory = bytes;
        self
    }

    /// Counts how often programs come to each of their lines, from the start: [`SimKernel::coverage`] tells.
    pub fn coverage(mut self) -> Self {
        self.coverage = true;
        self
    }

    /// Makes the kernel.
    ///
    /// # Errors
    /// When the BTF that was given for the kernel or a module cannot be read.
    pub fn build(mut self) -> Result<SimKernel, BtfError> {
        if self.cpus > CONFIG_CPUS && self.config == CONFIG {
            let config = String::from_utf8_lossy(CONFIG).replace("=512\n", &format!("={CPUS_MAX}\n"));
            self.config = config.into_bytes().into();
        }
        let btf = self.btf.clone().map(Btf::parse).transpose()?;
        let coverage = self.coverage;
        let sim = SimKernel::from_builder(self, btf)?;
        if coverage {
            sim.record_coverage();
        }
        Ok(sim)
    }
}

//! The processes of a simulated kernel.

use std::collections::BTreeMap;
use std::os::fd::AsFd;

use skep_sys::abi::{Errno, MapType};

use crate::event::Registers;
use crate::fd::Inode;
use crate::kernel::SimKernel;
use crate::map::Owner;

/// Length of a task's name with its NUL (`TASK_COMM_LEN`).
const COMM: usize = 16;

/// A task: a thread, or a process by its first one. Given to a kernel with [`SimKernel::add_task`].
///
/// It has what programs ask of the current task with helpers. What they read of its `task_struct` is made from it too,
/// where the kernel has [BTF](crate::Builder::btf); [`SimKernel::task_object`] is that object, to set further fields.
///
/// ```
/// use skep_sim::{SimKernel, Task};
///
/// let sim = SimKernel::new();
/// sim.add_task(Task::new(700).comm("nginx").uid(33).gid(33).parent(1));
/// sim.run_as(700, || assert_eq!(sim.current_task().pid(), 700));
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct Task {
    pid: u32,
    tgid: u32,
    comm: [u8; COMM],
    uid: u32,
    gid: u32,
    parent: u32,
    start_time: u64,
    /// From the root on.
    cgroups: Vec<u64>,
    namespaces: Vec<PidNamespace>,
    regs: Registers,
    kernel_stack: Vec<u64>,
    user_stack: Vec<u64>,
    /// By descriptor.
    files: BTreeMap<u32, String>,
    /// Where its `task_struct` and its registers lie, once they were asked for.
    pub(crate) object: Option<u64>,
    pub(crate) regs_address: Option<u64>,
}

/// A namespace and what a task is in it.
#[derive(Clone, Copy, Debug)]
struct PidNamespace {
    dev: u64,
    ino: u64,
    pid: u32,
    tgid: u32,
}

impl Task {
    /// A process of that id, with the name `task`, of root, in the root cgroup, a child of `init`.
    pub fn new(pid: u32) -> Task {
        let task = Task {
            pid,
            tgid: pid,
            comm: [0; COMM],
            uid: 0,
            gid: 0,
            parent: 1,
            start_time: 0,
            cgroups: vec![1],
            namespaces: Vec::new(),
            regs: Registers::default(),
            kernel_stack: Vec::new(),
            user_stack: Vec::new(),
            files: BTreeMap::new(),
            object: None,
            regs_address: None,
        };
        task.comm("task")
    }

    /// Makes it a thread of the process with that id.
    pub fn thread_of(mut self, tgid: u32) -> Task {
        self.tgid = tgid;
        self
    }

    /// Its name, as `ps` shows it. More than 15 bytes are cut, as Linux cuts them.
    pub fn comm(mut self, comm: &str) -> Task {
        self.comm = [0; COMM];
        for (to, from) in self.comm.iter_mut().zip(comm.bytes().take(COMM - 1)) {
            *to = from;
        }
        self
    }

    /// Its user. Root by default.
    pub fn uid(mut self, uid: u32) -> Task {
        self.uid = uid;
        self
    }

    /// Its group. Root's by default.
    pub fn gid(mut self, gid: u32) -> Task {
        self.gid = gid;
        self
    }

    /// The process that started it: 1 by default.
    pub fn parent(mut self, pid: u32) -> Task {
        self.parent = pid;
        self
    }

    /// When it was started, in nanoseconds since boot.
    pub fn start_time(mut self, nanoseconds: u64) -> Task {
        self.start_time = nanoseconds;
        self
    }

    /// Its cgroup of the second version: the ids from the root, which mostly is 1, to its own. The id of a cgroup is the
    /// inode number of its directory.
    pub fn cgroups(mut self, path: impl IntoIterator<Item = u64>) -> Task {
        self.cgroups = path.into_iter().collect();
        self
    }

    /// Puts it into the cgroup of an open directory, under the ones that it is in.
    ///
    /// # Errors
    /// [`Errno::EBADF`]: the descriptor is no directory.
    pub fn in_cgroup(mut self, directory: impl AsFd) -> Result<Task, Errno> {
        self.cgroups.push(Inode::of_fd(directory.as_fd())?.number());
        Ok(self)
    }

    /// Puts it into a process namespace: device and inode of the namespace's file, and its ids there.
    pub fn pid_namespace(mut self, dev: u64, ino: u64, pid: u32, tgid: u32) -> Task {
        self.namespaces.push(PidNamespace { dev, ino, pid, tgid });
        self
    }

    /// What its registers held when it entered the kernel, as `bpf_task_pt_regs` finds them.
    pub fn registers(mut self, regs: Registers) -> Task {
        self.regs = regs;
        self
    }

    /// A file that it has open, as iterators over files find it.
    pub fn open_file(mut self, fd: u32, path: impl Into<String>) -> Task {
        self.files.insert(fd, path.into());
        self
    }

    /// Where it is in the kernel, from the innermost function on: for stacks of another task than the current one.
    pub fn kernel_stack(mut self, addresses: impl IntoIterator<Item = u64>) -> Task {
        self.kernel_stack = addresses.into_iter().collect();
        self
    }

    /// Where it is in its program, from the innermost function on. An event may say something else.
    pub fn user_stack(mut self, addresses: impl IntoIterator<Item = u64>) -> Task {
        self.user_stack = addresses.into_iter().collect();
        self
    }

    /// The id of the thread.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// The id of the process.
    pub fn tgid(&self) -> u32 {
        self.tgid
    }

    /// Its name, with zeros behind it.
    pub(crate) fn comm_bytes(&self) -> &[u8; COMM] {
        &self.comm
    }

    pub(crate) fn name(&self) -> String {
        let end = self.comm.iter().position(|byte| *byte == 0).unwrap_or(COMM);
        String::from_utf8_lossy(self.comm.get(..end).unwrap_or_default()).into_owned()
    }

    pub(crate) fn owner(&self) -> (u32, u32) {
        (self.uid, self.gid)
    }

    pub(crate) fn parent_pid(&self) -> u32 {
        self.parent
    }

    pub(crate) fn started(&self) -> u64 {
        self.start_time
    }

    /// Ids of its cgroups from the root on.
    pub(crate) fn cgroup_path(&self) -> &[u64] {
        &self.cgroups
    }

    /// Its ids in a namespace.
    pub(crate) fn ids_in(&self, dev: u64, ino: u64) -> Option<(u32, u32)> {
        let found = self.namespaces.iter().find(|space| space.dev == dev && space.ino == ino);
        found.map(|space| (space.pid, space.tgid))
    }

    pub(crate) fn files(&self) -> &BTreeMap<u32, String> {
        &self.files
    }

    pub(crate) fn regs(&self) -> &Registers {
        &self.regs
    }

    pub(crate) fn stack(&self, user: bool) -> &[u64] {
        if user { &self.user_stack } else { &self.kernel_stack }
    }
}

/// All tasks, and which one runs.
#[derive(Clone, Debug)]
pub(crate) struct Tasks {
    by_pid: BTreeMap<u32, Task>,
    current: u32,
    /// Programs see these instead of the current one on their CPU.
    by_cpu: BTreeMap<u32, u32>,
}

/// The process that programs run in when a test does not say.
const DEFAULT: u32 = 1000;

impl Default for Tasks {
    fn default() -> Tasks {
        let tasks = [
            Task::new(0).comm("swapper/0").parent(0),
            Task::new(1).comm("init").parent(0),
            Task::new(DEFAULT).comm("test"),
        ];
        Tasks { by_pid: tasks.map(|task| (task.pid, task)).into(), current: DEFAULT, by_cpu: BTreeMap::new() }
    }
}

impl Tasks {
    pub(crate) fn get(&self, pid: u32) -> Option<&Task> {
        self.by_pid.get(&pid)
    }

    pub(crate) fn get_mut(&mut self, pid: u32) -> Option<&mut Task> {
        self.by_pid.get_mut(&pid)
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Task> {
        self.by_pid.values()
    }

    /// The task that a CPU runs.
    pub(crate) fn current(&self, cpu: u32) -> u32 {
        self.by_cpu.get(&cpu).copied().unwrap_or(self.current)
    }

    /// The task whose `task_struct` is at an address.
    pub(crate) fn at(&self, address: u64) -> Option<&Task> {
        self.by_pid.values().find(|task| task.object == Some(address))
    }
}

impl SimKernel {
    /// Adds a task, or replaces the one with its id.
    ///
    /// There are three at the start: 0 (`swapper/0`), 1 (`init`), and 1000 (`test`), which is the current one.
    pub fn add_task(&self, task: Task) {
        self.0.world().tasks.by_pid.insert(task.pid, task);
    }

    /// Takes a task away, and with it the values in maps that belong to it.
    pub fn remove_task(&self, pid: u32) {
        self.0.world().tasks.by_pid.remove(&pid);
        self.0.forget_owner(MapType::TASK_STORAGE, Owner::Process(pid.cast_signed()));
    }

    /// Makes a task the current one for everything that runs from now on. It is added when it does not exist.
    pub fn set_current(&self, pid: u32) {
        let mut world = self.0.world();
        world.tasks.by_pid.entry(pid).or_insert_with(|| Task::new(pid));
        world.tasks.current = pid;
    }

    /// Makes a task the one that a CPU runs, whatever the current one is elsewhere. `None` ends that.
    pub fn set_current_on(&self, cpu: u32, pid: Option<u32>) {
        let mut world = self.0.world();
        match pid {
            Some(pid) => {
                world.tasks.by_pid.entry(pid).or_insert_with(|| Task::new(pid));
                world.tasks.by_cpu.insert(cpu, pid);
            }
            None => _ = world.tasks.by_cpu.remove(&cpu),
        }
    }

    /// The current task.
    pub fn current_task(&self) -> Task {
        let world = self.0.world();
        world.tasks.get(world.tasks.current).cloned().unwrap_or_else(|| Task::new(world.tasks.current))
    }

    /// Does something with a task as the current one, and makes the one from before current again.
    pub fn run_as<T>(&self, pid: u32, run: impl FnOnce() -> T) -> T {
        /// Also when `run` panics.
        struct Before<'a>(&'a SimKernel, u32);

        impl Drop for Before<'_> {
            fn drop(&mut self) {
                self.0.0.world().tasks.current = self.1;
            }
        }

        let _before = Before(self, self.0.world().tasks.current);
        self.set_current(pid);
        run()
    }
}

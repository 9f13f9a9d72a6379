//! Helpers and kernel functions about tasks and what is theirs.

use std::sync::Arc;

use skep_sys::abi::Errno;

use super::{EFFECT, HelperFn, answer, negative, refuse};
use crate::event::TraceEffect;
use crate::image::KernelObject;
use crate::vm::{Trap, Vm};
use crate::world::Task;

pub(super) const HELPERS: &[(i32, HelperFn)] = &[
    (14, pid_tgid),
    (15, uid_gid),
    (16, comm),
    (35, current_task),
    (37, under_cgroup),
    (56, read_value),
    (80, cgroup_id),
    (109, send_signal),
    (117, send_signal_thread),
    (120, ns_pid_tgid),
    (123, ancestor_cgroup_id),
    (147, d_path),
    (153, per_cpu_ptr),
    (154, this_cpu_ptr),
    (158, current_task),
    (161, ima_hash),
    (175, pt_regs),
    (180, find_vma),
    (193, ima_hash),
    (159, set_exec_options),
];

pub(super) const KFUNCS: &[(&str, HelperFn)] = &[
    ("bpf_cgroup_acquire", cgroup_acquire),
    ("bpf_cgroup_ancestor", cgroup_ancestor),
    ("bpf_cgroup_from_id", cgroup_from_id),
    ("bpf_cgroup_release", cgroup_release),
    ("bpf_get_task_exe_file", exe_file),
    ("bpf_path_d_path", d_path),
    ("bpf_put_file", put_file),
    ("bpf_send_signal_task", send_signal_task),
    ("bpf_task_acquire", task_acquire),
    ("bpf_task_from_pid", from_pid),
    ("bpf_task_from_vpid", from_pid),
    ("bpf_task_release", task_release),
    ("bpf_task_under_cgroup", task_under),
];

impl Vm {
    /// The task that the run is in.
    pub(crate) fn current_pid(&self) -> u32 {
        self.site.task.unwrap_or_else(|| self.kernel.0.world().tasks.current(self.cpu))
    }

    /// Something of the task that the run is in.
    pub(crate) fn current<T>(&self, get: impl FnOnce(&Task) -> T) -> T {
        let pid = self.current_pid();
        let world = self.kernel.0.world();
        match world.tasks.get(pid) {
            Some(task) => get(task),
            None => get(&Task::new(pid)),
        }
    }
}

/// `bpf_get_current_pid_tgid()`.
pub(super) fn pid_tgid(vm: &mut Vm, _: [u64; 5]) -> Result<u64, Trap> {
    Ok(vm.current(|task| u64::from(task.tgid()) << 32 | u64::from(task.pid())))
}

/// `bpf_get_current_uid_gid()`.
pub(super) fn uid_gid(vm: &mut Vm, _: [u64; 5]) -> Result<u64, Trap> {
    let (uid, gid) = vm.current(Task::owner);
    Ok(u64::from(gid) << 32 | u64::from(uid))
}

/// `bpf_get_current_comm(buf, size)`: cut or filled up with zeros.
pub(super) fn comm(vm: &mut Vm, [to, size, ..]: [u64; 5]) -> Result<u64, Trap> {
    let size = size as u32 as usize; // the helper takes 32 bits
    vm.memory.check(to, size, true)?;
    let mut name = vm.current(|task| task.comm_bytes().to_vec());
    name.resize(size, 0);
    if let Some(last) = name.last_mut() {
        *last = 0;
    }
    vm.memory.write(to, &name)?;
    Ok(0)
}

/// `bpf_get_current_task()`, `bpf_get_current_task_btf()`.
pub(super) fn current_task(vm: &mut Vm, _: [u64; 5]) -> Result<u64, Trap> {
    let pid = vm.current_pid();
    Ok(address_of(vm, pid))
}

/// The address of a task's struct; 0 when there is no such task.
fn address_of(vm: &Vm, pid: u32) -> u64 {
    vm.kernel.task_address(pid).unwrap_or_default()
}

/// `bpf_get_current_cgroup_id()`.
pub(super) fn cgroup_id(vm: &mut Vm, _: [u64; 5]) -> Result<u64, Trap> {
    Ok(vm.current(|task| task.cgroup_path().last().copied().unwrap_or_default()))
}

/// `bpf_get_current_ancestor_cgroup_id(level)`.
pub(super) fn ancestor_cgroup_id(vm: &mut Vm, [level, ..]: [u64; 5]) -> Result<u64, Trap> {
    let level = level as u32 as usize; // the helper takes 32 bits
    Ok(vm.current(|task| task.cgroup_path().get(level).copied().unwrap_or_default()))
}

/// `bpf_current_task_under_cgroup(map, index)`.
pub(super) fn under_cgroup(vm: &mut Vm, [map, index, ..]: [u64; 5]) -> Result<u64, Trap> {
    let map = vm.memory.map(map)?;
    let index = index as u32; // the helper takes 32 bits
    if index >= map.shape.max_entries {
        return Ok(negative(Errno::E2BIG));
    }
    let Some(id) = map.cgroup_id(index) else {
        return Ok(negative(Errno::EAGAIN));
    };
    Ok(vm.current(|task| u64::from(task.cgroup_path().contains(&id))))
}

/// `bpf_get_ns_current_pid_tgid(dev, ino, nsdata, size)`.
pub(super) fn ns_pid_tgid(vm: &mut Vm, [dev, ino, to, size, _]: [u64; 5]) -> Result<u64, Trap> {
    let size = size as u32 as usize; // the helper takes 32 bits
    vm.memory.check(to, size, true)?;
    let found = vm.current(|task| task.ids_in(dev, ino)).filter(|_| size == 8);
    let Some((pid, tgid)) = found else {
        vm.memory.write(to, &vec![0; size])?;
        return Ok(negative(Errno::EINVAL));
    };
    let ids: Vec<u8> = [pid, tgid].iter().flat_map(|id| id.to_ne_bytes()).collect();
    vm.memory.write(to, &ids)?;
    Ok(0)
}

/// `bpf_task_pt_regs(task)`.
pub(super) fn pt_regs(vm: &mut Vm, [task, ..]: [u64; 5]) -> Result<u64, Trap> {
    let pid = vm.kernel.0.world().tasks.at(task).map(Task::pid);
    Ok(pid.and_then(|pid| vm.kernel.task_regs_address(pid)).unwrap_or_default())
}

/// Most signals that there are (`_NSIG`).
const SIGNALS: u64 = 64;

fn signal(vm: &mut Vm, pid: u32, signal: u64, thread: bool) -> u64 {
    let signal = signal as u32; // the helper takes 32 bits
    // Neither the kernel's own threads nor init are shot at.
    if vm.current(|task| task.tgid() <= 1) {
        return negative(Errno::EPERM);
    }
    if u64::from(signal) > SIGNALS {
        return negative(Errno::EINVAL);
    }
    vm.spend(EFFECT);
    vm.site.effects.push(TraceEffect::Signal { pid, signal, thread });
    0
}

/// `bpf_send_signal(sig)`.
pub(super) fn send_signal(vm: &mut Vm, [number, ..]: [u64; 5]) -> Result<u64, Trap> {
    let pid = vm.current(Task::tgid);
    Ok(signal(vm, pid, number, false))
}

/// `bpf_send_signal_thread(sig)`.
pub(super) fn send_signal_thread(vm: &mut Vm, [number, ..]: [u64; 5]) -> Result<u64, Trap> {
    let pid = vm.current_pid();
    Ok(signal(vm, pid, number, true))
}

/// `bpf_send_signal_task(task, sig, type, value)`: `PIDTYPE_PID` is the thread, `PIDTYPE_TGID` the process.
pub(super) fn send_signal_task(vm: &mut Vm, [task, number, kind, ..]: [u64; 5]) -> Result<u64, Trap> {
    let ids = vm.kernel.0.world().tasks.at(task).map(|task| (task.pid(), task.tgid()));
    Ok(match (ids, kind) {
        (Some((pid, _)), 0) => signal(vm, pid, number, true),
        (Some((_, tgid)), 1) => signal(vm, tgid, number, false),
        _ => negative(Errno::EINVAL),
    })
}

/// `bpf_find_vma(task, address, callback, context, flags)`.
pub(super) fn find_vma(
    vm: &mut Vm,
    [task, address, callback, context, flags]: [u64; 5],
) -> Result<u64, Trap> {
    let tgid = vm.kernel.0.world().tasks.at(task).map(Task::tgid);
    let Some(tgid) = tgid.filter(|_| flags == 0) else {
        return Ok(negative(Errno::EINVAL));
    };
    let mappings = vm.kernel.mappings(tgid);
    let Some(mapping) = mappings.iter().find(|mapping| (mapping.start..mapping.end).contains(&address))
    else {
        return Ok(negative(Errno::ENOENT));
    };
    let vma = vm.kernel.vma(mapping);
    vm.call(callback, [task, vma, context, 0, 0])?;
    Ok(0)
}

/// Directories of a path that are followed to the root.
const DEPTH_MAX: usize = 256;

/// `bpf_d_path(path, buf, size)` and the kernel function `bpf_path_d_path`: the names of the dentries from the root on.
pub(super) fn d_path(vm: &mut Vm, [path, to, size, ..]: [u64; 5]) -> Result<u64, Trap> {
    let size = size as u32 as usize; // the helper takes 32 bits
    vm.memory.check(to, size, true)?;
    if size == 0 {
        return Ok(0);
    }
    let Some(mut text) = path_text(vm, path) else {
        return Ok(negative(Errno::EINVAL));
    };
    text.push(0);
    if text.len() > size {
        return Ok(negative(Errno::ENAMETOOLONG));
    }
    vm.memory.write(to, &text)?;
    Ok(text.len() as u64)
}

fn path_text(vm: &Vm, path: u64) -> Option<Vec<u8>> {
    let (btf, ty) = vm.kernel.0.type_named("path").ok()?;
    let path = KernelObject::new(&vm.kernel, &btf, path, ty);
    let (btf, ty) = vm.kernel.0.type_named("dentry").ok()?;
    let at = |address: u64| KernelObject::new(&vm.kernel, &btf, address, ty);
    let mut names = Vec::new();
    let mut dentry = u64::try_from(path.get("dentry").ok()?).ok()?;
    while dentry != 0 && names.len() < DEPTH_MAX {
        let name = u64::try_from(at(dentry).get("d_name.name").ok()?).ok()?;
        let mut bytes = [0; 256];
        let len = vm.kernel.0.world().memory.kernel_string(name, &mut bytes).unwrap_or(1);
        let name = bytes.get(..len.saturating_sub(1)).unwrap_or_default();
        if !name.is_empty() && name != b"/" {
            names.push(name.to_vec());
        }
        let parent = u64::try_from(at(dentry).get("d_parent").ok()?).ok()?;
        if parent == dentry {
            break;
        }
        dentry = parent;
    }
    let mut text = Vec::new();
    for name in names.iter().rev() {
        text.push(b'/');
        text.extend(name);
    }
    if text.is_empty() {
        text.push(b'/');
    }
    Some(text)
}

/// `bpf_ima_inode_hash(inode, dst, size)`, `bpf_ima_file_hash(file, dst, size)`.
pub(super) fn ima_hash(vm: &mut Vm, [of, to, size, ..]: [u64; 5]) -> Result<u64, Trap> {
    let size = size as u32 as usize; // the helper takes 32 bits
    vm.memory.check(to, size, true)?;
    let found = vm.kernel.0.world().files.hash(of).map(|(algorithm, hash)| (algorithm, hash.to_vec()));
    let Some((algorithm, mut hash)) = found else {
        return Ok(negative(Errno::EOPNOTSUPP));
    };
    hash.truncate(size);
    vm.memory.write(to, &hash)?;
    Ok(u64::from(algorithm))
}

/// What a kernel function gives to a program, and how the program gives it back.
const TASK: (&str, &str) = ("a task", "bpf_task_release");
const CGROUP: (&str, &str) = ("a cgroup", "bpf_cgroup_release");
const FILE: (&str, &str) = ("a file", "bpf_put_file");

/// Notes that a program has to give something back, unless it is null.
fn given(vm: &mut Vm, address: u64, (what, release): (&'static str, &'static str)) -> u64 {
    if address != 0 {
        vm.acquire(address, what, release, None);
    }
    address
}

fn given_back(vm: &mut Vm, address: u64, (what, release): (&'static str, &'static str)) -> Result<u64, Trap> {
    if vm.release(address) {
        return Ok(0);
    }
    Err(refuse(format!("{release} is given {what} that the program does not hold")))
}

/// `bpf_task_acquire(task)`.
fn task_acquire(vm: &mut Vm, [task, ..]: [u64; 5]) -> Result<u64, Trap> {
    Ok(given(vm, task, TASK))
}

/// `bpf_task_release(task)`.
fn task_release(vm: &mut Vm, [task, ..]: [u64; 5]) -> Result<u64, Trap> {
    given_back(vm, task, TASK)
}

/// `bpf_cgroup_acquire(cgroup)`.
fn cgroup_acquire(vm: &mut Vm, [cgroup, ..]: [u64; 5]) -> Result<u64, Trap> {
    Ok(given(vm, cgroup, CGROUP))
}

/// `bpf_cgroup_release(cgroup)`.
fn cgroup_release(vm: &mut Vm, [cgroup, ..]: [u64; 5]) -> Result<u64, Trap> {
    given_back(vm, cgroup, CGROUP)
}

/// `bpf_put_file(file)`.
fn put_file(vm: &mut Vm, [file, ..]: [u64; 5]) -> Result<u64, Trap> {
    given_back(vm, file, FILE)
}

/// `bpf_task_from_pid(pid)`.
pub(super) fn from_pid(vm: &mut Vm, [pid, ..]: [u64; 5]) -> Result<u64, Trap> {
    let address = address_of(vm, pid as u32); // the function takes 32 bits
    Ok(given(vm, address, TASK))
}

/// `bpf_task_under_cgroup(task, cgroup)`, by the id of the cgroup's directory.
pub(super) fn task_under(vm: &mut Vm, [task, cgroup, ..]: [u64; 5]) -> Result<u64, Trap> {
    let Some(id) = cgroup_of(vm, cgroup) else { return Ok(0) };
    let path = vm.kernel.0.world().tasks.at(task).map(|task| task.cgroup_path().to_vec());
    Ok(u64::from(path.unwrap_or_default().contains(&id)))
}

/// The id of the `cgroup` at an address.
pub(super) fn cgroup_of(vm: &Vm, address: u64) -> Option<u64> {
    let (btf, ty) = vm.kernel.0.type_named("cgroup").ok()?;
    let id = KernelObject::new(&vm.kernel, &btf, address, ty).get("kn.id").ok()?;
    u64::try_from(id).ok()
}

/// `bpf_cgroup_from_id(id)`.
pub(super) fn cgroup_from_id(vm: &mut Vm, [id, ..]: [u64; 5]) -> Result<u64, Trap> {
    let address = vm.kernel.cgroup_address(id).unwrap_or_default();
    Ok(given(vm, address, CGROUP))
}

/// `bpf_cgroup_ancestor(cgroup, level)`.
pub(super) fn cgroup_ancestor(vm: &mut Vm, [cgroup, level, ..]: [u64; 5]) -> Result<u64, Trap> {
    let level = level as u32 as usize; // the function takes 32 bits
    let Some(id) = cgroup_of(vm, cgroup) else { return Ok(0) };
    let above = vm.kernel.0.cgroup_path(id).get(level).copied();
    let address = above.and_then(|id| vm.kernel.cgroup_address(id)).unwrap_or_default();
    Ok(given(vm, address, CGROUP))
}

/// The process of a task by the address of its struct.
pub(super) fn task_at(vm: &Vm, address: u64) -> Option<Arc<Task>> {
    vm.kernel.0.world().tasks.at(address).cloned().map(Arc::new)
}

/// `bpf_get_task_exe_file(task)`: the file that a test gave the task.
pub(super) fn exe_file(vm: &mut Vm, [task, ..]: [u64; 5]) -> Result<u64, Trap> {
    let (Ok((btf, ty)), true) = (vm.kernel.0.type_named("task_struct"), task_at(vm, task).is_some()) else {
        return Ok(0);
    };
    let file = KernelObject::new(&vm.kernel, &btf, task, ty).get("mm.exe_file");
    let file = file.ok().and_then(|file| u64::try_from(file).ok()).unwrap_or_default();
    Ok(given(vm, file, FILE))
}

/// `bpf_per_cpu_ptr(variable, cpu)`.
pub(super) fn per_cpu_ptr(vm: &mut Vm, [variable, cpu, ..]: [u64; 5]) -> Result<u64, Trap> {
    let cpu = cpu as u32; // the helper takes 32 bits
    let exists = cpu < vm.kernel.0.config().cpus;
    Ok(if exists { of_cpu(vm, variable, cpu) } else { 0 })
}

/// `bpf_this_cpu_ptr(variable)`.
pub(super) fn this_cpu_ptr(vm: &mut Vm, [variable, ..]: [u64; 5]) -> Result<u64, Trap> {
    Ok(of_cpu(vm, variable, vm.cpu))
}

/// The address of what a CPU has of an object or a variable of the kernel.
fn of_cpu(vm: &Vm, address: u64, cpu: u32) -> u64 {
    let object = vm.kernel.0.world().objects.of_cpu(address, cpu);
    object.unwrap_or_else(|| crate::image::per_cpu(address, cpu))
}

/// `bpf_perf_prog_read_value(ctx, buf, size)`.
pub(super) fn read_value(vm: &mut Vm, [_, to, size, ..]: [u64; 5]) -> Result<u64, Trap> {
    let size = size as u32 as usize; // the helper takes 32 bits
    vm.memory.check(to, size, true)?;
    let result = if size == 24 { vm.site.counter.ok_or(Errno::EINVAL) } else { Err(Errno::EINVAL) };
    let bytes = match result {
        Ok(words) => words.iter().flat_map(|word| word.to_ne_bytes()).collect(),
        Err(_) => vec![0; size],
    };
    vm.memory.write(to, &bytes)?;
    Ok(answer(result.map(drop)))
}

/// `bpf_bprm_opts_set(bprm, flags)`: whether what is executed gets a secure environment (`AT_SECURE`).
fn set_exec_options(vm: &mut Vm, [binary, flags, ..]: [u64; 5]) -> Result<u64, Trap> {
    const SECURE: u64 = 1;

    if flags & !SECURE != 0 {
        return Ok(negative(Errno::EINVAL));
    }
    let object = vm.kernel.memory().object_at("linux_binprm", binary);
    let set = object.and_then(|object| object.set("secureexec", flags).map(drop));
    set.map_err(|error| refuse(format!("bpf_bprm_opts_set: {error}")))?;
    Ok(0)
}

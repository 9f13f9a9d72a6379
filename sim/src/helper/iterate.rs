//! Open-coded iterators over objects of the kernel: a program begins one, asks for the next object until there is none, and
//! destroys it.

use std::sync::{Arc, Mutex, PoisonError};

use skep_sys::abi::Errno;

use super::memory::{read_u64, write_u64};
use super::{HelperFn, negative, refuse};
use crate::image::KernelObject;
use crate::vm::{Handle, Region, Trap, Vm};
use crate::world::Task;

pub(super) const KFUNCS: &[(&str, HelperFn)] = &[
    ("bpf_iter_task_new", task_new),
    ("bpf_iter_task_next", next),
    ("bpf_iter_task_destroy", |vm, [iter, ..]| destroy(vm, iter, "bpf_iter_task_destroy")),
    ("bpf_iter_css_new", css_new),
    ("bpf_iter_css_next", next),
    ("bpf_iter_css_destroy", |vm, [iter, ..]| destroy(vm, iter, "bpf_iter_css_destroy")),
    ("bpf_iter_css_task_new", css_task_new),
    ("bpf_iter_css_task_next", next),
    ("bpf_iter_css_task_destroy", |vm, [iter, ..]| destroy(vm, iter, "bpf_iter_css_task_destroy")),
    ("bpf_iter_task_vma_new", vma_new),
    ("bpf_iter_task_vma_next", next),
    ("bpf_iter_task_vma_destroy", |vm, [iter, ..]| destroy(vm, iter, "bpf_iter_task_vma_destroy")),
    // There are none.
    ("bpf_iter_kmem_cache_new", |vm, [iter, ..]| {
        begin(vm, iter, "bpf_iter_kmem_cache_destroy", Ok(Vec::new()))
    }),
    ("bpf_iter_kmem_cache_next", next),
    ("bpf_iter_kmem_cache_destroy", |vm, [iter, ..]| destroy(vm, iter, "bpf_iter_kmem_cache_destroy")),
    ("bpf_iter_dmabuf_new", |vm, [iter, ..]| begin(vm, iter, "bpf_iter_dmabuf_destroy", Ok(Vec::new()))),
    ("bpf_iter_dmabuf_next", next),
    ("bpf_iter_dmabuf_destroy", |vm, [iter, ..]| destroy(vm, iter, "bpf_iter_dmabuf_destroy")),
];

/// The addresses of the objects that come, the last first.
#[derive(Debug)]
struct Items(Mutex<Vec<u64>>);

const WHAT: &str = "iterator";

/// Begins an iterator over objects: its first word is the handle of what is left. One that could not begin has none, and is to be
/// destroyed all the same.
fn begin(vm: &mut Vm, iter: u64, destroy: &'static str, items: Result<Vec<u64>, Errno>) -> Result<u64, Trap> {
    vm.acquire(iter, "an iterator", destroy, None);
    match items {
        Ok(mut items) => {
            items.reverse();
            let items = Arc::new(Items(Mutex::new(items)));
            let handle = vm.memory.add(Region::Handle(Handle::Other(WHAT, items)))?;
            write_u64(vm, iter, handle)?;
            Ok(0)
        }
        Err(errno) => {
            write_u64(vm, iter, 0)?;
            Ok(negative(errno))
        }
    }
}

fn next(vm: &mut Vm, [iter, ..]: [u64; 5]) -> Result<u64, Trap> {
    let handle = read_u64(vm, iter)?;
    if handle == 0 {
        return Ok(0);
    }
    let Some(Handle::Other(WHAT, items)) = vm.memory.handle(handle) else {
        return Err(refuse(format!("there is no iterator at {iter:#x}: nothing has begun one")));
    };
    let Ok(items) = Arc::clone(items).downcast::<Items>() else { return Ok(0) };
    let next = items.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
    Ok(next.unwrap_or(0))
}

fn destroy(vm: &mut Vm, iter: u64, function: &str) -> Result<u64, Trap> {
    if !vm.release(iter) {
        return Err(refuse(format!("{function} of an iterator that was not begun")));
    }
    let handle = read_u64(vm, iter)?;
    if handle != 0 {
        vm.memory.revoke(handle, "the iterator was destroyed");
    }
    write_u64(vm, iter, 0)?;
    Ok(0)
}

/// Processes and threads by their ids, processes in their order and the first thread of each first.
fn threads(vm: &Vm) -> Vec<(u32, u32)> {
    let world = vm.kernel.0.world();
    let mut ids: Vec<(u32, u32)> = world.tasks.all().map(|task| (task.tgid(), task.pid())).collect();
    ids.sort_by_key(|(tgid, pid)| (*tgid, tgid != pid, *pid));
    ids
}

fn addresses(vm: &Vm, pids: impl IntoIterator<Item = u32>) -> Vec<u64> {
    pids.into_iter().filter_map(|pid| vm.kernel.task_address(pid)).collect()
}

/// `bpf_iter_task_new(iter, task, flags)`. Those of all processes begin with the idle one.
fn task_new(vm: &mut Vm, [iter, task, flags, ..]: [u64; 5]) -> Result<u64, Trap> {
    const ALL_PROCESSES: u32 = 0;
    const ALL_THREADS: u32 = 1;
    const THREADS_OF: u32 = 2;

    let own = vm.kernel.0.world().tasks.at(task).map(|task| (task.tgid(), task.pid()));
    let ids = threads(vm);
    let items = match (flags as u32, own) {
        (ALL_PROCESSES, _) => Ok(ids.into_iter().filter(|(tgid, pid)| tgid == pid).collect()),
        (ALL_THREADS, _) => Ok(ids),
        // From the one that was given on.
        (THREADS_OF, Some(own)) => {
            Ok(ids.into_iter().skip_while(|id| *id != own).filter(|id| id.0 == own.0).collect::<Vec<_>>())
        }
        _ => Err(Errno::EINVAL),
    };
    let items = items.map(|ids| addresses(vm, ids.into_iter().map(|(_, pid)| pid)));
    begin(vm, iter, "bpf_iter_task_destroy", items)
}

/// The group that a `struct cgroup_subsys_state` belongs to.
fn group_of(vm: &Vm, css: u64) -> Option<u64> {
    let (btf, ty) = vm.kernel.0.type_named("cgroup_subsys_state").ok()?;
    let group = KernelObject::new(&vm.kernel, &btf, css, ty).get("cgroup").ok()?;
    super::task::cgroup_of(vm, u64::try_from(group).ok()?)
}

/// `bpf_iter_css_new(iter, start, flags)`: the groups below one, before or after those that they are in, or above it.
fn css_new(vm: &mut Vm, [iter, start, flags, ..]: [u64; 5]) -> Result<u64, Trap> {
    const BEFORE: u32 = 2;
    const AFTER: u32 = 3;
    const UP: u32 = 4;

    let items = group_of(vm, start).ok_or(Errno::EINVAL).and_then(|id| {
        let kernel = &vm.kernel;
        let ids = match flags as u32 {
            BEFORE => kernel.0.cgroups_below(id, true),
            AFTER => kernel.0.cgroups_below(id, false),
            UP => kernel.0.cgroup_path(id).into_iter().rev().collect(),
            _ => return Err(Errno::EINVAL),
        };
        Ok(ids.into_iter().filter_map(|id| kernel.cgroup_css(id)).collect())
    });
    begin(vm, iter, "bpf_iter_css_destroy", items)
}

/// `bpf_iter_css_task_new(iter, css, flags)`: the tasks that are in a group itself.
fn css_task_new(vm: &mut Vm, [iter, css, flags, ..]: [u64; 5]) -> Result<u64, Trap> {
    const PROCESSES: u32 = 1;
    const THREADED: u32 = 1 << 1;

    let group = group_of(vm, css);
    let items = match (group, flags as u32) {
        (Some(id), flags @ (0 | PROCESSES) | flags @ 3) if flags & THREADED == 0 || flags == 3 => {
            let all = threads(vm);
            let in_group = |pid: &u32| {
                let world = vm.kernel.0.world();
                world.tasks.get(*pid).is_some_and(|task: &Task| task.cgroup_path().last() == Some(&id))
            };
            let wanted = all.into_iter().filter(|(tgid, pid)| flags == 0 || tgid == pid).map(|(_, pid)| pid);
            Ok(addresses(vm, wanted.filter(in_group).collect::<Vec<_>>()))
        }
        _ => Err(Errno::EINVAL),
    };
    begin(vm, iter, "bpf_iter_css_task_destroy", items)
}

/// `bpf_iter_task_vma_new(iter, task, address)`: the mappings that end behind an address.
fn vma_new(vm: &mut Vm, [iter, task, address, ..]: [u64; 5]) -> Result<u64, Trap> {
    let tgid = vm.kernel.0.world().tasks.at(task).map(Task::tgid);
    let items = tgid.ok_or(Errno::ENOENT).map(|tgid| vm.kernel.mappings(tgid)).and_then(|mappings| {
        // A thread of the kernel has no memory.
        if mappings.is_empty() {
            return Err(Errno::ENOENT);
        }
        let behind = mappings.iter().filter(|mapping| mapping.end > address);
        Ok(behind.map(|mapping| vm.kernel.vma(mapping)).collect())
    });
    begin(vm, iter, "bpf_iter_task_vma_destroy", items)
}
